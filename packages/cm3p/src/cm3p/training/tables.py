"""Tables of maps: data sets in Mapperator's format, and plain folders of maps, under the same columns.

A row is a map. The columns of Mapperator's ``metadata.parquet`` that count here are kept under their names; ``Path``,
``Member``, ``AudioPath`` and ``AudioMember`` say where the map and its audio are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from cm3p.beatmap import RULESETS, AudioSource, MapEntry, find_maps, map_id, set_id
from cm3p.catalogue.mapperator import (
    AUDIO_FILE,
    FOLDER,
    MAP_FILE,
    MAP_ID,
    METADATA_FILE,
    SET_ID,
    is_data_set,
    named_file_of_set,
    read_metadata,
)
from pentatonic.errors import ConfigError, InputError

log = logging.getLogger(__name__)
pc: Any = import_module("pyarrow.compute")  # its functions are made at run time, unknown to type checkers

_SCHEMA = pa.schema(
    {
        "BeatmapSetId": pa.int64(),
        "Id": pa.int64(),
        "ModeInt": pa.int64(),
        "Mode": pa.string(),
        "Status": pa.string(),
        "Ranked": pa.int64(),
        "UserId": pa.int64(),
        "Creator": pa.string(),
        "TopTagIds": pa.list_(pa.int64()),
        "Year": pa.int64(),
        "DifficultyRating": pa.float64(),
        "StarRating": pa.list_(pa.float64()),
        "Cs": pa.float64(),
        "Path": pa.string(),
        "Member": pa.string(),
        "AudioPath": pa.string(),
        "AudioMember": pa.string(),
    }
)
_PLACES = (FOLDER, MAP_FILE, AUDIO_FILE)
_REQUIRED = (SET_ID, MAP_ID, *_PLACES)


def read_tables(paths: Sequence[str], format: str = "auto") -> tuple[pa.Table, list[tuple[str, str]]]:
    """Read the maps of several places into one table, in the order of set and map.

    Args:
        paths: Roots of data sets in Mapperator's format; folders, ``.osu`` and ``.osz`` files otherwise.
        format: ``mapperator``, ``maps``, or ``auto``.

    Returns:
        The table, and what could not be read, with the reason.

    Raises:
        ConfigError: A path does not exist, or a table lacks a column.
        InputError: There is no map.
    """
    tables, failures, plain = [], [], []
    for path in map(Path, paths):
        if not path.exists():
            raise ConfigError(f"dataset: no such file or folder: {path}")
        if format == "mapperator" or (format == "auto" and is_data_set(path)):
            tables.append(_read_mapperator(path))
        else:
            plain.append(path)
    if plain:
        table, failures = _table_of(find_maps(plain))
        tables.append(table)
    table = pa.concat_tables(tables) if tables else _SCHEMA.empty_table()
    if not len(table):
        raise InputError(f"there is no map in {', '.join(map(str, paths))}")
    return table.sort_by([("BeatmapSetId", "ascending"), ("Id", "ascending")]).combine_chunks(), failures


def _read_mapperator(root: Path) -> pa.Table:
    file = root / METADATA_FILE
    try:
        table = read_metadata(file, (*_SCHEMA.names, *_PLACES, "SubmittedDate"), _REQUIRED)
    except InputError as error:
        raise ConfigError(str(error)) from error
    columns: dict[str, Any] = {}
    for field in _SCHEMA:
        if field.name == "Year":
            columns["Year"] = _years(table)
        elif field.name in table.column_names:
            columns[field.name] = _cast(table[field.name], field, file)
        else:
            columns[field.name] = pa.nulls(len(table), field.type)
    folders, maps, audios = (table[name].to_pylist() for name in _PLACES)
    columns["Path"] = [
        named_file_of_set(root, folder, name) for folder, name in zip(folders, maps, strict=True)
    ]
    columns["AudioPath"] = [
        named_file_of_set(root, folder, name) for folder, name in zip(folders, audios, strict=True)
    ]
    return pa.table(columns, schema=_SCHEMA)


def _cast(column: pa.ChunkedArray, field: pa.Field, file: Path) -> pa.ChunkedArray:
    try:
        return column.cast(field.type, safe=False)
    except pa.ArrowException as error:
        raise ConfigError(
            f"{file}: the column {field.name} is {column.type}; allowed: {field.type}"
        ) from error


def _years(table: pa.Table) -> Any:
    """Years of submission, of time stamps or of texts that start with a year."""
    if "SubmittedDate" not in table.column_names:
        return pa.nulls(len(table), pa.int64())
    dates = table["SubmittedDate"]
    if pa.types.is_temporal(dates.type):
        return pc.year(dates).cast(pa.int64())
    digits = (str(date)[:4] if date is not None else "" for date in dates.to_pylist())
    return pa.array([int(year) if year.isascii() and year.isdigit() else None for year in digits], pa.int64())


def _table_of(entries: Iterable[MapEntry]) -> tuple[pa.Table, list[tuple[str, str]]]:
    """Maps of plain folders, which know no year, status or difficulty."""
    rows, failures = [], []
    for entry in entries:
        beatmap = entry.beatmap
        if beatmap is None:
            failures.append((entry.where, str(entry.error)))
            continue
        audio = entry.audio or AudioSource(Path())
        rows.append(
            {
                "BeatmapSetId": set_id(beatmap, entry.sha256),
                "Id": map_id(beatmap, entry.sha256),
                "ModeInt": beatmap.mode,
                "Mode": RULESETS[beatmap.mode],
                "Creator": beatmap.creator,
                "Path": str(entry.path),
                "Member": entry.member,
                "AudioPath": str(audio.path) if entry.audio else None,
                "AudioMember": audio.member,
            }
        )
    return pa.Table.from_pylist(rows, schema=_SCHEMA), failures


def sets_between(table: pa.Table, start: int | None, end: int | None, *, what: str) -> pa.Table:
    """Keep a range of sets, counted in the order of their ids.

    Args:
        table: A sorted table.
        start: First set; None: 0; negative: counted from the end.
        end: Set before which the range ends; 0 or None: after the last one; negative: counted from the end.
        what: Name of the range in messages, such as ``train``.

    Raises:
        ConfigError: The range reaches past the last set, or is empty.
    """
    ids = pc.unique(table["BeatmapSetId"])
    first, last = start or 0, end or len(ids)
    first, last = first + len(ids) * (first < 0), last + len(ids) * (last < 0)
    if not 0 <= first < last <= len(ids):
        raise ConfigError(
            f"dataset.{what}_dataset_start and _end are {start} and {end}; allowed: a range within the {len(ids)} "
            "sets, 0 or none for the last one"
        )
    return table.filter(pc.is_in(table["BeatmapSetId"], value_set=ids[first:last]))


def filtered(
    table: pa.Table,
    *,
    subset_ids: Sequence[int] | None = None,
    gamemodes: Sequence[int] | None = None,
    years: tuple[int | None, int | None] = (None, None),
    difficulty: tuple[float | None, float | None] = (None, None),
) -> pa.Table:
    """Keep the maps that count, in the original's order of the conditions.

    A map whose value is unknown does not count, unless the value is unknown of all maps, as in plain folders.

    Args:
        table: The maps.
        subset_ids: Ids of sets.
        gamemodes: Modes.
        years: First and last year of submission.
        difficulty: Least and greatest number of stars.
    """
    if subset_ids is not None:
        table = table.filter(pc.is_in(table["BeatmapSetId"], value_set=pa.array(subset_ids, pa.int64())))
    if gamemodes is not None:
        table = table.filter(pc.is_in(table["ModeInt"], value_set=pa.array(gamemodes, pa.int64())))
    for name, (least, greatest) in (("Year", years), ("DifficultyRating", difficulty)):
        if table[name].null_count == len(table):
            continue
        if least is not None:
            table = table.filter(pc.greater_equal(table[name], least))
        if greatest is not None:
            table = table.filter(pc.less_equal(table[name], greatest))
    return table
