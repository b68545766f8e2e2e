"""MAESTRO v2 and v3: solo piano, a table ``maestro-*.csv`` beside folders of years."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from pentatonic.errors import InputError
from rc_audioldm.data.layouts.audio_index import AudioIndex, normal_place
from rc_audioldm.data.manifest import ManifestRow, place_under
from rc_audioldm.data.tables import first_cell, read_table

_AUDIO = ("audio_filename", "audio_path", "path", "filename")
_TITLE = ("canonical_title", "title", "piece_title")
_COMPOSER = ("canonical_composer", "composer")
_PREFIXES = ("", "maestro-v3.0.0/", "maestro-v2.0.0/")
_LICENCE = "CC BY-NC-SA 4.0"
_MISSING_IN_THE_ORIGINAL = "nan"


def maestro_rows(
    root: str | Path, *, limit: int | None = None, legacy: bool = False, index: AudioIndex | None = None
) -> Iterator[ManifestRow]:
    """Yield the recordings of MAESTRO that are there, with a caption each, in the order of the tables.

    Args:
        root: Folder with ``maestro-*.csv`` and the folders of years, or one above.
        limit: Rows that are kept at most.
        legacy: As in the original, an empty title or composer becomes the word ``nan``, and the limit cuts each table
            before its files are looked up.
        index: The files of ``root``.

    Raises:
        InputError: There is no table, or the folder is missing.
        FormatError: A table cannot be read.
    """
    index = index or AudioIndex(root)
    tables = sorted(index.root.glob("maestro-*.csv")) or sorted(index.root.glob("maestro-*/maestro-*.csv"))
    if not tables:
        raise InputError(f"{index.root}: no maestro-*.csv; needed: the folder of MAESTRO v2 or v3")
    rows = (row for table in tables for row in _rows_of(table, index, limit if legacy else None, legacy))
    return islice(rows, None if legacy else limit)


def _rows_of(table: Path, index: AudioIndex, limit: int | None, legacy: bool) -> Iterator[ManifestRow]:
    for cells in read_table(table)[:limit]:
        name = first_cell(cells, _AUDIO)
        file = find_recording(index, name) if name else None
        if file is None:
            continue
        empty = _MISSING_IN_THE_ORIGINAL if legacy else ""
        title, composer = (
            first_cell(cells, columns) or (empty if any(column in cells for column in columns) else "")
            for columns in (_TITLE, _COMPOSER)
        )
        place = place_under(index.root, file)
        yield ManifestRow(
            id=f"maestro/{place}",
            path=place,
            source=table.stem,
            licence=_LICENCE,
            caption=maestro_caption(title, composer),
            labels=("piano",),
        )


def maestro_caption(title: str, composer: str) -> str:
    """Return a caption; either text may be empty, and a composer without a title is not named."""
    if not title:
        return "solo piano performance"
    return f"solo piano performance: {title}" + (f" by {composer}" if composer else "")


def find_recording(index: AudioIndex, name: str) -> Path | None:
    """Find the file that a table names.

    It is looked up by its relative path, then below the folders that the archives unpack to, then by its base name: of
    several, the one in a folder of the same year, else the first.
    """
    for prefix in _PREFIXES:
        if file := index.at(prefix + name):
            return file
    found = index.named(name)
    year = PurePosixPath(normal_place(name)).parent.name
    same_year = [file for file in found if file.parent.name.lower() == year]
    return next(iter(same_year or found), None)
