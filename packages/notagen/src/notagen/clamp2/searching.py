"""Search among stored features, and zero-shot labels: both compare features by their cosine.

Shapes: n pieces, k neighbours, P width of a feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from notagen.clamp2.embedder import Encoder
from notagen.clamp2.feature_sets import STORE_SUFFIX, FeatureSet, read_features
from notagen.clamp2.scores import cosines
from pentatonic.errors import InputError, UsageError
from pentatonic.search import Neighbours, VectorHeader, VectorStore, top_k

Method = Literal["exact", "faiss"]
PLACE = "{}"
"""Where a template has the label."""


@dataclass(frozen=True)
class Hit:
    """A piece that was found.

    Args:
        rank: From 1.
        name: Its id in the index.
        score: Cosine with the query.
    """

    rank: int
    name: str
    score: float


class FeatureIndex:
    """Stored features, open for search: a Parquet file, read in parts, or a folder of ``.npy`` files, in memory.

    Args:
        path: What ``notagen embed`` wrote.

    Attributes:
        header: What computed the features; None for those of the original program.

    Raises:
        InputError: There are no features, or they cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._store: VectorStore | None = None
        self._features: FeatureSet | None = None
        self.header: VectorHeader | None
        if path.suffix.lower() == STORE_SUFFIX:
            self._store = VectorStore(path)
            self.header, self.names = self._store.header, self._store.read_column()
        else:
            self._features = read_features(path)
            self.header, self.names = self._features.header, self._features.names
        if not self.names:
            raise InputError(f"{path} holds no features")

    def row(self, name: str) -> int | None:
        """Row of a piece by its id; None if there is none."""
        return self.names.index(name) if name in self.names else None

    def vector(self, row: int) -> np.ndarray:
        """Feature of a row: ``(P,)``."""
        first = 0
        for block in self._blocks():
            if row < first + len(block):
                return np.array(block[row - first])
            first += len(block)
        raise UsageError(f"row {row} of {first}")

    def search(
        self, query: np.ndarray, count: int, *, method: Method = "exact", without: int | None = None
    ) -> list[Hit]:
        """Find the nearest pieces of a query.

        Args:
            query: ``(P,)``.
            count: Pieces at most.
            method: ``exact``: ties by the lower row; ``faiss``: a flat FAISS index (extra ``faiss-cpu``).
            without: A row to leave out.

        Raises:
            InputError: The query is of another width, or has no direction.
            MissingExtra: ``faiss`` without the extra.
        """
        wanted = min(count + (without is not None), len(self.names))
        found = self._faiss(query[None], wanted) if method == "faiss" else self._exact(query[None], wanted)
        rows = [
            (int(row), float(score))
            for row, score in zip(found.rows[0], found.scores[0], strict=True)
            if row != without
        ]
        return [Hit(rank, self.names[row], score) for rank, (row, score) in enumerate(rows[:count], 1)]

    def _exact(self, queries: np.ndarray, count: int) -> Neighbours:
        return top_k(queries, self._blocks(), count, metric="cosine")

    def _faiss(self, queries: np.ndarray, count: int) -> Neighbours:
        from pentatonic.search.faiss_index import FaissIndex

        return FaissIndex(self._blocks(), metric="cosine", kind="flat").search(queries, count)

    def _blocks(self) -> Any:
        if self._store is not None:
            return self._store.blocks()
        assert self._features is not None
        return iter([self._features.vectors])


def label_features(embedder: Encoder, labels: Sequence[str], template: str) -> np.ndarray:
    """Features of labels, each put into a template: ``(labels, P)``.

    Raises:
        UsageError: There are fewer than two labels, or one twice; the template has no place for them; or the model has
            no text encoder.
    """
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise UsageError(f"the labels are {', '.join(labels) or 'none'}; allowed: two or more, each once")
    if PLACE not in template:
        raise UsageError(f"the template is {template!r}; it needs {PLACE} where the label stands")
    return embedder.text_features([template.replace(PLACE, label) for label in labels])


def classify(features: FeatureSet, labels: Sequence[str], of_labels: np.ndarray) -> list[dict[str, Any]]:
    """Compare pieces with labels.

    Args:
        features: Of the n pieces.
        labels: The labels.
        of_labels: ``(labels, P)`` from :func:`label_features`.

    Returns:
        For each piece ``name``, the nearest ``label``, and ``scores``: label to cosine. These are no probabilities.
    """
    return [
        {
            "name": name,
            "label": labels[int(row.argmax())],
            "scores": {label: float(score) for label, score in zip(labels, row, strict=True)},
        }
        for name, row in zip(features.names, cosines(features.vectors, of_labels), strict=True)
    ]
