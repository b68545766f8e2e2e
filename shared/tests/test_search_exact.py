"""Exact neighbours against a search that scores every pair in float64, and what is refused."""

from __future__ import annotations

import tracemalloc
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pentatonic.errors import InputError, UsageError
from pentatonic.search import Metric, exact, top_k

METRICS = get_args(Metric)


def brute_force(queries: np.ndarray, rows: np.ndarray, k: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Score one pair at a time in float64, then sort by score and row."""
    found_rows, found_scores = [], []
    for query in np.asarray(queries, np.float64):
        scores = []
        for row in np.asarray(rows, np.float64):
            if metric == "euclidean":
                scores.append(-np.sqrt(np.sum((query - row) ** 2)))
                continue
            score = np.sum(query * row)
            if metric == "cosine":
                score /= np.sqrt(np.sum(query * query)) * np.sqrt(np.sum(row * row))
            scores.append(score)
        order = sorted(range(len(rows)), key=lambda number: (-scores[number], number))[:k]
        found_rows.append(order)
        found_scores.append([abs(scores[n]) if metric == "euclidean" else scores[n] for n in order])
    shape = (len(queries), min(k, len(rows)))
    return np.array(found_rows, int).reshape(shape), np.array(found_scores, float).reshape(shape)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, str, int]:
    """Few distinct rows, so that most scores are shared by several rows, in several types and magnitudes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    width = draw(st.sampled_from([1, 2, 3, 33, 200]))
    # Nearby vectors, which float32 products cannot tell apart, besides equal ones.
    points = rng.standard_normal((2, 1, width))
    noise = rng.standard_normal((4, width)) * draw(st.sampled_from([1e-8, 1e-7, 1e-6]))
    distinct = np.concatenate([points, points * (1 + 1e-7), points + noise], axis=1).reshape(-1, width)
    dtype = draw(st.sampled_from([np.float64, np.float32]))
    scale = 10.0 ** draw(st.sampled_from([-25, 0, 18]))
    rows = (distinct * scale)[rng.integers(0, len(distinct), draw(st.integers(0, 40)))].astype(dtype)
    # With a query that is far longer than the rows, even float64 distances are nearly equal.
    scale *= draw(st.sampled_from([1, 1e12]))
    queries = (distinct * scale)[rng.integers(0, len(distinct), draw(st.integers(0, 4)))].astype(dtype)
    k, metric = draw(st.integers(1, 12)), draw(st.sampled_from(METRICS))
    return queries, rows, k, metric, draw(st.sampled_from([1, 20_000, 10**6]))


@settings(max_examples=150, deadline=None)
@given(problems())
def test_neighbours_are_those_of_a_float64_search(
    problem: tuple[np.ndarray, np.ndarray, int, str, int],
) -> None:
    queries, rows, k, metric, block_bytes = problem
    found = top_k(queries, rows, k, metric=metric, block_bytes=block_bytes)  # type: ignore[arg-type]
    expected_rows, expected_scores = brute_force(queries, rows, k, metric)
    np.testing.assert_array_equal(found.rows, expected_rows)
    np.testing.assert_array_equal(found.scores, expected_scores)


@pytest.mark.parametrize("length", [1, 1e9, 1e15])
@pytest.mark.parametrize("metric", METRICS)
def test_rows_closer_than_the_rounding_of_the_products(metric: Metric, length: float) -> None:
    """Long queries make float64 distances nearly equal, short ones only those of the float32 products."""
    rng = np.random.default_rng(0)
    for noise in (1e-9, 1e-8, 1e-7, 1e-6):
        rows = rng.standard_normal(200) + noise * rng.standard_normal((60, 200))
        queries = length * (rows[:3] + rng.standard_normal((3, 200)))
        found = top_k(queries, rows, 7, metric=metric)
        np.testing.assert_array_equal(found.rows, brute_force(queries, rows, 7, metric)[0])


@pytest.mark.parametrize("metric", METRICS)
def test_more_queries_than_one_matrix_product_takes(metric: Metric) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((90, 5), dtype=np.float32)
    queries = rng.standard_normal((600, 5), dtype=np.float32)
    expected_rows, _ = brute_force(queries, rows, 4, metric)
    np.testing.assert_array_equal(top_k(queries, rows, 4, metric=metric).rows, expected_rows)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("width", [7, 64, 200])
def test_equal_rows_are_in_order_wherever_they_are_stored(metric: Metric, width: int) -> None:
    rng = np.random.default_rng(width)
    rows = rng.standard_normal((500, width), dtype=np.float32)
    places = np.sort(rng.choice(500, 40, replace=False))
    rows[places] = rows[places[0]]
    found = top_k(rows[places[:1]], rows, 40, metric=metric, block_bytes=30_000)
    if metric != "inner_product":  # there, another row can be larger than the vector itself
        np.testing.assert_array_equal(found.rows[0], places)
    assert len(set(found.scores[0, np.isin(found.rows[0], places)])) == 1


def test_blocks_give_what_one_array_gives(tmp_path) -> None:
    rows = np.random.default_rng(0).standard_normal((100, 4), dtype=np.float32)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    whole = top_k(rows[:9], rows, 5, metric="cosine")
    for source in (mapped, [rows[:1], rows[1:1], rows[1:64], rows[64:]]):
        np.testing.assert_array_equal(top_k(rows[:9], source, 5, metric="cosine").rows, whole.rows)


def test_a_huge_k_takes_no_memory() -> None:
    found = top_k(np.ones((1, 2)), np.ones((3, 2)), 10**15, metric="cosine")
    assert found.rows.tolist() == [[0, 1, 2]]
    assert top_k(np.ones((1, 2)), np.ones((0, 2)), 10**15, metric="cosine").rows.shape == (1, 0)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_that_are_not_allowed_are_never_returned(metric: Metric) -> None:
    rng = np.random.default_rng(3)
    rows = rng.integers(1, 3, (60, 3)).astype(np.float32)
    allowed = rng.random(60) < 0.3
    found = top_k(rows[:5], rows, 60, metric=metric, allowed=allowed, block_bytes=4000)
    kept = np.flatnonzero(allowed)
    expected, _ = brute_force(rows[:5], rows[kept], 60, metric)
    np.testing.assert_array_equal(found.rows, kept[expected])


def test_memory_is_bounded_by_the_block_even_if_all_rows_are_equal() -> None:
    queries, rows = np.ones((256, 16), np.float32), np.ones((8_000, 16), np.float32)
    tracemalloc.start()
    found = top_k(queries, rows, 3, metric="cosine", block_bytes=2**21)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.rows == [0, 1, 2]).all()
    # All pairs at once would take 200 MB; gathered pairs have a few MiB of their own.
    assert peak < 14 * 2**20


@pytest.mark.parametrize("metric", METRICS)
def test_rows_that_get_better_and_better(metric: Metric) -> None:
    """Every row is better than all before, so that no early neighbour shortens the work."""
    rows = np.stack([np.cos(np.linspace(1.5, 0, 3000)), np.sin(np.linspace(1.5, 0, 3000))], axis=1)
    rows = rows.astype(np.float32)
    query = np.ones((3, 2), np.float32) * [1, 0]
    found = top_k(query, rows, 4, metric=metric, block_bytes=40_000)
    np.testing.assert_array_equal(found.rows, brute_force(query, rows, 4, metric)[0])


def test_few_pairs_are_scored_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = []
    score = exact._pair_similarities

    def counted(*arguments: Any) -> np.ndarray:
        scored.append(len(arguments[2]))
        return score(*arguments)

    monkeypatch.setattr(exact, "_pair_similarities", counted)
    rows = np.random.default_rng(5).standard_normal((20_000, 64), dtype=np.float32)
    top_k(rows[:30], rows, 5, metric="cosine", block_bytes=10**6)
    assert 30 * 5 <= sum(scored) < 30 * 5 * 20  # of 600,000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
@pytest.mark.parametrize("metric", METRICS)
def test_numbers_that_are_not_finite_are_refused_with_their_row(value: float, metric: Metric) -> None:
    rows = np.ones((50, 2))
    rows[37, 1] = value
    with pytest.raises(InputError, match=r"row 37 has a number that is not finite"):
        top_k(np.ones((1, 2)), rows, 1, metric=metric, block_bytes=2000)
    with pytest.raises(InputError, match=r"query 1 has a number"):
        top_k(rows[36:38], np.ones((1, 2)), 1, metric=metric)


def test_a_vector_without_direction_has_no_cosine() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(InputError, match="row 1 has norm 0"):
        top_k(rows[:1], rows, 1, metric="cosine")
    with pytest.raises(InputError, match="row 0 has norm 0"):
        top_k(rows[:1], rows[:1] * 1e-200, 1, metric="cosine")
    with pytest.raises(InputError, match="row 1 has norm 0"):
        top_k(rows[:1], rows.astype(np.float32), 1, metric="cosine")
    assert top_k(rows[:1], rows, 2, metric="euclidean").scores.tolist() == [[0.0, 1.0]]


def test_wrong_shapes_and_arguments_are_refused() -> None:
    rows = np.ones((3, 2))
    with pytest.raises(InputError, match=r"from row 3 has the shape \(1, 5\); allowed: \(rows, 2\)"):
        top_k(rows, [rows, np.ones((1, 5))], 1, metric="cosine")
    with pytest.raises(InputError, match=r"queries have the shape \(2,\)"):
        top_k(rows[0], rows, 1, metric="cosine")
    with pytest.raises(InputError, match="allowed: real numbers"):
        top_k(np.array([["a", "b"]]), rows, 1, metric="cosine")
    with pytest.raises(UsageError, match="k is 0"):
        top_k(rows, rows, 0, metric="cosine")
    with pytest.raises(UsageError, match="allowed: cosine, inner_product, euclidean"):
        top_k(rows, rows, 1, metric="l1")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="allowed has the type int64; it needs one bool per row"):
        top_k(rows, rows, 1, metric="cosine", allowed=np.array([0, 2]))
    with pytest.raises(UsageError, match="allowed has 2 entries for 3 rows"):
        top_k(rows, rows, 1, metric="cosine", allowed=np.array([True, False]))
