"""Distance from points to the convex hull of others, exact up to a certificate.

Shapes: n points of the hull, m queries, d dimensions. All arithmetic is float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from pentatonic.errors import InputError

Array = NDArray[np.float64]
# Least scale of a problem, so that a hull that is one point at the query divides by nothing.
_FLOOR = 1e-12


@dataclass(frozen=True)
class HullDistances:
    """What :func:`distances_to_hull` found.

    Attributes:
        distances: ``(m,)`` Euclidean distances to the hull, 0 inside.
        nearest: ``(m, d)`` nearest points of the hull.
        weights: ``(m, n)`` weights of the points in them, which add up to 1; those above 0 explain the nearest point.
        gaps: ``(m,)`` certificates: the squared distance is at most this much too large.
    """

    distances: Array
    nearest: Array
    weights: Array
    gaps: Array


def distances_to_hull(points: ArrayLike, queries: ArrayLike) -> HullDistances:
    """Project queries onto the convex hull of points.

    For a query q, minimises ``||X^T w - q||`` over weights w >= 0 that add up to 1. The points are moved so that q is
    the origin; non-negative least squares with a row of ones below then gives the weights up to their sum, for any
    height s of that row. The certificate is the Frank-Wolfe gap.

    Args:
        points: ``(n, d)``, finite, n >= 1.
        queries: ``(m, d)``, finite.

    Raises:
        InputError: There are no points, the dimensions differ, or a value is not finite.
    """
    hull, asked = checked_points(points, "points"), checked_points(queries, "queries")
    if len(hull) == 0:
        raise InputError("the hull of no points has no distance; give at least one")
    if hull.shape[1] != asked.shape[1]:
        raise InputError(f"points have {hull.shape[1]} dimensions, queries {asked.shape[1]}")
    weights = (
        np.stack([_weights(hull - query) for query in asked]) if len(asked) else np.empty((0, len(hull)))
    )
    nearest = weights @ hull
    residual = nearest - asked
    # Of f(w) = ||X^T w - q||^2: gradient 2 X r. The gap bounds how far f is above its least value.
    gradients = 2 * residual @ hull.T
    gaps = np.einsum("mn,mn->m", gradients, weights) - gradients.min(axis=1)
    return HullDistances(np.linalg.norm(residual, axis=1), nearest, weights, np.maximum(gaps, 0.0))


def _weights(moved: Array) -> Array:
    """Weights of the point of the hull that is nearest to the origin."""
    height = max(float(np.abs(moved).max()), _FLOOR)
    system = np.vstack((moved.T, np.full(len(moved), height)))
    target = np.zeros(len(system))
    target[-1] = height
    found, _ = nnls(system, target)
    return found / found.sum()


def checked_points(values: ArrayLike, name: str) -> Array:
    """Return points as ``(number, dimensions)`` float64.

    Raises:
        InputError: They have another shape, or a value is not finite; the message says which row.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise InputError(f"{name} must be (number, dimensions), got {array.shape}")
    if not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).all(axis=1)))
        raise InputError(f"{name} must be finite; row {row} is not")
    return array
