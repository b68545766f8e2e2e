"""Choose songs of a library for a playlist: within it, at its edge, or spread like it.

Shapes: n songs of the playlist, m songs of the library, d dimensions. Results are places in the library.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from myna_rpe.geometry.hull import Array, checked_points, distances_to_hull
from pentatonic.errors import UsageError


def choose_inside(playlist: ArrayLike, library: ArrayLike, count: int, *, variety: float = 0.3) -> list[int]:
    """Choose songs that are nearest to the hull of a playlist, and unlike each other.

    Maximal marginal relevance (Carbonell and Goldstein, 1998): each next song has the least distance to the hull, less
    ``variety`` times its greatest cosine with those chosen before.

    Args:
        playlist: ``(n, d)``.
        library: ``(m, d)``.
        count: How many; all where there are fewer.
        variety: 0: the nearest ones; up to 1.

    Raises:
        UsageError: ``count`` is negative, or ``variety`` is not from 0 to 1.
    """
    _check(count, variety)
    distances = distances_to_hull(playlist, library).distances
    return _spread(-distances, _unit(library), count, variety)


def choose_at_the_edge(
    playlist: ArrayLike, library: ArrayLike, count: int, *, reach: float = 0.3, variety: float = 0.3
) -> list[int]:
    """Choose songs just beyond a playlist: outside its hull, but clearly nearer to the hull when that is stretched.

    Args:
        playlist: ``(n, d)``.
        library: ``(m, d)``.
        count: How many at most; songs that the stretched hull does not come nearer to are never chosen.
        reach: The hull is stretched by the factor ``1 + reach`` from the mean of its corners.
        variety: As for :func:`choose_inside`.

    Raises:
        UsageError: A value is out of its range.
    """
    _check(count, variety)
    if not reach > 0:
        raise UsageError(f"reach is {reach}; allowed: above 0")
    hull = checked_points(playlist, "playlist")
    middle = hull.mean(axis=0)
    plain = distances_to_hull(hull, library).distances
    stretched = distances_to_hull(middle + (1 + reach) * (hull - middle), library).distances
    extent = max(float(np.linalg.norm(hull - middle, axis=1).max()), 1e-12)
    gained = plain - stretched
    # A stretched corner moves by its distance to the middle times the reach; half of that is a clear approach.
    beyond = (plain > 1e-6 * extent) & (gained > 0.5 * reach * np.minimum(plain, extent))
    worth = np.where(beyond, -stretched, -np.inf)
    return _spread(worth, _unit(library), min(count, int(beyond.sum())), variety)


def choose_like(playlist: ArrayLike, library: ArrayLike, count: int) -> list[int]:
    """Choose songs whose hull comes near to all songs of a playlist.

    First the song nearest to the middle, then, again and again, the one nearest to the song of the playlist that is
    farthest from the hull of those chosen.

    Args:
        playlist: ``(n, d)``, n >= 1.
        library: ``(m, d)``.
        count: How many; all where there are fewer.

    Raises:
        UsageError: ``count`` is negative.
    """
    _check(count, 0.0)
    target, songs = checked_points(playlist, "playlist"), checked_points(library, "library")
    chosen: list[int] = []
    free = np.ones(len(songs), dtype=bool)
    while len(chosen) < min(count, len(songs)):
        if chosen:
            lacking = target[np.argmax(distances_to_hull(songs[chosen], target).distances)]
        else:
            lacking = target.mean(axis=0)
        distances = np.where(free, np.linalg.norm(songs - lacking, axis=1), np.inf)
        chosen.append(int(np.argmin(distances)))
        free[chosen[-1]] = False
    return chosen


def _check(count: int, variety: float) -> None:
    if count < 0:
        raise UsageError(f"count is {count}; allowed: 0 and more")
    if not 0 <= variety <= 1:
        raise UsageError(f"variety is {variety}; allowed: from 0 to 1")


def _unit(library: ArrayLike) -> Array:
    rows = checked_points(library, "library")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)


def _spread(worth: Array, unit: Array, count: int, variety: float) -> list[int]:
    """The places of the best songs, each less its likeness to those before it; ties go to the lower place."""
    chosen: list[int] = []
    likeness = np.full(len(worth), -1.0)
    left = worth.copy()
    while len(chosen) < min(count, len(worth)):
        score = left if not chosen else (1 - variety) * left - variety * likeness
        best = int(np.argmax(score))
        chosen.append(best)
        left[best] = -np.inf
        likeness = np.maximum(likeness, unit @ unit[best])
    return chosen
