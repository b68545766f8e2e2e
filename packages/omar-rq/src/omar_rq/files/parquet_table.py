"""Embeddings as rows of a Parquet table: one row per token and layer, or one per file and layer with a pool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np

from pentatonic.audio_folder.npz import NpzContent, Spooled
from pentatonic.errors import MissingExtra

# Rows of the table that are in memory at once, and in a row group.
_ROWS = 8192


def write_table(
    file: IO[bytes], contents: Iterable[tuple[str, NpzContent]], *, metadata: dict[bytes, bytes]
) -> None:
    """Write the embeddings of files into one table, a few thousand rows in memory at a time.

    Columns: ``path`` (string), ``layer`` (int32), ``token`` (int32) and ``time_s`` (float64), both null for pooled
    embeddings, and ``embedding`` (fixed-size list of C numbers, in their type). Equal contents give equal bytes.

    Args:
        file: Open for writing.
        contents: Value of the column ``path``, and what :func:`omar_rq.files.stages.compute_embeddings` gave; at
            least one. Its files are closed.
        metadata: Added to that of the table.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    pa, parquet = import_pyarrow()
    writer: Any = None
    waiting: list[Any] = []
    try:
        for name, content in contents:
            with content.files:
                for layer, tokens, times, rows in _rows(content):
                    count, width = rows.shape
                    columns = {
                        "path": pa.array([name] * count, pa.string()),
                        "layer": pa.array(np.full(count, layer, dtype=np.int32)),
                        "token": pa.nulls(count, pa.int32()) if tokens is None else pa.array(tokens),
                        "time_s": pa.nulls(count, pa.float64()) if times is None else pa.array(times),
                        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), width),
                    }
                    waiting.append(pa.table(columns))
                    if writer is None:
                        schema = waiting[0].schema.with_metadata(metadata)
                        writer = parquet.ParquetWriter(file, schema, write_page_checksum=True)
                    if sum(map(len, waiting)) >= _ROWS:
                        writer.write_table(_joined(pa, waiting, writer.schema))
        if waiting:
            writer.write_table(_joined(pa, waiting, writer.schema))
    finally:
        if writer is not None:
            writer.close()


def _joined(pa: Any, waiting: list[Any], schema: Any) -> Any:
    table = pa.concat_tables(waiting).cast(schema)
    waiting.clear()
    return table


def _rows(content: NpzContent) -> Iterator[tuple[int, np.ndarray | None, np.ndarray | None, np.ndarray]]:
    """Yield (layer, token numbers, their times, rows (n, C)), never loading embeddings that are on disk whole.

    Numbers and times are None for a pool.
    """
    embeddings, layers = content.arrays["embeddings"], np.asarray(content.arrays["layers"]).tolist()
    all_times = content.arrays.get("times_s")
    blocks = _blocks(embeddings) if isinstance(embeddings, Spooled) else _slices(np.asarray(embeddings))
    for i, start, rows in blocks:
        tokens = times = None
        if all_times is not None:
            stop = start + len(rows)
            tokens, times = np.arange(start, stop, dtype=np.int32), np.asarray(all_times)[start:stop]
        yield layers[i], tokens, times, rows


def _slices(embeddings: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (index of the layer, first row, rows) of an array in memory, (L, C) or (L, N, C)."""
    for i, layer in enumerate(embeddings):
        rows = np.atleast_2d(layer)
        for start in range(0, len(rows), _ROWS):
            yield i, start, np.ascontiguousarray(rows[start : start + _ROWS])


def _blocks(spooled: Spooled) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield the same of an array (L, N, C) on disk: one file for all layers, or one for each."""
    n_layers, n_rows, width = spooled.shape
    for file in spooled.files:
        file.seek(0)
    for i in range(n_layers):
        file = spooled.files[i if len(spooled.files) > 1 else 0]
        for start in range(0, n_rows, _ROWS):
            count = min(_ROWS, n_rows - start)
            values = np.frombuffer(file.read(count * width * spooled.dtype.itemsize), spooled.dtype)
            yield i, start, values.reshape(count, width)


def import_pyarrow() -> tuple[Any, Any]:
    """Return pyarrow and its Parquet module.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("A Parquet table", "omar-rq[parquet]") from error
    return pyarrow, pyarrow.parquet
