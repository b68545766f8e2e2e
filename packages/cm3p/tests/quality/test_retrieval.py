"""Retrieval: rankings with known measures, exact values of random orders, perfect and random embeddings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cm3p.quality.facts import MapFacts
from cm3p.quality.retrieval import MEASURES, RetrievalResult, ranking_measures, retrieval


def rows(sets: int, maps: int = 2) -> list[dict]:
    """Maps of several sets; ruleset, mapper, year and status are those of the set, difficulty and tags of the map."""
    return [
        {
            "BeatmapSetId": number,
            "ModeInt": number % 2,
            "UserId": 10 + number % 3,
            "SubmittedDate": f"{2010 + number % 4}-05-01T00:00:00+00:00",
            "Status": ("ranked", "loved")[number % 2],
            "DifficultyRating": 1.0 + 2 * place,
            "TopTagIds": [number % 2, 4 + place],
        }
        for number in range(sets)
        for place in range(maps)
    ]


def found(vectors: np.ndarray, facts: MapFacts) -> dict[tuple[str, str], RetrievalResult]:
    return {(each.field, each.gallery): each for each in retrieval(vectors, facts, resamples=20)}


def one_hot(codes: list) -> np.ndarray:
    return np.eye(len(set(codes)), dtype=np.float32)[np.unique(codes, return_inverse=True)[1]]


def test_measures_of_a_ranking() -> None:
    scores = np.array([[0.9, 0.8, 0.7, 0.6, 0.5], [1, 2, 3, 4, 5]])
    relevant = np.array([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0]], dtype=bool)
    allowed = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], dtype=bool)
    values, chance = ranking_measures(scores, relevant, allowed)
    assert values["average_precision"][0] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert values["precision_at_1"][0] == 0
    assert values["precision_at_10"][0] == pytest.approx(2 / 4)
    assert values["reciprocal_rank"][0] == 1 / 2
    assert chance["precision_at_1"][0] == chance["precision_at_10"][0] == 2 / 4
    assert all(np.isnan(values[name][1]) and np.isnan(chance[name][1]) for name in MEASURES)


@pytest.mark.parametrize("total", [1, 2, 4, 5])
def test_chance_is_the_mean_over_all_orders(total: int) -> None:
    size = 5
    orders = np.array(list(itertools.permutations(range(size))), np.float64)
    relevant = np.broadcast_to(np.arange(size) < total, orders.shape)
    values, chance = ranking_measures(orders, relevant, np.ones(orders.shape, dtype=bool))
    for name in MEASURES:
        assert chance[name][0] == pytest.approx(values[name].mean()), name


def test_embeddings_that_are_the_mapper_find_all_maps_of_the_mapper() -> None:
    maps = rows(12)
    facts = MapFacts.of(maps)
    results = found(one_hot([each["UserId"] for each in maps]), facts)
    perfect = results["mapper", "all"]
    assert perfect.queries == 24
    assert all(perfect.values[name].value == pytest.approx(1) for name in MEASURES[:1])
    assert perfect.values["precision_at_1"].value == 1
    assert perfect.chance["precision_at_1"] == pytest.approx(6 / 22)  # 3 other sets of the mapper among 11
    # Six sets have each ruleset, two of which are of one mapper: one other set among five.
    assert results["mapper", "same ruleset"].chance["precision_at_1"] == pytest.approx(2 / 10)
    assert results["mapper", "same ruleset"].values["precision_at_1"].value == 1


def test_maps_of_the_own_set_find_each_other_but_are_in_no_other_gallery() -> None:
    maps = rows(8)
    results = found(one_hot([each["BeatmapSetId"] for each in maps]), MapFacts.of(maps))
    own = results["set", "all"]
    assert own.values["precision_at_1"].value == own.values["reciprocal_rank"].value == 1
    assert own.chance["precision_at_1"] == pytest.approx(1 / 15)
    assert results["year", "all"].chance["precision_at_1"] == pytest.approx(2 / 14)


def test_difficulty_and_tags() -> None:
    maps = rows(8)
    results = found(one_hot([each["DifficultyRating"] for each in maps]), MapFacts.of(maps))
    assert results["difficulty", "all"].values["average_precision"].value == 1
    assert results["difficulty", "all"].chance["precision_at_1"] == pytest.approx(7 / 14)
    # Of 14 maps of other sets, 6 share the ruleset's tag, and 4 of the 8 others that of the difficulty.
    assert results["tags", "all"].chance["precision_at_1"] == pytest.approx(10 / 14)


def test_equal_embeddings_are_at_chance() -> None:
    maps = rows(30)
    results = found(np.ones((60, 1), np.float32), MapFacts.of(maps))
    for result in results.values():
        value = result.values["average_precision"].value
        assert value == pytest.approx(result.chance["average_precision"], abs=0.1), result.field


def test_unknown_values_are_neither_queries_nor_in_the_gallery() -> None:
    maps = [{**each, "UserId": None} if n < 4 else each for n, each in enumerate(rows(12))]
    result = found(np.ones((24, 1), np.float32), MapFacts.of(maps))["mapper", "all"]
    assert result.queries == 20
    only_unknown = MapFacts.of([{"Id": 1}, {"Id": 2}])
    assert {each.queries for each in retrieval(np.ones((2, 1), np.float32), only_unknown)} == {0}
