"""Fréchet distance between two sets of maps: between Gaussians with the means and covariances of their embeddings.

The estimate is too large for few maps: two halves of one set have a distance above 0. So it comes with the distances of
random divisions of all maps into sets of the same sizes, which have the same bias, and with an extrapolation to
infinitely many maps (:mod:`pentatonic.statistics`).

Shapes: n maps, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pentatonic.statistics import Estimate, extrapolated_distance, frechet_distance

DIVISIONS = 200
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
    of_random_divisions: Estimate
    p_value: float
    beyond_chance: float
    extrapolated: float
    halves_of_reference: Estimate


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
        extrapolated=extrapolated_distance(vectors, reference, rng),
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


def _spread(distances: np.ndarray) -> Estimate:
    if not len(distances):
        return Estimate(*[float("nan")] * 3)
    return Estimate(float(distances.mean()), *map(float, np.quantile(distances, (0.025, 0.975))))
