"""Pairs of audio and caption for training adapters, from several data sets, as a CSV or as a manifest."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from pentatonic.checkpoint import atomic_file
from pentatonic.errors import UsageError
from rc_audioldm.data.layouts.fsd50k import fsd50k_rows
from rc_audioldm.data.layouts.maestro import maestro_rows
from rc_audioldm.data.layouts.urmp import urmp_rows
from rc_audioldm.data.manifest import ManifestRow, place_under

HEADER = ("audio_path", "text")


@dataclass(frozen=True)
class DataSet:
    """A folder in one of the known layouts.

    Args:
        root: The folder.
        limit: Rows at most.
    """

    root: Path
    limit: int | None = None


def collect_pairs(
    *,
    maestro: DataSet | None = None,
    urmp: DataSet | None = None,
    fsd50k: DataSet | None = None,
    shuffle_seed: int | None = None,
    legacy: bool = False,
) -> list[tuple[Path, ManifestRow]]:
    """Return the files of data sets with their rows, each file once.

    Args:
        maestro: MAESTRO v2 or v3.
        urmp: URMP.
        fsd50k: FSD50K.
        shuffle_seed: Put them into an order that this number decides; None: data set by data set.
        legacy: Captions and look-ups as in the original.

    Returns:
        Absolute path and row. Of rows for the same file the last caption counts, as in the original.

    Raises:
        UsageError: No data set is given.
        InputError: A folder or a table is missing.
        FormatError: A table cannot be read.
    """
    sets = [
        (found, rows)
        for found, rows in ((maestro, maestro_rows), (urmp, urmp_rows), (fsd50k, fsd50k_rows))
        if found is not None
    ]
    if not sets:
        raise UsageError("no data set is given; allowed: MAESTRO, URMP and FSD50K, one or more of them")
    found = chain.from_iterable(
        ((each.root / row.path, row) for row in rows(each.root, limit=each.limit, legacy=legacy))
        for each, rows in sets
    )
    pairs = list(_each_file_once(found))
    if shuffle_seed is not None:
        random.Random(shuffle_seed).shuffle(pairs)
    return pairs


def _each_file_once(pairs: Iterable[tuple[Path, ManifestRow]]) -> Iterator[tuple[Path, ManifestRow]]:
    by_file: dict[Path, ManifestRow] = {}
    for file, row in pairs:
        by_file[file.resolve()] = row
    yield from by_file.items()


def write_pairs(path: Path, pairs: Iterable[tuple[Path, ManifestRow]]) -> None:
    """Write the CSV of the original: absolute path and caption, with a header.

    Raises:
        CheckpointError: The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows((str(audio), row.caption) for audio, row in pairs)
    with atomic_file(path) as file:  # names of files may be bytes that are no UTF-8
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))


def rows_below(root: Path, pairs: Iterable[tuple[Path, ManifestRow]]) -> Iterator[ManifestRow]:
    """Yield the rows with paths relative to a folder that holds all data sets.

    Raises:
        InputError: A file is elsewhere.
    """
    return (replace(row, path=place_under(root.resolve(), audio)) for audio, row in pairs)
