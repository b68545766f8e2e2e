"""Vectors of 8-bit numbers for the neighbour search in the page, and how good the neighbours are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SEED = 0
_PROBES = 100
_NEIGHBOURS = 10


def to_int8(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Round vectors to whole numbers; each is scaled so that its largest entry becomes 127 or -127.

    Only directions matter for the cosine, so the scales are not needed any more.

    Args:
        vectors: float32 (maps, dimension), none of them zero.

    Returns:
        int8 (maps, dimension).
    """
    return np.rint(vectors * (127 / np.abs(vectors).max(axis=1, keepdims=True))).astype(np.int8)


def neighbour_agreement(vectors: NDArray[np.float32], rounded: NDArray[np.int8]) -> float:
    """Share of the ten nearest maps, by the cosine, that rounded vectors find too; over up to 100 maps drawn at random.

    Args:
        vectors: float32 (maps, dimension), of length 1.
        rounded: Their :func:`to_int8`.
    """
    count = min(_NEIGHBOURS, len(vectors) - 1)
    if not count:
        return 1.0
    probes = np.random.default_rng(_SEED).choice(len(vectors), min(_PROBES, len(vectors)), replace=False)
    norms = np.sqrt(np.einsum("ij,ij->i", rounded, rounded, dtype=np.int64))
    scores = rounded[probes].astype(np.float32) @ rounded.T.astype(np.float32) / norms
    exact, found = _nearest(vectors[probes] @ vectors.T, probes, count), _nearest(scores, probes, count)
    shared = [len(np.intersect1d(*pair)) for pair in zip(exact, found, strict=True)]
    return float(np.mean(shared) / count)


def _nearest(scores: NDArray[np.float32], probes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    scores[np.arange(len(probes)), probes] = -np.inf
    return np.argpartition(-scores, count - 1, axis=1)[:, :count]
