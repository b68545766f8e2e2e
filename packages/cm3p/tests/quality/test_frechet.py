"""Fréchet distances of maps: what chance gives, and divisions by sets."""

from __future__ import annotations

import numpy as np
import pytest

from cm3p.quality.frechet import compare_sets


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
