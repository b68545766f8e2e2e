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

Kind = Literal["flat", "hnsw", "ivfpq"]
"""What is compared with a query.

- ``flat``: every row, in float32.
- ``hnsw``: the rows along a graph; faster, and approximate.
- ``ivfpq``: the rows of the nearest clusters, kept as codes of 64 bytes; approximate, and needs little memory.
"""

_MOST_CLUSTERS, _MOST_CODES, _MOST_BITS = 4096, 64, 8
_LEAST_PER_CLUSTER = 39  # FAISS warns of fewer rows to learn from
_PROBED = 64  # one of so many clusters is searched, at most 16
_MOST_PROBED = 16
_LINKS, _BUILD_WIDTH, _SEARCH_WIDTH = 32, 200, 128


class FaissIndex:
    """Rows of a store in FAISS.

    Args:
        blocks: Consecutive (R, D) blocks of finite numbers, such as those of a store.
        metric: How vectors are compared.
        kind: Which index.
        sample: (R, D) rows from which ``ivfpq`` learns its clusters and codes, such as 100,000 at random; it needs 40
            or more for each of 1 to 4096 clusters.
        seed: Of what it learns.

    Raises:
        MissingExtra: FAISS is not installed.
        InputError: There are no rows, their widths differ, or a vector cannot be compared.
        UsageError: There is no such metric or kind, or no sample for ``ivfpq``.
    """

    def __init__(
        self,
        blocks: Iterable[np.ndarray],
        *,
        metric: Metric,
        kind: Kind = "hnsw",
        sample: np.ndarray | None = None,
        seed: int = 0,
    ) -> None:
        if metric not in get_args(Metric) or kind not in get_args(Kind):
            allowed = f"{', '.join(get_args(Metric))}; {', '.join(get_args(Kind))}"
            raise UsageError(f"metric is {metric!r} and kind {kind!r}; allowed: {allowed}")
        faiss = _import_faiss()
        self.metric: Metric = metric
        self._is_exact = kind == "flat"
        self._index: Any = None
        count = 0
        if kind == "ivfpq":
            if sample is None or not len(sample):
                raise UsageError("an ivfpq index needs a sample of rows to learn from")
            self._index = _trained(faiss, self._comparable(sample, "sample row", 0), metric, seed)
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

        Of rows with equal scores the lower comes first; with ``flat`` no lower one is left out.
        ``ivfpq`` gives -1 with a score that is not finite where the clusters that it searched hold fewer.

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
        scores, rows = self._nearest(asked, min(k, len(self)))
        scores = np.where(
            rows < 0, np.inf if self.metric == "euclidean" else -np.inf, scores.astype(np.float64)
        )
        return Neighbours(rows, np.sqrt(np.maximum(scores, 0)) if self.metric == "euclidean" else scores)

    def _nearest(self, asked: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores and rows (Q, k); of equal scores FAISS gives any row first, and may leave any out."""
        taken = min(k + 1, len(self)) if self._is_exact else k
        while True:
            scores, rows = self._index.search(asked, taken)
            if not self._is_exact or taken == len(self) or not (scores[:, k - 1] == scores[:, -1]).any():
                break
            taken = min(2 * taken, len(self))  # rows that are left out may have the score of the last one
        order = np.lexsort((rows, scores if self.metric == "euclidean" else -scores))[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)

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


def _trained(faiss: Any, sample: np.ndarray, metric: Metric, seed: int) -> Any:
    """An empty index of clusters and codes."""
    n_rows, width = sample.shape
    by_distance = metric == "euclidean"
    clusters = min(max(n_rows // _LEAST_PER_CLUSTER, 1), _MOST_CLUSTERS)
    codes = max(n for n in range(1, min(width, _MOST_CODES) + 1) if width % n == 0)
    bits = min(_MOST_BITS, n_rows.bit_length() - 1)
    nearest = (faiss.IndexFlatL2 if by_distance else faiss.IndexFlatIP)(width)
    index = faiss.IndexIVFPQ(
        *(nearest, width, clusters, codes, max(bits, 1)),
        faiss.METRIC_L2 if by_distance else faiss.METRIC_INNER_PRODUCT,
    )
    index.cp.seed = index.pq.cp.seed = seed
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1  # no warning on the console
    index.train(sample)
    index.nprobe = min(max(clusters // _PROBED, 1), _MOST_PROBED)
    return index


def _new_index(faiss: Any, width: int, metric: Metric, kind: Kind) -> Any:
    by_distance = metric == "euclidean"
    if kind == "flat":
        return faiss.IndexFlatL2(width) if by_distance else faiss.IndexFlatIP(width)
    index = faiss.IndexHNSWFlat(width, _LINKS, faiss.METRIC_L2 if by_distance else faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = _BUILD_WIDTH, _SEARCH_WIDTH
    return index
