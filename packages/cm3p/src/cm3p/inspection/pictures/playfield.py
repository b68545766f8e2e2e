"""osu!: playfields with circles, slider paths and spinners, a short part of the window in each."""

from __future__ import annotations

from typing import Any

from cm3p.beatmap import HitObject, Slider, Spinner
from cm3p.inspection.pictures.style import (
    COMBOS,
    FAINT,
    FIELD,
    INK,
    KIAI,
    PAPER,
    bare,
    clock,
    rule_beats,
    shade_kiai,
)
from cm3p.inspection.pictures.timeline import Part, Timeline

_COLUMNS, _ROWS = 4, 2
_WIDTH, _HEIGHT, _MARGIN = 512, 384, 64
_GAP = 0.012
Box = tuple[float, float, float, float]


def draw_playfields(figure: Any, box: Box, timeline: Timeline, window: Part) -> None:
    """Draw a window as playfields, left to right and top to bottom; earlier objects are on top, as in play."""
    combos = _combos(timeline)
    left, bottom, width, height = box
    for number, part in enumerate(window.divided(_COLUMNS * _ROWS)):
        row, column = divmod(number, _COLUMNS)
        each_width = (width - _GAP * (_COLUMNS - 1)) / _COLUMNS
        x, y = left + column * (each_width + _GAP), bottom + (_ROWS - 1 - row) * (height / _ROWS)
        strip_height, title_height = 0.022, 0.035
        _draw_strip(figure.add_axes((x, y, each_width, strip_height)), timeline, part, combos)
        place = (x, y + strip_height, each_width, height / _ROWS - strip_height - title_height)
        _draw_field(figure.add_axes(place), figure, place, timeline, part, combos)


def _draw_field(
    axes: Any, figure: Any, place: Box, timeline: Timeline, part: Part, combos: dict[int, tuple[int, int]]
) -> None:
    from matplotlib.patches import Circle, Rectangle

    bare(axes)
    kiai = bool(timeline.kiai(part))
    figure_width, figure_height = figure.get_size_inches()
    width_pt, height_pt = place[2] * figure_width * 72, place[3] * figure_height * 72
    points = min(width_pt / (_WIDTH + 2 * _MARGIN), height_pt / (_HEIGHT + 2 * _MARGIN))  # of an osu! pixel
    axes.set_xlim(_WIDTH / 2 - width_pt / points / 2, _WIDTH / 2 + width_pt / points / 2)
    axes.set_ylim(_HEIGHT / 2 + height_pt / points / 2, _HEIGHT / 2 - height_pt / points / 2)
    axes.add_patch(
        Rectangle((0, 0), _WIDTH, _HEIGHT, fc="#fff4e2" if kiai else PAPER, ec=FAINT, lw=0.8, zorder=0)
    )
    axes.set_facecolor(KIAI if kiai else FIELD)
    axes.set_title(
        f"{clock(part.start_ms)}{'  kiai' if kiai else ''}", fontsize=8, loc="left", pad=2, color=INK
    )
    radius = max(8.0, min(54.4 - 4.48 * timeline.beatmap.circle_size, 90.0))
    objects = [each for each in timeline.inside(part) if each.time_ms >= part.start_ms]
    for order, item in enumerate(objects):
        z = 10 + 3 * (len(objects) - order)
        combo, number = combos[id(item)]
        colour = COMBOS[combo % len(COMBOS)]
        if isinstance(item, Spinner):
            axes.add_patch(
                Circle((_WIDTH / 2, _HEIGHT / 2), 150, fc="none", ec=colour, lw=2, ls="--", zorder=2)
            )
            axes.text(
                _WIDTH / 2,
                _HEIGHT / 2,
                "spinner",
                ha="center",
                va="center",
                color=colour,
                fontsize=8,
                zorder=3,
            )
            continue
        _follow(axes, objects, order, combos)
        if isinstance(item, Slider):
            _draw_slider(axes, timeline, item, colour, radius, points, z)
        axes.add_patch(Circle((item.x, item.y), radius, fc=colour, ec=PAPER, lw=1.1, zorder=z + 1))
        axes.text(
            item.x, item.y, str(number), ha="center", va="center", color=PAPER,
            fontsize=max(5.0, radius * points * 0.8), weight="bold", zorder=z + 2, clip_on=True,
        )  # fmt: skip


def _draw_strip(axes: Any, timeline: Timeline, part: Part, combos: dict[int, tuple[int, int]]) -> None:
    """The time axis of a playfield: beats, measures, and when its objects start and end."""
    bare(axes)
    axes.set_xlim(part.start_ms, part.end_ms)
    axes.set_ylim(-1, 1)
    shade_kiai(axes, timeline, part)
    rule_beats(axes, timeline, part)
    for item in timeline.inside(part):
        colour = COMBOS[combos[id(item)][0] % len(COMBOS)]
        axes.plot([item.time_ms, timeline.end_ms(item)], [0, 0], color=colour, lw=2.5, zorder=3)
        axes.plot([item.time_ms], [0], "o", ms=3.5, color=colour, zorder=4)


def _follow(axes: Any, objects: list[HitObject], order: int, combos: dict[int, tuple[int, int]]) -> None:
    """A dashed line to the next object of the same combo."""
    if order + 1 == len(objects):
        return
    item, after = objects[order], objects[order + 1]
    if isinstance(after, Spinner) or combos[id(item)][0] != combos[id(after)][0]:
        return
    axes.plot([item.x, after.x], [item.y, after.y], color=INK, lw=0.6, ls=(0, (2, 2)), alpha=0.6, zorder=5)


def _draw_slider(
    axes: Any, timeline: Timeline, slider: Slider, colour: str, radius: float, points: float, z: int
) -> None:
    play = timeline.play(slider)
    if play is None:
        return
    xs = [vertex.real for vertex in play.path.vertices]
    ys = [vertex.imag for vertex in play.path.vertices]
    caps: dict[str, Any] = {"solid_capstyle": "round", "solid_joinstyle": "round"}
    axes.plot(xs, ys, color=colour, lw=2 * radius * points, alpha=0.95, zorder=z, **caps)
    axes.plot(xs, ys, color="#fbfbfd", lw=2 * radius * points * 0.86, zorder=z, **caps)
    axes.plot(xs, ys, color=colour, lw=2 * radius * points * 0.86, alpha=0.22, zorder=z, **caps)
    axes.plot(xs, ys, color=colour, lw=0.8, alpha=0.8, zorder=z, **caps)
    end_x, end_y = play.path.end
    if play.spans == 1:
        axes.plot([end_x], [end_y], "o", ms=max(2.0, radius * points * 0.35), color=colour, zorder=z)
        return
    mark = "\u21ba" if play.spans == 2 else f"\u21ba{play.spans}"
    axes.text(
        end_x, end_y, mark, ha="center", va="center", fontsize=max(6.0, radius * points), color=colour, weight="bold",
        zorder=z, clip_on=True,
    )  # fmt: skip


def _combos(timeline: Timeline) -> dict[int, tuple[int, int]]:
    """Object -> number of its combo, and its number in it."""
    combos: dict[int, tuple[int, int]] = {}
    combo, number = 0, 0
    for item in timeline.objects:
        if item.new_combo or number == 0:
            combo, number = combo + 1, 0
        number += 1
        combos[id(item)] = combo, number
    return combos
