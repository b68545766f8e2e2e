"""Groups of maps by k-means, for every number of groups that the page offers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_CLUSTERS = 20

_SEED = 0
_MAX_ITERATIONS = 20
_SETTLED = 1e-3  # share of maps that change their group


def cluster_counts(maps: int) -> range:
    """The numbers of groups that the page offers for so many maps: 2 to 20, but no more than maps."""
    return range(min(2, maps), min(MAX_CLUSTERS, maps) + 1)


def all_clusters(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Group vectors by k-means, for each number of :func:`cluster_counts`.

    Starting points are those of k-means++ (Arthur and Vassilvitskii, 2007), drawn once: fewer groups start from the
    first ones. Equal input gives equal groups.

    Args:
        vectors: float32 (maps, dimension), of length 1.

    Returns:
        uint8 (numbers of groups, maps): the group of each map; group 0 is the largest.
    """
    counts = cluster_counts(len(vectors))
    starts = vectors[_starting_points(vectors, counts[-1])]
    return np.stack([_k_means(vectors, starts[:count]) for count in counts])


def clusters(vectors: NDArray[np.float32], count: int, seed: int = _SEED) -> NDArray[np.uint8]:
    """Group vectors by k-means into one number of groups; as :func:`all_clusters`.

    Args:
        vectors: float32 (maps, dimension), of length 1.
        count: Groups, 1 to 255 and no more than maps.
        seed: Of the starting points.

    Returns:
        uint8 (maps,): the group of each map.
    """
    return _k_means(vectors, vectors[_starting_points(vectors, count, seed)])


def _starting_points(vectors: NDArray[np.float32], count: int, seed: int = _SEED) -> list[int]:
    random = np.random.default_rng(seed)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    chosen = [int(random.integers(len(vectors)))]
    distances = np.full(len(vectors), np.inf)
    while len(chosen) < count:
        last = vectors[chosen[-1]]
        distances = np.minimum(distances, np.maximum(squares + last @ last - 2 * (vectors @ last), 0))
        sums = np.cumsum(distances, dtype=np.float64)
        # Where all that is left are copies of chosen maps, any map does.
        chosen.append(min(int(np.searchsorted(sums, random.random() * sums[-1])), len(vectors) - 1))
    return chosen


def _k_means(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.uint8]:
    labels = np.full(len(vectors), -1)
    members = np.zeros((len(vectors), len(centres)), dtype=np.float32)
    for _ in range(_MAX_ITERATIONS):
        scores = vectors @ centres.T - np.einsum("ij,ij->i", centres, centres) / 2
        before, labels = labels, scores.argmax(axis=1)
        sizes = np.bincount(labels, minlength=len(centres))
        if sizes.all() and np.count_nonzero(before != labels) <= _SETTLED * len(vectors):
            break
        members[:] = 0
        members[np.arange(len(vectors)), labels] = 1
        centres = (members.T @ vectors) / np.maximum(sizes, 1).astype(np.float32)[:, None]
        empty = np.flatnonzero(
            sizes == 0
        )  # which start again at the maps that are farthest from their centres
        centres[empty] = vectors[np.argsort(scores.max(axis=1))[: len(empty)]]
    sizes = np.bincount(labels, minlength=len(centres))
    rank = np.empty(len(centres), dtype=np.uint8)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(centres))
    return rank[labels]
