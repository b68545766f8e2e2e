"""Rank correlation, agreement of groupings, and how well groups are set apart.

Shapes: N items, D dimensions.
"""

from __future__ import annotations

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """Return (N,) float64 ranks from 0; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[inverse]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation of (N,) and (N,) values; NaN where one of them is constant."""
    if len(first) < 2:
        return float("nan")
    one, other = (each - each.mean() for each in (ranks(first), ranks(second)))
    spread = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / spread if spread > 0 else float("nan")


def mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Return the normalised mutual information of two groupings: 1 for the same, about 0 for unrelated ones.

    The mutual information is divided by the mean of both entropies. Unrelated groupings of few items have more than 0,
    so a value needs that of shuffled labels beside it.

    Args:
        first: (N,) groups.
        second: (N,) groups.
    """
    one, other = (np.unique(each, return_inverse=True)[1] for each in (first, second))
    joint = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(joint, (one, other), 1 / len(one))
    entropies = [_entropy(joint.sum(axis)) for axis in (0, 1)]
    if not sum(entropies):
        return 1.0  # one group each
    return float((sum(entropies) - _entropy(joint.ravel())) / (sum(entropies) / 2))


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(max(0.0, -(p * np.log(p)).sum()))


def silhouettes(distances: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the silhouette of each item (Rousseeuw, 1987): 1 where its group is compact and far from the others.

    Args:
        distances: (N, N).
        labels: (N,) groups, of which there are at least two.

    Returns:
        (N,) from -1 to 1; 0 for the only item of a group.
    """
    _, groups = np.unique(labels, return_inverse=True)
    sizes = np.bincount(groups)
    members = np.zeros((len(groups), len(sizes)))
    members[np.arange(len(groups)), groups] = 1
    sums = distances @ members  # (N, groups)
    rows = np.arange(len(groups))
    own = sums[rows, groups] / np.maximum(sizes[groups] - 1, 1)
    means = sums / sizes
    means[rows, groups] = np.inf
    nearest = means.min(1)
    widest = np.maximum(own, nearest)
    values = np.divide(nearest - own, widest, out=np.zeros(len(rows)), where=widest > 0)
    return np.where(sizes[groups] > 1, values, 0.0)
