"""What lies between two playlists, and the order of songs."""

from __future__ import annotations

from itertools import pairwise, permutations, product

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from myna_rpe.geometry import cosine_distances, distances_between, distances_to_hull, order
from pentatonic.errors import InputError, UsageError


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 12),
    k=st.integers(1, 12),
    d=st.integers(1, 20),
    t=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]),
)
def test_between_is_the_hull_of_all_sums(seed: int, n: int, k: int, d: int, t: float) -> None:
    random = np.random.default_rng(seed)
    a, b = random.standard_normal((n, d)), random.standard_normal((k, d)) + 2
    queries = 2 * random.standard_normal((4, d))
    sums = np.array([(1 - t) * x + t * y for x, y in product(a, b)])
    expected = distances_to_hull(sums, queries).distances
    distances, gaps = distances_between(a, b, t, queries)
    np.testing.assert_allclose(distances, expected, atol=1e-6)
    assert gaps.max() <= 1e-8 * (1 + distances.max() ** 2)


def test_the_ends_are_the_hulls_themselves() -> None:
    random = np.random.default_rng(0)
    a, b, queries = (random.standard_normal((n, 5)) for n in (7, 9, 3))
    for t, hull in ((0.0, a), (1.0, b)):
        distances, _ = distances_between(a, b, t, queries)
        np.testing.assert_allclose(distances, distances_to_hull(hull, queries).distances, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 6))
def test_few_songs_get_the_shortest_way(seed: int, n: int) -> None:
    points = np.random.default_rng(seed).standard_normal((n, 3))
    distances = cosine_distances(points)

    def length(way: list[int] | tuple[int, ...]) -> float:
        return sum(distances[x, y] for x, y in pairwise(way))

    for first, last in ((None, None), (0, None), (None, n - 1), (0, n - 1)):
        way = order(points, first=first, last=last)
        allowed = [
            other
            for other in permutations(range(n))
            if (first is None or other[0] == first) and (last is None or other[-1] == last)
        ]
        assert tuple(way) in allowed
        assert length(way) <= min(map(length, allowed)) + 1e-9


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), ends=st.sampled_from([(None, None), (3, None), (None, 5), (3, 5)]))
def test_no_stretch_of_a_longer_way_is_better_turned_round(
    seed: int, ends: tuple[int | None, int | None]
) -> None:
    points = np.random.default_rng(seed).standard_normal((14, 4))
    distances, (first, last) = cosine_distances(points), ends
    way = order(points, first=first, last=last)
    assert sorted(way) == list(range(14))
    assert first in (None, way[0]) and last in (None, way[-1])

    def length(songs: list[int]) -> float:
        return sum(distances[x, y] for x, y in pairwise(songs))

    begin, end = int(first is not None), 14 - int(last is not None)
    for i in range(begin, end):
        for j in range(i + 1, end + 1):
            assert length([*way[:i], *way[i:j][::-1], *way[j:]]) >= length(way) - 1e-9


def test_few_songs_and_wrong_ends() -> None:
    assert order(np.empty((0, 3))) == [] and order(np.ones((1, 3))) == [0]
    with pytest.raises(UsageError, match="first is 5; allowed: 0 to 1"):
        order(np.ones((2, 3)), first=5)
    with pytest.raises(UsageError, match="the same song"):
        order(np.ones((2, 3)), first=1, last=1)
    with pytest.raises(UsageError, match=r"t is 2; allowed"):
        distances_between([[0.0]], [[1.0]], 2, [[0.0]])
    with pytest.raises(InputError, match="hull of no points"):
        distances_between(np.empty((0, 1)), [[1.0]], 0.5, [[0.0]])
