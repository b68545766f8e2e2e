"""Nearest neighbours over stored vectors: exact, in bounded memory, and never across two models.

:func:`write_vectors` makes a Parquet file of vectors with ids, metadata and a header that says what computed them;
:class:`VectorStore` reads and searches it (both need pyarrow); :func:`top_k` searches any array or stream of arrays.
"""

from __future__ import annotations

from pentatonic.search.exact import Neighbours, top_k
from pentatonic.search.header import Metric, VectorHeader
from pentatonic.search.store import VectorBatch, VectorStore, write_vectors

__all__ = ["Metric", "Neighbours", "VectorBatch", "VectorHeader", "VectorStore", "top_k", "write_vectors"]
