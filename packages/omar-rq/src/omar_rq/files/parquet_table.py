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
            for layer, tokens, times, rows in _stored_rows(part):
                count, width = rows.shape
                pooled = tokens is None
                columns = {
                    "path": pa.array([name] * count, pa.string()),
                    "layer": pa.array(np.full(count, layer, dtype=np.int32)),
                    "token": pa.nulls(count, pa.int32()) if pooled else pa.array(tokens),
                    "time_s": pa.nulls(count, pa.float64()) if pooled else pa.array(times),
                    "embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), width),
                }
                table = pa.table(columns)
                if writer is None:
                    writer = stack.enter_context(parquet.ParquetWriter(file, table.schema))
                writer.write_table(table)


def _stored_rows(
    part: Path,
) -> Iterator[tuple[int, np.ndarray | None, np.ndarray | None, np.ndarray]]:
    """Yield (layer, token numbers, their times, rows (n, C)) of an ``.npz``, never loading its embeddings whole.

    Numbers and times are None for a pool.
    """
    with np.load(part, allow_pickle=False) as stored:
        layers = stored["layers"].tolist()
        all_times = stored.get("times_s")
    with zipfile.ZipFile(part) as archive, archive.open("embeddings.npy") as member:
        np.lib.format.read_magic(member)
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        width = shape[-1]
        n_rows = 1 if all_times is None else len(all_times)
        for layer in layers:
            for start in range(0, n_rows, _ROWS):
                stop = min(start + _ROWS, n_rows)
                values = np.frombuffer(member.read((stop - start) * width * dtype.itemsize), dtype)
                tokens = times = None
                if all_times is not None:
                    tokens, times = np.arange(start, stop, dtype=np.int32), all_times[start:stop]
                yield layer, tokens, times, values.reshape(-1, width)


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
