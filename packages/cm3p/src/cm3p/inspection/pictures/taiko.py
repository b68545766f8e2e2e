"""Taiko: strips with dons, kats, drum rolls and dendens."""

from __future__ import annotations

from typing import Any

from cm3p.beatmap import Slider, Spinner
from cm3p.inspection.pictures.playfield import Box
from cm3p.inspection.pictures.style import (
    DENDEN,
    DON,
    INK,
    KAT,
    PAPER,
    ROLL,
    bare,
    clock,
    rule_beats,
    shade_kiai,
)
from cm3p.inspection.pictures.timeline import Part, Timeline

_ROWS = 4
_WHISTLE, _FINISH, _CLAP = 2, 4, 8
_SMALL, _LARGE = 15.0, 23.0


def draw_strips(figure: Any, box: Box, timeline: Timeline, window: Part) -> None:
    """Draw a window as strips, top to bottom; earlier notes are on top, as in play."""
    left, bottom, width, height = box
    for row, part in enumerate(window.divided(_ROWS)):
        each = height / _ROWS
        axes = figure.add_axes((left, bottom + (_ROWS - 1 - row) * each, width, each * 0.78))
        bare(axes)
        axes.set_xlim(part.start_ms, part.end_ms)
        axes.set_ylim(-1, 1)
        shade_kiai(axes, timeline, part)
        rule_beats(axes, timeline, part)
        measures = [time_ms for time_ms, is_measure in timeline.beats(part) if is_measure]
        axes.set_xticks(measures, [clock(time_ms) for time_ms in measures], fontsize=7)
        axes.tick_params(length=2, pad=2)
        objects = timeline.inside(part)
        for order, item in enumerate(objects):
            z = 10 + 2 * (len(objects) - order)
            size = _LARGE if item.hit_sound & _FINISH else _SMALL
            if isinstance(item, Slider | Spinner):
                colour = ROLL if isinstance(item, Slider) else DENDEN
                end_ms = timeline.end_ms(item)
                axes.plot(
                    [item.time_ms, end_ms],
                    [0, 0],
                    color=colour,
                    lw=size,
                    solid_capstyle="round",
                    alpha=0.85,
                    zorder=z,
                )
                if isinstance(item, Spinner):
                    middle = (max(item.time_ms, part.start_ms) + min(end_ms, part.end_ms)) / 2
                    axes.text(
                        middle, 0, "denden", ha="center", va="center", fontsize=7, color=PAPER, zorder=z + 1
                    )
                continue
            colour = KAT if item.hit_sound & (_WHISTLE | _CLAP) else DON
            axes.plot(
                [item.time_ms], [0], "o", ms=size, color=colour, mec=PAPER, mew=1.6, zorder=z, clip_on=True
            )
            axes.plot([item.time_ms], [0], "o", ms=size + 1.6, mfc="none", mec=INK, mew=0.6, zorder=z + 1)
