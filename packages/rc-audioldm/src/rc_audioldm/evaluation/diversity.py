"""How different the recordings of a set are from each other.

Shape legend: N recordings, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pentatonic.errors import InputError


@dataclass(frozen=True)
class Diversity:
    """One minus the cosine of the vectors of all pairs of recordings: 0 for copies of one.

    Args:
        recordings: N.
        mean: Of all pairs; likewise the others.
        std: With N pairs as the divisor.
        p10: 10th percentile.
        p90: 90th percentile.
        least: Of the most similar pair.
        largest: Of the least similar pair.
    """

    recordings: int
    mean: float
    std: float
    p10: float
    p90: float
    least: float
    largest: float


def diversity(vectors: NDArray[np.floating]) -> Diversity:
    """Measure the diversity of a set, in float64.

    Args:
        vectors: (N, D), at least two, none 0.

    Raises:
        InputError: There are fewer, or one is 0 or not finite.
    """
    if vectors.ndim != 2 or len(vectors) < 2:
        raise InputError(f"diversity of vectors of the shape {vectors.shape}; allowed: two vectors or more")
    values = vectors.astype(np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise InputError("diversity of vectors of which one is 0 or not finite; allowed: others")
    unit = values / lengths
    distances = np.concatenate([1 - unit[i + 1 :] @ unit[i] for i in range(len(unit) - 1)])
    p10, p90 = np.percentile(distances, [10, 90])
    return Diversity(
        recordings=len(unit),
        mean=float(distances.mean()),
        std=float(distances.std()),
        p10=float(p10),
        p90=float(p90),
        least=float(distances.min()),
        largest=float(distances.max()),
    )
