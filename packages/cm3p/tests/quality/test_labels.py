"""Labels: candidates, known scores, learnt labels."""

from __future__ import annotations

import numpy as np
import pytest

from cm3p.quality.facts import MapFacts
from cm3p.quality.labels import Labels, judge_labels, judge_stars, label_table
from cm3p.quality.linear import inverse_frequencies, label_scores, predicted_stars, weighted_bags

MAPPERS = [7, 7, 7, 7, 8, 8, 9, None]


def facts() -> MapFacts:
    return MapFacts.of(
        [
            {
                "BeatmapSetId": number,
                "ModeInt": number % 2,
                "UserId": mapper,
                "DifficultyRating": 1.0 + number,
                "TopTagIds": [number % 2, 2 + number % 2] if number < 6 else [],
            }
            for number, mapper in enumerate(MAPPERS)
        ]
    )


def table(field: str, most: int = 64) -> Labels:
    found = label_table(facts(), field, most=most)
    assert found is not None
    return found


def test_candidates_are_the_values_of_the_maps_the_most_frequent_first() -> None:
    labels = table("mapper")
    assert labels.candidates == [7, 8, 9]
    assert labels.maps.tolist() == list(range(7)) and labels.left_out == 1
    assert labels.truth.sum(0).tolist() == [4, 2, 1]
    fewer = table("mapper", most=2)
    assert (fewer.candidates, fewer.left_out) == ([7, 8], 2)
    only = label_table(facts(), "mapper", most=64, known=lambda value: value == 7)
    assert only is None  # one value is no question


def test_maps_are_asked_about_tags_of_their_ruleset() -> None:
    labels = table("tags")
    assert labels.candidates == [0, 2, 1, 3]
    assert labels.allowed[0].tolist() == [True, True, False, False]
    assert labels.allowed[1].tolist() == [False, False, True, True]
    # All tags of the ruleset are true here, so that every answer is right.
    assert judge_labels(labels, np.zeros((6, 4)), resamples=5).chance == 1


def test_right_and_constant_answers() -> None:
    labels = table("mapper")
    right = judge_labels(labels, labels.truth.astype(float), resamples=20)
    assert right.accuracy.value == right.balanced_accuracy.value == right.average_precision.value == 1
    assert right.chance == pytest.approx(1 / 3) and right.majority == pytest.approx(4 / 7)
    assert right.chance_average_precision == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    # Even maps have the mappers 7 7 8 9, odd ones 7 7 8: answers 7 and 7 are right four times.
    assert right.majority_in_ruleset == pytest.approx(4 / 7)
    constant = judge_labels(labels, np.tile([3.0, 2.0, 1.0], (7, 1)), resamples=20)
    assert constant.accuracy.value == pytest.approx(4 / 7)
    assert constant.balanced_accuracy.value == pytest.approx(1 / 3)
    assert constant.average_precision.value == pytest.approx((4 + 2 / 2 + 1 / 3) / 7)


def test_stars() -> None:
    exact = judge_stars(facts().stars, facts(), resamples=20)
    assert exact is not None
    assert exact.rank_correlation.value == exact.rank_correlation_in_rulesets.value == pytest.approx(1)
    assert exact.mean_error.value == 0 and exact.band_accuracy.value == 1
    assert exact.mean_error_of_median == 2  # of 1 to 8 stars the median is 4.5
    # Right within each ruleset, but with all maps of one below those of the other.
    shifted = facts().stars + np.where(np.arange(8) % 2, 100, 0)
    result = judge_stars(shifted, facts(), resamples=20)
    assert result is not None and result.rank_correlation_in_rulesets.value == pytest.approx(1)
    assert result.rank_correlation.value < 0.8
    assert judge_stars(np.ones(1), MapFacts.of([{"Id": 1}])) is None


def test_learnt_labels_and_stars() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.integers(3, size=60)
    bags = rng.poisson(1, size=(60, 12)).astype(np.float32)
    bags[np.arange(60), kinds] += 20
    stars = 1 + bags[:, 5] / 4
    rows = [
        {
            "BeatmapSetId": n,
            "ModeInt": 0,
            "UserId": int(kind),
            "TopTagIds": [int(kind)],
            "DifficultyRating": star,
        }
        for n, (kind, star) in enumerate(zip(kinds, stars.tolist(), strict=True))
    ]
    train, test = MapFacts.of(rows[:40]), MapFacts.of(rows[40:])
    features = weighted_bags(bags, inverse_frequencies(bags[:40]))
    assert np.linalg.norm(features, axis=1) == pytest.approx(1)
    for field in ("mapper", "tags"):
        labels = label_table(test, field, most=9)
        assert labels is not None
        scores = label_scores(features[:40], train, features[40:], labels)
        assert scores is not None
        assert judge_labels(labels, scores, resamples=5).accuracy.value == 1
    guess = predicted_stars(bags[:40], train.stars, bags[40:])
    assert guess is not None
    assert guess == pytest.approx(test.stars, abs=0.05)
    unknown = np.full(40, np.nan)
    assert predicted_stars(bags[:40], unknown, bags[40:]) is None


def test_values_that_the_training_maps_lack_come_last() -> None:
    train = MapFacts.of([{"BeatmapSetId": n, "UserId": 7 + n % 2} for n in range(6)])
    labels = table("mapper")
    features = np.eye(2, dtype=np.float32)[np.arange(6) % 2]
    scores = label_scores(features, train, np.eye(2, dtype=np.float32)[[0] * 8], labels)
    assert scores is not None and (scores.argmax(1) == 0).all() and (scores.argmin(1) == 2).all()
    of_one = MapFacts.of([{"BeatmapSetId": 1, "UserId": 7}])
    assert label_scores(features[:1], of_one, features, labels) is None
