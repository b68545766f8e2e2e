"""Retrieval: does a map find maps that share a property with it? Each map in turn is the query.

For properties, maps of the query's own set are not in the gallery, as they share song and mapper. Values of random
orders are exact expectations, not simulations.

Shapes: N maps, Q queries of a block, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from cm3p.quality.facts import MapFacts
from pentatonic.statistics import DEFAULT_RESAMPLES, Estimate, mean_interval

NEAR_STARS = 0.5
"""Star ratings at most so far apart count as the same difficulty."""
MEASURES = ("average_precision", "precision_at_1", "precision_at_10", "reciprocal_rank")
_QUERIES = 512  # rows of the similarity matrix at a time
_DEPTH = 10
Pairs = Callable[[slice], np.ndarray]
"""Queries -> (Q, N) bool."""


@dataclass(frozen=True)
class RetrievalResult:
    """How well maps find maps of the same value.

    Args:
        field: What they should share: ``mode``, ``mapper``, ``year``, ``status``, ``difficulty``, ``tags``, ``set``.
        gallery: ``all`` maps of other sets, those of the ``same ruleset``; for ``set`` all other maps.
        queries: Maps with at least one other map to find.
        values: Measure -> mean over the queries, with its interval.
        chance: Measure -> expectation for a random order.
    """

    field: str
    gallery: str
    queries: int
    values: Mapping[str, Estimate]
    chance: Mapping[str, float]


def retrieval(
    vectors: np.ndarray, facts: MapFacts, *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0
) -> list[RetrievalResult]:
    """Judge embeddings by what the maps near to each map have in common with it.

    Args:
        vectors: (N, D) of norm 1.
        facts: Of the N maps.
        resamples: Of sets of queries, for the intervals; the gallery stays.
        seed: Of the resamples, and of the order of equally similar maps.
    """
    modes = _codes(facts.mode)
    groups = facts.groups

    def same_set(rows: slice) -> np.ndarray:
        return groups[rows, None] == groups

    def others(rows: slice) -> np.ndarray:
        found = np.ones((len(groups[rows]), len(groups)), dtype=bool)
        found[np.arange(len(found)), np.arange(len(groups))[rows]] = False
        return found

    results = [_result("set", "all", vectors, groups, same_set, others, resamples, seed)]
    for field, (relevant, known) in _fields(facts).items():
        for gallery in ("all",) if field == "mode" else ("all", "same ruleset"):

            def allowed(rows: slice, known: np.ndarray = known, gallery: str = gallery) -> np.ndarray:
                found = ~same_set(rows) & known & known[rows, None]
                return found if gallery == "all" else found & (modes[rows, None] == modes)

            results.append(_result(field, gallery, vectors, groups, relevant, allowed, resamples, seed))
    return results


def _fields(facts: MapFacts) -> dict[str, tuple[Pairs, np.ndarray]]:
    """Field -> which pairs share it, and (N,) of which maps it is known."""
    found: dict[str, tuple[Pairs, np.ndarray]] = {}
    for name in ("mode", "mapper", "year", "status"):
        codes = _codes(getattr(facts, name))
        found[name] = (lambda rows, codes=codes: codes[rows, None] == codes), np.asarray(codes >= 0)
    stars = facts.stars
    found["difficulty"] = (
        (lambda rows: np.abs(stars[rows, None] - stars) <= NEAR_STARS),
        np.asarray(~np.isnan(stars)),
    )
    tags = facts.tag_matrix()[0].astype(np.float32)
    found["tags"] = (lambda rows: tags[rows] @ tags.T > 0), np.asarray(tags.any(1))
    return found


def _codes(values: list[Any]) -> np.ndarray:
    """(N,) number of each value, -1 for None."""
    names = {
        value: number
        for number, value in enumerate(dict.fromkeys(each for each in values if each is not None))
    }
    return np.array([-1 if value is None else names[value] for value in values], np.int64)


def _result(
    field: str,
    gallery: str,
    vectors: np.ndarray,
    groups: np.ndarray,
    relevant: Pairs,
    allowed: Pairs,
    resamples: int,
    seed: int,
) -> RetrievalResult:
    parts = list(_blocks(vectors, relevant, allowed, seed))
    values, chance = (
        {name: np.concatenate([part[at][name] for part in parts]) for name in MEASURES} for at in (0, 1)
    )
    queries = int((~np.isnan(values[MEASURES[0]])).sum())
    return RetrievalResult(
        field=field,
        gallery=gallery,
        queries=queries,
        values={
            name: mean_interval(each, groups, resamples=resamples, seed=seed) for name, each in values.items()
        },
        chance={name: float(np.nanmean(each)) if queries else float("nan") for name, each in chance.items()},
    )


def _blocks(
    vectors: np.ndarray, relevant: Pairs, allowed: Pairs, seed: int
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    # In a random order of the gallery, equally similar maps are ranked at random by a stable sort.
    shuffled = np.random.default_rng(seed).permutation(len(vectors))
    for start in range(0, len(vectors), _QUERIES):
        rows = slice(start, min(start + _QUERIES, len(vectors)))
        scores = (vectors[rows] @ vectors.T)[:, shuffled]
        yield ranking_measures(scores, relevant(rows)[:, shuffled], allowed(rows)[:, shuffled])


def ranking_measures(
    scores: np.ndarray, relevant: np.ndarray, allowed: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Measure rankings.

    Args:
        scores: (Q, N) larger for nearer.
        relevant: (Q, N) bool: what should come first.
        allowed: (Q, N) bool: what is in the gallery at all.

    Returns:
        Measure -> (Q,) values, and the same of a random order; NaN for queries with nothing to find.
    """
    relevant = relevant & allowed
    order = np.argsort(np.where(allowed, -scores, np.inf), axis=1, kind="stable")
    hits = np.take_along_axis(relevant, order, axis=1)
    places = np.arange(1, scores.shape[1] + 1)
    total, size = hits.sum(1), allowed.sum(1)
    some = np.where(total > 0, total, np.nan)
    found = np.cumsum(hits, axis=1)
    depth = np.maximum(np.minimum(_DEPTH, size), 1)
    values = {
        "average_precision": (found / places * hits).sum(1) / some,
        "precision_at_1": hits[:, 0] * some / some,
        "precision_at_10": found[np.arange(len(found)), depth - 1] / depth * some / some,
        "reciprocal_rank": 1 / (hits.argmax(1) + 1) * some / some,
    }
    share = some / size
    by_chance = [_of_random_order(int(n), int(r)) for n, r in zip(size, total, strict=True)]
    chance = {
        "average_precision": np.array([each[0] for each in by_chance]),
        "precision_at_1": share,
        "precision_at_10": share,
        "reciprocal_rank": np.array([each[1] for each in by_chance]),
    }
    return values, chance


@lru_cache(maxsize=1 << 14)
def _of_random_order(size: int, relevant: int) -> tuple[float, float]:
    """Expected average precision, and expected reciprocal rank of the first relevant item, of a random order."""
    if not relevant:
        return float("nan"), float("nan")
    places = np.arange(1, size + 1)
    harmonic = float((1 / places).sum())
    others = (relevant - 1) / (size - 1) if size > 1 else 0.0
    precision = (harmonic + others * (size - harmonic)) / size
    # Probability that none of the first k - 1 items is relevant, for each k.
    none_before = np.cumprod(np.r_[1.0, np.clip(1 - relevant / (size - places[:-1] + 1), 0, 1)])
    first_here = none_before * relevant / (size - places + 1)
    first_here = np.where(places <= size - relevant + 1, first_here, 0.0)
    return precision, float((first_here / places).sum())
