"""Convex hulls: known distances, certificates, and what does not change them."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from myna_rpe.geometry import distances_to_hull, hull_scale, places
from pentatonic.errors import InputError

SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def test_a_square() -> None:
    queries = [[0.5, 0.5], [1.0, 0.3], [2.0, 0.5], [2.0, 2.0], [-1.0, 0.0]]
    found = distances_to_hull(SQUARE, queries)
    np.testing.assert_allclose(found.distances, [0, 0, 1, 2**0.5, 1], atol=1e-9)
    np.testing.assert_allclose(found.nearest[2:], [[1, 0.5], [1, 1], [0, 0]], atol=1e-9)
    assert (found.weights >= 0).all() and (found.gaps <= 1e-12).all()
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), d=st.integers(1, 50))
def test_points_of_the_hull_and_points_that_were_pushed_out_of_it(seed: int, n: int, d: int) -> None:
    random = np.random.default_rng(seed)
    hull = random.standard_normal((n, d))
    inner = random.dirichlet(np.ones(n), size=3) @ hull
    found = distances_to_hull(hull, inner)
    assert found.distances.max() < 1e-7
    queries = 3 * random.standard_normal((4, d))
    found = distances_to_hull(hull, queries)
    assert found.gaps.max() <= 1e-9 * (1 + found.distances.max() ** 2)
    # The nearest point separates: all of the hull lies behind it, seen from the query.
    outward = queries - found.nearest
    behind = np.einsum("md,mnd->mn", outward, hull[None] - found.nearest[:, None])
    assert behind.max() <= 1e-8 * (1 + found.distances.max() ** 2)
    pushed = found.nearest + 2 * outward
    np.testing.assert_allclose(distances_to_hull(hull, pushed).distances, 2 * found.distances, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_membership_agrees_with_a_linear_program_and_with_qhull(seed: int) -> None:
    random = np.random.default_rng(seed)
    hull, queries = random.standard_normal((12, 3)), 1.5 * random.standard_normal((8, 3))
    found = distances_to_hull(hull, queries)
    facets = ConvexHull(hull).equations
    depth = (queries @ facets[:, :-1].T + facets[:, -1]).max(axis=1)
    for query, distance, beyond in zip(queries, found.distances, depth, strict=True):
        if abs(beyond) < 1e-5:  # the linear program answers within a tolerance there
            continue
        system = np.vstack((hull.T, np.ones(12)))
        program = linprog(np.zeros(12), A_eq=system, b_eq=[*query, 1.0])
        assert (distance < 1e-7) == (beyond < 0) == (program.status == 0)


def test_rotations_and_repeated_points_change_nothing() -> None:
    random = np.random.default_rng(0)
    hull, queries = random.standard_normal((20, 6)), random.standard_normal((5, 6))
    turn, _ = np.linalg.qr(random.standard_normal((6, 6)))
    plain = distances_to_hull(hull, queries).distances
    np.testing.assert_allclose(distances_to_hull(hull @ turn, queries @ turn).distances, plain, atol=1e-9)
    np.testing.assert_allclose(
        distances_to_hull(np.vstack((hull, hull)), queries).distances, plain, atol=1e-9
    )


def test_one_song_is_a_point_and_two_are_a_segment() -> None:
    np.testing.assert_allclose(distances_to_hull([[1.0, 2.0]], [[4.0, 6.0]]).distances, [5])
    np.testing.assert_allclose(distances_to_hull([[0.0, 0.0], [2.0, 0.0]], [[1.0, 3.0]]).distances, [3])
    assert hull_scale([[1.0, 2.0], [1.0, 2.0]]).median is None
    found, _ = places([[1.0, 2.0]], [[1.0, 2.0], [1.0, 2.1]])
    assert [place.label for place in found] == ["inside", "outside"]
    assert found[1].ratio is None and found[1].percentile is None


def test_places_are_relative_to_the_songs_of_the_playlist() -> None:
    random = np.random.default_rng(1)
    songs = random.standard_normal((30, 128))
    songs /= np.linalg.norm(songs, axis=1, keepdims=True)
    scale = hull_scale(songs)
    assert (
        scale.median is not None and (scale.left_out > 0.5).all()
    )  # no song is inside the hull of the others
    like = songs[:5] + 0.01 * random.standard_normal((5, 128))
    unlike = -songs.mean(axis=0, keepdims=True) * 20
    found, distances = places(
        songs, np.vstack((songs.mean(axis=0, keepdims=True), like, unlike)), scale=scale
    )
    assert [place.label for place in found] == ["inside", *["inside"] * 5, "outside"]
    assert found[-1].ratio is not None and found[-1].ratio > 1 and found[-1].percentile == 100
    assert distances.gaps.max() < 1e-9


@pytest.mark.parametrize(
    ("points", "queries", "message"),
    [
        (np.empty((0, 3)), np.zeros((1, 3)), "hull of no points"),
        (np.zeros((2, 3)), np.zeros((1, 4)), "3 dimensions, queries 4"),
        (np.zeros((2, 3)), [[0.0, np.nan, 0.0]], "row 0 is not"),
        (np.zeros(3), np.zeros((1, 3)), r"points must be \(number, dimensions\)"),
    ],
)
def test_bad_points_are_named(points: object, queries: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        distances_to_hull(points, queries)  # type: ignore[arg-type]
