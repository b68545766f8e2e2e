"""The columns of metadata that the page shows, and those that are derived from others."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cm3p.beatmap import RULESETS
from cm3p.metadata import STATUSES

SHOWN = (
    "Id", "BeatmapSetId", "Artist", "ArtistUnicode", "Title", "TitleUnicode", "Version", "Creator",
    "Mode", "Status", "DifficultyRating", "Year", "RankedDate", "SubmittedDate",
    "Bpm", "TotalLength", "Ar", "Accuracy", "Cs", "Drain", "MaxCombo",
    "CountCircles", "CountSliders", "CountSpinners", "PlayCount", "PassCount", "FavouriteCount",
    "Source", "GenreName", "LanguageName", "Tags",
)  # fmt: skip
"""Columns of the page, in the order in which it shows them."""

READ = (*(name for name in SHOWN if name != "Year"), "ModeInt", "Ranked", "StarRating")
"""Columns of the file that the page is made from."""

IDS = ("Id", "BeatmapSetId")
"""Columns whose whole numbers are exact, beyond the 2**53 of float64: ids of unsubmitted maps have 60 bits."""

_EXACT = 2**53
_YEAR = re.compile(r"(20\d\d)(?!\d)")


@dataclass(frozen=True)
class NumberColumn:
    """Numbers of one column.

    Args:
        name: Name of the column.
        values: float64 (rows,); NaN where missing.
    """

    name: str
    values: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, rounded to six significant digits beside whole numbers; None where missing."""
        return {
            "name": self.name,
            "kind": "number",
            "values": [_number(each) for each in self.values.tolist()],
        }


@dataclass(frozen=True)
class IdColumn:
    """Ids of one column.

    Args:
        name: Name of the column.
        values: int64 (rows,); 0 where missing.
        known: bool (rows,).
    """

    name: str
    values: NDArray[np.int64]
    known: NDArray[np.bool_]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: numbers, texts where JavaScript would round a number, None where missing."""
        pairs = zip(self.values.tolist(), self.known.tolist(), strict=True)
        values = [
            (value if abs(value) <= _EXACT else str(value)) if known else None for value, known in pairs
        ]
        return {"name": self.name, "kind": "id", "values": values}


@dataclass(frozen=True)
class TextColumn:
    """Texts of one column, each stored once.

    Args:
        name: Name of the column.
        values: The texts.
        codes: int64 (rows,): index into ``values``; -1 where missing.
    """

    name: str
    values: list[str]
    codes: NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"name": self.name, "kind": "text", "values": self.values, "codes": self.codes.tolist()}

    def numbers(self, convert: Callable[[str], float]) -> NDArray[np.float64]:
        """Return ``convert`` of each row's text, NaN where missing: float64 (rows,)."""
        return np.array([*map(convert, self.values), np.nan])[self.codes]  # the code -1 finds the last one


Column = NumberColumn | IdColumn | TextColumn


def page_columns(read: Mapping[str, Column]) -> list[Column]:
    """Turn the columns of a file into those of the page.

    Mode and status come from their numbers where the texts are missing, star ratings from ``StarRating`` where
    ``DifficultyRating`` is; the year is that of the ranked date, else of the submission.

    Args:
        read: Columns of :data:`READ` by name, as far as the file has them.

    Returns:
        Columns of :data:`SHOWN` with at least one value.
    """
    columns = dict(read)
    for name, source, words in (
        ("Mode", "ModeInt", dict(enumerate(RULESETS))),
        ("Status", "Ranked", STATUSES),
    ):
        numbers = columns.get(source)
        if name not in columns and isinstance(numbers, NumberColumn):
            columns[name] = _named(name, numbers.values, words)
    stars = [columns[name] for name in ("DifficultyRating", "StarRating") if name in columns]
    stars = [each.values for each in stars if isinstance(each, NumberColumn)]
    if stars:
        columns["DifficultyRating"] = NumberColumn("DifficultyRating", _first_known(stars))
    dates = [columns[name] for name in ("RankedDate", "SubmittedDate") if name in columns]
    years = [each.numbers(_year) for each in dates if isinstance(each, TextColumn)]
    if years:
        columns["Year"] = NumberColumn("Year", _first_known(years))
    return [columns[name] for name in SHOWN if name in columns and _has_values(columns[name])]


def _named(name: str, numbers: NDArray[np.float64], words: Mapping[int, str]) -> TextColumn:
    codes = np.full(len(numbers), -1)
    for code, number in enumerate(words):
        codes[numbers == number] = code
    return TextColumn(name, list(words.values()), codes)


def _first_known(candidates: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    known = candidates[0]
    for each in candidates[1:]:
        known = np.where(np.isnan(known), each, known)
    return known


def _has_values(column: Column) -> bool:
    if isinstance(column, IdColumn):
        return bool(column.known.any())
    present = column.codes >= 0 if isinstance(column, TextColumn) else ~np.isnan(column.values)
    return bool(present.any())


def _year(text: str) -> float:
    found = _YEAR.match(text)
    return float(found[1]) if found else np.nan


def _number(value: float) -> float | None:
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() else float(f"{value:.6g}")
