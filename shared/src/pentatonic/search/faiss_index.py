"""The same search by FAISS, for libraries so large that the exact one takes too long (extra ``faiss-cpu``).

An index lives in memory and is built from a store each time; nothing of FAISS is read from a file.

Shape legend: Q queries, R rows of a block, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

import numpy as np

from pentatonic.errors import InputError, MissingExtra, UsageError
from pentatonic.search.exact import Neighbours, check_vectors
from pentatonic.search.header import Metric

Kind = Literal["flat", "hnsw"]
"""``flat``: every row is compared, in float32; ``hnsw``: a graph is followed, faster and approximate."""

_LINKS, _BUILD_WIDTH, _SEARCH_WIDTH = 32, 200, 128


class FaissIndex:
    """Rows of a store in FAISS.

    Args:
        blocks: Consecutive (R, D) blocks of finite numbers, such as those of a store.
        metric: How vectors are compared.
        kind: Which index.

    Raises:
        MissingExtra: FAISS is not installed.
        InputError: There are no rows, their widths differ, or a vector cannot be compared.
        UsageError: There is no such metric or kind.
    """

    def __init__(self, blocks: Iterable[np.ndarray], *, metric: Metric, kind: Kind = "hnsw") -> None:
        if metric not in get_args(Metric) or kind not in get_args(Kind):
            allowed = f"{', '.join(get_args(Metric))}; {', '.join(get_args(Kind))}"
            raise UsageError(f"metric is {metric!r} and kind {kind!r}; allowed: {allowed}")
        faiss = _import_faiss()
        self.metric: Metric = metric
        self._index: Any = None
        count = 0
        for block in blocks:
            rows = self._comparable(block, "row", count)
            if self._index is None:
                self._index = _new_index(faiss, rows.shape[1], metric, kind)
            elif rows.shape[1] != self._index.d:
                raise InputError(f"row {count} has {rows.shape[1]} dimensions; allowed: {self._index.d}")
            self._index.add(rows)
            count += len(rows)
        if self._index is None or not count:
            raise InputError("an index needs at least one row")

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: np.ndarray, k: int) -> Neighbours:
        """Find the nearest rows of each query; fewer than k where there are fewer rows.

        Args:
            queries: (Q, D) finite numbers.
            k: Neighbours wanted.

        Raises:
            InputError: A query is of another width, or cannot be compared.
            UsageError: k is below 1.
        """
        if k < 1:
            raise UsageError(f"k is {k}; allowed: 1 and more")
        asked = self._comparable(queries, "query", 0)
        if asked.shape[1] != self._index.d:
            raise InputError(f"queries have {asked.shape[1]} dimensions; allowed: {self._index.d}")
        scores, rows = self._index.search(asked, min(k, len(self)))
        scores = scores.astype(np.float64)
        return Neighbours(rows, np.sqrt(np.maximum(scores, 0)) if self.metric == "euclidean" else scores)

    def _comparable(self, values: np.ndarray, name: str, first: int) -> np.ndarray:
        """Values as FAISS takes them: float32, of norm 1 for cosine."""
        values = np.asarray(values)
        if values.ndim != 2 or values.shape[1] == 0:
            raise InputError(f"{name} {first}: the shape is {values.shape}; allowed: (rows, dimensions)")
        values = np.ascontiguousarray(values, dtype=np.float32)
        check_vectors(values, self.metric, name=name, first=first)
        if self.metric == "cosine":
            values = values / np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
        return np.ascontiguousarray(values, dtype=np.float32)


def _import_faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise MissingExtra("A FAISS index", "pentatonic[faiss-cpu]") from error
    return faiss


def _new_index(faiss: Any, width: int, metric: Metric, kind: Kind) -> Any:
    by_distance = metric == "euclidean"
    if kind == "flat":
        return faiss.IndexFlatL2(width) if by_distance else faiss.IndexFlatIP(width)
    index = faiss.IndexHNSWFlat(width, _LINKS, faiss.METRIC_L2 if by_distance else faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = _BUILD_WIDTH, _SEARCH_WIDTH
    return index
