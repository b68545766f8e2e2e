"""The FAISS adapter beside the exact search."""

from __future__ import annotations

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


def test_fewer_rows_than_asked_for() -> None:
    rows = vectors(3, 4)
    assert FaissIndex([rows], metric="cosine", kind="flat").search(rows[:1], 10).rows.shape == (1, 3)


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
