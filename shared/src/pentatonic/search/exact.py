"""Exact nearest neighbours in bounded memory.

A score is a float64 sum over the components of one pair of vectors, always in the same order, so equal vectors have
equal scores wherever they are stored, and ties go to the lower row. Computing all pairs that way would be slow. A
float32 matrix product of unit vectors comes first: with the bound of its rounding error it gives an interval for
every score, and only rows whose interval reaches the k-th best are scored in float64. This returns the neighbours of
the full float64 search at nearly the speed of the matrix product: beside it, one comparison of each score with the
k-th best so far, and one pass over the rows for their norms.

Shape legend: Q queries, R rows of a block, D dimensions, P candidate pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np

from pentatonic.errors import InputError, UsageError
from pentatonic.search.header import Metric

_QUERIES = 1024  # queries of one matrix product
_BLOCK_BYTES = 40 * 2**20  # a matrix product of smaller blocks is slower
_PAIR_BYTES = 2**20  # of the pairs that are scored at a time; they stay in the cache of a core
_BYTES_PER_SCORE = 6  # of a block's queries x rows with cosine: float32, and whether it reaches the k-th best
_BYTES_PER_BOUND = 96  # the same with the other metrics, whose bounds are float64
_BYTES_PER_CANDIDATE = 96  # of a pair that is scored in float64 and sorted
_BYTES_PER_NUMBER = 8  # of a block's rows with cosine: float32, and divided by the norm
_BYTES_PER_EXACT_NUMBER = 32  # the same with the other metrics: as float64, squared, divided and as float32
# Squares of the norms of float32 rows in which no number vanishes or overflows.
_SQUARES = (1e-20, 1e30)
# Rows whose squared norm is as near to 1 are their own directions; the bounds of cosines are as much wider.
_UNIT = 1e-5
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
    best = [_Best(len(vectors.values), k) for vectors in asked]
    width, n_rows, n_allowed = queries.shape[1], 0, 0
    row_bytes = _row_bytes(min(len(queries), _QUERIES), width, metric)
    most_pairs = max(1, block_bytes // _BYTES_PER_CANDIDATE)
    room = _Room()
    for block in _blocks(rows, width, max_rows=max(1, block_bytes // row_bytes)):
        stored = _Vectors.of_rows(block, metric, room, first=n_rows)
        numbers = np.arange(n_rows, n_rows + len(block))
        if allowed is not None:
            kept = np.flatnonzero(allowed[n_rows : n_rows + len(block)])
            stored, numbers = stored.take(kept), numbers[kept]
        n_rows, n_allowed = n_rows + len(block), n_allowed + len(numbers)
        for vectors, their_best in zip(asked, best, strict=True):
            bounds = _bounds(vectors, stored, metric, room)
            _merge(their_best, vectors, stored, numbers, bounds, metric, most_pairs)
    if allowed is not None and len(allowed) != n_rows:
        raise UsageError(f"allowed has {len(allowed)} entries for {n_rows} rows")
    count = min(k, n_allowed)
    found, scores = np.empty((len(queries), count), np.int64), np.empty((len(queries), count))
    for part, their_best in zip(parts, best, strict=True):
        their_best.sort()
        found[part], scores[part] = their_best.rows[:, :count], their_best.similarities[:, :count]
    return Neighbours(found, -scores if metric == "euclidean" else scores)


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


class _Room:
    """Memory for the large arrays of a block, used again for the next one: the system is slow to give new memory."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def empty(self, name: str, n_rows: int, n_columns: int) -> np.ndarray:
        """Return a (n_rows, n_columns) float32 array, which the next call with this name takes away again."""
        size = n_rows * n_columns
        if name not in self._arrays or self._arrays[name].size < size:
            self._arrays[name] = np.empty(size, np.float32)
        return self._arrays[name][:size].reshape(n_rows, n_columns)


@dataclass
class _Vectors:
    """Vectors and, for the matrix product, their directions."""

    values: np.ndarray  # (n, D) float64, or float32 as they are stored
    norms: np.ndarray  # (n,) float64, or float32 with an error that the bounds of cosines cover
    units: np.ndarray  # (n, D) float32 of norm 1, or of zeros where the norm is 0

    @classmethod
    def of(cls, values: np.ndarray, metric: Metric, *, name: str, first: int) -> _Vectors:
        if values.dtype.kind not in "fiu":
            raise InputError(f"{name} {first}: has the type {values.dtype}; allowed: real numbers")
        values = np.ascontiguousarray(values, dtype=np.float64)
        check_vectors(values, metric, name=name, first=first)
        norms = _norms(values)
        units = (values / np.where(norms > 0, norms, 1)[:, None]).astype(np.float32)
        return cls(values, norms, units)

    @classmethod
    def of_rows(cls, values: np.ndarray, metric: Metric, room: _Room, *, first: int) -> _Vectors:
        """As :meth:`of`, without float64 copies of float32 rows where cosines need none."""
        if metric == "cosine" and values.dtype == np.float32:
            values = np.ascontiguousarray(values)
            squares = np.einsum("nd,nd->n", values, values)
            if np.all(np.abs(squares - 1) < _UNIT):
                return cls(values, squares, values)
            if np.all((squares > _SQUARES[0]) & (squares < _SQUARES[1])):  # so all numbers are finite
                norms = np.sqrt(squares)
                units = np.multiply(values, (1 / norms)[:, None], out=room.empty("units", *values.shape))
                return cls(values, norms, units)
        return cls.of(values, metric, name="row", first=first)

    def take(self, which: np.ndarray) -> _Vectors:
        return _Vectors(self.values[which], self.norms[which], self.units[which])


def _norms(values: np.ndarray) -> np.ndarray:
    return np.sqrt((values * values).sum(axis=1))


class _Best:
    """The best rows of Q queries so far. Similarities are larger for nearer rows, whatever the metric.

    New pairs wait until they are a quarter as many as the best ones: sorting after each block would take a fifth of a
    search's time, and until then :attr:`floor` is only a little lower than it could be.
    """

    def __init__(self, n_queries: int, k: int) -> None:
        self.rows = np.full((n_queries, k), -1)
        self.similarities = np.full((n_queries, k), -np.inf)  # falling
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    @property
    def floor(self) -> np.ndarray:
        """(Q,): what the k-th largest similarity of each query is at least; -inf where none is known yet."""
        return self.similarities[:, -1]

    def add(self, query: np.ndarray, rows: np.ndarray, similarities: np.ndarray) -> None:
        """Take scored pairs (P,)."""
        self._waiting.append((query, rows, similarities))
        if 4 * sum(len(each) for each, *_ in self._waiting) >= self.rows.size:
            self.sort()

    def sort(self) -> None:
        """Sort the waiting pairs into the best of their queries."""
        if not self._waiting:
            return
        query, rows, similarities = (np.concatenate(each) for each in zip(*self._waiting, strict=True))
        self._waiting.clear()
        k = self.rows.shape[1]
        changed, place = np.unique(query, return_inverse=True)
        similarities = np.concatenate([self.similarities[changed].ravel(), similarities])
        rows = np.concatenate([self.rows[changed].ravel(), rows])
        place = np.concatenate([np.repeat(np.arange(len(changed)), k), place])
        order = np.lexsort((rows, -similarities, place))
        # Each query has k entries from before, so at least k; its own start behind those of the queries before it.
        counts = np.bincount(place)
        chosen = order[(np.cumsum(counts) - counts)[:, None] + np.arange(k)]
        self.rows[changed], self.similarities[changed] = rows[chosen], similarities[chosen]


def _row_bytes(n_queries: int, width: int, metric: Metric) -> int:
    if metric == "cosine":
        return n_queries * _BYTES_PER_SCORE + width * _BYTES_PER_NUMBER
    return n_queries * _BYTES_PER_BOUND + width * _BYTES_PER_EXACT_NUMBER


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


@dataclass
class _Bounds:
    """Bounds of the similarities of queries and rows: from ``lower - error`` to ``upper + error``."""

    lower: np.ndarray  # (Q, R) float32 or float64
    upper: np.ndarray  # (Q, R) of the same type
    error: float

    def columns(self, which: slice) -> _Bounds:
        return _Bounds(self.lower[:, which], self.upper[:, which], self.error)

    def reaching(self, floor: np.ndarray) -> np.ndarray:
        """Return (Q, R) bool: which similarities may be at least the floor (Q,) of their query."""
        least = (floor - self.error).astype(self.upper.dtype)
        return self.upper >= np.nextafter(least, -np.inf)[:, None]  # the conversion may have rounded up

    def at_least(self, k: int) -> np.ndarray:
        """Return (Q,): what the k-th largest similarity of each query is at least."""
        at = self.lower.shape[1] - k
        return np.partition(self.lower, at, axis=1)[:, at].astype(np.float64) - self.error


def _merge(
    best: _Best,
    queries: _Vectors,
    stored: _Vectors,
    numbers: np.ndarray,
    bounds: _Bounds,
    metric: Metric,
    most_pairs: int,
) -> None:
    """Put those rows of a block that are among the k best of a query in their place, in ``best``."""
    k, n_rows = best.rows.shape[1], len(numbers)
    candidates = _places(bounds.reaching(best.floor), most_pairs)
    if candidates is None and n_rows >= k:
        candidates = _places(bounds.reaching(np.maximum(best.floor, bounds.at_least(k))), most_pairs)
    if candidates is None and n_rows > 1:
        for half in (slice(n_rows // 2), slice(n_rows // 2, n_rows)):
            part = _Vectors(stored.values[half], stored.norms[half], stored.units[half])
            _merge(best, queries, part, numbers[half], bounds.columns(half), metric, most_pairs)
        return
    if candidates is None:  # of a single row, more queries than are scored at a time
        candidates = np.arange(len(best.rows))
    if len(candidates):
        query, row = np.divmod(candidates, n_rows)
        similarities = _pair_similarities(queries, stored, query, row, metric)
        best.add(query, numbers[row], similarities)


def _places(marks: np.ndarray, most: int) -> np.ndarray | None:
    """Return where (Q, R) bools are true, as places in the flat array; None if there may be too many.

    Looking at eight at a time is several times faster where hardly any is true.
    """
    flat = marks.ravel()
    whole = len(flat) // 8 * 8
    eights = np.flatnonzero(flat[:whole].view(np.uint64) != 0)
    if len(eights) * 8 > most and np.count_nonzero(flat) > most:
        return None
    part, bit = np.nonzero(flat[:whole].reshape(-1, 8)[eights])
    return np.concatenate([eights[part] * 8 + bit, whole + np.flatnonzero(flat[whole:])])


def _bounds(queries: _Vectors, stored: _Vectors, metric: Metric, room: _Room) -> _Bounds:
    """Bounds of what :func:`_pair_similarities` returns.

    Rounding n products and sums, in any order, costs at most n u / (1 - n u) of the norms' product, with the unit
    roundoff u = 2**-24 (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1). Half as much is the
    error of the norms of rows in float32, and a few u that of the directions. Twice the width, plus a few, bounds the
    sum of these; it also covers the float64 sums, whose u is 2**-53.
    """
    width = queries.units.shape[1]
    room_for_cosine = room.empty("cosine", len(queries.units), len(stored.units))
    cosine = np.matmul(queries.units, stored.units.T, out=room_for_cosine)
    error = (2 * width + 16) * 2.0**-24 + _UNIT
    if metric == "cosine":
        return _Bounds(cosine, cosine, error)
    cosine = cosine.astype(np.float64)
    norms = queries.norms[:, None] * stored.norms
    if metric == "inner_product":
        return _Bounds(norms * (cosine - error), norms * (cosine + error), 0.0)
    squares = queries.norms[:, None] ** 2 + stored.norms**2
    error_of_squares = (2 * width + 8) * 2.0**-52 * squares
    far, near = (squares - 2 * norms * (cosine + sign * error) for sign in (-1, 1))
    return _Bounds(
        -np.sqrt(np.maximum(far + error_of_squares, 0)),
        -np.sqrt(np.maximum(near - error_of_squares, 0)),
        0.0,
    )


def _pair_similarities(
    queries: _Vectors, stored: _Vectors, query: np.ndarray, row: np.ndarray, metric: Metric
) -> np.ndarray:
    """Float64 similarities (P,) of pairs; a sum depends on the two vectors alone, not on where they are stored."""
    similarities = np.empty(len(query))
    step = max(1, _PAIR_BYTES // (24 * queries.values.shape[1]))
    for start in range(0, len(query), step):
        q, r = query[start : start + step], row[start : start + step]
        left, right = queries.values[q], stored.values[r].astype(np.float64, copy=False)
        if metric == "euclidean":
            result = -np.sqrt(((left - right) ** 2).sum(axis=1))
        else:
            result = (left * right).sum(axis=1)
            if metric == "cosine":
                result /= queries.norms[q] * _norms(right)
        similarities[start : start + step] = result
    return similarities
