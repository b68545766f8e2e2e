"""Files of embeddings: reading, writing, merging. Pages carry checksums, so that damage is found.

Shapes: N maps, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from cm3p.embedding.columns import COLUMNS, EMBEDDING, HASH, normalised
from cm3p.embedding.journal import EmbeddedMap
from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError, IncompatibleVectors, InputError, MissingExtra
from pentatonic.search import VectorHeader
from pentatonic.search.exact import check_vectors
from pentatonic.untrusted.files import regular_file_size

_HEADER_KEY = b"pentatonic.vectors"  # as in the stores of pentatonic.search
_BATCH_ROWS = 1000
_MAX_FOOTER_BYTES = 16 << 20


class EmbeddingTable:
    """A file of embeddings, of ours or of the original, open for reading. Use it as a context manager.

    Args:
        path: The file.

    Attributes:
        path: The same.
        header: What made the vectors; None for a file of the original, which does not say it.
        dimension: D.

    Raises:
        FormatError: It is not a file of embeddings, or is damaged.
        InputError: There is no such file.
        MissingExtra: pyarrow is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self._pa, parquet = _import_pyarrow()
        self.path = Path(path)
        regular_file_size(self.path, error=InputError)
        with self._reading():
            self._file = parquet.ParquetFile(
                self.path, page_checksum_verification=True, thrift_string_size_limit=_MAX_FOOTER_BYTES
            )
            schema = self._file.schema_arrow
        self.names: list[str] = schema.names
        for name in (EMBEDDING, "Id"):
            if self.names.count(name) != 1:
                self.close()
                raise FormatError(f"is not a file of embeddings: it has no column {name!r}", path=self.path)
        text = (schema.metadata or {}).get(_HEADER_KEY)
        self.header = (
            None if text is None else VectorHeader.from_json(text.decode(errors="replace"), str(self.path))
        )
        self.dimension = self._dimension()

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    def __enter__(self) -> EmbeddingTable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def require(self, header: VectorHeader, *, assume_same_model: bool = False) -> None:
        """Refuse vectors of another model, or of other inputs.

        Args:
            header: What the vectors must have.
            assume_same_model: Take a file without a header for one of this model.

        Raises:
            IncompatibleVectors: They differ, or the file does not say what made its vectors.
        """
        if self.header is not None:
            self.header.require(header, str(self.path))
        elif not assume_same_model:
            raise IncompatibleVectors(
                f"{self.path}: does not say which model made its vectors, as files of the original; "
                "--assume-same-model takes them for those of this model"
            )
        if self.dimension not in (0, header.dimension):
            raise IncompatibleVectors(
                f"{self.path}: its vectors have {self.dimension} numbers, those of the model {header.dimension}"
            )

    def column(self, name: str) -> list[Any]:
        """Return the values of a column; nulls where the file has no such column."""
        if name not in self.names:
            return [None] * len(self)
        return [value for batch in self._batches([name]) for value in batch.column(name).to_pylist()]

    def vectors(self) -> np.ndarray:
        """Return all vectors, (N, D) float32.

        Raises:
            FormatError: One is missing, is not finite or zero, or has another length.
        """
        parts, first = [np.zeros((0, self.dimension), np.float32)], 0
        for batch in self._batches([EMBEDDING]):
            parts.append(self._vectors(batch, first))
            first += len(batch)
        return np.concatenate(parts)

    def maps(self) -> Iterator[EmbeddedMap]:
        """Yield all maps; errors as :meth:`vectors`, and for values that do not fit their column."""
        names = [name for name in COLUMNS if name in self.names]
        first = 0
        for batch in self._batches([EMBEDDING, *names]):
            vectors = self._vectors(batch, first)
            with self._reading():
                rows = batch.select(names).to_pylist()
            for row, vector in zip(rows, vectors, strict=True):
                try:
                    yield EmbeddedMap(normalised(row), vector)
                except InputError as error:
                    raise FormatError(str(error), path=self.path) from error
            first += len(batch)

    def _dimension(self) -> int:
        for batch in self._batches([EMBEDDING], rows=1):
            vector = batch.column(EMBEDDING).to_pylist()[0]
            return len(vector) if isinstance(vector, list) else 0
        return self.header.dimension if self.header else 0

    def _batches(self, names: list[str], rows: int = _BATCH_ROWS) -> Iterator[Any]:
        with self._reading():
            batches = self._file.iter_batches(rows, columns=names, use_threads=False)
        while True:
            with self._reading():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _vectors(self, batch: Any, first: int) -> np.ndarray:
        pc: Any = import_module("pyarrow.compute")  # its functions are made when it is imported

        column = batch.column(EMBEDDING)
        with self._reading():
            lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
            flat = column.flatten().cast(self._pa.float32()).to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(lengths != self.dimension)
        if len(wrong) or len(flat) != len(batch) * self.dimension or not self.dimension:
            row = first + (int(wrong[0]) if len(wrong) else 0)
            raise FormatError(f"row {row} has no vector of {self.dimension} numbers", path=self.path)
        vectors = flat.reshape(len(batch), self.dimension)
        try:
            check_vectors(vectors, "cosine", name="row", first=first)
        except InputError as error:
            raise FormatError(str(error), path=self.path) from error
        return vectors

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Give errors of pyarrow, which are of many kinds for a damaged file, the type and name of the file's."""
        try:
            yield
        except (self._pa.ArrowException, OSError, ValueError, MemoryError, OverflowError, KeyError) as error:
            if isinstance(error, FormatError):
                raise
            reason = str(error).partition("\n")[0]
            raise FormatError(f"cannot be read as a Parquet file ({reason})", path=self.path) from error


def write_table(path: Path, header: VectorHeader, maps: Iterable[EmbeddedMap], about: str) -> int:
    """Write a file of embeddings; it appears whole or not at all.

    Args:
        path: The file to write or replace.
        header: What made the vectors.
        maps: Its rows, a batch of them in memory at a time.
        about: How it was made, as JSON.

    Returns:
        N.

    Raises:
        CheckpointError: The file cannot be written.
        FormatError: What ``maps`` raises.
    """
    pa, parquet = _import_pyarrow()
    schema = _schema(pa, header, about)
    count = 0
    with (
        atomic_file(path) as file,
        parquet.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        batch: list[EmbeddedMap] = []
        for each in maps:
            batch.append(each)
            count += 1
            if len(batch) == _BATCH_ROWS:
                writer.write_table(_table(pa, schema, batch))
                batch = []
        writer.write_table(_table(pa, schema, batch))
    return count


def merged(old: Iterable[EmbeddedMap], new: Iterable[EmbeddedMap]) -> Iterator[EmbeddedMap]:
    """Yield the union of two lists of maps: old ones in their places, then those that are new.

    Maps are the same where their ids are; where an old one has none, where their contents are. The new row and vector
    win, and old values fill the gaps.
    """
    fresh = {each.row["Id"]: each for each in new}
    ids_by_hash = {each.row[HASH]: key for key, each in fresh.items()}
    done: set[int] = set()
    for each in old:
        key = each.row.get("Id") or ids_by_hash.get(each.row.get(HASH))
        if key in done:  # a second old row of a map that is new
            continue
        if key is not None and key in fresh:
            done.add(key)
            yield EmbeddedMap(each.row | fresh[key].row, fresh[key].vector)
        else:
            yield each
    yield from (each for key, each in fresh.items() if key not in done)


def _schema(pa: Any, header: VectorHeader, about: str) -> Any:
    single = {
        "text": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "time": pa.timestamp("us", "UTC"),
    }
    kinds = single | {f"{name}s": pa.list_(kind) for name, kind in single.items()}
    fields = [(name, kinds[kind]) for name, kind in COLUMNS.items()]
    fields.append((EMBEDDING, pa.list_(pa.float32(), header.dimension)))
    return pa.schema(fields, metadata={_HEADER_KEY: header.to_json().encode(), b"cm3p.embed": about.encode()})


def _table(pa: Any, schema: Any, maps: list[EmbeddedMap]) -> Any:
    arrays = []
    for field in schema:
        if field.name == EMBEDDING:
            flat = np.concatenate([np.zeros(0, np.float32), *(each.vector for each in maps)])
            arrays.append(
                pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), field.type.list_size)
            )
            continue
        values = [each.row.get(field.name) for each in maps]
        if COLUMNS[field.name] == "time":
            values = [None if value is None else datetime.fromisoformat(value) for value in values]
        arrays.append(pa.array(values, field.type))
    return pa.table(arrays, schema=schema)


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("Files of embeddings", "cm3p[search]") from error
    return pyarrow, pyarrow.parquet
