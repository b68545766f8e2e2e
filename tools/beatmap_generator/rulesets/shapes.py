"""Shapes of sliders: control points of a given length, from a head in a direction."""

from __future__ import annotations

import cmath
import math
import random
from collections.abc import Callable, Sequence

from beatmap_generator.style import Style
from cm3p.beatmap import Slider, SliderPath, natural_length
from cm3p.beatmap.objects import SLIDER_BIT

LINE, ARC, CURVE, ZIGZAG, WAVE, CATMULL = range(6)
_DIRECTIONS = 24
_MARGIN = 8  # of the playfield, for ends and control points
WIDTH, HEIGHT = 512, 384


def inside(point: complex, margin: float = _MARGIN) -> bool:
    """Whether a point is on the playfield."""
    return margin <= point.real <= WIDTH - margin and margin <= point.imag <= HEIGHT - margin


def make_slider(
    head: complex, heading: float, length: float, time_ms: float, style: Style, rng: random.Random
) -> tuple[Slider, complex] | None:
    """Return a slider whose path stays on the playfield, and its end; None if no direction has room.

    Args:
        head: Where it starts, whole numbers.
        heading: Preferred direction in radians.
        length: In osu! pixels.
        time_ms: When it starts.
        style: Weights of the shapes.
        rng: Shape and bend.
    """
    shape = rng.choices(range(6), style.shapes)[0]
    if length < 35:
        shape = LINE
    bend = rng.choice((-1, 1)) * rng.uniform(0.5, 1.4)
    kind, unit = _SHAPES[shape](bend)
    for index in range(_DIRECTIONS):
        turn = (index + 1) // 2 * (1 if index % 2 else -1) * 2 * math.pi / _DIRECTIONS
        points = [head + length * step * cmath.rect(1, heading + turn) for step in unit]
        if not all(inside(point) for point in points):
            continue
        slider = _slider(kind, points, length, time_ms)
        if slider is None:
            continue
        path = SliderPath(slider)
        if all(inside(vertex, 0) for vertex in path.vertices):
            return slider, path.vertices[-1]
    return None


def _slider(kind: str, points: Sequence[complex], length: float, time_ms: float) -> Slider | None:
    """Scale the control points so that their curve is a little longer than the slider."""
    head = points[0]
    scale = 1.0
    for _ in range(3):
        rounded = [
            (float(round(p.real)), float(round(p.imag))) for p in (head + scale * (q - head) for q in points)
        ]
        slider = Slider(
            x=head.real, y=head.imag, time_ms=time_ms, type=SLIDER_BIT, hit_sound=0,
            curve=kind, kind=kind, points=rounded, length=length,
        )  # fmt: skip
        natural = natural_length(slider)
        if length <= natural <= 1.1 * length:
            return slider
        scale *= 1.03 * length / max(natural, 1.0)
    return None


def _line(bend: float) -> tuple[str, list[complex]]:
    return "L", [0j, 1.02 + 0j]


def _arc(bend: float) -> tuple[str, list[complex]]:
    radius = 1.02 / bend
    return "P", [radius * 1j * (1 - cmath.exp(1j * angle)) for angle in (0.0, bend / 2, bend)]


def _curve(bend: float) -> tuple[str, list[complex]]:
    return "B", [0j, 0.5 + 0.35j * bend, 0.95 + 0.1j * bend]


def _zigzag(bend: float) -> tuple[str, list[complex]]:
    corner = 0.5 + 0.2j * bend
    end = corner + 0.55 * cmath.exp(-0.9j * bend)
    return "B", [0j, corner, corner, end]


def _wave(bend: float) -> tuple[str, list[complex]]:
    return "B", [0j, 0.35 + 0.5j * bend, 0.6 - 0.5j * bend, 0.9 + 0j]


def _catmull(bend: float) -> tuple[str, list[complex]]:
    return "C", [0j, 0.33 + 0.12j * bend, 0.66 + 0.12j * bend, 0.98 + 0j]


_SHAPES: Sequence[Callable[[float], tuple[str, list[complex]]]] = (
    _line,
    _arc,
    _curve,
    _zigzag,
    _wave,
    _catmull,
)
