"""Colours and marks that all pictures share."""

from __future__ import annotations

from typing import Any

from cm3p.inspection.pictures.timeline import Part, Timeline

INK, FAINT, PAPER = "#22242c", "#c4c8d2", "#ffffff"
FIELD = "#f5f6f9"
KIAI, BREAK = "#ffe6c0", "#dfe3ea"
COMBOS = ("#d94f4f", "#3a7bd5", "#2f9e63", "#c77d0a", "#8a56c2")
DON, KAT, ROLL, DENDEN = "#e0483a", "#3f8fd0", "#e3a008", "#9c6ade"


def clock(time_ms: float) -> str:
    """Return a time as the editor writes it, to a tenth of a second: ``01:23.4``."""
    sign, tenths = ("-" if time_ms < 0 else ""), round(abs(time_ms) / 100)
    return f"{sign}{tenths // 600:02d}:{tenths // 10 % 60:02d}.{tenths % 10}"


def shade_kiai(axes: Any, timeline: Timeline, part: Part, *, along: str = "x") -> None:
    """Shade kiai times, along the x or the y axis."""
    span = axes.axvspan if along == "x" else axes.axhspan
    for each in timeline.kiai(part):
        span(each.start_ms, each.end_ms, color=KIAI, lw=0, zorder=0)


def rule_beats(axes: Any, timeline: Timeline, part: Part, *, along: str = "x") -> None:
    """Rule measures and beats, along the x or the y axis."""
    line = axes.axvline if along == "x" else axes.axhline
    for time_ms, is_measure in timeline.beats(part):
        line(time_ms, color=INK if is_measure else FAINT, lw=0.9 if is_measure else 0.5, zorder=1)


def bare(axes: Any) -> None:
    """Leave ticks out, and make the frame thin."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor(FIELD)
    for side in axes.spines.values():
        side.set_color(FAINT)
        side.set_linewidth(0.8)
