"""What there is to embed: maps among files, archives and folders, and rows of data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cm3p.beatmap import FormatError, MapEntry, find_maps
from cm3p.beatmap.archive import ARCHIVE_SUFFIXES
from cm3p.catalogue.mapperator import (
    FOLDER,
    MAP_FILE,
    MAP_ID,
    METADATA_FILE,
    SET_ID,
    file_of_set,
    is_data_set,
    read_metadata,
)
from pentatonic.errors import InputError
from pentatonic.folder_run import search_files

_SUFFIXES = frozenset({".osu", *ARCHIVE_SUFFIXES})


@dataclass(frozen=True)
class Source:
    """A file with maps: an ``.osu`` file, or an archive.

    Args:
        path: The file.
        group: What ``--start`` and ``--end`` count: the set of a data set, or the file itself.
        table: The data set that names it.
        number: Its row there.
        problem: Why it cannot be read, where that is known already.
    """

    path: Path
    group: object
    table: DataSet | None = None
    number: int = 0
    problem: str = ""

    def maps(self) -> Iterator[MapEntry]:
        """Read its maps; of those that cannot be read, the entry has the error."""
        if self.problem:
            yield MapEntry(self.path, error=FormatError(self.problem, path=self.path))
            return
        yield from find_maps(self.path)

    def row(self) -> Mapping[str, Any]:
        """What the data set says about the map; empty without one."""
        return {} if self.table is None else self.table.row(self.number)


class DataSet:
    """A table of maps: that of a Mapperator data set, or any other with the same columns.

    Args:
        path: The Parquet file.

    Attributes:
        path: The same.

    Raises:
        InputError: It cannot be read.
        MissingExtra: pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table = read_metadata(path)

    def column(self, name: str) -> list[Any]:
        """Return the values of a column.

        Raises:
            InputError: There is no such column.
        """
        if name not in self._table.column_names:
            raise InputError(
                f"{self.path}: has no column {name}; needed are {FOLDER}, {MAP_FILE}, {SET_ID} and {MAP_ID}"
            )
        return self._table.column(name).to_pylist()

    def row(self, number: int) -> Mapping[str, Any]:
        """Return a row."""
        return self._table.slice(number, 1).to_pylist()[0]

    def rows_by_id(self) -> dict[int, int]:
        """Return the numbers of the rows by the ids of their maps."""
        return {key: number for number, key in enumerate(self.column("Id")) if key is not None}

    def sources(self) -> Iterator[Source]:
        """Yield the maps of a data set, in the order of set and map ids."""
        root = self.path.parent
        columns = [self.column(name) for name in (SET_ID, MAP_ID, FOLDER, MAP_FILE)]
        order = sorted(
            range(len(columns[0])), key=lambda row: tuple(column[row] or 0 for column in columns[:2])
        )
        for row in order:
            group, _, folder, name = (column[row] for column in columns)
            try:
                path, problem = file_of_set(root, folder, name, where=f"{self.path}, row {row}"), ""
            except InputError as error:
                path, problem = root / f"row {row}", str(error)
            yield Source(path, group, self, row, problem)


@dataclass(frozen=True)
class FoundSources:
    """What was found.

    Args:
        sources: In order.
        passed_over: Suffix -> number of files that are no maps.
    """

    sources: Sequence[Source]
    passed_over: Mapping[str, int]


def find_sources(paths: Iterable[Path], start: int = 0, end: int | None = None) -> FoundSources:
    """Find maps.

    Args:
        paths: Files, archives, folders, and data sets (folders with ``metadata.parquet``).
        start: The first one to take, counted from 0: sets of data sets, and files.
        end: The first one to leave out; None: all.

    Raises:
        InputError: The table of a data set cannot be read.
    """
    found: list[Source] = []
    plain: list[Path] = []
    for path in paths:
        if is_data_set(path):
            found += DataSet(path / METADATA_FILE).sources()
        else:
            plain.append(path)
    files = search_files(plain, _SUFFIXES)
    found += [Source(path, path) for path in files.files]
    groups = list(dict.fromkeys((str(source.table and source.table.path), source.group) for source in found))
    kept = set(groups[start:end])
    sources = [source for source in found if (str(source.table and source.table.path), source.group) in kept]
    return FoundSources(sources, files.passed_over)
