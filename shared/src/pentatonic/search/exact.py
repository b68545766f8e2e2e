"""Exact nearest neighbours in bounded memory.

A score is a float64 sum over the components of one pair of vectors, always in the same order, so equal vectors have
equal scores wherever they are stored, and ties go to the lower row. Computing all pairs that way would be slow. A
float32 matrix product of unit vectors comes first: with the bound of its rounding error it gives an interval for
every score, and only rows whose interval reaches the k-th best are scored in float64. This returns the neighbours of
the full float64 search at nearly the speed of the matrix product.

Shape legend: Q queries, R rows of a block, D dimensions, P candidate pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np

from pentatonic.errors import InputError, UsageError
from pentatonic.search.header import Metric

_QUERIES = 256  # queries of one matrix product
_BLOCK_BYTES = 8 * 2**20  # stays in the caches of a CPU; larger blocks are slower
_BYTES_PER_PAIR = 96  # of a block's queries x rows: bounds, and all of the merge if every pair is a candidate
_BYTES_PER_NUMBER = 32  # of a block's rows: as float64, squared, divided and as float32
_LARGEST = 1e150  # squares of larger numbers overflow, and those of numbers below its inverse vanish


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of each query, the nearest first.

    Args:
        rows: (Q, k) int64, 0-based.
        scores: (Q, k) float64: cosine or inner product (falling), or Euclidean distance (rising).
    """

    rows: np.ndarray
    scores: np.ndarray


def top_k(
    queries: np.ndarray,
    rows: np.ndarray | Iterable[np.ndarray],
    k: int,
    *,
    metric: Metric,
    allowed: np.ndarray | None = None,
    block_bytes: int = _BLOCK_BYTES,
) -> Neighbours:
    """Find the k nearest rows of each query.

    Beside the queries and the result, memory is bounded by about ``block_bytes``.

    Args:
        queries: (Q, D) finite numbers; at least one dimension.
        rows: (N, D) finite numbers, also as a memory map, or its consecutive blocks of rows.
        k: Neighbours wanted; with fewer rows, there are fewer.
        metric: How vectors are compared. Cosine refuses vectors of norm 0, which have no direction.
        allowed: (N,) bool, the rows that may be returned; all by default.
        block_bytes: Working memory.

    Returns:
        min(k, allowed rows) neighbours of each query. Of rows with equal scores, the lower comes first.

    Raises:
        InputError: A vector is not finite, has norm 0 with cosine, or is of another width; the message says which.
        UsageError: An argument is out of its range.

    Example:
        >>> songs = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> top_k(songs[:1], songs, 2, metric="cosine").rows
        array([[0, 2]])
    """
    if metric not in get_args(Metric):
        raise UsageError(f"metric is {metric!r}; allowed: {', '.join(get_args(Metric))}")
    if k < 1:
        raise UsageError(f"k is {k}; allowed: 1 and more")
    queries = np.asarray(queries)
    if queries.ndim != 2 or queries.shape[1] == 0:
        raise InputError(f"queries have the shape {queries.shape}; allowed: (queries, dimensions)")
    if allowed is not None and allowed.dtype != np.bool_:
        raise UsageError(f"allowed has the type {allowed.dtype}; it needs one bool per row")
    if isinstance(rows, np.ndarray):
        k = min(k, max(1, len(rows)))
    parts = [slice(start, start + _QUERIES) for start in range(0, len(queries), _QUERIES)]
    asked = [_Vectors.of(queries[part], metric, name="query", first=part.start) for part in parts]
    best = _Best(np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf))
    width, n_rows, n_allowed = queries.shape[1], 0, 0
    row_bytes = min(len(queries), _QUERIES) * _BYTES_PER_PAIR + width * _BYTES_PER_NUMBER
    for block in _blocks(rows, width, max_rows=max(1, block_bytes // row_bytes)):
        stored = _Vectors.of(block, metric, name="row", first=n_rows)
        numbers = np.arange(n_rows, n_rows + len(block))
        if allowed is not None:
            kept = np.flatnonzero(allowed[n_rows : n_rows + len(block)])
            stored, numbers = stored.take(kept), numbers[kept]
        n_rows, n_allowed = n_rows + len(block), n_allowed + len(numbers)
        for part, vectors in zip(parts, asked, strict=True):
            _merge(best.part(part), vectors, stored, numbers, metric)
    if allowed is not None and len(allowed) != n_rows:
        raise UsageError(f"allowed has {len(allowed)} entries for {n_rows} rows")
    count = min(k, n_allowed)
    scores = best.similarities[:, :count]
    return Neighbours(best.rows[:, :count], -scores if metric == "euclidean" else scores)


def check_vectors(values: np.ndarray, metric: Metric, *, name: str, first: int = 0) -> None:
    """Refuse vectors that cannot be compared.

    Args:
        values: (n, D) floating-point numbers.
        metric: Cosine also refuses vectors of norm 0.
        name: What a vector is, for the message.
        first: Number of the first one, for the message.

    Raises:
        InputError: A number is not finite or beyond 1e150, or a norm is 0; the message names the vector.
    """
    largest = min(_LARGEST, float(np.finfo(values.dtype).max))
    reason = f"has a number that is not finite; allowed: up to {largest:g}"
    bad = ~(np.abs(values) <= largest).all(axis=1)
    if metric == "cosine" and not bad.any():
        bad = np.abs(values).max(axis=1) <= 1 / _LARGEST  # in float32 and float16, this is 0
        reason = "has norm 0, and so no cosine with any vector"
    if bad.any():
        raise InputError(f"{name} {first + int(bad.argmax())} {reason}")


@dataclass
class _Vectors:
    """Vectors with their norms and, for the matrix product, their directions."""

    values: np.ndarray  # (n, D) float64
    norms: np.ndarray  # (n,) float64
    units: np.ndarray  # (n, D) float32 of norm 1, or of zeros where the norm is 0

    @classmethod
    def of(cls, values: np.ndarray, metric: Metric, *, name: str, first: int) -> _Vectors:
        if values.dtype.kind not in "fiu":
            raise InputError(f"{name} {first}: has the type {values.dtype}; allowed: real numbers")
        values = np.ascontiguousarray(values, dtype=np.float64)
        check_vectors(values, metric, name=name, first=first)
        norms = np.sqrt((values * values).sum(axis=1))
        units = (values / np.where(norms > 0, norms, 1)[:, None]).astype(np.float32)
        return cls(values, norms, units)

    def take(self, which: np.ndarray) -> _Vectors:
        return _Vectors(self.values[which], self.norms[which], self.units[which])


@dataclass
class _Best:
    """The best rows so far. Similarities are larger for nearer rows, whatever the metric."""

    rows: np.ndarray  # (Q, k) int64, -1 where none is known yet
    similarities: np.ndarray  # (Q, k) float64, falling; -inf where none is known yet

    def part(self, which: slice) -> _Best:
        return _Best(self.rows[which], self.similarities[which])


def _blocks(rows: np.ndarray | Iterable[np.ndarray], width: int, *, max_rows: int) -> Iterator[np.ndarray]:
    n_rows = 0
    for block in [rows] if isinstance(rows, np.ndarray) else rows:
        if block.ndim != 2 or block.shape[1] != width:
            raise InputError(
                f"the block of rows from row {n_rows} has the shape {block.shape}; allowed: (rows, {width}), "
                "the width of the queries"
            )
        for start in range(0, len(block), max_rows):
            yield block[start : start + max_rows]
        n_rows += len(block)


def _merge(best: _Best, queries: _Vectors, stored: _Vectors, numbers: np.ndarray, metric: Metric) -> None:
    """Put those rows of a block that are among the k best of a query in their place, in ``best``."""
    (n_queries, k), n_rows = best.rows.shape, len(numbers)
    lower, upper = _bounds(queries, stored, metric)
    floor = best.similarities[:, -1]
    if n_rows >= k:
        floor = np.maximum(floor, np.partition(lower, n_rows - k, axis=1)[:, n_rows - k])
    query, row = np.nonzero(upper >= floor[:, None])
    similarities = np.concatenate(
        [best.similarities.ravel(), _pair_similarities(queries, stored, query, row, metric)]
    )
    rows = np.concatenate([best.rows.ravel(), numbers[row]])
    query = np.concatenate([np.repeat(np.arange(n_queries), k), query])
    order = np.lexsort((rows, -similarities, query))
    # Each query has k entries from before, so at least k; its own start behind those of the queries before it.
    counts = np.bincount(query, minlength=n_queries)
    chosen = order[(np.cumsum(counts) - counts)[:, None] + np.arange(k)]
    best.rows[:], best.similarities[:] = rows[chosen], similarities[chosen]


def _bounds(queries: _Vectors, stored: _Vectors, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds (Q, R) of what :func:`_pair_similarities` returns.

    Rounding n products and sums, in any order, costs at most n u / (1 - n u) of the norms' product, with the unit
    roundoff u = 2**-24 (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1). Twice the width, plus a
    few for rounding the directions, bounds that; it also covers the float64 sums, whose u is 2**-53.
    """
    width = queries.units.shape[1]
    cosine = (queries.units @ stored.units.T).astype(np.float64)
    error = (2 * width + 8) * 2.0**-24
    if metric == "cosine":
        return cosine - error, cosine + error
    norms = queries.norms[:, None] * stored.norms
    if metric == "inner_product":
        return norms * (cosine - error), norms * (cosine + error)
    squares = queries.norms[:, None] ** 2 + stored.norms**2
    error_of_squares = (2 * width + 8) * 2.0**-52 * squares
    far, near = (squares - 2 * norms * (cosine + sign * error) for sign in (-1, 1))
    return (
        -np.sqrt(np.maximum(far + error_of_squares, 0)),
        -np.sqrt(np.maximum(near - error_of_squares, 0)),
    )


def _pair_similarities(
    queries: _Vectors, stored: _Vectors, query: np.ndarray, row: np.ndarray, metric: Metric
) -> np.ndarray:
    """Float64 similarities (P,) of pairs; a sum depends on the two vectors alone, not on where they are stored."""
    similarities = np.empty(len(query))
    step = max(1, _BLOCK_BYTES // (24 * queries.values.shape[1]))
    for start in range(0, len(query), step):
        q, r = query[start : start + step], row[start : start + step]
        left, right = queries.values[q], stored.values[r]
        if metric == "euclidean":
            result = -np.sqrt(((left - right) ** 2).sum(axis=1))
        else:
            result = (left * right).sum(axis=1)
            if metric == "cosine":
                result /= queries.norms[q] * stored.norms[r]
        similarities[start : start + step] = result
    return similarities
