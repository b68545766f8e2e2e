"""Curves as polylines, as fine as the game draws them.

Points are complex numbers. The game measures sliders along such polylines, so that their fineness is a part of where
a slider ends. Methods: de Casteljau subdivision until the second differences are small; the blossom of a clamped
uniform B-spline; cubic Hermite pieces of Catmull and Rom; chords of an arc.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from itertools import pairwise

from cm3p.beatmap.errors import LimitExceeded

_BEZIER_TOLERANCE = 0.25  # px of a second difference, halved
_ARC_TOLERANCE = 0.1  # px between an arc and its chords
_CATMULL_PIECES = 50
_MOST_ARC_POINTS = 1000  # an arc that needs more is so flat that the game takes a Bezier curve
_STRAIGHT = 1e-3
_MOST_BEZIER_POINTS = 2000  # of one curve; its subdivision takes the square of it
_MOST_VERTICES = 200_000
_DEEPEST = 40  # halvings of one curve

Path = list[complex]


def linear(points: Sequence[complex]) -> Path:
    """Return the points themselves."""
    return list(points)


def bezier(points: Sequence[complex]) -> Path:
    """Flatten one Bezier curve.

    Raises:
        LimitExceeded: It has too many control points, or is too long for its polyline.
    """
    if len(points) > _MOST_BEZIER_POINTS:
        raise LimitExceeded(
            f"a Bezier curve has {len(points)} control points; at most {_MOST_BEZIER_POINTS} are allowed"
        )
    if len(points) < 3:
        return list(points)
    path: Path = []
    waiting = [(list(points), 0)]
    while waiting:
        curve, depth = waiting.pop()
        left, right = _halves(curve)
        if depth >= _DEEPEST or _is_flat(curve):
            path += _smoothed(left, right)
            if len(path) > _MOST_VERTICES:
                raise LimitExceeded(f"a Bezier curve needs more than {_MOST_VERTICES} vertices")
        else:
            waiting += [(right, depth + 1), (left, depth + 1)]
    return [*path, points[-1]]


def b_spline(points: Sequence[complex], degree: int) -> Path:
    """Flatten a clamped uniform B-spline, as the Bezier curves that it consists of.

    Raises:
        LimitExceeded: Its degree and its points are too many.
    """
    degree = min(degree, len(points) - 1)
    if degree < 2:
        return list(points)
    spans = len(points) - degree
    if spans * degree**3 > _MOST_BEZIER_POINTS**2:
        raise LimitExceeded(
            f"a B-spline of degree {degree} has {len(points)} control points, which are too many"
        )
    path = [points[0]]
    for span in range(spans):
        path += bezier([_blossom(points, degree, span, ends) for ends in range(degree + 1)])[1:]
    return path


def catmull(points: Sequence[complex]) -> Path:
    """Flatten a Catmull-Rom spline: 50 pieces between two control points.

    Raises:
        LimitExceeded: It has too many control points.
    """
    if len(points) * _CATMULL_PIECES > _MOST_VERTICES:
        raise LimitExceeded(f"a catmull curve of {len(points)} control points needs too many vertices")
    path: Path = []
    for index in range(len(points) - 1):
        start, end = points[index], points[index + 1]
        before = points[index - 1] if index else start
        after = points[index + 2] if index + 2 < len(points) else end + end - start
        for step in range(_CATMULL_PIECES):
            path.append(_catmull_point(before, start, end, after, step / _CATMULL_PIECES))
    return [*path, points[-1]]


def arc(points: Sequence[complex]) -> Path:
    """Flatten the arc through three points; where there is none, the points' line or Bezier curve."""
    if len(points) != 3:
        return bezier(points)
    first, middle, last = points
    turn = ((middle - first).conjugate() * (last - first)).imag
    if abs(turn) <= _STRAIGHT:
        return list(points)
    a, b = middle - first, last - first
    centre = first + (b * abs(a) ** 2 - a * abs(b) ** 2) / (2j * turn)
    radius = abs(first - centre)
    sweep = cmath.phase((last - centre) / (first - centre)) % (2 * math.pi)
    if turn < 0:
        sweep -= 2 * math.pi
    count = 2
    if 2 * radius > _ARC_TOLERANCE:
        needed = abs(sweep) / (2 * math.acos(1 - _ARC_TOLERANCE / radius))
        if needed >= _MOST_ARC_POINTS:
            return bezier(points)
        count = max(2, math.ceil(needed))
    return [centre + (first - centre) * cmath.rect(1, sweep * i / (count - 1)) for i in range(count)]


def _halves(curve: Path) -> tuple[Path, Path]:
    left, right = [curve[0]], [curve[-1]]
    while len(curve) > 1:
        curve = [(a + b) / 2 for a, b in pairwise(curve)]
        left.append(curve[0])
        right.append(curve[-1])
    return left, right[::-1]


def _is_flat(curve: Path) -> bool:
    most = 2 * _BEZIER_TOLERANCE
    return all(abs(a - 2 * b + c) <= most for a, b, c in zip(curve, curve[1:], curve[2:], strict=False))


def _smoothed(left: Path, right: Path) -> Path:
    """Vertices of a flat curve: its start, and means of every second point of its two halves' polygon."""
    polygon = left + right[1:]
    inner = [
        (polygon[2 * i - 1] + 2 * polygon[2 * i] + polygon[2 * i + 1]) / 4 for i in range(1, len(left) - 1)
    ]
    return [left[0], *inner]


def _blossom(points: Sequence[complex], degree: int, span: int, ends: int) -> complex:
    """Control point of the Bezier curve of one span: the blossom at ``ends`` times its end, else its start."""
    spans = len(points) - degree

    def knot(index: int) -> int:
        return min(max(index - degree, 0), spans)

    values = list(points[span : span + degree + 1])
    for level in range(degree):
        at = span + 1 if level < ends else span
        for i in range(degree - level):
            low, high = knot(span + level + 1 + i), knot(span + degree + 1 + i)
            weight = (at - low) / (high - low)
            values[i] = values[i] * (1 - weight) + values[i + 1] * weight
    return values[0]


def _catmull_point(p0: complex, p1: complex, p2: complex, p3: complex, t: float) -> complex:
    a, b, c = p2 - p0, 2 * p0 - 5 * p1 + 4 * p2 - p3, 3 * (p1 - p2) + p3 - p0
    return (2 * p1 + t * (a + t * (b + t * c))) / 2
