"""Values with bootstrap intervals that resample whole groups, such as mapsets, whose members are not independent.

Shapes: N items, R resamples, G groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DEFAULT_RESAMPLES = 1000
_TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class Estimate:
    """A metric with its bootstrap interval; ends are NaN where no resample defines the metric."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def set_groups(sets: Sequence[object]) -> np.ndarray:
    """Return the (N,) number of each item's set, from 0 without gaps; an item without a set is one of its own."""
    names = [("alone", number) if each is None else ("set", each) for number, each in enumerate(sets)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int64)


def mean_interval(
    values: np.ndarray, groups: np.ndarray, *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0
) -> Estimate:
    """Return a mean over items with its 95 % interval.

    Args:
        values: (N,) NaN where an item does not count.
        groups: (N,) number of each item's group.
        resamples: R.
        seed: Of the draws.
    """
    known = ~np.isnan(values)
    if not known.any():
        return Estimate(np.nan, np.nan, np.nan)
    _, groups = np.unique(groups[known], return_inverse=True)
    count = int(groups.max()) + 1
    sums = np.bincount(groups, values[known], count)
    sizes = np.bincount(groups, minlength=count)
    drawn = np.random.default_rng(seed).integers(count, size=(resamples, count))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    return Estimate(float(values[known].mean()), *map(float, np.quantile(means, _TAILS)))


def resampled_groups(
    metrics: Callable[[np.ndarray], Sequence[float]],
    groups: np.ndarray,
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> list[Estimate]:
    """Return several metrics with their 95 % intervals.

    Args:
        metrics: Metrics of the items with these numbers; NaN where one is undefined, which then does not count.
        groups: (N,) number of each item's group, from 0 without gaps or with some.
        resamples: R.
        seed: Of the draws.
    """
    values = metrics(np.arange(len(groups)))
    _, groups = np.unique(groups, return_inverse=True)
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])
    rng = np.random.default_rng(seed)
    drawn: Any = [
        metrics(np.concatenate([members[group] for group in rng.integers(len(members), size=len(members))]))
        for _ in range(resamples)
    ]
    return [
        Estimate(float(value), *_ends(np.array([each[place] for each in drawn], np.float64)))
        for place, value in enumerate(values)
    ]


def _ends(values: np.ndarray) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, _TAILS)
    return float(low), float(high)
