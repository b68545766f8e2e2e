"""Reading a Parquet file of embeddings: one map a row, ``embedding`` and metadata.

The columns are those of :data:`cm3p.explore.columns.READ`, of which any may be missing; others are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cm3p.explore.columns import IDS, READ, Column, IdColumn, NumberColumn, TextColumn, page_columns
from pentatonic.errors import FormatError, MissingExtra, UsageError

MAX_DIMENSION = 8192
MAX_PAGE_VALUES = 2**28
"""Most numbers in all vectors of a page: browsers cannot hold texts that are much longer."""

_EMBEDDING = "embedding"
_BATCH_ROWS = 4096
_MAX_CHARACTERS = 400
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]+")
_SEED = 0


@dataclass(frozen=True)
class MapTable:
    """Maps and their vectors.

    Args:
        vectors: float32 (maps, dimension), of length 1.
        columns: Metadata, with one value for each map.
        total: Rows of the file.
        unusable: Rows that were read and left out: their vector is missing, zero or not finite.
    """

    vectors: NDArray[np.float32]
    columns: list[Column]
    total: int
    unusable: int


def read_table(path: Path, most: int) -> MapTable:
    """Read a file of embeddings.

    Args:
        path: A Parquet file.
        most: Most rows to read; of a longer file that many are drawn at random, always the same ones.

    Returns:
        The maps, in the order of the file. Texts are cut to 400 characters, and control characters become spaces.

    Raises:
        MissingExtra: pyarrow is not installed.
        FormatError: This is not a Parquet file with vectors of one length.
        UsageError: ``most`` maps of this dimension do not fit into one page.
    """
    parquet = _import_parquet()
    if not path.is_file():
        raise FormatError("is not a file; allowed: a Parquet file of embeddings", path=path)
    with _reading(path), path.open("rb") as file:
        schema = parquet.read_schema(file)
        texts = [name for name in READ if name in schema.names and _is_text(schema.field(name).type)]
        # Repeated texts stay stored once, so that a small file cannot become very large texts.
        opened = parquet.ParquetFile(file, read_dictionary=texts)
        reader = _Reader(path, opened, most)
        for start, batch in reader.batches():
            reader.add(start, batch)
        return reader.table()


class _Reader:
    """Collects the rows of a file, batch by batch."""

    def __init__(self, path: Path, file: Any, most: int) -> None:
        self.path, self.file, self.most = path, file, most
        self.total = file.metadata.num_rows
        names = file.schema_arrow.names
        if names.count(_EMBEDDING) != 1:
            raise FormatError(
                f"has no column {_EMBEDDING!r}, or several; its columns are {', '.join(names[:20])}",
                path=path,
            )
        self.collectors: dict[str, _Numbers | _Ids | _Texts] = {}
        for name in READ:
            if names.count(name) == 1 and (kind := _collector(name, file.schema_arrow.field(name).type)):
                self.collectors[name] = kind()
        self.kept = np.ones(self.total, dtype=bool)
        if self.total > most:
            drawn = np.random.default_rng(_SEED).choice(self.total, most, replace=False)
            self.kept[:] = False
            self.kept[drawn] = True
        self.vectors: list[NDArray[np.float32]] = []
        self.unusable = 0
        self._check_size()

    def _check_size(self) -> None:
        metadata, values = self.file.metadata, 0
        for group in range(metadata.num_row_groups):
            for index in range(metadata.num_columns):
                column = metadata.row_group(group).column(index)
                if column.path_in_schema.partition(".")[0] == _EMBEDDING:
                    values += column.num_values
        dimension = values // max(self.total, 1)
        if dimension > MAX_DIMENSION:
            raise FormatError(
                f"the vectors have {dimension} numbers on average; allowed: at most {MAX_DIMENSION}",
                path=self.path,
            )
        if min(self.total, self.most) * dimension > MAX_PAGE_VALUES:
            fitting = MAX_PAGE_VALUES // dimension
            raise UsageError(
                f"{min(self.total, self.most)} maps of {dimension} numbers do not fit into one page; "
                f"allowed: --most {fitting}"
            )

    def batches(self) -> Iterator[tuple[int, Any]]:
        """The first row of each batch, and the batch."""
        start = 0
        for batch in self.file.iter_batches(_BATCH_ROWS, columns=[_EMBEDDING, *self.collectors]):
            yield start, batch
            start += batch.num_rows

    def add(self, start: int, batch: Any) -> None:
        """Take the wanted and usable rows of a batch."""
        import pyarrow as pa

        wanted = self.kept[start : start + batch.num_rows]
        vectors, usable = self._vectors(batch.filter(pa.array(wanted)).column(_EMBEDDING), start)
        rows = np.flatnonzero(wanted)[usable]
        self.unusable += len(usable) - len(rows)
        self.vectors.append(vectors)
        taken = batch.take(pa.array(rows))
        for name, collector in self.collectors.items():
            collector.add(taken.column(name))

    def _vectors(self, column: Any, start: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Unit vectors of the usable rows, and which rows those are."""
        import pyarrow as pa
        import pyarrow.compute as pc

        known = ~column.is_null().to_numpy(zero_copy_only=False)
        lengths = pc.call_function("list_value_length", [column.drop_null()]).to_numpy(zero_copy_only=False)
        dimension = self.vectors[0].shape[1] if self.vectors else int(lengths[0]) if len(lengths) else 0
        wrong = np.flatnonzero(lengths != dimension)
        if len(wrong) or (len(lengths) and not dimension):
            raise FormatError(
                f"a vector near row {start} has {lengths[wrong[0]] if len(wrong) else 0} numbers; "
                f"allowed: {dimension or 'at least 1'}, as the first one has",
                path=self.path,
            )
        flat = column.drop_null().flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
        vectors = flat.reshape(len(lengths), dimension)
        with np.errstate(over="ignore", invalid="ignore"):
            norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        good = np.isfinite(norms) & (norms > 0)
        known[known] = good
        return (vectors[good] / norms[good, None]).astype(np.float32), known

    def table(self) -> MapTable:
        """What was read."""
        vectors = [each for each in self.vectors if len(each)]
        if not vectors:
            raise FormatError("has no map with a usable vector", path=self.path)
        columns = {name: each.column(name) for name, each in self.collectors.items()}
        return MapTable(np.concatenate(vectors), page_columns(columns), self.total, self.unusable)


class _Numbers:
    def __init__(self) -> None:
        self.parts: list[NDArray[np.float64]] = []

    def add(self, array: Any) -> None:
        import pyarrow as pa

        values = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        self.parts.append(np.where(np.isfinite(values), values, np.nan))

    def column(self, name: str) -> Column:
        return NumberColumn(name, np.concatenate(self.parts))


class _Ids:
    def __init__(self) -> None:
        self.parts: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []

    def add(self, array: Any) -> None:
        known = ~array.is_null().to_numpy(zero_copy_only=False)
        self.parts.append((array.fill_null(0).cast("int64").to_numpy(zero_copy_only=False), known))

    def column(self, name: str) -> Column:
        values, known = zip(*self.parts, strict=True)
        return IdColumn(name, np.concatenate(values), np.concatenate(known))


class _Texts:
    def __init__(self) -> None:
        self.codes_of: dict[str, int] = {}
        self.parts: list[NDArray[np.int64]] = []

    def add(self, array: Any) -> None:
        import pyarrow as pa

        if pa.types.is_temporal(array.type):
            array = array.cast(pa.string())
        encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        used, inverse = np.unique(indices, return_inverse=True)
        taken = encoded.dictionary.take(
            pa.array(np.maximum(used, 0)) if len(encoded.dictionary) else pa.array([], "int64")
        )
        texts = taken.cast(pa.large_binary()).to_pylist() or [None] * len(used)
        codes = [self._code(text) if index >= 0 else -1 for index, text in zip(used, texts, strict=True)]
        self.parts.append(np.array(codes, dtype=np.int64)[inverse])

    def _code(self, data: bytes | None) -> int:
        text = _clean(data) if data else ""
        return self.codes_of.setdefault(text, len(self.codes_of)) if text else -1

    def column(self, name: str) -> Column:
        return TextColumn(name, list(self.codes_of), np.concatenate(self.parts))


def _clean(data: bytes) -> str:
    # A character has at most four bytes; what is behind the cut is not decoded.
    text = data[: 4 * (_MAX_CHARACTERS + 1)].decode(errors="replace")
    text = _CONTROL.sub(" ", text).strip()
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    tests = pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary
    return any(test(kind) for test in tests)


def _collector(name: str, kind: Any) -> type[_Numbers | _Ids | _Texts] | None:
    import pyarrow as pa

    if name in IDS and pa.types.is_integer(kind):
        return _Ids
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        return _Texts if _is_text(kind) else None
    if _is_text(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _Texts
    tests = pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean
    return _Numbers if any(test(kind) for test in tests) else None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Give errors of pyarrow, which are of many kinds for a damaged file, the type and name of the file's."""
    import pyarrow as pa

    try:
        yield
    except (FormatError, UsageError):
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise FormatError(f"cannot be read as a Parquet file of embeddings ({reason})", path=path) from error


def _import_parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("Reading Parquet files", "cm3p[search]") from error
    return pyarrow.parquet
