"""The sections of keys and values: General, Editor, Metadata, Difficulty."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cm3p.beatmap.objects import Beatmap
from cm3p.beatmap.source import HEADER_SECTIONS, Section, Source


def read_flag(text: str) -> bool:
    """Read a flag: an integer, where 0 is false."""
    return bool(int(text))


def read_mode(text: str) -> int:
    """Read a ruleset, 0 to 3."""
    mode = int(text)
    if mode not in range(4):
        raise ValueError("not a ruleset")
    return mode


def read_integers(text: str) -> list[int]:
    """Read integers that commas separate."""
    return [int(part) for part in text.split(",")] if text else []


@dataclass(frozen=True)
class Field:
    """A key that becomes a field of :class:`Beatmap`.

    Args:
        section: Where it is.
        key: Its name there.
        attribute: Its name in ``Beatmap``.
        read: Text to value; raises ``ValueError``.
        default: Its value when it is missing or cannot be read; a function of the map where it depends on others.
        required: Whether the original's reader refuses a map without it.
    """

    section: str
    key: str
    attribute: str
    read: Callable[[str], Any]
    default: Any
    required: bool = False

    def default_of(self, beatmap: Beatmap) -> Any:
        """Return the value of a map that does not have the key."""
        return self.default(beatmap) if callable(self.default) else self.default


# In this order, as defaults may depend on fields before them.
FIELDS: tuple[Field, ...] = (
    Field("General", "AudioFilename", "audio_filename", str, "", required=True),
    Field("General", "Mode", "mode", read_mode, 0),
    Field("General", "StackLeniency", "stack_leniency", float, 0.0),
    Field("Metadata", "Title", "title", str, "", required=True),
    Field("Metadata", "TitleUnicode", "title_unicode", str, lambda beatmap: beatmap.title),
    Field("Metadata", "Artist", "artist", str, "", required=True),
    Field("Metadata", "ArtistUnicode", "artist_unicode", str, lambda beatmap: beatmap.artist),
    Field("Metadata", "Creator", "creator", str, "", required=True),
    Field("Metadata", "Version", "version_name", str, "", required=True),
    Field("Metadata", "Source", "source", str, ""),
    Field("Metadata", "Tags", "tags", str.split, lambda _: []),
    Field("Metadata", "BeatmapID", "beatmap_id", int, None),
    Field("Metadata", "BeatmapSetID", "beatmap_set_id", int, None),
    Field("Difficulty", "HPDrainRate", "hp_drain_rate", float, 5.0, required=True),
    Field("Difficulty", "CircleSize", "circle_size", float, 5.0, required=True),
    Field("Difficulty", "OverallDifficulty", "overall_difficulty", float, 5.0, required=True),
    Field("Difficulty", "ApproachRate", "approach_rate", float, lambda beatmap: beatmap.overall_difficulty),
    Field("Difficulty", "SliderMultiplier", "slider_multiplier", float, 1.4),
    Field("Difficulty", "SliderTickRate", "slider_tick_rate", float, 1.0),
)
# Keys that are kept as text, but that the original's reader must be able to read.
_CHECKED: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("General", "AudioLeadIn", int),
    ("General", "PreviewTime", int),
    ("General", "Countdown", read_flag),
    ("General", "LetterboxInBreaks", read_flag),
    ("General", "WidescreenStoryboard", read_flag),
    ("Editor", "Bookmarks", read_integers),
    ("Editor", "DistanceSpacing", float),
    ("Editor", "BeatDivisor", int),
    ("Editor", "GridSize", int),
    ("Editor", "TimelineZoom", float),
)


def read_header(source: Source, beatmap: Beatmap) -> None:
    """Fill in ``Beatmap.header`` and the fields that come from it.

    Raises:
        FormatError: In strict mode, if a required key is missing or a value cannot be read.
    """
    places: dict[tuple[str, str], int] = {}
    for name in HEADER_SECTIONS:
        values = beatmap.header[name] = {}
        section = source.sections.get(name, Section())
        for number, text in zip(section.numbers, section.texts, strict=True):
            key, _, value = text.partition(":")
            key = key.strip()
            values[key] = value.strip()
            places[name, key] = number
    for field in FIELDS:
        _read_field(source, beatmap, field, places.get((field.section, field.key), 0))
    for name, key, read in _CHECKED:
        if (text := beatmap.header.get(name, {}).get(key)) is not None:
            try:
                read(text)
            except ValueError:
                source.problem(places[name, key], f"{key} cannot be read; kept as it is")


def _read_field(source: Source, beatmap: Beatmap, field: Field, line: int) -> None:
    text = beatmap.header.get(field.section, {}).get(field.key)
    default = field.default_of(beatmap)
    if text is not None:
        value, problem = read_value(field, text, default, strict=source.strict)
        if problem:
            source.problem(line, problem, source.lines[line - 1].find(":") + 2)
    else:
        value = default
        if field.required:
            source.problem(0, f"[{field.section}] has no {field.key}; taken as {default!r}")
    setattr(beatmap, field.attribute, value)


def read_value(field: Field, text: str, default: Any, *, strict: bool = False) -> tuple[Any, str | None]:
    """Return the value that a text stands for, and what is wrong with it.

    Args:
        field: The key.
        text: The text in the file.
        default: The value for an unreadable text.
        strict: Accept what the original's reader accepts, which includes NaN.
    """
    try:
        value = field.read(text)
    except ValueError:
        if not text and field.default is None and not strict:
            return None, None  # an empty id is common
        number = _as_float(text) if field.read is int else None
        value = default if number is None else int(number)
        return value, f"{field.key} cannot be read; taken as {value!r}"
    if isinstance(value, float) and not strict and not math.isfinite(value):
        return default, f"{field.key} is not finite; taken as {default!r}"
    return value, None


def _as_float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
