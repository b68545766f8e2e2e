"""Do embeddings group maps by their tags?

A map counts under its most voted tag among those that enough maps have. Tags belong to rulesets, which embeddings tell
apart easily, so that everything is measured within each ruleset, and the means over maps are reported.

Shapes: N maps, D dimensions, P pairs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from cm3p.explore.clusters import clusters
from cm3p.quality.facts import MapFacts
from cm3p.quality.statistics import mutual_information, ranks, silhouettes
from pentatonic.statistics import DEFAULT_RESAMPLES, Estimate, mean_interval

FEWEST_MAPS = 4
"""Tags of fewer maps of a ruleset are left out."""
_STARTS = 10  # runs of k-means
_SHUFFLES = 50
_MOST_TAGS = 255
_MOST_MAPS = 2000  # of which all pairs are compared; of more, so many are drawn


@dataclass(frozen=True)
class ClusterResult:
    """Agreement of embeddings with tags.

    Args:
        maps: Maps that have a tag that enough maps have.
        tags: Tags in use, summed over rulesets.
        mutual_information: Normalised, of k-means (as many groups as tags) and tags; mean over starting points.
        mutual_information_shuffled: The same with shuffled tags.
        silhouette: Mean silhouette of the tags by cosine distance.
        silhouette_shuffled: The same with shuffled tags.
        tag_correlation: Rank correlation of cosine similarity with the shared part of two maps' tags (Jaccard index),
            over pairs of maps of different sets and one ruleset; 0 by chance.
    """

    maps: int
    tags: int
    mutual_information: float
    mutual_information_shuffled: float
    silhouette: Estimate
    silhouette_shuffled: float
    tag_correlation: Estimate


def tag_clustering(
    vectors: np.ndarray, facts: MapFacts, *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0
) -> ClusterResult | None:
    """Judge embeddings by the tags of the maps.

    Args:
        vectors: (N, D) float32 of norm 1.
        facts: Of the N maps.
        resamples: Of sets, for the intervals.
        seed: Of the resamples and shuffles.

    Returns:
        None if no ruleset has two tags with enough maps.
    """
    rng = np.random.default_rng(seed)
    rows, values, groups, tags = [], [], [], 0
    for mode in sorted({each for each in facts.mode if each is not None}):
        places, labels = _main_tags(facts, mode)
        count = len(set(labels.tolist()))
        if count < 2:
            continue
        if len(places) > _MOST_MAPS:
            drawn = rng.choice(len(places), _MOST_MAPS, replace=False)
            places, labels = places[drawn], labels[drawn]
        of_mode = vectors[places].astype(np.float32)
        distances = 1 - of_mode.astype(np.float64) @ of_mode.T.astype(np.float64)
        found = [clusters(of_mode, min(count, _MOST_TAGS), start) for start in range(_STARTS)]
        shuffled = [rng.permutation(labels) for _ in range(_SHUFFLES)]
        rows.append(
            (
                len(places),
                float(np.mean([mutual_information(each, labels) for each in found])),
                float(np.mean([mutual_information(found[0], each) for each in shuffled])),
                float(np.mean([silhouettes(distances, each).mean() for each in shuffled])),
            )
        )
        values.append(silhouettes(distances, labels))
        groups.append(facts.groups[places])
        tags += count
    if not rows:
        return None
    maps = np.array([row[0] for row in rows], np.float64)
    information, information_shuffled, silhouette_shuffled = (
        float((maps * [row[at] for row in rows]).sum() / maps.sum()) for at in (1, 2, 3)
    )
    return ClusterResult(
        maps=int(maps.sum()),
        tags=tags,
        mutual_information=information,
        mutual_information_shuffled=information_shuffled,
        silhouette=mean_interval(
            np.concatenate(values), np.concatenate(groups), resamples=resamples, seed=seed
        ),
        silhouette_shuffled=silhouette_shuffled,
        tag_correlation=_tag_correlation(vectors, facts, resamples=resamples, seed=seed),
    )


def _main_tags(facts: MapFacts, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the maps of a ruleset that count, and the tag of each."""
    maps = [number for number, each in enumerate(facts.mode) if each == mode]
    uses = Counter(tag for number in maps for tag in set(facts.tags[number]))
    while True:
        frequent = {tag for tag, count in uses.items() if count >= FEWEST_MAPS}
        main = {n: next((tag for tag in facts.tags[n] if tag in frequent), None) for n in maps}
        main = {number: tag for number, tag in main.items() if tag is not None}
        counts = Counter(main.values())
        rare = [tag for tag in frequent if 0 < counts[tag] < FEWEST_MAPS]
        if not rare:
            return np.array(list(main), np.int64), np.array(list(main.values()))
        del uses[min(rare, key=lambda tag: (counts[tag], tag))]  # its maps go to their next tag


def _tag_correlation(vectors: np.ndarray, facts: MapFacts, *, resamples: int, seed: int) -> Estimate:
    matrix = facts.tag_matrix()[0]
    known = np.flatnonzero(matrix.any(1) & np.array([each is not None for each in facts.mode], dtype=bool))
    if len(known) < 2:
        return Estimate(*[float("nan")] * 3)
    if len(known) > _MOST_MAPS:
        known = np.sort(np.random.default_rng(seed).choice(known, _MOST_MAPS, replace=False))
    tags = matrix[known].astype(np.float64)
    modes, groups = np.array([str(facts.mode[number]) for number in known]), facts.groups[known]
    first, second = np.triu_indices(len(known), 1)
    counted = (modes[first] == modes[second]) & (groups[first] != groups[second])
    first, second = first[counted], second[counted]
    if not len(first):
        return Estimate(*[float("nan")] * 3)
    common = (tags @ tags.T)[first, second]
    sizes = tags.sum(1)
    overlap = ranks(common / (sizes[first] + sizes[second] - common))
    near = ranks((vectors[known].astype(np.float64) @ vectors[known].T.astype(np.float64))[first, second])
    _, numbers = np.unique(groups, return_inverse=True)
    return _resampled_pairs(near, overlap, numbers[first], numbers[second], resamples=resamples, seed=seed)


def _resampled_pairs(
    one: np.ndarray, other: np.ndarray, first: np.ndarray, second: np.ndarray, *, resamples: int, seed: int
) -> Estimate:
    """Correlation of (P,) ranks, with an interval from resampling sets: a pair counts as often as both sets are drawn.

    Ranks stay those of all pairs.
    """
    count = int(max(first.max(), second.max())) + 1
    moments = [np.ones(len(one)), one, other, one * one, other * other, one * other]
    sums = [
        np.bincount(first * count + second, each, count * count).reshape(count, count) for each in moments
    ]

    def correlation(weights: np.ndarray) -> float:
        n, x, y, xx, yy, xy = (float(weights @ each @ weights) for each in sums)
        spread = (n * xx - x * x) * (n * yy - y * y)
        return (n * xy - x * y) / spread**0.5 if spread > 0 else float("nan")

    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            correlation(np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64))
            for _ in range(resamples)
        ]
    )
    known = drawn[~np.isnan(drawn)]
    ends = np.quantile(known, (0.025, 0.975)) if len(known) else (float("nan"), float("nan"))
    return Estimate(correlation(np.ones(count)), *map(float, ends))
