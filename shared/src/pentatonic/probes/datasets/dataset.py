"""What all data sets are read into, and how their tables are read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pentatonic.errors import FormatError, InputError
from pentatonic.probes.tasks import Task
from pentatonic.untrusted.files import read_text

SPLITS = ("train", "valid", "test")
_MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class LabelledTrack:
    """A recording of a data set.

    Args:
        path: The file; it may be missing or not decodable.
        target: A class, or a row of numbers, as the task of the data set takes it.
        group: Recordings of a group, such as those of an artist, are not independent.
    """

    path: Path
    target: int | Sequence[float]
    group: str


@dataclass(frozen=True)
class ProbeDataset:
    """A data set with a task.

    Args:
        name: Of the data set.
        task: What is read from the embeddings.
        splits: ``train``, ``valid`` and ``test`` -> recordings.
        source: Where the data set comes from, and under which conditions.
    """

    name: str
    task: Task
    splits: Mapping[str, Sequence[LabelledTrack]]
    source: str


def require(path: Path, name: str, source: str) -> Path:
    """Return a path of a data set.

    Raises:
        InputError: It does not exist; the message says where the data set comes from.
    """
    if not path.exists():
        raise InputError(f"{name}: {path} is missing; get the data set from {source}")
    return path


def rows(path: Path, delimiter: str = "\t") -> Iterator[tuple[int, list[str]]]:
    """Yield number and fields of the lines of a table that are not empty.

    Raises:
        FormatError: The file is too large or not text.
    """
    text = read_text(path, max_bytes=_MAX_BYTES, error=FormatError)
    for number, row in enumerate(csv.reader(io.StringIO(text), delimiter=delimiter), start=1):
        if any(field.strip() for field in row):
            yield number, row


def named_rows(
    path: Path, columns: Sequence[str], delimiter: str = "\t"
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield number and fields of the lines of a table with a heading; names are compared without case and spaces.

    Raises:
        FormatError: A column is missing in the heading, or a field in a line.
    """
    lines = rows(path, delimiter)
    _, heading = next(lines, (0, []))
    names = [name.strip().casefold() for name in heading]
    for column in columns:
        if column.casefold() not in names:
            raise FormatError(f"there is no column {column!r}", path=path, line=1)
    for number, row in lines:
        if len(row) < len(names):
            raise FormatError(f"{len(row)} fields; the heading has {len(names)}", path=path, line=number)
        yield number, {name: field.strip() for name, field in zip(names, row, strict=False)}


def number_in(text: str, path: Path, line: int) -> float:
    """Read a finite number.

    Raises:
        FormatError: It is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e9:
        raise FormatError(f"{text[:40]!r} is not a finite number", path=path, line=line)
    return value


def inside(root: Path, name: str, path: Path, line: int | None = None) -> Path:
    """Return the place of a file that a table names.

    Raises:
        FormatError: It would lie outside of the folder.
    """
    place = root / name
    if not place.resolve().is_relative_to(root.resolve()):
        raise FormatError(f"{name!r} leaves the folder", path=path, line=line)
    return place
