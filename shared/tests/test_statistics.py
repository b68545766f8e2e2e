"""Intervals and distances of sets: known answers, invariances, and those of scikit-learn and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pentatonic.errors import InputError
from pentatonic.statistics import (
    Gaussian,
    extrapolated_distance,
    frechet_distance,
    gaussian_distance,
    kernel_distance,
    mean_interval,
    resampled_groups,
    set_groups,
)


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


def test_a_set_has_no_distance_to_itself_and_a_shift_its_square() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 5))
    assert frechet_distance(vectors, vectors) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(vectors, vectors + np.array([3, 0, 4, 0, 0])) == pytest.approx(25)


def test_scaled_gaussians() -> None:
    # Of one dimension: the squared differences of means and of standard deviations.
    vectors = np.random.default_rng(1).normal(size=(30, 1))
    deviation = vectors.std(ddof=1)
    centred = vectors - vectors.mean()
    assert frechet_distance(centred, 3 * centred + 1) == pytest.approx(1 + (2 * deviation) ** 2)


@pytest.mark.parametrize("counts", [(50, 60), (4, 60), (4, 5)], ids=["many", "few and many", "few"])
def test_same_as_by_roots_of_matrices(counts: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    one, other = (rng.normal(size=(count, 8)) @ rng.normal(size=(8, 8)) for count in counts)

    def root(matrix: np.ndarray) -> np.ndarray:
        values, basis = np.linalg.eigh(matrix)
        return basis * np.sqrt(np.maximum(values, 0)) @ basis.T

    first, second = np.cov(one.T), np.cov(other.T)
    cross = root(root(first) @ second @ root(first))
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(first + second - 2 * cross)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)


def test_fewer_than_two_vectors_are_refused() -> None:
    with pytest.raises(InputError, match="two vectors or more"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))


def test_distances_of_sets_that_cannot_be_compared() -> None:
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(InputError, match="one length"):
            distance(np.zeros((4, 3)), np.zeros((5, 2)))
        with pytest.raises(InputError, match="finite"):
            distance(np.zeros((4, 3)), np.full((4, 3), np.nan))
    with pytest.raises(InputError, match="same number"):
        gaussian_distance(Gaussian.of(np.zeros((1, 3))), Gaussian.of(np.zeros((1, 2))))
    with pytest.raises(InputError, match="at least one"):
        Gaussian.of(np.zeros((0, 3)))


def test_a_single_vector_is_a_point() -> None:
    point = Gaussian.of(np.array([[1.0, 2.0]]))
    cloud = np.random.default_rng(5).normal(size=(50, 2))
    expected = ((cloud.mean(0) - point.mean) ** 2).sum() + np.trace(np.cov(cloud.T))
    assert gaussian_distance(point, Gaussian.of(cloud)) == pytest.approx(expected)
    assert Gaussian.of(np.ones((1, 2)), shrink=True).root.sum() == 0


@pytest.mark.parametrize("count", [6, 12, 300])
def test_covariances_shrink_as_in_scikit_learn(count: int) -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    vectors = np.random.default_rng(6).normal(size=(count, 8)) * np.arange(1, 9)
    expected, share = covariance.ledoit_wolf(vectors)
    root = Gaussian.of(vectors, shrink=True).root
    assert 0 < share < 1
    np.testing.assert_allclose(root.T @ root * (count - 1) / count, expected)


def test_shrinking_brings_the_distance_of_few_vectors_nearer_to_the_true_one() -> None:
    rng = np.random.default_rng(7)
    few, many = rng.normal(size=(12, 30)), rng.normal(size=(4000, 30))
    plain, shrunk = (frechet_distance(few, many, shrink=shrink) for shrink in (False, True))
    assert 0 <= shrunk < plain / 2


def test_extrapolation_removes_most_of_the_bias() -> None:
    rng = np.random.default_rng(8)
    one, other = rng.normal(size=(60, 6)), rng.normal(size=(80, 6))
    assert abs(extrapolated_distance(one, other, rng)) < frechet_distance(one, other) / 2
    shifted = extrapolated_distance(one + 2, other, rng)
    assert shifted == pytest.approx(24, rel=0.25)
    assert math.isnan(extrapolated_distance(one[:2], other[:2], rng))


def test_kernel_distance_is_the_mean_over_pairs() -> None:
    rng = np.random.default_rng(9)
    one, other = rng.normal(size=(7, 3)), rng.normal(size=(5, 3)) + 1

    def mean(first: np.ndarray, second: np.ndarray, *, same: bool) -> float:
        values = [
            (first[i] @ second[j] / 3 + 1) ** 3
            for i in range(len(first))
            for j in range(len(second))
            if not (same and i == j)
        ]
        return float(np.mean(values))

    expected = mean(one, one, same=True) + mean(other, other, same=True) - 2 * mean(one, other, same=False)
    assert kernel_distance(one, other) == pytest.approx(expected)


def test_kernel_distance_has_no_bias_and_adds_up_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(10)
    pairs = [(rng.normal(size=(6, 4)), rng.normal(size=(6, 4))) for _ in range(300)]
    found = np.array([kernel_distance(*pair) for pair in pairs])
    assert abs(found.mean()) < 3 * found.std() / np.sqrt(len(found))
    assert (found < 0).any()
    monkeypatch.setattr("pentatonic.statistics.distances._BLOCK", 4)
    np.testing.assert_allclose([kernel_distance(*pair) for pair in pairs[:5]], found[:5])
