"""Catch: fruits, juice streams and banana showers by horizontal position over time, which runs upwards."""

from __future__ import annotations

from typing import Any

from cm3p.beatmap import Hold, Slider, Spinner
from cm3p.inspection.pictures.mania import columns_of_time
from cm3p.inspection.pictures.playfield import Box
from cm3p.inspection.pictures.style import COMBOS, DENDEN, PAPER
from cm3p.inspection.pictures.timeline import Part, Timeline

_COLUMNS, _WIDTH, _MARGIN = 4, 512, 30


def draw_falling(figure: Any, box: Box, timeline: Timeline, window: Part) -> None:
    """Draw a window in columns, left to right; fruits of one combo have one colour."""
    combo_of, combo = {}, 0
    for item in timeline.objects:
        combo += item.new_combo
        combo_of[id(item)] = combo
    size = 54.4 - 4.48 * timeline.beatmap.circle_size
    for axes, part in columns_of_time(figure, box, timeline, window, _COLUMNS):
        axes.set_xlim(-_MARGIN, _WIDTH + _MARGIN)
        for edge in (0, _WIDTH):
            axes.axvline(edge, color="#9aa0ad", lw=0.8, zorder=1)
        for item in timeline.inside(part):
            colour = COMBOS[combo_of[id(item)] % len(COMBOS)]
            if isinstance(item, Spinner | Hold):
                end_ms = timeline.end_ms(item)
                axes.fill_between([0, _WIDTH], item.time_ms, end_ms, color=DENDEN, alpha=0.25, lw=0, zorder=2)
                axes.text(
                    _WIDTH / 2,
                    max(item.time_ms, part.start_ms),
                    "bananas",
                    fontsize=7,
                    ha="center",
                    color=DENDEN,
                )
                continue
            if isinstance(item, Slider):
                _draw_stream(axes, timeline, item, colour)
            axes.plot(
                [item.x],
                [item.time_ms],
                "o",
                ms=max(4.0, size / 4.2),
                color=colour,
                mec=PAPER,
                mew=0.8,
                zorder=6,
            )


def _draw_stream(axes: Any, timeline: Timeline, slider: Slider, colour: str) -> None:
    """The path of a juice stream, with its drops and the fruits at repeats and at the end."""
    play = timeline.play(slider)
    if play is None or play.event_count() > 10_000:
        return
    steps = max(8, min(400, int(play.span_ms / 15)))
    shares = [step / steps for step in range(steps + 1)]
    xs, times_ms = [], []
    for span in range(min(play.spans, 1000)):
        for share in shares:
            there = share if span % 2 == 0 else 1 - share
            xs.append(play.path.point_at(there * play.path.length)[0])
            times_ms.append(slider.time_ms + (span + share) * play.span_ms)
    axes.plot(xs, times_ms, color=colour, lw=2.2, alpha=0.55, zorder=4, solid_capstyle="round")
    for event in play.events():
        x = play.path.point_at(event.progress * play.path.length)[0]
        if event.kind == "tick":
            axes.plot([x], [event.time_ms], "o", ms=3, color=colour, zorder=5)
        elif event.kind != "head":
            axes.plot([x], [event.time_ms], "o", ms=6, color=colour, mec=PAPER, mew=0.7, zorder=5)
