"""Writing maps as ``.osu`` text."""

from __future__ import annotations

import math
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

from cm3p.beatmap.errors import FormatError
from cm3p.beatmap.header import FIELDS, Field, read_value
from cm3p.beatmap.objects import (
    DEFAULT_SAMPLE,
    Beatmap,
    Circle,
    HitObject,
    Hold,
    Segment,
    Slider,
    Spinner,
    TimingPoint,
)
from cm3p.beatmap.reader import read_beatmap
from cm3p.beatmap.source import HEADER_SECTIONS
from pentatonic.checkpoint import atomic_file

_SPACED = ("General", "Editor")  # sections that have a space after the colon


def write_beatmap(beatmap: Beatmap) -> str:
    """Return a map as the text of an ``.osu`` file.

    Keys that the file had keep their text where it still says the same; keys that are not needed are not added. A
    map that does not come from a file gets all keys that the original's reader asks for.

    Raises:
        FormatError: The text would read as another map: a title with a line break, say, or a position of NaN. The
            message names the field.
    """
    parts = [f"osu file format v{beatmap.version}\n"]
    for name in HEADER_SECTIONS:
        values = _header_values(beatmap, name)
        if values:
            colon = ": " if name in _SPACED else ":"
            parts.append(_section(name, [f"{key}{colon}{value}" for key, value in values.items()]))
    breaks = [f"2,{write_number(event.start_ms)},{write_number(event.end_ms)}" for event in beatmap.breaks]
    if breaks or "Events" in beatmap.lines:
        parts.append(_section("Events", breaks + beatmap.lines.get("Events", [])))
    parts.append(_section("TimingPoints", [_timing_point(point) for point in beatmap.timing_points]))
    parts += [_section(name, lines) for name, lines in beatmap.lines.items() if name != "Events"]
    parts.append(_section("HitObjects", [_hit_object(item) for item in beatmap.hit_objects]))
    text = "\n".join(parts)
    _check(beatmap, text)
    return text


def save_beatmap(beatmap: Beatmap, path: Path) -> None:
    """Write a map to a file, which is complete or not there. Bytes that were not UTF-8 are those of the file read.

    Raises:
        FormatError: As :func:`write_beatmap`.
        CheckpointError: The file cannot be written.
    """
    data = write_beatmap(beatmap).encode(errors="surrogateescape")
    with atomic_file(path) as file:
        file.write(data)


def write_number(value: float) -> str:
    """Return a short text that gives the same number again, without a fraction if it has none."""
    if math.isfinite(value):
        return str(int(value)) if value == int(value) else repr(float(value))
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _section(name: str, lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in (f"[{name}]", *lines))


def _header_values(beatmap: Beatmap, section: str) -> dict[str, str]:
    values = dict(beatmap.header.get(section, {}))
    for field in FIELDS:
        if field.section == section and (text := _field_text(beatmap, field)) is not None:
            values[field.key] = text
        elif field.section == section:
            values.pop(field.key, None)
    return values


def _field_text(beatmap: Beatmap, field: Field) -> str | None:
    """Return the text of a field; None where it is left out, as it has its default anyway."""
    value, default = getattr(beatmap, field.attribute), field.default_of(beatmap)
    text = beatmap.header.get(field.section, {}).get(field.key)
    if text is not None and read_value(field, text, default)[0] == value:
        return text
    if value == default and not (field.required and not beatmap.header):
        return None
    if isinstance(value, list):
        return " ".join(value)
    return write_number(value) if isinstance(value, float) else str(value)


def _timing_point(point: TimingPoint) -> str:
    return (
        f"{write_number(point.time_ms)},{write_number(point.beat_length_ms)},{point.meter},{point.sample_set},"
        f"{point.sample_index},{point.volume},{int(point.uninherited)},{point.effects}"
    )


def _hit_object(item: HitObject) -> str:
    x, y, time = (write_number(value) for value in (item.x, item.y, item.time_ms))
    start = f"{x},{y},{time},{item.type},{item.hit_sound}"
    if isinstance(item, Circle):
        return f"{start},{item.sample}"
    if isinstance(item, Spinner):
        return f"{start},{write_number(item.end_time_ms)},{item.sample}"
    if isinstance(item, Hold):
        return f"{start},{write_number(item.end_time_ms)}:{item.sample}"
    if isinstance(item, Slider):
        return f"{start},{_slider(item)}"
    raise FormatError(f"an object of {type(item).__name__} cannot be written")


def _slider(slider: Slider) -> str:
    fields = [_curve(slider), str(slider.repeat), write_number(slider.length)]
    edges = ["|".join(map(str, slider.edge_sounds)), "|".join(slider.edge_sets), slider.sample]
    # The space at the end of a line does not count, so what ends with one cannot be the end.
    if slider.sample == DEFAULT_SAMPLE and edges[1] == edges[1].rstrip():
        edges.pop()
        while edges and not edges[-1]:
            edges.pop()
    return ",".join(fields + edges)


def _curve(slider: Slider) -> str:
    segments = slider.segments or [Segment(slider.curve, 0, 0)]
    anchors = [f"{write_number(x)}:{write_number(y)}" for x, y in slider.points]
    firsts = [max(1, segment.first) for segment in segments] + [len(anchors)]
    parts: list[str] = []
    for segment, (first, after) in zip(segments, pairwise(firsts), strict=True):
        parts.append(segment.kind + (str(segment.degree) if segment.degree else ""))
        parts += anchors[first:after]
    return "|".join(parts)


def _check(beatmap: Beatmap, text: str) -> None:
    """Read what was written, and compare."""
    again = read_beatmap(text)
    for field in fields(beatmap):
        compared = field.compare and field.name != "header"
        if compared and getattr(beatmap, field.name) != getattr(again, field.name):
            raise FormatError(f"the map cannot be written: its {field.name} would read differently")
    for name, values in beatmap.header.items():
        for key in values.keys() - {field.key for field in FIELDS}:
            if again.header.get(name, {}).get(key) != values[key]:
                raise FormatError(f"the map cannot be written: {key} of [{name}] would read differently")
