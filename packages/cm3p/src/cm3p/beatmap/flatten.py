"""Curves as polylines, as fine as the game draws them.

Points are complex numbers. The game measures sliders along such polylines, so that their fineness is a part of where
a slider ends. Methods: de Casteljau subdivision until the second differences are small; the blossom of a clamped
uniform B-spline; cubic pieces of Catmull and Rom; chords of an arc.
"""

from __future__ import annotations

import cmath
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from cm3p.beatmap.errors import LimitExceeded

_BEZIER_TOLERANCE = 0.25  # px of a second difference, halved
_ARC_TOLERANCE = 0.1  # px between an arc and its chords
_CATMULL_PIECES = 50
_MOST_ARC_POINTS = 1000  # an arc that needs more is so flat that the game takes a Bezier curve
_STRAIGHT = 1e-3
_MOST_BEZIER_POINTS = 2000  # of one curve; its subdivision takes the square of it
MOST_VERTICES = 1_000_000  # of all curves together
_DEEPEST = 40  # halvings of one curve

Curve = Sequence[complex]


def beziers(curves: Sequence[Curve]) -> list[np.ndarray]:
    """Flatten Bezier curves, all of equally many control points together.

    Raises:
        LimitExceeded: One has too many control points, or they are too long for their polylines.
    """
    found: list[np.ndarray] = [np.array(curve, dtype=complex) for curve in curves]
    by_count: defaultdict[int, list[int]] = defaultdict(list)
    for index, curve in enumerate(curves):
        if len(curve) > 2:
            by_count[len(curve)].append(index)
    for count, indices in by_count.items():
        if count > _MOST_BEZIER_POINTS:
            raise LimitExceeded(
                f"a Bezier curve has {count} control points; at most {_MOST_BEZIER_POINTS} are allowed"
            )
        parts = _subdivided(np.stack([found[index] for index in indices]))
        for index, part in zip(indices, parts, strict=True):
            found[index] = np.append(part, found[index][-1])
    return found


def b_spline(points: Curve, degree: int) -> list[Curve]:
    """Return the Bezier curves that a clamped uniform B-spline consists of.

    Raises:
        LimitExceeded: Its degree and its points are too many.
    """
    if degree >= len(points) - 1:
        return [points]
    spans = len(points) - degree
    if spans * degree**3 > _MOST_BEZIER_POINTS**2:
        raise LimitExceeded(
            f"a B-spline of degree {degree} has {len(points)} control points, which are too many"
        )
    return [[_blossom(points, degree, span, ends) for ends in range(degree + 1)] for span in range(spans)]


def catmull(points: Curve) -> np.ndarray:
    """Flatten a Catmull-Rom spline: 50 pieces between two control points.

    Raises:
        LimitExceeded: It has too many control points.
    """
    at = np.array(points, dtype=complex)
    if len(at) < 2:
        return at
    if len(at) * _CATMULL_PIECES > MOST_VERTICES:
        raise LimitExceeded(f"a catmull curve of {len(at)} control points needs too many vertices")
    start, end = at[:-1, None], at[1:, None]
    before = np.concatenate([at[:1], at[:-2]])[:, None]
    after = np.append(at[2:], 2 * at[-1] - at[-2])[:, None]
    t = np.arange(_CATMULL_PIECES) / _CATMULL_PIECES
    linear, quadratic = end - before, 2 * before - 5 * start + 4 * end - after
    cubic = 3 * (start - end) + after - before
    inner = (2 * start + t * (linear + t * (quadratic + t * cubic))) / 2
    return np.append(inner.ravel(), at[-1])


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


def _subdivided(curves: np.ndarray) -> list[np.ndarray]:
    """Vertices of curves (curves, count) without their last points: one array for each."""
    curve_of, start = np.arange(len(curves)), np.zeros(len(curves))
    done: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    points, vertices = curves, 0
    for depth in range(_DEEPEST + 1):
        bends = np.abs(points[:, :-2] - 2 * points[:, 1:-1] + points[:, 2:])
        flat = np.all(bends <= 2 * _BEZIER_TOLERANCE, axis=1) | (depth == _DEEPEST)
        left, right = _halves(points)
        done.append((curve_of[flat], start[flat], _smoothed(left[flat], right[flat])))
        vertices += done[-1][2].size
        bent = ~flat
        if not bent.any():
            break
        if vertices + 2 * points[bent].size > MOST_VERTICES:
            raise LimitExceeded(f"Bezier curves need more than {MOST_VERTICES} vertices")
        points = np.concatenate([left[bent], right[bent]])
        curve_of = np.concatenate([curve_of[bent], curve_of[bent]])
        start = np.concatenate([start[bent], start[bent] + 0.5 ** (depth + 1)])
    curve_of, start, rows = (np.concatenate(column) for column in zip(*done, strict=True))
    order = np.lexsort((start, curve_of))
    bounds = np.searchsorted(curve_of[order], np.arange(1, len(curves)))
    return [part.ravel() for part in np.split(rows[order], bounds)]


def _halves(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, right = np.empty_like(curves), np.empty_like(curves)
    for index in range(curves.shape[1]):
        left[:, index], right[:, -1 - index] = curves[:, 0], curves[:, -1]
        curves = (curves[:, :-1] + curves[:, 1:]) / 2
    return left, right


def _smoothed(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Vertices of flat curves: the start, and means of every second point of their two halves' polygon."""
    polygon = np.concatenate([left, right[:, 1:]], axis=1)
    inner = (polygon[:, 1:-3:2] + 2 * polygon[:, 2:-2:2] + polygon[:, 3:-1:2]) / 4
    return np.concatenate([left[:, :1], inner], axis=1)


def _blossom(points: Curve, degree: int, span: int, ends: int) -> complex:
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
