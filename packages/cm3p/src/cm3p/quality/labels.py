"""Labels that maps have, and how well scores of candidates meet them.

Shapes: N maps, n maps that count, C candidates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cm3p.quality.facts import MapFacts
from cm3p.quality.retrieval import ranking_measures
from cm3p.quality.statistics import rank_correlation
from pentatonic.statistics import DEFAULT_RESAMPLES, Estimate, mean_interval, resampled_groups

FIELDS = ("mode", "mapper", "year", "status", "tags")
"""Fields with values to choose from; difficulty is a number, and judged as one."""
STAR_BANDS = (2.0, 2.7, 4.0, 5.3, 6.5)
"""Star ratings at which the game's difficulty names change: Easy, Normal, Hard, Insane, Expert, Expert+."""


@dataclass(frozen=True)
class Labels:
    """The true values of a field among candidates.

    Args:
        field: One of :data:`FIELDS`.
        candidates: C values, the most frequent first.
        maps: (n,) numbers of the maps that count.
        truth: (n, C) bool: one value of each map, several tags.
        allowed: (n, C) bool: which candidates a map is asked about; of tags those that maps of its ruleset have.
        groups: (n,) number of each map's set.
        modes: n names of rulesets.
        left_out: Maps whose value is not known, or not among the candidates.
    """

    field: str
    candidates: list[Any]
    maps: np.ndarray
    truth: np.ndarray
    allowed: np.ndarray
    groups: np.ndarray
    modes: list[str | None]
    left_out: int


@dataclass(frozen=True)
class LabelResult:
    """How well scores meet labels.

    Args:
        field: What was asked for.
        maps: Maps that count.
        left_out: Maps that do not.
        candidates: Values to choose from.
        accuracy: Share of the maps whose best candidate is true.
        balanced_accuracy: Mean over values of the accuracy of their maps, so that rare values count as much.
        average_precision: Mean over maps; of fields with one value the mean of 1 / rank.
        chance: Accuracy of random answers.
        chance_average_precision: Average precision of random orders.
        majority: Accuracy of the one answer that is true most often.
        majority_in_ruleset: The same with one answer for each ruleset.
    """

    field: str
    maps: int
    left_out: int
    candidates: int
    accuracy: Estimate
    balanced_accuracy: Estimate
    average_precision: Estimate
    chance: float
    chance_average_precision: float
    majority: float
    majority_in_ruleset: float


@dataclass(frozen=True)
class StarResult:
    """How well predicted star ratings meet those of the maps.

    Args:
        maps: Maps with a star rating.
        rank_correlation: Spearman's, of all maps.
        rank_correlation_in_rulesets: Mean over rulesets, weighted by their maps.
        mean_error: Mean absolute error in stars.
        mean_error_of_median: That of the median of all maps as the one answer.
        band_accuracy: Share of maps in the true band of :data:`STAR_BANDS`.
        band_majority: The same for the most frequent band as the one answer.
    """

    maps: int
    rank_correlation: Estimate
    rank_correlation_in_rulesets: Estimate
    mean_error: Estimate
    mean_error_of_median: float
    band_accuracy: Estimate
    band_majority: float


def label_table(
    facts: MapFacts, field: str, *, most: int, known: Callable[[Any], bool] = lambda value: True
) -> Labels | None:
    """Return the labels of a field, with the values of the maps as candidates.

    Args:
        facts: Of N maps.
        field: One of :data:`FIELDS`.
        most: Candidates at most, the most frequent ones; ties to the first map.
        known: Whether a value can be a candidate.

    Returns:
        None if there are fewer than two candidates.
    """
    single: list[Any] = [] if field == "tags" else getattr(facts, field)
    of_maps = facts.tags if field == "tags" else [() if each is None else (each,) for each in single]
    counts = Counter(value for values in of_maps for value in values if known(value))
    candidates = [value for value, _ in counts.most_common(most)]
    places = {value: place for place, value in enumerate(candidates)}
    truth = np.zeros((len(facts), len(candidates)), dtype=bool)
    for number, values in enumerate(of_maps):
        truth[number, [places[value] for value in values if value in places]] = True
    allowed = np.ones_like(truth)
    if field == "tags":
        for mode in set(facts.mode):
            rows = np.array([each == mode for each in facts.mode])
            allowed[rows] = truth[rows].any(0)
    # A map with one answer alone asks nothing.
    maps = np.flatnonzero(truth.any(1) & (allowed.sum(1) > 1))
    if len(candidates) < 2 or not len(maps):
        return None
    return Labels(
        field=field,
        candidates=candidates,
        maps=maps,
        truth=truth[maps],
        allowed=allowed[maps],
        groups=facts.groups[maps],
        modes=[facts.mode[number] for number in maps],
        left_out=len(facts) - len(maps),
    )


def judge_labels(
    labels: Labels, scores: np.ndarray, *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0
) -> LabelResult:
    """Compare scores with labels.

    Args:
        labels: Of n maps.
        scores: (n, C), larger for more likely.
        resamples: Of sets, for the intervals.
        seed: Of the resamples, and of the choice among equal scores.
    """
    truth, allowed = labels.truth, labels.allowed
    shuffled = np.random.default_rng(seed).permutation(truth.shape[1])
    values, chance = ranking_measures(scores[:, shuffled], truth[:, shuffled], allowed[:, shuffled])
    right = values["precision_at_1"]

    def balanced(rows: np.ndarray) -> list[float]:
        of_value = truth[rows].sum(0)
        hits = right[rows] @ truth[rows]
        return [float((hits[of_value > 0] / of_value[of_value > 0]).mean())]

    in_rulesets = sum(
        truth[[each == mode for each in labels.modes]].sum(0).max() for mode in set(labels.modes)
    )
    return LabelResult(
        field=labels.field,
        maps=len(truth),
        left_out=labels.left_out,
        candidates=truth.shape[1],
        accuracy=mean_interval(right, labels.groups, resamples=resamples, seed=seed),
        balanced_accuracy=resampled_groups(balanced, labels.groups, resamples=resamples, seed=seed)[0],
        average_precision=mean_interval(
            values["average_precision"], labels.groups, resamples=resamples, seed=seed
        ),
        chance=float(chance["precision_at_1"].mean()),
        chance_average_precision=float(chance["average_precision"].mean()),
        majority=float(truth.sum(0).max() / len(truth)),
        majority_in_ruleset=float(in_rulesets / len(truth)),
    )


def judge_stars(
    predicted: np.ndarray, facts: MapFacts, *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0
) -> StarResult | None:
    """Compare predicted star ratings with those of the maps.

    Args:
        predicted: (N,) stars.
        facts: Of the N maps.
        resamples: Of sets, for the intervals.
        seed: Of the resamples.

    Returns:
        None if fewer than two maps have a star rating.
    """
    known = np.flatnonzero(~np.isnan(facts.stars))
    if len(known) < 2:
        return None
    stars, guess, groups = facts.stars[known], predicted[known], facts.groups[known]
    modes = np.array([str(facts.mode[number]) for number in known])
    bands, guessed = np.digitize(stars, STAR_BANDS), np.digitize(guess, STAR_BANDS)

    def correlations(rows: np.ndarray) -> list[float]:
        return [rank_correlation(guess[rows], stars[rows]), _in_rulesets(guess, stars, modes, rows)]

    overall, in_rulesets = resampled_groups(correlations, groups, resamples=resamples, seed=seed)
    return StarResult(
        maps=len(known),
        rank_correlation=overall,
        rank_correlation_in_rulesets=in_rulesets,
        mean_error=mean_interval(np.abs(guess - stars), groups, resamples=resamples, seed=seed),
        mean_error_of_median=float(np.abs(np.median(stars) - stars).mean()),
        band_accuracy=mean_interval(
            (bands == guessed).astype(np.float64), groups, resamples=resamples, seed=seed
        ),
        band_majority=float(np.bincount(bands).max() / len(bands)),
    )


def _in_rulesets(guess: np.ndarray, stars: np.ndarray, modes: np.ndarray, rows: np.ndarray) -> float:
    weights, values = [], []
    for mode in np.unique(modes[rows]):
        chosen = rows[modes[rows] == mode]
        value = rank_correlation(guess[chosen], stars[chosen])
        if not np.isnan(value):
            weights.append(len(chosen))
            values.append(value)
    return float(np.average(values, weights=weights)) if values else float("nan")


def names_of(labels: Labels) -> Sequence[str]:
    """Return the candidates as text."""
    return [str(each) for each in labels.candidates]
