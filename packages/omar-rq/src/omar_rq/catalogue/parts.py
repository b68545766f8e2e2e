"""A data set of embeddings: a folder of Parquet files, the parts, each of which says which recordings it holds.

``DIR/embeddings.parquet/part-<hash>.parquet``; readers of Parquet take the folder for one table. A part is written
whole, and its name follows from the recordings that it is made of, so one that is written again replaces itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from omar_rq.catalogue.sources import Recording
from omar_rq.catalogue.storage import Storage
from omar_rq.files.parquet_table import import_pyarrow, write_table
from pentatonic.audio_folder.npz import NpzContent
from pentatonic.errors import FormatError
from pentatonic.untrusted.files import parse_json

DATA_SET = "embeddings.parquet"
"""Name of the folder of the parts."""

_KEY = b"omar_rq.part"
_VERSION = 1
_MAX_FOOTER_BYTES = 256 * 2**20
_BATCH_ROWS = 4096


@dataclass(frozen=True)
class Part:
    """What a part says about itself.

    Args:
        name: Its file.
        settings: What decided its embeddings.
        model_name: By which the model was loaded.
        files: One mapping for each recording: ``path``, ``bytes``, ``mtime_ns``, ``tokens``, ``duration_s``, ``flags``.
    """

    name: str
    settings: Mapping[str, Any]
    model_name: str
    files: Sequence[Mapping[str, Any]]


def part_name(settings: Mapping[str, object], recordings: Iterable[Recording]) -> str:
    """Return the name of the part that is made of some recordings with some settings."""
    made_from = json.dumps([settings, [each.stamp for each in recordings]], sort_keys=True)
    return f"part-{hashlib.sha256(made_from.encode()).hexdigest()[:24]}.parquet"


def write_part(
    storage: Storage,
    name: str,
    contents: Sequence[tuple[Recording, NpzContent]],
    *,
    settings: Mapping[str, object],
    model_name: str,
) -> None:
    """Write one part.

    Args:
        storage: The folder of the parts.
        name: Its name.
        contents: Embeddings of each recording; at least one.
        settings: What decided them.
        model_name: By which the model was loaded.

    Raises:
        CheckpointError, OutputError: It cannot be written.
    """
    files = [{**recording.stamp, **content.about} for recording, content in contents]
    about = {"version": _VERSION, "settings": settings, "model": model_name, "files": files}
    metadata = {_KEY: json.dumps(about, sort_keys=True).encode()}
    with storage.written(name) as file:
        write_table(file, ((recording.place, content) for recording, content in contents), metadata=metadata)


def read_parts(storage: Storage) -> list[Part]:
    """Read what each part says about itself.

    Raises:
        FormatError: A file is damaged, or not a part.
        InputError: The folder cannot be read.
    """
    return [_read_part(storage, each.name) for each in storage.files() if each.name.endswith(".parquet")]


def _read_part(storage: Storage, name: str) -> Part:
    with opened_part(storage, name) as file:
        text = (file.schema_arrow.metadata or {}).get(_KEY)
    where = f"{storage.place}/{name}"
    if text is None:
        raise FormatError(
            "a Parquet file without a list of recordings; allowed: parts of a data set", path=where
        )
    about = parse_json(text.decode("utf-8", "replace"), where=where, error=FormatError)
    if not isinstance(about, dict) or about.get("version") != _VERSION:
        raise FormatError(f"needs a list of recordings of version {_VERSION}", path=where)
    files, settings = about.get("files"), about.get("settings")
    if (
        not isinstance(files, list)
        or not all(isinstance(each, dict) and isinstance(each.get("path"), str) for each in files)
        or not isinstance(settings, dict)
    ):
        raise FormatError("its list of recordings is damaged", path=where)
    return Part(name, settings, str(about.get("model", "")), files)


@contextmanager
def opened_part(storage: Storage, name: str) -> Iterator[Any]:
    """Open a part as a ``pyarrow.parquet.ParquetFile``; errors of pyarrow become errors that name the file.

    Raises:
        FormatError: It is damaged.
    """
    pa, parquet = import_pyarrow()
    try:
        options = {"page_checksum_verification": True, "thrift_string_size_limit": _MAX_FOOTER_BYTES}
        with parquet.ParquetFile(storage.source(name), **options) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError, OverflowError) as error:
        if isinstance(error, FormatError):
            raise
        reason = str(error).partition("\n")[0]
        raise FormatError(
            f"cannot be read as a Parquet file ({reason})", path=f"{storage.place}/{name}"
        ) from error


def rows_of_layer(
    storage: Storage, part: Part, layer: int
) -> Iterator[tuple[str, np.ndarray | None, np.ndarray]]:
    """Yield the embeddings of one layer, a few thousand rows at a time; those of a recording follow each other.

    Args:
        storage: The folder of the parts.
        part: One of them.
        layer: Index of a trunk block.

    Yields:
        Path of a recording, times (n,) of some of its tokens in seconds, or None for a pool, and embeddings (n, C).

    Raises:
        FormatError: The part is damaged.
    """
    with opened_part(storage, part.name) as file:
        for all_layers in file.iter_batches(_BATCH_ROWS, use_threads=False):
            batch = all_layers.filter(_equal(all_layers.column("layer"), layer))
            paths = np.asarray(batch.column("path").to_pylist())
            column = batch.column("embedding")
            if not len(paths):
                continue
            values = (
                column.flatten().to_numpy(zero_copy_only=False).reshape(len(paths), -1).astype(np.float32)
            )
            times = batch.column("time_s")
            seconds = None if times.null_count else times.to_numpy(zero_copy_only=False)
            starts = np.flatnonzero(np.r_[True, paths[1:] != paths[:-1]])
            for start, stop in zip(starts, [*starts[1:], len(paths)], strict=True):
                yield str(paths[start]), None if seconds is None else seconds[start:stop], values[start:stop]


def _equal(column: Any, value: int) -> Any:
    compute: Any = import_module("pyarrow.compute")  # its functions are made when it is imported
    return compute.equal(column, value)


def drop_recordings(storage: Storage, part: Part, paths: set[str]) -> None:
    """Take recordings out of a part: it is written again without them, or deleted where none is left.

    Raises:
        FormatError: The part is damaged.
        CheckpointError, OutputError: It cannot be written.
    """
    kept = [each for each in part.files if each["path"] not in paths]
    if not kept:
        storage.delete(part.name)
        return
    _, parquet = import_pyarrow()
    compute: Any = import_module("pyarrow.compute")
    with opened_part(storage, part.name) as file, storage.written(part.name) as written:
        about = {"version": _VERSION, "settings": part.settings, "model": part.model_name, "files": kept}
        schema = file.schema_arrow.with_metadata({_KEY: json.dumps(about, sort_keys=True).encode()})
        names = [each["path"] for each in kept]
        with parquet.ParquetWriter(written, schema, write_page_checksum=True) as writer:
            for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
                chosen = batch.filter(compute.is_in(batch.column("path"), value_set=_strings(names)))
                writer.write_batch(chosen.cast(schema))


def _strings(values: list[str]) -> Any:
    pa, _ = import_pyarrow()
    return pa.array(values, pa.string())
