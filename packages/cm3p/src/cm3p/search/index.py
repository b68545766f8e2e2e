"""A file of embeddings as an index: rows by id, content and path, and which rows a search may return.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cm3p.beatmap import RULESETS
from cm3p.embedding.columns import HASH
from cm3p.embedding.table import EmbeddingTable
from pentatonic.errors import IncompatibleVectors, InputError, UsageError
from pentatonic.search import VectorHeader

_SHOWN = (
    "Id",
    "BeatmapSetId",
    "Artist",
    "Title",
    "Version",
    "Creator",
    "Mode",
    "DifficultyRating",
    "BeatmapFile",
    HASH,
)


@dataclass(frozen=True)
class Limits:
    """Which maps a search may return. A map whose value is not known is left out where there is a limit for it.

    Args:
        stars: Lowest and highest star rating; None: no limit.
        years: First and last year of submission.
        mode: Ruleset by number.
    """

    stars: tuple[float | None, float | None] = (None, None)
    years: tuple[float | None, float | None] = (None, None)
    mode: int | None = None


class Index:
    """An index in memory.

    Args:
        path: The file of embeddings.

    Attributes:
        path: The same.
        header: What made the vectors; None for a file that does not say it.
        vectors: (N, D) float32.

    Raises:
        FormatError: The file is damaged, or something else.
        InputError: There is no such file, or it has no maps.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table = EmbeddingTable(path)
        self.header = self._table.header
        self.vectors = self._table.vectors()
        if not len(self.vectors):
            raise InputError(f"{path}: holds no maps")
        self._columns: dict[str, list[Any]] = {}

    def column(self, name: str) -> list[Any]:
        """Return a column's N values; nulls for a column that the file lacks."""
        if name not in self._columns:
            self._columns[name] = self._table.column(name)
        return self._columns[name]

    def require_header(self) -> VectorHeader:
        """Return the header, for queries that need the model that made the vectors.

        Raises:
            IncompatibleVectors: There is none.
        """
        if self.header is None:
            raise IncompatibleVectors(
                f"{self.path}: does not say which model made its vectors, so only its own maps can be asked for, by "
                "id or path"
            )
        return self.header

    def row_of_hash(self, content_hash: str) -> int | None:
        """Return the row of a content; None if there is none."""
        return self._by_hash.get(content_hash)

    def rows_named(self, name: str) -> list[int]:
        """Return the rows that a text names: an id, a content hash, or the end of a path; there may be none."""
        try:
            if (row := self._by_id.get(int(name))) is not None:
                return [row]
        except ValueError:
            pass
        if (row := self._by_hash.get(name.lower())) is not None:
            return [row]
        wanted = PurePosixPath(name.replace("\\", "/")).parts
        return [
            row for row in self._by_file.get(wanted[-1], ()) if self._parts(row)[-len(wanted) :] == wanted
        ]

    def set_rows(self, rows: Sequence[int]) -> np.ndarray:
        """Return (N,) bool: which rows belong to the sets of some rows, those themselves included."""
        sets = self.column("BeatmapSetId")
        wanted = {sets[row] for row in rows} - {None}
        found = np.array([each in wanted for each in sets])
        found[list(rows)] = True
        return found

    def allowed(self, limits: Limits) -> np.ndarray:
        """Return (N,) bool: which rows a search may return.

        Raises:
            InputError: There is a limit for what the file says of none of its maps.
        """
        allowed = np.ones(len(self.vectors), dtype=bool)
        if limits.mode is not None:
            numbers, names = self.column("ModeInt"), self.column("Mode")
            modes = [
                RULESETS.index(n) if m is None and n in RULESETS else m
                for m, n in zip(numbers, names, strict=True)
            ]
            allowed &= np.array([mode == limits.mode for mode in modes])
        if limits.stars != (None, None):
            allowed &= self._within("DifficultyRating", self.column("DifficultyRating"), limits.stars)
        if limits.years != (None, None):
            dates = self.column("SubmittedDate")
            years = [None if date is None else int(str(date)[:4]) for date in dates]
            allowed &= self._within("SubmittedDate", years, limits.years)
        return allowed

    def describe(self, row: int) -> dict[str, Any]:
        """Return what is shown of a row."""
        return {name: self.column(name)[row] for name in _SHOWN}

    def _within(
        self, name: str, values: Sequence[Any], limits: tuple[float | None, float | None]
    ) -> np.ndarray:
        numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        if np.isnan(numbers).all():
            raise InputError(
                f"{self.path}: says {name} of none of its maps, as map files do not have it; embed them again with "
                "--metadata TABLE.parquet, such as that of a data set or other embeddings, or for star ratings with "
                "--database osu!.db"
            )
        low, high = limits
        return ((numbers >= low) if low is not None else ~np.isnan(numbers)) & (
            (numbers <= high) if high is not None else ~np.isnan(numbers)
        )

    def _parts(self, row: int) -> tuple[str, ...]:
        folder, file = self.column("BeatmapSetFolder")[row], self.column("BeatmapFile")[row]
        return (*PurePosixPath(folder or "").parts, *PurePosixPath(file or "").parts)

    @cached_property
    def _by_id(self) -> dict[int, int]:
        return {key: row for row, key in enumerate(self.column("Id")) if key is not None}

    @cached_property
    def _by_hash(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.column(HASH)) if key is not None}

    @cached_property
    def _by_file(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for row in range(len(self.vectors)):
            if parts := self._parts(row):
                found.setdefault(parts[-1], []).append(row)
        return found


def parse_range(text: str | None, option: str) -> tuple[float | None, float | None]:
    """Read ``5.5:6``, ``5.5:``, ``:6`` or a single number.

    Raises:
        UsageError: It is something else.
    """
    if text is None:
        return None, None
    low, colon, high = text.partition(":")
    try:
        limits = tuple(float(part) if part else None for part in ((low, high) if colon else (low, low)))
    except ValueError:
        limits = (None, None)
    if limits == (None, None) or any(each is not None and math.isnan(each) for each in limits):
        raise UsageError(f"{option} is {text!r}; allowed: a range such as 5.5:6, 5.5: or :6, or one number")
    if None not in limits and limits[0] > limits[1]:  # type: ignore[operator]
        raise UsageError(f"{option} is {text!r}; allowed: the lower number first")
    return limits  # type: ignore[return-value]
