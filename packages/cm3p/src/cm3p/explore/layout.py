"""Places of the maps on a plane: principal components, or UMAP where it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pentatonic.errors import MissingExtra, UsageError

_BLOCK_ROWS = 4096
_SEED = 0
_NEIGHBOURS = 15
_MIN_DISTANCE = 0.1


@dataclass(frozen=True)
class Layout:
    """A place for each map.

    Args:
        name: Such as ``PCA``.
        note: What the axes are, for the page.
        positions: float32 (maps, 2), centred, in -1..1; both axes have the same scale.
    """

    name: str
    note: str
    positions: NDArray[np.float32]


def principal_components(vectors: NDArray[np.float32]) -> Layout:
    """Project vectors to the two directions of largest variance.

    The signs are fixed: the largest entry of each direction is positive.

    Args:
        vectors: float32 (maps, dimension).
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((len(mean), len(mean)))
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = vectors[start : start + _BLOCK_ROWS] - mean
        covariance += block.T @ block
    variances, directions = np.linalg.eigh(covariance)
    first = directions[:, ::-1][:, :2]
    largest = first[np.abs(first).argmax(axis=0), np.arange(first.shape[1])]
    first = first * np.where(largest < 0, -1, 1)
    places = np.zeros((len(vectors), 2))
    places[:, : first.shape[1]] = vectors @ first - mean @ first
    shares = np.maximum(variances[::-1][:2], 0) / max(variances.sum(), np.finfo(float).tiny)
    note = f"the two directions of largest variance, {shares.sum():.0%} of all"
    return Layout("PCA", note, _to_unit_square(places))


def umap(vectors: NDArray[np.float32], start: Layout) -> Layout:
    """Lay vectors out by UMAP, which keeps neighbours together; distances between groups mean little.

    Args:
        vectors: float32 (maps, dimension).
        start: Where the maps start from, so that the result has its large-scale order; equal input gives equal output.

    Raises:
        MissingExtra: umap-learn is not installed.
        UsageError: There are fewer than 3 maps.
    """
    if len(vectors) <= 2:
        raise UsageError(f"--umap needs at least 3 maps, not {len(vectors)}")
    try:
        import umap as library
    except ImportError as error:
        raise MissingExtra("A layout by UMAP", "cm3p[umap]") from error
    neighbours = min(_NEIGHBOURS, len(vectors) - 1)
    settings: dict[str, Any] = {
        "n_neighbors": neighbours,
        "min_dist": _MIN_DISTANCE,
        "metric": "cosine",
        "init": start.positions * 10,  # the extent of UMAP's own starting points
        "random_state": _SEED,
        "n_jobs": 1,  # more than one would make the result vary
    }
    places = np.asarray(library.UMAP(**settings).fit_transform(vectors), dtype=np.float64)
    note = f"neighbours are kept ({neighbours} each), distances between groups mean little"
    return Layout("UMAP", note, _to_unit_square(places))


def _to_unit_square(places: NDArray[np.float64]) -> NDArray[np.float32]:
    low, high = places.min(axis=0), places.max(axis=0)
    extent = max((high - low).max() / 2, np.finfo(np.float32).tiny)
    return ((places - (low + high) / 2) / extent).astype(np.float32)
