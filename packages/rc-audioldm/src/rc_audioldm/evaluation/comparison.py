"""Comparisons of systems by what their recordings of the same items differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from pentatonic.errors import UsageError
from pentatonic.statistics import DEFAULT_RESAMPLES, Estimate, mean_interval


@dataclass(frozen=True)
class PairedDifference:
    """What two systems differ in, by one metric.

    Args:
        metric: Its name.
        first: A system.
        second: Another system.
        items: Items that both have a value of.
        groups: Of items with the same prompt, which are not independent: one difference each, the mean.
        difference: Mean of the first minus the second over groups, with a 95 % bootstrap interval.
        p_value: Of Wilcoxon's signed-rank test of the groups' differences.
        p_holm: The same with Holm's correction for all tests of the comparison.
    """

    metric: str
    first: str
    second: str
    items: int
    groups: int
    difference: Estimate
    p_value: float
    p_holm: float


def compare_pairs(
    values: Mapping[str, Mapping[str, Sequence[float] | np.ndarray]],
    groups: Sequence[object],
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> list[PairedDifference]:
    """Compare every two systems by every metric.

    Args:
        values: System -> metric -> the value of each paired item, NaN where there is none.
        groups: Of each item, such as its prompt.
        resamples: Of groups, for the intervals.
        seed: Of the draws.

    Returns:
        In the order of systems and metrics; a metric without a common item is left out.

    Raises:
        UsageError: A metric has another number of values than there are groups.
    """
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    group_of = np.array([numbers[group] for group in groups], np.int64)
    found = []
    for first, second in combinations(values, 2):
        for metric in (metric for metric in values[first] if metric in values[second]):
            sides = [np.asarray(values[system][metric], np.float64) for system in (first, second)]
            if any(side.shape != group_of.shape for side in sides):
                raise UsageError(
                    f"{metric} has {[len(side) for side in sides]} values for {len(group_of)} items"
                )
            differences, items = _of_groups(sides[0] - sides[1], group_of)
            if items:
                estimate = mean_interval(
                    differences, np.arange(len(differences)), resamples=resamples, seed=seed
                )
                found.append(
                    (metric, first, second, items, len(differences), estimate, signed_rank(differences))
                )
    corrected = holm([each[-1] for each in found])
    return [PairedDifference(*each, p_holm=p) for each, p in zip(found, corrected, strict=True)]


def signed_rank(differences: np.ndarray) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test; 1 where all differences are 0.

    Args:
        differences: (N,) at least one; those of 0 count half to both sides.
    """
    if not differences.any():
        return 1.0
    result: Any = stats.wilcoxon(differences, zero_method="zsplit")
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm, 1979).

    Returns:
        In the same order, at most 1.
    """
    corrected = np.ones(len(p_values))
    largest = 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected.tolist()


def _of_groups(differences: np.ndarray, group_of: np.ndarray) -> tuple[np.ndarray, int]:
    """Mean difference of each group that has one, and the number of items with one."""
    known = ~np.isnan(differences)
    _, numbers = np.unique(group_of[known], return_inverse=True)
    sums = np.bincount(numbers, differences[known])
    return sums / np.bincount(numbers), int(known.sum())
