"""The FAISS adapter beside the exact search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pentatonic.errors import InputError, UsageError
from pentatonic.search import top_k

pytest.importorskip("faiss")

from pentatonic.search.faiss_index import FaissIndex

METRICS = ("cosine", "inner_product", "euclidean")


def vectors(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 16)).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
def test_the_flat_index_finds_what_the_exact_search_finds(metric: str) -> None:
    rows, queries = vectors(500, 0), vectors(20, 1)
    index = FaissIndex([rows[:200], rows[200:]], metric=metric, kind="flat")  # type: ignore[arg-type]
    found, exact = index.search(queries, 7), top_k(queries, rows, 7, metric=metric)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.rows, exact.rows)
    np.testing.assert_allclose(found.scores, exact.scores, rtol=1e-4, atol=1e-5)
    assert len(index) == 500


@pytest.mark.parametrize("metric", METRICS)
def test_the_graph_finds_nearly_all(metric: str) -> None:
    rows, queries = vectors(2000, 2), vectors(50, 3)
    index = FaissIndex([rows], metric=metric)  # type: ignore[arg-type]
    found, exact = index.search(queries, 10), top_k(queries, rows, 10, metric=metric)  # type: ignore[arg-type]
    shared = [len(set(a) & set(b)) for a, b in zip(found.rows, exact.rows, strict=True)]
    assert np.mean(shared) > 9


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_codes_find_most_and_are_the_same_for_a_seed(metric: Any) -> None:
    rows = vectors(50, 5)[np.arange(3000) % 50] + 0.3 * vectors(3000, 6)
    index, again = (
        FaissIndex([rows[:1000], rows[1000:]], metric=metric, kind="ivfpq", sample=rows[::2], seed=3)
        for _ in "ab"
    )
    found, exact = index.search(rows[:50], 10), top_k(rows[:50], rows, 10, metric=metric)
    np.testing.assert_array_equal(found.rows, again.search(rows[:50], 10).rows)
    assert np.mean([len(set(a) & set(b)) for a, b in zip(found.rows, exact.rows, strict=True)]) > 5


def test_fewer_rows_than_asked_for() -> None:
    rows = vectors(3, 4)
    assert FaissIndex([rows], metric="cosine", kind="flat").search(rows[:1], 10).rows.shape == (1, 3)
    few = FaissIndex([rows], metric="cosine", kind="ivfpq", sample=rows).search(rows[:1], 10)
    assert sorted(few.rows[0]) == [0, 1, 2]


@pytest.mark.parametrize(("metric", "score"), [("cosine", -np.inf), ("euclidean", np.inf)])
def test_what_codes_do_not_find_is_no_row(metric: Any, score: float) -> None:
    rows = vectors(4000, 7)
    found = FaissIndex([rows[:40]], metric=metric, kind="ivfpq", sample=rows).search(rows[:5], 40)
    missing = found.rows < 0
    assert (
        missing.any() and (found.scores[missing] == score).all() and np.isfinite(found.scores[~missing]).all()
    )


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "at least one row"),
        ([np.zeros((1, 4))], "row 0 has norm 0"),
        ([vectors(2, 0), np.ones((1, 4))], "row 2 has 4 dimensions; allowed: 16"),
        ([np.ones(4)], r"the shape is \(4,\)"),
    ],
)
def test_rows_that_cannot_be_compared(blocks: list[np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FaissIndex(blocks, metric="cosine")


def test_wrong_arguments() -> None:
    index = FaissIndex([vectors(5, 0)], metric="cosine")
    with pytest.raises(UsageError, match="k is 0"):
        index.search(vectors(1, 0), 0)
    with pytest.raises(InputError, match="queries have 4 dimensions; allowed: 16"):
        index.search(np.ones((1, 4)), 1)
    with pytest.raises(UsageError, match="allowed: cosine"):
        FaissIndex([vectors(5, 0)], metric="other")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a sample of rows to learn from"):
        FaissIndex([vectors(5, 0)], metric="cosine", kind="ivfpq")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 3, 7, 40])
def test_of_equal_rows_the_lower_comes_first(metric: Any, k: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(-3, 4, (400, 4)).astype(np.float32)  # sums without rounding
    rows[:, 0] = 5
    rows[rng.permutation(400)[:120]] = rows[3]
    if metric == "cosine":  # norms of which every number is a multiple of a power of two
        rows = rng.choice([-0.5, 0.5], (400, 4)).astype(np.float32)
    found = FaissIndex([rows[:150], rows[150:]], metric=metric, kind="flat").search(rows[:20], k)
    expected = top_k(rows[:20], rows, k, metric=metric)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-12)
