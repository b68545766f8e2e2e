"""How well a ranking finds what is relevant: recall, reciprocal rank, average precision and discounted gain.

Every row of a bank is relevant to a query or not. Queries to which nothing is relevant have no score, and are counted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from pentatonic.errors import InputError, UsageError


@dataclass(frozen=True)
class RankingScores:
    """Means over queries.

    Args:
        queries: With something relevant.
        left_out: Without.
        recall: k -> part of the relevant rows among the first k.
        hit: k -> part of the queries with a relevant row among the first k.
        mrr: Mean reciprocal rank of the first relevant row; 0 for a query whose ranking has none.
        map: Mean average precision, over the relevant rows or as many as the ranking is long.
        ndcg: k -> normalised discounted cumulative gain of the first k, gains of 0 and 1.
    """

    queries: int
    left_out: int
    recall: dict[int, float]
    hit: dict[int, float]
    mrr: float
    map: float
    ndcg: dict[int, float]


def score_rankings(
    rankings: Sequence[Sequence[int]],
    relevant: Sequence[Collection[int]],
    cutoffs: Sequence[int] = (1, 5, 10),
) -> RankingScores:
    """Score rankings.

    Args:
        rankings: Rows in falling order for each query, each row once.
        relevant: Rows that are relevant to each query.
        cutoffs: Values of k.

    Raises:
        InputError: The numbers of queries differ, a ranking has a row twice, or nothing is relevant to any query.
        UsageError: A cutoff is below 1.
    """
    if len(rankings) != len(relevant):
        raise InputError(
            f"{len(rankings)} rankings and {len(relevant)} sets of relevant rows; needed: one each"
        )
    if not cutoffs or min(cutoffs) < 1:
        raise UsageError(f"cutoffs are {list(cutoffs)}; allowed: from 1")
    scores: list[np.ndarray] = []
    for number, (ranking, wanted) in enumerate(zip(rankings, relevant, strict=True)):
        if len(set(ranking)) != len(ranking):
            raise InputError(f"ranking {number} has a row twice")
        if wanted:
            scores.append(_scores(ranking, set(wanted), cutoffs))
    if not scores:
        raise InputError("nothing is relevant to any query, so there are no scores")
    mean, n = np.mean(scores, axis=0).tolist(), len(cutoffs)
    recall, hit, ndcg = (dict(zip(cutoffs, mean[i * n : (i + 1) * n], strict=True)) for i in range(3))
    return RankingScores(len(scores), len(rankings) - len(scores), recall, hit, mean[-2], mean[-1], ndcg)


def _scores(ranking: Sequence[int], wanted: set[int], cutoffs: Sequence[int]) -> np.ndarray:
    gains = np.array([row in wanted for row in ranking], float)
    places = np.flatnonzero(gains)
    discounts = 1 / np.log2(np.arange(max(len(gains), len(wanted))) + 2)
    recall = [gains[:k].sum() / len(wanted) for k in cutoffs]
    hit = [float(gains[:k].any()) for k in cutoffs]
    ndcg = [
        (gains[:k] * discounts[: len(gains[:k])]).sum() / discounts[: min(k, len(wanted))].sum()
        for k in cutoffs
    ]
    precision = np.cumsum(gains)[places] / (places + 1)
    possible = min(len(wanted), len(gains)) or 1
    reciprocal = 1 / (places[0] + 1) if len(places) else 0.0
    return np.array([*recall, *hit, *ndcg, reciprocal, precision.sum() / possible])
