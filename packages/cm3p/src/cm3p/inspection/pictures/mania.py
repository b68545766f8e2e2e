"""Mania: lanes with notes and hold notes; time runs upwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cm3p.beatmap import Circle, HitObject, Slider, Spinner
from cm3p.inspection.pictures.playfield import Box
from cm3p.inspection.pictures.style import FAINT, INK, bare, clock, rule_beats, shade_kiai
from cm3p.inspection.pictures.timeline import Part, Timeline

_COLUMNS = 4
_WHITE, _BLUE, _MIDDLE = "#5b6472", "#3a7bd5", "#e0a100"
_MOST_KEYS = 18


def columns_of_time(
    figure: Any, box: Box, timeline: Timeline, window: Part, count: int
) -> Iterator[tuple[Any, Part]]:
    """Yield axes side by side whose y axis is time, with kiai time and beats, and the part that each one shows."""
    left, bottom, width, height = box
    gap = 0.035
    each = (width - gap * (count - 1)) / count
    for number, part in enumerate(window.divided(count)):
        axes = figure.add_axes((left + number * (each + gap), bottom, each, height - 0.015))
        bare(axes)
        axes.set_ylim(part.start_ms, part.end_ms)
        shade_kiai(axes, timeline, part, along="y")
        rule_beats(axes, timeline, part, along="y")
        measures = [time_ms for time_ms, is_measure in timeline.beats(part) if is_measure]
        axes.set_yticks(measures, [clock(each_ms) for each_ms in measures], fontsize=7)
        axes.tick_params(length=2, pad=2)
        yield axes, part


def draw_lanes(figure: Any, box: Box, timeline: Timeline, window: Part) -> None:
    """Draw a window in columns, left to right."""
    from matplotlib.patches import Rectangle

    keys = max(1, min(_MOST_KEYS, int(timeline.beatmap.circle_size)))
    for axes, part in columns_of_time(figure, box, timeline, window, _COLUMNS):
        axes.set_xlim(0, keys)
        for lane in range(1, keys):
            axes.axvline(lane, color=FAINT, lw=0.6, zorder=1)
        note_ms = part.length_ms / 130
        for item in timeline.inside(part):
            if isinstance(item, Spinner):
                continue
            lane = lane_of(item, keys)
            colour, end_ms = _colour(lane, keys), timeline.end_ms(item)
            if end_ms > item.time_ms and not isinstance(item, Circle):
                body = (lane + 0.2, item.time_ms), 0.6, end_ms - item.time_ms
                axes.add_patch(Rectangle(*body, fc=colour, alpha=0.4, lw=0, zorder=3))
                axes.plot([lane + 0.2, lane + 0.8], [end_ms, end_ms], color=colour, lw=1.2, zorder=4)
            axes.add_patch(
                Rectangle((lane + 0.08, item.time_ms), 0.84, note_ms, fc=colour, ec=INK, lw=0.4, zorder=5)
            )


def lane_of(item: HitObject | Slider, keys: int) -> int:
    """Return the lane of an object, counted from 0."""
    return int(max(0, min(keys - 1, item.x * keys // 512)))


def _colour(lane: int, keys: int) -> str:
    """Colours mirror at the middle, as on a keyboard."""
    if keys % 2 and lane == keys // 2:
        return _MIDDLE
    return (_WHITE, _BLUE)[min(lane, keys - 1 - lane) % 2]
