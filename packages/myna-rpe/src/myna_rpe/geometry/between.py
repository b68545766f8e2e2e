"""Distance to what lies between two hulls: ``(1 - t) conv A + t conv B``, which is A at t = 0 and B at t = 1.

The sum of two hulls has a corner for many pairs of corners, too many to list. Wolfe's algorithm (Math. Programming 11,
1976) needs only the corner that lies farthest in a direction, which is the sum of those of both hulls.

Shapes: n points of A, k points of B, m queries, d dimensions. All arithmetic is float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from myna_rpe.geometry.hull import Array, checked_points
from pentatonic.errors import InputError, UsageError

Corner = Callable[[Array], Array]
"""Direction ``(d,)`` -> the corner ``(d,)`` with the least product with it."""

_TOLERANCE = 1e-12
_MOST_STEPS = 10_000


def distances_between(a: ArrayLike, b: ArrayLike, t: float, queries: ArrayLike) -> tuple[Array, Array]:
    """Distances from queries to ``(1 - t) conv A + t conv B``.

    Args:
        a: ``(n, d)`` corners of the first hull.
        b: ``(k, d)`` corners of the second.
        t: How far from the first to the second, 0 to 1.
        queries: ``(m, d)``.

    Returns:
        Distances ``(m,)``, and for each a bound ``(m,)`` on how much the squared distance may be too large.

    Raises:
        UsageError: ``t`` is not from 0 to 1.
        InputError: A hull has no points, or a value is not finite.
    """
    if not 0 <= t <= 1:
        raise UsageError(f"t is {t}; allowed: from 0 to 1")
    first, second, asked = (checked_points(x, name) for x, name in ((a, "a"), (b, "b"), (queries, "queries")))
    if not len(first) or not len(second):
        raise InputError("a hull of no points has no distance; give at least one for each")
    found = []
    for query in asked:
        near, far = (1 - t) * (first - query), t * (second - query)

        def corner(direction: Array, near: Array = near, far: Array = far) -> Array:
            return near[np.argmin(near @ direction)] + far[np.argmin(far @ direction)]

        point, gap = nearest_to_origin(corner, near[0] + far[0])
        found.append((float(np.linalg.norm(point)), gap))
    distances, gaps = np.array(found).reshape(-1, 2).T
    return distances, gaps


def nearest_to_origin(corner: Corner, start: Array) -> tuple[Array, float]:
    """Find the point of a polytope that is nearest to the origin.

    Args:
        corner: Gives the corner that lies farthest against a direction.
        start: Any corner.

    Returns:
        The point, and the Frank-Wolfe gap: its squared norm is at most this much too large.
    """
    corners, weights, gap = start[None], np.ones(1), np.inf
    for _ in range(_MOST_STEPS):
        point = weights @ corners
        new = corner(point)
        gap = 2 * float(point @ (point - new))
        known = (np.abs(corners - new).max(axis=1) <= _TOLERANCE).any()
        if known or gap <= _TOLERANCE * (1 + float(point @ point)):
            return point, max(gap, 0.0)
        corners, weights = np.vstack((corners, new)), np.append(weights, 0.0)
        corners, weights = _inner_point(corners, weights)
    return weights @ corners, gap


def _inner_point(corners: Array, weights: Array) -> tuple[Array, Array]:
    """Move to the nearest point of the flat through the corners, and drop corners until it lies between them."""
    while True:
        flat = _flat_weights(corners)
        if (flat > _TOLERANCE).all():
            return corners, flat
        outside = flat <= _TOLERANCE
        fall = weights[outside] - flat[outside]
        step = min(
            1.0, float(np.min(np.where(fall > 0, weights[outside] / np.where(fall > 0, fall, 1), 1.0)))
        )
        weights = (1 - step) * weights + step * flat
        keep = weights > _TOLERANCE
        keep[np.argmax(weights)] = True
        if keep.all():  # rounding left a weight just above: it is the one that ended the step
            keep[np.argmin(weights)] = False
        corners, weights = corners[keep], weights[keep] / weights[keep].sum()


def _flat_weights(corners: Array) -> Array:
    """Weights, of any sign and with the sum 1, of the point of the flat through the corners nearest to the origin."""
    n = len(corners)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = corners @ corners.T
    system[n, n] = 0
    target = np.zeros(n + 1)
    target[n] = 1
    return np.asarray(np.linalg.lstsq(system, target, rcond=None)[0][:n], dtype=np.float64)
