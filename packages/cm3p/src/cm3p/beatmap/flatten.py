"""Curves as polylines, as fine as the game draws them.

Points are complex numbers. The game measures sliders along such polylines, so that their fineness is a part of where
a slider ends. Methods: de Casteljau subdivision until the second differences are small, and the Bernstein polynomials
themselves for curves of very many control points; Boehm's insertion of knots into a clamped uniform B-spline; cubic
pieces of Catmull and Rom; chords of an arc.
"""

from __future__ import annotations

import cmath
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from cm3p.beatmap.errors import LimitExceeded

_BEZIER_TOLERANCE = 0.25  # px of a second difference, halved
_ARC_TOLERANCE = 0.1  # px between an arc and its chords
_CATMULL_PIECES = 50
_CATMULL_STEPS = np.arange(_CATMULL_PIECES) / _CATMULL_PIECES
_MOST_ARC_POINTS = 1000  # an arc that needs more is so flat that the game takes a Bezier curve
_STRAIGHT = 1e-3
_MOST_BEZIER_POINTS = 20_000  # of one curve
_MOST_SUBDIVIDED = 100  # control points of a curve; each halving takes the square of it
_MOST_STEPS = 64  # on a curve of more, times the root of their number
_ROWS_AT_ONCE = 256
_TINY = 1e-300
_HIGHEST_DEGREE = 16  # of a B-spline, each piece of which takes the square of it; the client's editor makes 4
MOST_VERTICES = 1_000_000  # of all curves together
_DEEPEST = 40  # halvings of one curve

Curve = Sequence[complex]


def beziers(curves: Sequence[Curve], lengths: Sequence[float] | None = None) -> list[np.ndarray]:
    """Flatten Bezier curves, all of equally many control points together.

    Args:
        curves: Their control points.
        lengths: Of each curve the length that is needed; the polyline may end anywhere beyond it. None: all of it.

    Raises:
        LimitExceeded: One has too many control points, or they are too long for their polylines.
    """
    found: list[np.ndarray] = [np.array(curve, dtype=complex) for curve in curves]
    by_count: defaultdict[int, list[int]] = defaultdict(list)
    for index, curve in enumerate(curves):
        if len(curve) > _MOST_BEZIER_POINTS:
            raise LimitExceeded(
                f"a Bezier curve has {len(curve)} control points; at most {_MOST_BEZIER_POINTS} are allowed"
            )
        if len(curve) > _MOST_SUBDIVIDED:
            found[index] = _evaluated(found[index])
        elif len(curve) > 2:
            by_count[len(curve)].append(index)
    needed = np.full(len(curves), np.inf) if lengths is None else np.array(lengths)
    for indices in by_count.values():
        parts = _subdivided(np.stack([found[index] for index in indices], axis=1), needed[indices])
        for index, part in zip(indices, parts, strict=True):
            found[index] = part
    return found


def b_spline(points: list[complex], degree: int) -> Iterator[list[complex]]:
    """Yield the Bezier curves that a clamped uniform B-spline consists of.

    Raises:
        LimitExceeded: Its degree is too high.
    """
    if degree >= len(points) - 1:
        yield points
        return
    if degree > _HIGHEST_DEGREE:
        raise LimitExceeded(f"a B-spline has degree {degree}; at most {_HIGHEST_DEGREE} is allowed")
    window = points[: degree + 1]  # the control points of the part from the current span on that shape it
    for spans_left, following in zip(range(len(points) - degree, 1, -1), points[degree + 1 :], strict=True):
        # Each level inserts the knot where the span ends once more, until the span is a Bezier curve.
        curve, level, kept = [window[0]], window[1:], [following, window[-1]]
        knots = [min(number, spans_left - 1) for number in range(1, degree)]
        while len(level) > 1:
            curve.append(level[0])
            level = [
                (knot * a + b) / (knot + 1) for knot, (a, b) in zip(knots, pairwise(level), strict=False)
            ]
            kept.append(level[-1])
        curve.append(level[0])
        yield curve
        window = kept[::-1]
    yield window


def catmull(points: Curve) -> np.ndarray:
    """Flatten a Catmull-Rom spline: 50 pieces between two control points.

    Raises:
        LimitExceeded: It has too many control points.
    """
    if len(points) < 2:
        return np.array(points, dtype=complex)
    if len(points) * _CATMULL_PIECES > MOST_VERTICES:
        raise LimitExceeded(f"a catmull curve of {len(points)} control points needs too many vertices")
    at = np.array([points[0], *points, 2 * points[-1] - points[-2]], dtype=complex)
    before, start, end, after = at[:-3, None], at[1:-2, None], at[2:-1, None], at[3:, None]
    t = _CATMULL_STEPS
    linear, quadratic = end - before, 2 * before - 5 * start + 4 * end - after
    cubic = 3 * (start - end) + after - before
    inner = (2 * start + t * (linear + t * (quadratic + t * cubic))) / 2
    return np.append(inner.ravel(), at[-2])


def arc(points: Curve) -> np.ndarray | None:
    """Flatten the arc through three points; their lines if they are straight.

    Returns:
        The polyline; None if the game takes a Bezier curve.
    """
    if len(points) != 3:
        return None
    first, middle, last = points
    a, b = middle - first, last - first
    turn = (a.conjugate() * b).imag
    if abs(turn) <= _STRAIGHT:
        return np.array(points, dtype=complex)
    centre = first + (b * abs(a) ** 2 - a * abs(b) ** 2) / (2j * turn)
    radius = abs(first - centre)
    sweep = cmath.phase((last - centre) / (first - centre)) % (2 * math.pi)
    if turn < 0:
        sweep -= 2 * math.pi
    count = 2
    if 2 * radius > _ARC_TOLERANCE:
        step = 2 * math.acos(1 - _ARC_TOLERANCE / radius)
        # A radius so large that the step vanishes belongs to a line.
        if step == 0 or abs(sweep) / step >= _MOST_ARC_POINTS:
            return None
        count = max(2, math.ceil(abs(sweep) / step))
    return centre + (first - centre) * np.exp(1j * sweep * np.linspace(0, 1, count))


def _subdivided(curves: np.ndarray, needed: np.ndarray) -> list[np.ndarray]:
    """Vertices of curves of few control points (count, curves), up to the lengths (curves,) needed: one array for each.

    A piece is left out where the chords before it are longer than what is needed of its curve, for its polyline goes
    through the ends of all pieces. What follows the first such piece is left out, too.
    """
    count = curves.shape[1]
    curve_of, start, before = np.arange(count), np.zeros(count), np.zeros(count)
    left_out = np.full(count, np.inf)  # where the first piece starts that is left out
    ends = curves[-1].copy()
    done: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    points, vertices = curves, 0
    for depth in range(_DEEPEST + 1):
        bends = np.abs(points[:-2] - 2 * points[1:-1] + points[2:])
        flat = np.all(bends <= 2 * _BEZIER_TOLERANCE, axis=0) | (depth == _DEEPEST)
        left, right = _halves(points)
        done.append((curve_of[flat], start[flat], _smoothed(left[:, flat], right[:, flat])))
        vertices += done[-1][2].size
        bent = ~flat
        if not bent.any():
            break
        chords = np.abs(right[0, bent] - left[0, bent])
        points = np.concatenate([left[:, bent], right[:, bent]], axis=1)
        curve_of = np.concatenate([curve_of[bent], curve_of[bent]])
        start = np.concatenate([start[bent], start[bent] + 0.5 ** (depth + 1)])
        before = np.concatenate([before[bent], before[bent] + chords])
        if (beyond := before > needed[curve_of]).any():
            np.minimum.at(left_out, curve_of[beyond], start[beyond])
            first = beyond & (start == left_out[curve_of])
            ends[curve_of[first]] = points[0, first]
            kept = start < left_out[curve_of]
            points, curve_of, start, before = points[:, kept], curve_of[kept], start[kept], before[kept]
        if vertices + points.size > MOST_VERTICES:
            raise LimitExceeded(f"Bezier curves need more than {MOST_VERTICES} vertices")
    curve_of, start = (np.concatenate([column[i] for column in done]) for i in (0, 1))
    order = np.lexsort((start, curve_of))
    order = order[start[order] < left_out[curve_of[order]]]
    rows = np.concatenate([column[2] for column in done], axis=1).T[order]
    bounds = np.searchsorted(curve_of[order], np.arange(count + 1)).tolist()
    return [
        np.append(rows[first:after].ravel(), last)
        for last, first, after in zip(ends, bounds, bounds[1:], strict=False)
    ]


def _evaluated(points: np.ndarray) -> np.ndarray:
    """Vertices of one curve of many control points.

    Such a curve varies on a scale of ``sqrt(t (1 - t) / degree)``, for which equal steps of the angle in
    ``t = sin(angle) ** 2`` are equally fine everywhere. They are halved until the middle of each is close to its chord.
    """
    steps = 8 * math.isqrt(len(points))
    vertices = _points_at(points, np.arange(steps + 1) / steps)
    while steps <= _MOST_STEPS * math.isqrt(len(points)):
        middles = _points_at(points, (np.arange(steps) + 0.5) / steps)
        is_fine = np.all(np.abs(middles - (vertices[:-1] + vertices[1:]) / 2) <= _BEZIER_TOLERANCE)
        vertices = np.append(np.stack([vertices[:-1], middles], axis=1).ravel(), points[-1])
        if is_fine:
            return vertices
        steps *= 2
    raise LimitExceeded(f"a Bezier curve of {len(points)} control points is too long for its polyline")


def _points_at(points: np.ndarray, quarters: np.ndarray) -> np.ndarray:
    """Points of a Bezier curve at parts of a quarter turn, by the Bernstein polynomials that are above 1e-16 there."""
    degree = len(points) - 1
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, degree + 1)))])
    binomials = logs[-1] - logs - logs[::-1]
    width = min(
        degree + 1, 1 + 2 * math.ceil(4.5 * math.sqrt(degree))
    )  # nine standard deviations to both sides
    found = []
    for start in range(0, len(quarters), _ROWS_AT_ONCE):
        angles = quarters[start : start + _ROWS_AT_ONCE, None] * (math.pi / 2)
        sin, cos = np.maximum(np.sin(angles), _TINY), np.maximum(np.cos(angles), _TINY)
        first = np.clip(np.rint(degree * sin * sin) - width // 2, 0, degree + 1 - width)
        power = first.astype(int) + np.arange(width)
        weights = np.exp(binomials[power] + 2 * (power * np.log(sin) + (degree - power) * np.log(cos)))
        found.append(np.sum(weights * points[power], axis=1))
    return np.concatenate(found)


def _halves(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, right = np.empty_like(curves), np.empty_like(curves)
    for index in range(len(curves)):
        left[index], right[-1 - index] = curves[0], curves[-1]
        curves = (curves[:-1] + curves[1:]) / 2
    return left, right


def _smoothed(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Vertices of flat curves: the start, and means of every second point of their two halves' polygon."""
    polygon = np.concatenate([left, right[1:]])
    inner = (polygon[1:-3:2] + 2 * polygon[2:-2:2] + polygon[3:-1:2]) / 4
    return np.concatenate([left[:1], inner])
