"""Data sets in Mapperator's format.

::

    metadata.parquet                          a row for each map
    data/<BeatmapSetFolder>/<BeatmapFile>     the maps
    data/<BeatmapSetFolder>/<AudioFile>       and their songs
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pentatonic.errors import ConfigError, InputError, MissingExtra
from pentatonic.untrusted.files import file_inside

METADATA_FILE = "metadata.parquet"
"""Name of the table of a data set; a folder that has it is one."""

SET_ID, MAP_ID, FOLDER, MAP_FILE, AUDIO_FILE = (
    "BeatmapSetId",
    "Id",
    "BeatmapSetFolder",
    "BeatmapFile",
    "AudioFile",
)
"""Columns that name a map and its files."""

_VECTORS = "embedding"


def is_data_set(path: Path) -> bool:
    """Return whether a folder is a data set."""
    return (path / METADATA_FILE).is_file()


def read_metadata(file: Path, columns: Sequence[str] | None = None, required: Sequence[str] = ()) -> Any:
    """Read a table of maps: that of a data set, or any other with the same columns.

    Args:
        file: A Parquet file.
        columns: Those to read, as far as there are such; None: all but vectors.
        required: Those that there must be.

    Returns:
        A ``pyarrow.Table``.

    Raises:
        InputError: It cannot be read, or lacks a column.
        MissingExtra: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("Reading data sets", "cm3p[search]") from error
    try:
        # Not read_table, which would bring pandas with it.
        with file.open("rb") as opened, parquet.ParquetFile(opened) as table:
            names = table.schema_arrow.names
            if missing := [name for name in required if name not in names]:
                raise InputError(f"{file}: lacks the columns {', '.join(missing)}")
            wanted = [name for name in names if name != _VECTORS] if columns is None else columns
            return table.read(columns=[name for name in wanted if name in names])
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).partition("\n")[0]
        raise InputError(f"{file}: cannot be read as a table of maps ({reason})") from error


def file_of_set(root: Path, folder: object, name: object, *, where: str) -> Path:
    """Return the path of a file of a set, which may be missing; links that lead out of the data set are refused.

    Args:
        root: The data set.
        folder: Value of :data:`FOLDER`.
        name: Value of :data:`MAP_FILE` or :data:`AUDIO_FILE`.
        where: Place in the table, for the message.

    Raises:
        InputError: The table does not name the file, or it is not inside the data set.
    """
    if not isinstance(folder, str) or not isinstance(name, str):
        raise InputError(f"{where}: {FOLDER} or the name of the file is null, so it cannot be found")
    try:
        return file_inside(root / "data", f"{folder}/{name}", where=where)
    except ConfigError as error:
        raise InputError(str(error)) from error


def named_file_of_set(root: Path, folder: object, name: object) -> str | None:
    """Return what :func:`file_of_set` does, by the names alone: quick for tables of a million files, also on a network.

    Returns:
        The path; None where the table does not name the file, or the names lead out of the data set.
    """
    if not isinstance(folder, str) or not isinstance(name, str) or not folder or not name:
        return None
    parts = PurePosixPath(folder.replace("\\", "/"), name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
        return None
    return str(root / "data" / parts)
