"""Embeddings of many files as one Parquet table."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from pentatonic.checkpoint import atomic_file
from pentatonic.errors import InputError, MissingExtra

# Rows of the table that are in memory at once.
_ROWS = 8192


def write_parquet(path: Path, parts: Mapping[str, Path]) -> None:
    """Join ``.npz`` files of :func:`embed_file` into one table, a few thousand rows in memory at a time.

    Columns: ``path`` (string), ``layer`` (int32), ``token`` (int32) and ``time_s`` (float64), both null for pooled
    embeddings, and ``embedding`` (fixed-size list of C).

    Args:
        path: The Parquet file, written whole or not at all.
        parts: Value of the column ``path`` -> ``.npz`` file.

    Raises:
        MissingExtra: pyarrow is not installed.
        InputError: There are no parts.
        CheckpointError: The file cannot be written.
    """
    pa, parquet = import_pyarrow()
    if not parts:
        raise InputError(f"{path}: no file could be embedded; there is nothing to write")
    with atomic_file(path) as file, ExitStack() as stack:
        writer = None
        for name, part in parts.items():
            for layer, tokens, rows, eps in _stored_rows(part):
                count, width = rows.shape
                pooled = tokens is None
                columns = {
                    "path": pa.array([name] * count, pa.string()),
                    "layer": pa.array(np.full(count, layer, dtype=np.int32)),
                    "token": pa.nulls(count, pa.int32()) if pooled else pa.array(tokens),
                    "time_s": pa.nulls(count, pa.float64()) if pooled else pa.array(tokens / eps),
                    "embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), width),
                }
                table = pa.table(columns)
                if writer is None:
                    writer = stack.enter_context(parquet.ParquetWriter(file, table.schema))
                writer.write_table(table)


def _stored_rows(part: Path) -> Iterator[tuple[int, np.ndarray | None, np.ndarray, float]]:
    """Yield (layer, token numbers or None for a pool, rows (n, C), eps) of an ``.npz``, never loading it whole."""
    with np.load(part, allow_pickle=False) as stored:
        layers, eps = stored["layers"].tolist(), float(stored["eps"])
    with zipfile.ZipFile(part) as archive, archive.open("embeddings.npy") as member:
        np.lib.format.read_magic(member)
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        width, pooled = shape[-1], len(shape) == 2
        n_rows = 1 if pooled else shape[1]
        for layer in layers:
            for start in range(0, n_rows, _ROWS):
                stop = min(start + _ROWS, n_rows)
                values = np.frombuffer(member.read((stop - start) * width * dtype.itemsize), dtype)
                tokens = None if pooled else np.arange(start, stop, dtype=np.int32)
                yield layer, tokens, values.reshape(-1, width), eps


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
