"""Fréchet distance between two sets of maps: between Gaussians with the means and covariances of their embeddings.

For means m and covariances C it is ``|m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2)``. The last trace is the sum of
the singular values of ``A1 A2^T`` where ``C = A^T A``, so that no root of a matrix is taken, and sets with fewer maps
than dimensions are no special case.

The estimate is too large for few maps, the more so the fewer there are (Chong and Forsyth, 2020): two halves of one set
have a distance above 0. So it comes with the distances of random divisions of all maps into sets of the same sizes,
which have the same bias, and with an extrapolation to infinitely many maps.

Shapes: n maps, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cm3p.quality.intervals import Interval
from pentatonic.errors import InputError

DIVISIONS = 200
_SUBSETS = 15  # sizes from which the distance is extrapolated
_REPEATS = 5  # subsets of each size
_SMALLEST_SHARE = 0.5
_FEWEST = 2


@dataclass(frozen=True)
class FrechetResult:
    """The distance of two sets of maps.

    Args:
        maps: Numbers of maps.
        sets: Numbers of mapsets.
        distance: As it is estimated from so many maps.
        of_random_divisions: Mean of the distances of random divisions of all mapsets, and the interval that holds 95 %
            of them.
        p_value: Share of random divisions whose distance is as large.
        beyond_chance: The distance minus the mean of random divisions: about 0 for maps of one kind.
        extrapolated: To infinitely many maps, by a straight line over 1/n; may be a little below 0.
        halves_of_reference: Mean and 95 % of the distances of random halves of the second set, divided by mapsets.
    """

    maps: tuple[int, int]
    sets: tuple[int, int]
    distance: float
    of_random_divisions: Interval
    p_value: float
    beyond_chance: float
    extrapolated: float
    halves_of_reference: Interval


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Fréchet distance of two sets of vectors.

    Args:
        first: (n, D), at least two.
        second: (m, D), at least two.

    Returns:
        0 or more, in squared units of the vectors.

    Raises:
        InputError: There are fewer than two vectors, or the dimensions differ.
    """
    if min(len(first), len(second)) < _FEWEST or first.shape[1:] != second.shape[1:]:
        raise InputError(
            f"a Fréchet distance of vectors of the shapes {first.shape} and {second.shape}; allowed: two vectors or "
            "more each, of one length"
        )
    one, other = (each.astype(np.float64) for each in (first, second))
    means = one.mean(0), other.mean(0)
    roots = [_root(each - mean) for each, mean in zip((one, other), means, strict=True)]
    traces = sum(float((root**2).sum()) for root in roots)
    common = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return max(0.0, float(((means[0] - means[1]) ** 2).sum()) + traces - 2 * float(common))


def _root(centred: np.ndarray) -> np.ndarray:
    """A of at most D rows with ``A^T A`` the covariance."""
    scaled = centred / np.sqrt(len(centred) - 1)
    if len(scaled) <= scaled.shape[1]:
        return scaled
    root: Any = np.linalg.qr(scaled, mode="r")
    return root


def compare_sets(
    vectors: np.ndarray,
    reference: np.ndarray,
    groups: np.ndarray,
    reference_groups: np.ndarray,
    *,
    divisions: int = DIVISIONS,
    seed: int = 0,
) -> FrechetResult:
    """Compare two sets of maps.

    Args:
        vectors: (n, D).
        reference: (m, D).
        groups: (n,) number of each map's set; no set is in both.
        reference_groups: (m,) likewise, numbered on their own.
        divisions: Random divisions.
        seed: Of the divisions and subsets.

    Raises:
        InputError: There are fewer than two maps on a side.
    """
    distance = frechet_distance(vectors, reference)
    rng = np.random.default_rng(seed)
    pool = np.concatenate((vectors, reference))
    pooled_groups = np.concatenate((groups, reference_groups + groups.max() + 1))
    by_chance = _divided(pool, pooled_groups, len(vectors), divisions, rng)
    halves = _divided(reference, reference_groups, len(reference) // 2, divisions, rng)
    mean = float(by_chance.mean()) if len(by_chance) else float("nan")
    return FrechetResult(
        maps=(len(vectors), len(reference)),
        sets=(len(np.unique(groups)), len(np.unique(reference_groups))),
        distance=distance,
        of_random_divisions=_spread(by_chance),
        p_value=float((1 + (by_chance >= distance).sum()) / (1 + len(by_chance))),
        beyond_chance=distance - mean,
        extrapolated=_extrapolated(vectors, reference, rng),
        halves_of_reference=_spread(halves),
    )


def _divided(
    vectors: np.ndarray, groups: np.ndarray, size: int, divisions: int, rng: np.random.Generator
) -> np.ndarray:
    """Distances of random divisions by groups, of which the first part has about ``size`` members."""
    found = []
    members = np.unique(groups)
    for _ in range(divisions):
        order = rng.permutation(members)
        sizes = np.cumsum([(groups == group).sum() for group in order])
        cut = int(np.abs(sizes - size).argmin()) + 1
        first = np.isin(groups, order[:cut])
        if min(first.sum(), (~first).sum()) >= _FEWEST:
            found.append(frechet_distance(vectors[first], vectors[~first]))
    return np.array(found)


def _spread(distances: np.ndarray) -> Interval:
    if not len(distances):
        return Interval(*[float("nan")] * 3)
    return Interval(float(distances.mean()), *map(float, np.quantile(distances, (0.025, 0.975))))


def _extrapolated(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> float:
    """Intercept of a straight line through distances of random subsets, over one divided by their size."""
    inverse, distances = [], []
    for share in np.linspace(_SMALLEST_SHARE, 1, _SUBSETS):
        sizes = [max(_FEWEST, round(share * len(each))) for each in (first, second)]
        for _ in range(_REPEATS):
            parts = [
                each[rng.choice(len(each), size, replace=False)]
                for each, size in zip((first, second), sizes, strict=True)
            ]
            inverse.append(1 / sizes[0] + 1 / sizes[1])
            distances.append(frechet_distance(*parts))
    slope, intercept = np.polyfit(inverse, distances, 1)
    return float(intercept) if np.isfinite(slope) else float("nan")
