"""Tokens on disk: ``tokens.npz`` with the ids, ``tokens.jsonl`` that says which of them belong to which file."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError, InputError
from pentatonic.untrusted.files import regular_file_size
from rc_audioldm.data.manifest import ManifestRow, read_manifest, write_manifest

TOKENS_FILE, ROWS_FILE = "tokens.npz", "tokens.jsonl"
_MOST_BYTES = 8 << 30
_ARRAYS = {"ids": ("<i4", 1), "sequence_offsets": ("<i8", 1), "chunks": ("<i8", 2)}


FileTokens = tuple[ManifestRow, list[NDArray[np.int32]], list[list[tuple[int, int]]]]
"""A file, its sequences, and for each sequence the spans of its chunks."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of MIDI files.

    Args:
        ids: ``(n,)`` int32, all sequences one behind the other.
        sequence_offsets: ``(S + 1,)`` int64: sequence s is ``ids[offsets[s]:offsets[s + 1]]``.
        chunks: ``(C, 2)`` int64: start and stop of each chunk in ``ids``.
        rows: The files; ``more`` has ``sequences`` and ``chunks``, a first and a last number (not included) each.
    """

    ids: NDArray[np.int32]
    sequence_offsets: NDArray[np.int64]
    chunks: NDArray[np.int64]
    rows: tuple[ManifestRow, ...]

    def sequence_of(self, chunk: int) -> tuple[NDArray[np.int32], int, int]:
        """Return the sequence that a chunk is part of, and its start and stop in it."""
        start, stop = (int(number) for number in self.chunks[chunk])
        sequence = int(np.searchsorted(self.sequence_offsets, start, side="right")) - 1
        first, end = (int(number) for number in self.sequence_offsets[sequence : sequence + 2])
        return self.ids[first:end], start - first, stop - first

    def chunk_rows(self) -> Iterator[tuple[int, ManifestRow]]:
        """Yield the number of each chunk with the file that it comes from."""
        return ((chunk, row) for row in self.rows for chunk in range(*row.more["chunks"]))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of ids and chunks."""
        digest = hashlib.sha256(self.ids.tobytes())
        digest.update(self.chunks.tobytes())
        return digest.hexdigest()

    def write(self, folder: Path) -> None:
        """Write both files; the rows last, so that they are never there without the ids.

        Raises:
            CheckpointError: A file cannot be written.
        """
        arrays: dict[str, Any] = {
            name: np.asarray(getattr(self, name), dtype) for name, (dtype, _) in _ARRAYS.items()
        }
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        with atomic_file(folder / TOKENS_FILE) as file:
            file.write(content.getbuffer())
        write_manifest(folder / ROWS_FILE, self.rows)


def collect(files: Sequence[FileTokens]) -> Tokens:
    """Put the sequences of files one behind the other.

    Args:
        files: In the order that counts.
    """
    rows, chunks, offsets = [], [], [0]
    for row, sequences, spans in files:
        first_sequence, first_chunk = len(offsets) - 1, len(chunks)
        for sequence, spans_of_sequence in zip(sequences, spans, strict=True):
            chunks += [(offsets[-1] + start, offsets[-1] + stop) for start, stop in spans_of_sequence]
            offsets.append(offsets[-1] + len(sequence))
        more = {"sequences": [first_sequence, len(offsets) - 1], "chunks": [first_chunk, len(chunks)]}
        rows.append(replace(row, more={**row.more, **more}))
    ids = [ids for _, sequences, _ in files for ids in sequences]
    return Tokens(
        np.concatenate(ids).astype(np.int32) if ids else np.zeros(0, np.int32),
        np.array(offsets, np.int64),
        np.array(chunks, np.int64).reshape(-1, 2),
        tuple(rows),
    )


def read_tokens(folder: Path) -> Tokens:
    """Read what :meth:`Tokens.write` wrote.

    Raises:
        InputError: A file is missing or too large.
        FormatError: A file holds something else.
    """
    path = folder / TOKENS_FILE
    if regular_file_size(path, error=InputError) > _MOST_BYTES:
        raise InputError(f"{path}: larger than {_MOST_BYTES} bytes, the largest allowed")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(f"not a file of tokens ({error})", path=path) from error
    for name, (dtype, n_axes) in _ARRAYS.items():
        if arrays[name].dtype != np.dtype(dtype) or arrays[name].ndim != n_axes:
            raise FormatError(f"{name} is {arrays[name].dtype} with {arrays[name].ndim} axes", path=path)
    tokens = Tokens(**arrays, rows=read_manifest(folder / ROWS_FILE).rows)
    if problem := _problem(tokens):
        raise FormatError(problem, path=path)
    return tokens


def _problem(tokens: Tokens) -> str:
    offsets, chunks, n = tokens.sequence_offsets, tokens.chunks, len(tokens.ids)
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != n or (np.diff(offsets) < 0).any():
        return "sequence_offsets do not divide the ids"
    inside = chunks.shape[1] == 2 and (chunks[:, 0] < chunks[:, 1]).all()
    if not inside or (len(chunks) and (chunks.min() < 0 or chunks.max() > n)):
        return "a chunk is not a part of the ids"
    last = 0
    for row in tokens.rows:
        span = row.more.get("chunks")
        if not isinstance(span, list) or len(span) != 2 or not all(type(number) is int for number in span):
            return f"row {row.id} does not say which chunks it has"
        if span[0] != last or span[1] < last:
            return f"the chunks of row {row.id} do not follow those of the row before"
        last = span[1]
    return "" if last == len(chunks) else "the rows do not name all chunks"
