"""Tags: embeddings that are the tag, random ones, tags of few maps."""

from __future__ import annotations

import numpy as np
import pytest

from cm3p.quality.clustering import FEWEST_MAPS, tag_clustering
from cm3p.quality.facts import MapFacts


def facts_of(tags: list[list[int]], modes: list[int] | None = None) -> MapFacts:
    modes = [0] * len(tags) if modes is None else modes
    return MapFacts.of(
        [
            {"BeatmapSetId": number // 2, "ModeInt": mode, "TopTagIds": of_map}
            for number, (of_map, mode) in enumerate(zip(tags, modes, strict=True))
        ]
    )


def test_embeddings_that_are_the_tag_agree_with_it() -> None:
    tags = [number % 3 for number in range(30)]
    result = tag_clustering(
        np.eye(3, dtype=np.float32)[tags], facts_of([[tag] for tag in tags]), resamples=20
    )
    assert result is not None and (result.maps, result.tags) == (30, 3)
    assert result.mutual_information == pytest.approx(1)
    assert result.silhouette.value == result.silhouette.low == 1
    assert result.tag_correlation.value == pytest.approx(1)
    assert result.mutual_information_shuffled < 0.3 and result.silhouette_shuffled < 0.1


def test_random_embeddings_are_as_good_as_shuffled_tags() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    result = tag_clustering(
        vectors, facts_of([[int(each)] for each in rng.integers(4, size=200)]), resamples=50
    )
    assert result is not None
    assert result.mutual_information == pytest.approx(result.mutual_information_shuffled, abs=0.03)
    assert result.silhouette.value == pytest.approx(result.silhouette_shuffled, abs=0.03)
    assert result.tag_correlation.low < 0 < result.tag_correlation.high


def test_rulesets_alone_give_nothing() -> None:
    # Each ruleset has tags of its own, and embeddings know nothing but the ruleset.
    modes = [number % 2 for number in range(40)]
    tags = [[2 * (number // 4 % 2) + mode] for number, mode in enumerate(modes)]
    result = tag_clustering(np.eye(2, dtype=np.float32)[modes], facts_of(tags, modes), resamples=20)
    assert result is not None and result.tags == 4
    assert result.mutual_information == pytest.approx(0, abs=0.05)


def test_a_map_of_a_rare_tag_counts_under_its_next_one() -> None:
    tags = [[9, 1]] * (FEWEST_MAPS - 1) + [[1]] * 2 + [[2]] * FEWEST_MAPS + [[8]]
    vectors = np.eye(3, dtype=np.float32)[[0] * 5 + [1] * FEWEST_MAPS + [2]]
    result = tag_clustering(vectors, facts_of(tags), resamples=20)
    assert result is not None and (result.maps, result.tags) == (5 + FEWEST_MAPS, 2)
    assert result.mutual_information == pytest.approx(1)


def test_one_tag_or_none_gives_no_result() -> None:
    vectors = np.ones((8, 1), np.float32)
    assert tag_clustering(vectors, facts_of([[1]] * 8)) is None
    assert tag_clustering(vectors, facts_of([[]] * 8)) is None
