"""Inside, near or outside a playlist: distances to its hull, measured by how far its own songs lie from each other.

In many dimensions hardly any song lies inside the hull of a playlist. What counts is whether it is as near as the songs
of the playlist are to the hull of the rest. Shapes: n songs, m candidates, d dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from myna_rpe.geometry.hull import Array, HullDistances, distances_to_hull

Label = Literal["inside", "near", "outside"]
# Distances up to this share of the extent of the data count as none.
_TOUCHING = 1e-6
_LEAST_SCALE = 1e-6


@dataclass(frozen=True)
class HullScale:
    """How far the songs of a playlist lie from the hull of the others.

    Attributes:
        left_out: ``(k,)`` distance of each distinct song to the hull of the rest; empty for one song.
        median: Median of those above 0, at least 1e-6; ``None`` for one song.
    """

    left_out: Array
    median: float | None


@dataclass(frozen=True)
class Place:
    """Where a candidate lies.

    Attributes:
        distance: To the hull.
        ratio: Distance by :attr:`HullScale.median`; ``None`` where there is no scale.
        percentile: Share of the playlist's songs that lie nearer to the hull of the rest, 0 to 100; ``None`` likewise.
        label: ``inside``, ``near`` or ``outside``.
    """

    distance: float
    ratio: float | None
    percentile: float | None
    label: Label


def hull_scale(points: ArrayLike) -> HullScale:
    """Measure a playlist by leaving out each of its songs once.

    Equal rows count once: their distance would be 0. In few dimensions most songs lie inside the hull of the rest, so
    that the median is that of the distances above 0.

    Args:
        points: ``(n, d)``.
    """
    distinct = np.unique(np.asarray(points, dtype=np.float64), axis=0)
    if len(distinct) < 2:
        return HullScale(np.empty(0), None)
    left_out = np.array(
        [
            distances_to_hull(np.delete(distinct, i, axis=0), distinct[i : i + 1]).distances[0]
            for i in range(len(distinct))
        ]
    )
    apart = left_out[left_out > _TOUCHING * _extent(distinct)]
    return HullScale(left_out, max(float(np.median(apart)), _LEAST_SCALE) if len(apart) else _LEAST_SCALE)


def places(
    points: ArrayLike,
    candidates: ArrayLike,
    *,
    scale: HullScale | None = None,
    inside: float = 0.25,
    near: float = 1.0,
) -> tuple[list[Place], HullDistances]:
    """Say of each candidate where it lies.

    Args:
        points: ``(n, d)`` the playlist.
        candidates: ``(m, d)``.
        scale: From :func:`hull_scale`; ``None``: that of ``points``.
        inside: Greatest ratio that counts as inside, besides what touches the hull.
        near: Greatest ratio that counts as near: at 1, no farther than a typical song is from the others.

    Returns:
        A place for each candidate, and the distances.
    """
    hull = np.asarray(points, dtype=np.float64)
    scale = hull_scale(hull) if scale is None else scale
    found = distances_to_hull(hull, candidates)
    touching = _TOUCHING * _extent(hull)
    result = []
    for distance in found.distances.tolist():
        ratio = None if scale.median is None else distance / scale.median
        percentile = None if scale.median is None else 100.0 * float(np.mean(scale.left_out < distance))
        label: Label = "outside"
        if distance <= touching or (ratio is not None and ratio <= inside):
            label = "inside"
        elif ratio is not None and ratio <= near:
            label = "near"
        result.append(Place(distance, ratio, percentile, label))
    return result, found


def _extent(points: Array) -> float:
    """Size of the data: the largest absolute value, at least a tiny one."""
    return max(float(np.abs(points).max()), 1e-12)
