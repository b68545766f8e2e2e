"""Intervals, rank correlation, mutual information and silhouettes: known answers, and those of scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cm3p.quality.intervals import mean_interval, resampled_groups, set_groups
from cm3p.quality.statistics import mutual_information, rank_correlation, ranks, silhouettes


def test_groups_of_sets_and_of_maps_without_one() -> None:
    assert set_groups([7, None, 7, None, 9]).tolist() == [0, 1, 0, 2, 3]


def test_interval_of_equal_values_is_a_point_and_unknown_values_do_not_count() -> None:
    values = np.array([0.25, 0.25, np.nan, 0.25])
    found = mean_interval(values, np.array([0, 0, 1, 2]), resamples=50)
    assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)
    assert math.isnan(mean_interval(np.full(2, np.nan), np.array([0, 1])).value)


def test_interval_resamples_groups_and_not_items() -> None:
    values = np.repeat([0.0, 1.0], 500)
    by_item = mean_interval(values, np.arange(1000))
    by_group = mean_interval(values, np.repeat([0, 1], 500))
    assert by_item.high - by_item.low < 0.1
    assert (by_group.low, by_group.high) == (0, 1)  # of two groups, often both draws are the same one


def test_both_ways_of_resampling_draw_the_same() -> None:
    values, groups = np.arange(6.0), np.array([0, 0, 1, 2, 2, 5])
    fast = mean_interval(values, groups, resamples=200, seed=3)
    (plain,) = resampled_groups(lambda rows: [values[rows].mean()], groups, resamples=200, seed=3)
    assert plain.value == fast.value
    np.testing.assert_allclose([plain.low, plain.high], [fast.low, fast.high])


def test_resamples_without_a_value_do_not_count() -> None:
    groups = np.array([0, 1])

    def metric(rows: np.ndarray) -> list[float]:
        return [1.0 if set(rows) == {0, 1} else math.nan]

    (found,) = resampled_groups(metric, groups, resamples=40)
    assert (found.low, found.high) == (1, 1)


def test_ranks_and_rank_correlation() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0, 2.5, 1]
    rising = np.array([0.1, 0.5, 7.0, 9.0])
    assert rank_correlation(rising, rising**3) == pytest.approx(1)
    assert rank_correlation(rising, -rising) == pytest.approx(-1)
    assert math.isnan(rank_correlation(rising, np.ones(4)))


def test_mutual_information_and_silhouettes_of_known_groups() -> None:
    labels = np.array([0, 0, 1, 1])
    assert mutual_information(labels, np.array([5, 5, 2, 2])) == pytest.approx(1)
    assert mutual_information(labels, np.array([0, 1, 0, 1])) == pytest.approx(0)
    far = np.where(labels[:, None] == labels, 0.0, 1.0)
    assert silhouettes(far, labels).tolist() == [1, 1, 1, 1]
    assert silhouettes(far, np.array([0, 0, 0, 1]))[3] == 0


def test_same_as_scikit_learn_and_scipy() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    points, one, other = rng.normal(size=(40, 3)), rng.integers(4, size=40), rng.integers(5, size=40)
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    expected = metrics.silhouette_samples(distances, one, metric="precomputed")
    np.testing.assert_allclose(silhouettes(distances, one), expected)
    assert mutual_information(one, other) == pytest.approx(metrics.normalized_mutual_info_score(one, other))
    assert rank_correlation(one, points[:, 0]) == pytest.approx(stats.spearmanr(one, points[:, 0]).statistic)
