"""A Parquet file of vectors: ``id``, ``vector``, free metadata columns, and a header in the file's metadata.

Any Parquet reader and most vector engines load it. Reading decodes a bounded batch of a memory-mapped file at a time.
Pages carry checksums, so that a damaged file is refused instead of searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError, InputError, MissingExtra, UsageError
from pentatonic.search.exact import Neighbours, check_vectors, top_k
from pentatonic.search.header import VectorHeader
from pentatonic.untrusted.files import regular_file_size

ColumnType = Literal["string", "int64", "float64", "bool", "binary"]
"""Types of metadata columns; any value may also be None."""

_HEADER_KEY = b"pentatonic.vectors"
_ID, _VECTOR = "id", "vector"
_BATCH_BYTES = 8 * 2**20
_MAX_FOOTER_BYTES = 16 * 2**20


@dataclass(frozen=True)
class VectorBatch:
    """Some rows of a store.

    Args:
        ids: n ids, such as paths or keys.
        vectors: (n, D) numbers.
        metadata: Column -> n values.
    """

    ids: Sequence[str]
    vectors: np.ndarray
    metadata: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def write_vectors(
    path: str | Path,
    header: VectorHeader,
    batches: Iterable[VectorBatch],
    *,
    columns: Mapping[str, ColumnType] | None = None,
) -> int:
    """Write a store, one batch in memory at a time; the file appears whole or not at all.

    A store is updated by writing it again: pass what :meth:`VectorStore.batches` gives, without the rows that are
    outdated, and the new rows. ``path`` may be the file that is read.

    Args:
        path: The file to write or replace; its folder must exist.
        header: What computed the vectors. They are stored in its ``dtype``.
        batches: The rows in order; there may be none.
        columns: Name -> type of the metadata columns, which every batch must have.

    Returns:
        The number of rows written.

    Raises:
        InputError: A vector is not finite in ``dtype``, has norm 0 with cosine, or is of another width, or a value does
            not fit its column; the message names the row. The file is as before then.
        CheckpointError: The file cannot be written.
        MissingExtra: pyarrow is not installed.
        UsageError: A column has the name ``id`` or ``vector``, or an unknown type.
    """
    pa, parquet = _import_pyarrow()
    schema = _schema(pa, header, columns or {})
    n_rows = 0
    with (
        atomic_file(path) as file,
        parquet.ParquetWriter(
            file, schema, compression="none", use_dictionary=False, write_page_checksum=True
        ) as writer,
    ):
        for batch in batches:
            writer.write_table(_table(pa, schema, header, batch, first=n_rows))
            n_rows += len(batch.ids)
    return n_rows


class VectorStore:
    """A store that :func:`write_vectors` has written, open for reading.

    Args:
        path: The file.
        expected: Header that the file must have; any by default.

    Attributes:
        path: The file.
        header: What computed the vectors.
        columns: Names of the metadata columns.

    Raises:
        IncompatibleVectors: The header is not the expected one; the message says where they differ.
        FormatError: The file is damaged, or is not a store.
        InputError: There is no such file, or it cannot be read.
        MissingExtra: pyarrow is not installed.
    """

    def __init__(self, path: str | Path, expected: VectorHeader | None = None) -> None:
        _, parquet = _import_pyarrow()
        self.path = Path(path)
        regular_file_size(self.path, error=InputError)
        with self._reading():
            self._file = parquet.ParquetFile(
                self.path,
                memory_map=True,
                page_checksum_verification=True,
                thrift_string_size_limit=_MAX_FOOTER_BYTES,
            )
        try:
            self._check(expected)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    def close(self) -> None:
        """Close the file; the store cannot be read any more."""
        self._file.close()

    def __enter__(self) -> VectorStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def search(self, queries: np.ndarray, k: int, *, allowed: np.ndarray | None = None) -> Neighbours:
        """Find the k nearest rows of each query by the metric of the header; see :func:`pentatonic.search.top_k`.

        Args:
            queries: (Q, D) vectors of the model of this store.
            k: Neighbours wanted.
            allowed: (N,) bool, the rows that may be returned; all by default.

        Raises:
            InputError: As :func:`pentatonic.search.top_k` and :meth:`blocks`.
        """
        queries = np.asarray(queries)
        if queries.ndim != 2 or queries.shape[1] != self.header.dimension:
            raise InputError(
                f"queries have the shape {queries.shape}; allowed: (queries, {self.header.dimension})"
            )
        k = min(k, max(1, len(self)))
        return top_k(queries, self.blocks(), k, metric=self.header.metric, allowed=allowed)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the vectors as consecutive (n, D) arrays of a few MiB.

        Raises:
            FormatError: The file is damaged, or a vector is missing or not finite; the message names its row.
        """
        for batch, first in self._batches([_VECTOR]):
            yield self._vectors(batch, first)

    def batches(self) -> Iterator[VectorBatch]:
        """Yield all rows with ids and metadata, a few MiB at a time.

        Raises:
            FormatError: As :meth:`blocks`.
        """
        for batch, first in self._batches([_ID, _VECTOR, *self.columns]):
            metadata = {name: batch.column(name).to_pylist() for name in self.columns}
            yield VectorBatch(batch.column(_ID).to_pylist(), self._vectors(batch, first), metadata)

    def read_column(self, name: str = _ID) -> list[Any]:
        """Read the ids or a metadata column of all rows.

        Args:
            name: ``"id"``, or one of :attr:`columns`.

        Raises:
            FormatError: The file is damaged.
            UsageError: There is no such column.
        """
        if name not in (_ID, *self.columns):
            raise UsageError(
                f"{self.path}: has no column {name!r}; allowed: {', '.join((_ID, *self.columns))}"
            )
        return [value for batch, _ in self._batches([name]) for value in batch.column(name).to_pylist()]

    def _check(self, expected: VectorHeader | None) -> None:
        """Read the header and the names of the columns, and refuse what is not a store of the expected vectors."""
        pa, _ = _import_pyarrow()
        with self._reading():
            schema = self._file.schema_arrow
        text = (schema.metadata or {}).get(_HEADER_KEY)
        if text is None:
            reason = "a Parquet file without a header of vectors; allowed: a store of vectors"
            raise FormatError(reason, path=self.path)
        self.header = VectorHeader.from_json(text.decode("utf-8", "replace"), str(self.path))
        if expected is not None:
            self.header.require(expected, str(self.path))
        self.columns = tuple(name for name in schema.names if name not in (_ID, _VECTOR))
        wanted = _schema(pa, self.header, {})
        for name in (_ID, _VECTOR):
            if schema.names.count(name) != 1 or not schema.field(name).type.equals(wanted.field(name).type):
                raise FormatError(f"needs one column {name!r} of {wanted.field(name).type}", path=self.path)

    def _batches(self, names: list[str]) -> Iterator[tuple[Any, int]]:
        """Yield (record batch, its first row)."""
        first = 0
        size = max(1, _BATCH_BYTES // (self.header.dimension * np.dtype(self.header.dtype).itemsize))
        with self._reading():
            batches = self._file.iter_batches(size, columns=names, use_threads=False)
        while True:
            with self._reading():
                batch = next(batches, None)
            if batch is None:
                break
            yield batch, first
            first += len(batch)
        if first != len(self):
            raise FormatError(f"holds {first} rows, and its header says {len(self)}", path=self.path)

    def _vectors(self, batch: Any, first: int) -> np.ndarray:
        column = batch.column(_VECTOR)
        flat = column.flatten()  # leaves out missing vectors
        if column.null_count or flat.null_count:
            raise FormatError(
                f"a vector is missing in rows {first} to {first + len(batch) - 1}", path=self.path
            )
        vectors = flat.to_numpy().reshape(len(batch), self.header.dimension)
        try:
            check_vectors(vectors, self.header.metric, name="row", first=first)
        except InputError as error:
            raise FormatError(str(error), path=self.path) from error
        return vectors

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Give errors of pyarrow, which are of many kinds for a damaged file, the type and name of the file's."""
        pa, _ = _import_pyarrow()
        try:
            yield
        except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError, KeyError) as error:
            reason = str(error).partition("\n")[0]
            raise FormatError(f"cannot be read as a Parquet file ({reason})", path=self.path) from error


def _schema(pa: Any, header: VectorHeader, columns: Mapping[str, ColumnType]) -> Any:
    for name, kind in columns.items():
        if name in (_ID, _VECTOR) or kind not in get_args(ColumnType):
            allowed = (
                f"another name than {_ID!r} and {_VECTOR!r}, and one of {', '.join(get_args(ColumnType))}"
            )
            raise UsageError(f"column {name!r} of type {kind!r}; allowed: {allowed}")
    number = pa.float16() if header.dtype == "float16" else pa.float32()
    fields = [(_ID, pa.string()), (_VECTOR, pa.list_(number, header.dimension))]
    fields += [(name, pa.type_for_alias(kind)) for name, kind in columns.items()]
    return pa.schema(fields, metadata={_HEADER_KEY: header.to_json().encode()})


def _table(pa: Any, schema: Any, header: VectorHeader, batch: VectorBatch, *, first: int) -> Any:
    """One batch as a table of the store's schema; ``first`` is its first row in the store."""
    count, given = len(batch.ids), np.asarray(batch.vectors)
    if given.shape != (count, header.dimension):
        raise InputError(
            f"vectors from row {first} have the shape {given.shape}; allowed: {(count, header.dimension)}, "
            "one row per id and the dimension of the header"
        )
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused
        vectors = np.ascontiguousarray(given, dtype=header.dtype)
    check_vectors(vectors, header.metric, name="row", first=first)
    arrays = []
    for column in schema:
        if column.name == _VECTOR:
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), header.dimension))
            continue
        values = batch.ids if column.name == _ID else batch.metadata.get(column.name)
        if values is None or len(values) != count:
            raise InputError(f"column {column.name!r} from row {first}: needs {count} values, one per id")
        arrays.append(_array(pa, column, values, first))
    return pa.table(arrays, schema=schema)


def _array(pa: Any, column: Any, values: Sequence[Any], first: int) -> Any:
    try:
        return pa.array(values, column.type)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        for offset, value in enumerate(values):
            try:
                pa.array([value], column.type)
            except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
                reason = (
                    f"column {column.name!r}, row {first + offset}: {value!r} is not of type {column.type}"
                )
                raise InputError(reason) from error
        raise


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("A store of vectors", "pyarrow>=18") from error
    return pyarrow, pyarrow.parquet
