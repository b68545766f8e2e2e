"""Reading ``.osu`` files of every version, and of all four rulesets.

In tolerant mode a line that cannot be read is mended or dropped with a warning, as the game does; only what is not a
beatmap at all is refused. In strict mode the first line that the original's reader refuses is an error. A map that
strict mode reads is read equally by both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from cm3p.beatmap.header import read_header
from cm3p.beatmap.lines import LATEST_MS, first_unreadable, read_break, read_hit_object, read_timing_point
from cm3p.beatmap.objects import MANIA, TAIKO, Beatmap, HitObject, Slider, TimingPoint
from cm3p.beatmap.repair import complete_lengths, mend_hit_object, mend_timing_point
from cm3p.beatmap.source import HEADER_SECTIONS, Section, Source
from cm3p.beatmap.timing import Timing

T = TypeVar("T", TimingPoint, HitObject)
_LONGEST_BEAT_MS = 2**31 - 1  # what the game can read
_TIMING_NUMBERS, _OBJECT_NUMBERS = 8, 5  # fields of a line that are numbers, from its start
_OBJECT_SECTIONS = ("TimingPoints", "HitObjects")


def read_beatmap(content: Path | str | bytes, *, strict: bool = False, name: str = "") -> Beatmap:
    """Read a map.

    Args:
        content: A file (``Path``), the content of one (``bytes``), or its text (``str``).
        strict: Refuse what the original's reader refuses, instead of mending or dropping single lines.
        name: What messages call a content that is not a file.

    Returns:
        The map, with ``warnings`` for all that was mended or dropped.

    Raises:
        NotABeatmap: The content is something else: a web page, an archive, an empty file.
        FormatError: The file cannot be opened; in strict mode, the original's reader would fail on it. The message
            names file, line and column.
    """
    source = Source(content, strict=strict, name=name)
    beatmap = Beatmap(version=source.version, warnings=source.warnings)
    read_header(source, beatmap)
    beatmap.lines = _other_lines(source)
    _read_events(source, beatmap)
    beatmap.timing_points = _read_timing_points(source)
    beatmap.hit_objects = _read_hit_objects(source, beatmap.mode != TAIKO)
    if beatmap.mode == MANIA and not beatmap.hit_objects:
        source.problem(0, "a mania map without objects")
    _check_durations(source, beatmap)
    return beatmap


def _other_lines(source: Source) -> dict[str, list[str]]:
    known = (*HEADER_SECTIONS, *_OBJECT_SECTIONS, "Events")
    return {
        name: [source.lines[number - 1].rstrip() for number in section.numbers]
        for name, section in source.sections.items()
        if name not in known
    }


def _read_events(source: Source, beatmap: Beatmap) -> None:
    if (section := source.sections.get("Events")) is None:
        return
    lines: list[str] = []
    background = False
    for number, text in zip(section.numbers, section.texts, strict=True):
        if event := read_break(text):
            beatmap.breaks.append(event)
            continue
        lines.append(source.lines[number - 1].rstrip())
        is_background = not background and text.startswith("0")
        if is_background or text.startswith(("Video", "1")):
            if source.strict and '"' not in text:
                source.problem(number, "a background or video without quotes")
            background = background or is_background
    if lines:
        beatmap.lines["Events"] = lines


def _read_timing_points(source: Source) -> list[TimingPoint]:
    if (section := source.sections.get("TimingPoints")) is None:
        source.problem(0, "there is no section [TimingPoints]; read as empty")
        section = Section()
    points = _read_lines(source, section, _TIMING_NUMBERS, read_timing_point, mend_timing_point)
    if not points:
        source.problem(0, "there are no timing points; one of 1000 ms per beat at 0 is added")
        points = [TimingPoint(0.0, 1000.0)]
    return points


def _read_hit_objects(source: Source, check_edges: bool) -> list[HitObject]:
    if (section := source.sections.get("HitObjects")) is None:
        source.problem(0, "there is no section [HitObjects]; read as empty")
        section = Section()
    read = partial(read_hit_object, check_edges=check_edges)
    places: dict[int, tuple[int, int]] = {}
    objects = _read_lines(source, section, _OBJECT_NUMBERS, read, mend_hit_object, places)
    sliders = [item for item in objects if isinstance(item, Slider) and math.isnan(item.length)]
    for slider, reason in zip(sliders, complete_lengths(sliders), strict=True):
        if reason:
            number, column = places[id(slider)]
            source.warn(number, f"{reason}; the line is left out", column)
    return [item for item in objects if not (isinstance(item, Slider) and math.isnan(item.length))]


def _read_lines(
    source: Source,
    section: Section,
    numbers: int,
    read: Callable[[str], T],
    mend: Callable[[str], tuple[T, list[str]]],
    places: dict[int, tuple[int, int]] | None = None,
) -> list[T]:
    """Read the lines of a section.

    Args:
        source: For problems.
        section: The lines.
        numbers: How many fields at the start of a line are numbers.
        read: Reads a line as the original's reader.
        mend: Reads a line that ``read`` refuses; not in strict mode.
        places: Gets line and column of mended items, by their identity.
    """
    items: list[T] = []
    for position, text in enumerate(section.texts):
        try:
            items.append(read(text))
        except ValueError as error:
            number = section.numbers[position]
            line = source.lines[number - 1]
            column = len(line) - len(line.lstrip()) + first_unreadable(text, numbers) + 1
            if source.strict:
                raise source.error(number, str(error), column) from error
            try:
                item, done = mend(text)
            except ValueError as reason:
                source.warn(number, f"{reason}; the line is left out", column)
            else:
                items.append(item)
                if places is not None:
                    places[id(item)] = number, column
                for message in done:
                    source.warn(number, message, column)
    return items


def _check_durations(source: Source, beatmap: Beatmap) -> None:
    """Make sure that the duration of every slider is a finite number.

    Args:
        source: For problems.
        beatmap: Its objects are complete; points and sliders that stand in the way are removed.
    """
    sliders = [item for item in beatmap.hit_objects if isinstance(item, Slider)]
    if not sliders:
        return
    multiplier = beatmap.slider_multiplier
    if multiplier == 0 or not math.isfinite(multiplier):
        source.problem(0, "SliderMultiplier is 0 or not finite; taken as 1.4")
        multiplier = beatmap.slider_multiplier = 1.4
        beatmap.header.get("Difficulty", {}).pop(
            "SliderMultiplier", None
        )  # so that it is written as it was taken
    if not (bad := _without_duration(sliders, beatmap)):
        return
    source.problem(0, f"{len(bad)} sliders have no finite duration; beats that are too long are left out")
    beatmap.timing_points = [
        point
        for point in beatmap.timing_points
        if not point.uninherited or abs(point.beat_length_ms) <= _LONGEST_BEAT_MS
    ] or [TimingPoint(0.0, 1000.0)]
    if bad := _without_duration(sliders, beatmap):
        source.warn(0, f"{len(bad)} sliders that last too long are left out")
        beatmap.hit_objects = [item for item in beatmap.hit_objects if id(item) not in bad]


def _without_duration(sliders: list[Slider], beatmap: Beatmap) -> set[int]:
    """Return the identities of sliders whose end is not a finite time."""
    timing, bad = Timing(beatmap.timing_points), set()
    for slider in sliders:
        try:
            duration_ms = timing.slider_duration_ms(slider, beatmap.slider_multiplier)
        except (ValueError, OverflowError):
            bad.add(id(slider))
        else:
            if not -LATEST_MS < slider.time_ms + duration_ms < LATEST_MS:
                bad.add(id(slider))
    return bad
