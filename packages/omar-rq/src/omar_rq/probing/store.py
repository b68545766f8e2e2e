"""Features of a data set on disk: computed once for each file, and mapped into memory while probes are fitted.

A file of the store is named after a hash of what decides its content: the encoder, the settings of the features, and
path, size and time of the recording. So tasks share a store, a stopped run continues, and nothing in it is ever stale.

Shape legend: L layers, N tokens, D width, c chunks.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import torch

from omar_rq.probing.data.recording import Recording
from omar_rq.probing.sources import Source
from pentatonic.audio_folder.items import named_errors
from pentatonic.audio_folder.reading import Stream, open_audio
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, progress
from pentatonic.errors import CheckpointError, CorruptCheckpoint, InputError, PentatonicError
from pentatonic.folder_run import made_from

# Arrays that were read stay in memory until they are this large together.
_IN_MEMORY_BYTES = 1 << 30


class FeatureStore:
    """Features of recordings, one ``.npy`` each: (L, N, D) of tokens, or (c, L, D) where they are pooled.

    Args:
        folder: Where the files are.
        source: What computes them.
        half: Store tokens as float16; pooled features are float32 always.
    """

    def __init__(self, folder: Path, source: Source, *, half: bool = True) -> None:
        self.folder, self.source = folder, source
        self.pooled = source.features.pooling != "none"
        self.dtype = np.dtype("float32" if self.pooled or not half else "float16")
        self._held: dict[Path, np.ndarray] = {}
        self._held_bytes = 0

    def place(self, recording: Path) -> Path:
        """Where the features of a recording are, or will be.

        Raises:
            OSError: There is no such recording.
        """
        settings = {**self.source.settings(), "dtype": str(self.dtype), "path": str(recording.resolve())}
        key = hashlib.sha256(made_from(settings, recording).encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.npy"

    def compute(
        self, recordings: Sequence[Recording], *, stream: Stream, report: BatchReport, description: str
    ) -> list[Recording]:
        """Compute what is not there yet.

        Args:
            recordings: Of the data set.
            stream: Reads audio.
            report: Gets an entry for each recording; those that cannot be read are ``failed``.
            description: For the progress.

        Returns:
            The recordings that have features.

        Raises:
            CheckpointError: The store cannot be written.
        """
        usable = []
        with progress(len(recordings), description) as bar:
            for recording in recordings:
                try:
                    place = self.place(recording.path)
                    if self._is_whole(place):
                        report.skipped(recording.path, "features are stored")
                    else:
                        self._compute_one(recording.path, place, stream)
                        report.done(recording.path)
                    usable.append(recording)
                except CheckpointError:
                    raise
                except (PentatonicError, OSError) as error:
                    report.failed(recording.path, error)
                bar.advance(1, note=recording.path.name)
        return usable

    def _compute_one(self, path: Path, place: Path, stream: Stream) -> None:
        blocks = open_audio(path, stream=stream, sample_rate=self.source.sample_rate)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{place.parent} cannot be made: {error.strerror}") from error
        with named_errors(path):
            try:
                if self.pooled:
                    self._write_pooled(self.source.pooled(blocks).numpy(), path, place)
                else:
                    self._write_tokens(self.source.tokens(blocks), path, place)
            finally:
                blocks.close()  # a decoder reads one file at a time

    def _write_pooled(self, values: np.ndarray, path: Path, place: Path) -> None:
        content = io.BytesIO()
        np.lib.format.write_array(content, self._stored(values, path), allow_pickle=False)
        with atomic_file(place) as file:
            file.write(content.getbuffer())

    def _write_tokens(self, pieces: Iterable[torch.Tensor], path: Path, place: Path) -> None:
        """Each layer waits in a file of its own, since it is written layer by layer in bounded memory."""
        with ExitStack() as stack:
            spools = [
                stack.enter_context(tempfile.TemporaryFile(dir=place.parent))
                for _ in self.source.features.layers
            ]
            n_tokens = 0
            for piece in pieces:
                n_tokens += piece.shape[1]
                for rows, spool in zip(piece.numpy(), spools, strict=True):
                    spool.write(self._stored(rows, path).tobytes())
            header = {
                "descr": np.lib.format.dtype_to_descr(self.dtype),
                "fortran_order": False,
                "shape": (len(spools), n_tokens, self.source.width),
            }
            with atomic_file(place) as file:
                np.lib.format.write_array_header_1_0(file, header)
                for spool in spools:
                    spool.seek(0)
                    shutil.copyfileobj(spool, file, 1 << 20)

    def _stored(self, values: np.ndarray, path: Path) -> np.ndarray:
        if not np.abs(values).max(initial=0.0) <= np.finfo(self.dtype).max:
            raise InputError(f"{path}: a feature is not finite or beyond {self.dtype}")
        return values.astype(self.dtype)

    def _is_whole(self, place: Path) -> bool:
        with suppress(CorruptCheckpoint):
            return place.is_file() and self._open(place) is not None
        return False

    def _open(self, place: Path) -> np.ndarray:
        try:
            array = np.load(place, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CorruptCheckpoint(f"{place}: not a whole file of features: {error}") from error
        layers, width = len(self.source.features.layers), self.source.width
        shape = (len(array), layers, width) if self.pooled else (layers, *array.shape[1:2], width)
        if array.ndim != 3 or array.shape != shape or not array.size or array.dtype != self.dtype:
            raise CorruptCheckpoint(
                f"{place}: features of the shape {array.shape} {array.dtype}; needed {shape}"
            )
        return array

    def read(self, recording: Recording) -> np.ndarray:
        """Return the features of a recording that :meth:`compute` gave, in memory or mapped from the file.

        Raises:
            CorruptCheckpoint: The file is not whole any more.
        """
        if (found := self._held.get(recording.path)) is not None:
            return found
        array = self._open(self.place(recording.path))
        if self._held_bytes + array.nbytes <= _IN_MEMORY_BYTES:
            array = np.array(array)
            self._held_bytes += array.nbytes
            self._held[recording.path] = array
        return array
