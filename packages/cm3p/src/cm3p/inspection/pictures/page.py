"""One page: title, the whole map over time, and one window of it by ruleset."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cm3p.beatmap import RULESETS, Beatmap
from cm3p.beatmap.objects import CATCH, MANIA, OSU, TAIKO
from cm3p.inspection.pictures.catch import draw_falling
from cm3p.inspection.pictures.mania import draw_lanes
from cm3p.inspection.pictures.playfield import draw_playfields
from cm3p.inspection.pictures.style import BREAK, INK, PAPER, bare, clock, shade_kiai
from cm3p.inspection.pictures.taiko import draw_strips
from cm3p.inspection.pictures.timeline import Part, Timeline
from pentatonic.checkpoint import atomic_file
from pentatonic.errors import MissingExtra
from pentatonic.progress import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH_IN, _DPI = 12.0, 130
_LONGEST_TITLE = 110
_MOST_BINS = 400
_PARTS = {OSU: draw_playfields, TAIKO: draw_strips, CATCH: draw_falling, MANIA: draw_lanes}
_HEIGHTS_IN = {OSU: 5.6, TAIKO: 5.2, CATCH: 7.4, MANIA: 7.4}


def draw_map(
    beatmap: Beatmap, path: Path, *, name: str = "", start_s: float | None = None, length_s: float = 16.0
) -> None:
    """Draw a map into a file; see :func:`map_figure`.

    Args:
        beatmap: The map.
        path: Ends in ``.png`` or ``.svg``.
        name: Heading of a map that names neither artist nor title.
        start_s: Start of the window; None: the window with the most objects.
        length_s: Its length.

    Raises:
        MissingExtra: Matplotlib is not installed.
        CheckpointError: The file cannot be written.
    """
    with (
        map_figure(beatmap, name=name, start_s=start_s, length_s=length_s) as figure,
        atomic_file(path) as file,
    ):
        kind = path.suffix.lower().removeprefix(".")
        metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {}
        figure.savefig(file, format=kind, dpi=_DPI, metadata=metadata, facecolor=PAPER)


@contextmanager
def map_figure(
    beatmap: Beatmap, *, name: str = "", start_s: float | None = None, length_s: float = 16.0
) -> Iterator[Figure]:
    """Draw a map: its objects over its whole length, and one window of it.

    osu!: playfields of two seconds each with slider paths; taiko: strips; catch: fruits and juice streams over time;
    mania: lanes. Measures are dark lines, beats light ones, and kiai time is shaded. Save the figure within the
    context, which sets its fonts.

    Args:
        beatmap: The map.
        name: Heading of a map that names neither artist nor title.
        start_s: Start of the window; None: the window with the most objects.
        length_s: Its length.

    Raises:
        MissingExtra: Matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("Drawing maps", "cm3p[report]") from error
    timeline = Timeline(beatmap)
    window = (
        _densest(timeline, length_s) if start_s is None else Part(start_s * 1000, (start_s + length_s) * 1000)
    )
    height = _HEIGHTS_IN[beatmap.mode] + 1.9
    # A fixed salt: the same map gives the same file.
    with mpl.rc_context(
        {"svg.hashsalt": "cm3p", "font.size": 9, "text.parse_math": False, "font.family": "sans-serif"}
    ):
        figure = Figure(figsize=(_WIDTH_IN, height), facecolor=PAPER)
        _draw_title(figure, beatmap, name, height)
        _draw_overview(figure.add_axes((0.045, 1 - 1.55 / height, 0.93, 0.75 / height)), timeline, window)
        box = (0.045, 0.3 / height, 0.93, (height - 2.25) / height)
        _PARTS[beatmap.mode](figure, box, timeline, window)
        yield figure


def _draw_title(figure: Any, beatmap: Beatmap, name: str, height: float) -> None:
    title = f"{beatmap.artist or '?'} - {beatmap.title or '?'} [{beatmap.version_name or '?'}]"
    if beatmap.creator:
        title += f" by {beatmap.creator}"
    title = one_line(title if beatmap.artist or beatmap.title or not name else name)
    title = title if len(title) <= _LONGEST_TITLE else f"{title[:_LONGEST_TITLE]}..."
    about = (
        f"{RULESETS[beatmap.mode]}, {len(beatmap.hit_objects)} objects, CS {beatmap.circle_size:g}, "
        f"AR {beatmap.approach_rate:g}, OD {beatmap.overall_difficulty:g}, HP {beatmap.hp_drain_rate:g}"
    )
    figure.text(0.045, 1 - 0.28 / height, title, fontsize=12, weight="bold", color=INK, va="center")
    figure.text(0.045, 1 - 0.53 / height, about, fontsize=9, color=INK, va="center")


def _draw_overview(axes: Any, timeline: Timeline, window: Part) -> None:
    """Objects per second over the whole map."""
    whole = timeline.whole
    bins = max(1, min(_MOST_BINS, math.ceil(whole.length_ms / 1000)))
    width_ms = whole.length_ms / bins
    counts = Counter(
        min(bins - 1, int((each.time_ms - whole.start_ms) / width_ms)) for each in timeline.objects
    )
    rates = [counts[number] / width_ms * 1000 for number in range(bins)]
    bare(axes)
    shade_kiai(axes, timeline, whole)
    for each in timeline.breaks(whole):
        axes.axvspan(each.start_ms, each.end_ms, color=BREAK, lw=0, zorder=0)
    lefts = [whole.start_ms + number * width_ms for number in range(bins)]
    axes.bar(lefts, rates, width_ms, align="edge", color=INK, alpha=0.75, lw=0, zorder=2)
    axes.axvspan(window.start_ms, window.end_ms, facecolor="none", edgecolor="#d94f4f", lw=1.6, zorder=3)
    axes.set_xlim(min(whole.start_ms, window.start_ms), max(whole.end_ms, window.end_ms))
    axes.set_ylim(0, max([*rates, 1]) * 1.1)
    ticks = [whole.start_ms + share / 8 * whole.length_ms for share in range(9)]
    axes.set_xticks(ticks, [clock(tick) for tick in ticks], fontsize=8)
    axes.tick_params(length=2, pad=2)
    axes.set_ylabel("objects/s", fontsize=8)
    top = max(rates, default=0)
    axes.set_yticks([top] if top else [], [f"{top:.0f}"] if top else [], fontsize=8)


def _densest(timeline: Timeline, length_s: float) -> Part:
    """The window of the model's grid that has the most objects, the first one of equals."""
    length_ms = length_s * 1000
    counts = Counter(math.floor(each.time_ms / length_ms) for each in timeline.objects)
    best = min(counts, key=lambda number: (-counts[number], number), default=0)
    return Part(best * length_ms, (best + 1) * length_ms)
