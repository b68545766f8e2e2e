"""Fréchet distances: equal sets, shifted and scaled Gaussians, few vectors, and what chance gives."""

from __future__ import annotations

import numpy as np
import pytest

from cm3p.quality.frechet import compare_sets, frechet_distance
from pentatonic.errors import InputError


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


def test_sets_of_one_kind_are_at_chance_and_others_are_not() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(20), 2)
    one, same = rng.normal(size=(40, 6)), rng.normal(size=(40, 6))
    alike = compare_sets(one, same, groups, groups, divisions=100)
    assert alike.p_value > 0.05
    assert abs(alike.beyond_chance) < alike.of_random_divisions.high
    assert alike.distance > 0.1  # which is nothing but the bias of few maps
    assert abs(alike.extrapolated) < alike.distance
    different = compare_sets(one + 1, same, groups, groups, divisions=100)
    assert different.p_value == pytest.approx(1 / 101)
    assert different.extrapolated == pytest.approx(6, abs=2)
    assert different.maps == (40, 40) and different.sets == (20, 20)


def test_mapsets_are_divided_as_a_whole() -> None:
    # Maps of a set are copies: divided map by map, both parts would be nearly the same.
    rng = np.random.default_rng(4)
    one, same = (np.repeat(rng.normal(size=(6, 3)), 10, axis=0) for _ in range(2))
    groups = np.repeat(np.arange(6), 10)
    by_sets = compare_sets(one, same, groups, groups, divisions=60)
    by_maps = compare_sets(one, same, np.arange(60), np.arange(60), divisions=60)
    assert by_sets.of_random_divisions.value > 3 * by_maps.of_random_divisions.value
    assert by_maps.p_value < 0.05 < by_sets.p_value
