"""The search itself.

A map's score is the mean cosine to what is wanted, less the mean cosine to what is unwanted.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cm3p.search.index import Index
from cm3p.search.queries import Query
from pentatonic.errors import UsageError
from pentatonic.search import Neighbours, top_k
from pentatonic.search.faiss_index import FaissIndex

Method = Literal["exact", "faiss"]


@dataclass(frozen=True)
class Found:
    """A map that was found.

    Args:
        rank: 1 for the best one.
        score: Mean cosine to what is wanted, less that to what is unwanted.
        row: Its row in the index.
        map: What the index says about it.
    """

    rank: int
    score: float
    row: int
    map: dict[str, Any]


def find(
    index: Index,
    like: Sequence[Query],
    unlike: Sequence[Query] = (),
    *,
    allowed: np.ndarray | None = None,
    count: int = 20,
    ignore_set: bool = False,
    method: Method = "exact",
) -> list[Found]:
    """Find the maps that are most like some, and unlike others; never these themselves.

    Args:
        index: Where to look.
        like: What is wanted; at least one.
        unlike: What is unwanted.
        allowed: (N,) bool, the rows that may be found; all by default.
        count: Maps at most.
        ignore_set: Also leave out the other maps of the sets of what is wanted.
        method: ``exact``: float64, ties by the lower row; ``faiss``: a flat FAISS index, float32.

    Raises:
        UsageError: Nothing is wanted, or it is the same as what is unwanted.
        MissingExtra: FAISS is not installed.
    """
    if not like:
        raise UsageError("there is nothing to look for; allowed: --like, --metadata or --audio")
    rows = np.ones(len(index.vectors), dtype=bool) if allowed is None else allowed.copy()
    asked = [query.row for query in (*like, *unlike) if query.row is not None]
    rows[asked] = False
    if ignore_set:
        rows &= ~index.set_rows([query.row for query in like if query.row is not None])
        sets = {query.set_id for query in like} - {None}
        rows &= ~np.array([each in sets for each in index.column("BeatmapSetId")])
    if not rows.any():
        return []
    query = _direction(like, unlike)
    neighbours = _neighbours(index, query, count, rows, method)
    return [
        Found(rank, float(score), int(row), index.describe(int(row)))
        for rank, (row, score) in enumerate(zip(neighbours.rows[0], neighbours.scores[0], strict=True), 1)
    ]


def _direction(like: Sequence[Query], unlike: Sequence[Query]) -> np.ndarray:
    """(D,) float64 whose inner product with a unit vector is its score."""
    wanted = _mean(like) - _mean(unlike) if unlike else _mean(like)
    if np.linalg.norm(wanted) < 1e-6:
        raise UsageError("what is wanted is the same as what is unwanted")
    return wanted


def _mean(queries: Sequence[Query]) -> np.ndarray:
    return np.stack([query.vector for query in queries]).mean(axis=0, dtype=np.float64)


def _neighbours(index: Index, query: np.ndarray, count: int, rows: np.ndarray, method: Method) -> Neighbours:
    queries = query[None]
    if method == "exact":
        return top_k(queries, index.vectors, count, metric="inner_product", allowed=rows)
    numbers = np.flatnonzero(rows)
    found = FaissIndex([index.vectors[numbers]], metric="inner_product", kind="flat").search(
        queries.astype(np.float32), count
    )
    return Neighbours(numbers[found.rows], found.scores)
