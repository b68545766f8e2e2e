"""Hubs: tracks that are near to very many others, measured and corrected.

In many dimensions a few points are among the nearest neighbours of a large share of all others, and fill every
playlist. The k-occurrence of a track is how many others have it among their k nearest; a skewed distribution of it
shows hubs (Radovanovic, Nanopoulos and Ivanovic, JMLR 11, 2010). The correction divides each squared distance by the
mean distances that both tracks have to their own nearest neighbours: the local scaling of Zelnik-Manor and Perona
(NIPS 2004) with the mean distance, which Schnitzer, Flexer, Schedl and Widmer found to work for music ("Local and
global scaling reduce hubs in space", JMLR 13, 2012).

Shapes: n tracks, Q queries, k neighbours, O width of a vector.
"""

from __future__ import annotations

import numpy as np

from pentatonic.search import Neighbours

NEIGHBOURS = 10
"""Nearest neighbours that make a neighbourhood."""
_LEAST_DISTANCE = 1e-4
_QUERIES = 256


def mean_distances(neighbours: Neighbours) -> np.ndarray:
    """Mean distance of unit vectors to their nearest neighbours, ``(n,)``; exact copies count too.

    Args:
        neighbours: By cosine, the tracks themselves among them.
    """
    distances = np.sqrt(np.maximum(2 - 2 * neighbours.scores, 0))
    own = neighbours.rows == np.arange(len(distances))[:, None]
    others = np.where(own, 0, distances).sum(axis=1) / np.maximum(1, (~own).sum(axis=1))
    return np.maximum(others, _LEAST_DISTANCE)


def similarities(
    queries: np.ndarray, near_queries: np.ndarray, tracks: np.ndarray, near_tracks: np.ndarray
) -> np.ndarray:
    """Corrected similarities, from 0 to 1, where 1/2 is the usual distance of near neighbours: ``(Q, n)``.

    Args:
        queries: ``(Q, O)`` of norm 1.
        near_queries: ``(Q,)`` from :func:`mean_distances`.
        tracks: ``(n, O)`` of norm 1.
        near_tracks: ``(n,)``.
    """
    squared = np.maximum(2 - 2 * (queries @ tracks.T).astype(np.float64), 0)
    return 1 / (1 + squared / (near_queries[:, None] * near_tracks))


def hub_measures(vectors: np.ndarray, near: np.ndarray) -> dict[str, float]:
    """Measure how uneven the k-occurrence is, before and after the correction.

    Args:
        vectors: ``(n, O)``, not zero.
        near: ``(n,)`` from :func:`mean_distances`.

    Returns:
        ``k``, ``skew_before``, ``skew_after``, ``largest_before`` and ``largest_after``: the largest k-occurrences.
    """
    unit = unit_vectors(vectors)
    k = max(1, min(NEIGHBOURS, (len(unit) - 1) // 2))  # of all others, every track is in every list
    before, after = np.zeros(len(unit), np.int64), np.zeros(len(unit), np.int64)
    for first in range(0, len(unit), _QUERIES):
        part = slice(first, first + _QUERIES)
        before += _occurrences(unit[part] @ unit.T, first, k)
        after += _occurrences(similarities(unit[part], near[part], unit, near), first, k)
    return {
        "k": k,
        "skew_before": _skew(before),
        "skew_after": _skew(after),
        "largest_before": int(before.max()),
        "largest_after": int(after.max()),
    }


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return vectors, not zero, with norm 1 in float32."""
    values = np.asarray(vectors, np.float64)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def _occurrences(values: np.ndarray, first: int, k: int) -> np.ndarray:
    """How often each track is among the k of the largest value of a row; a track itself does not count."""
    rows = np.arange(len(values))
    values[rows, first + rows] = -np.inf
    nearest = np.argpartition(-values, k - 1, axis=1)[:, :k]
    return np.bincount(nearest.ravel(), minlength=values.shape[1])


def _skew(counts: np.ndarray) -> float:
    centred = counts - counts.mean()
    deviation = float(np.sqrt((centred**2).mean()))
    return float((centred**3).mean() / deviation**3) if deviation else 0.0
