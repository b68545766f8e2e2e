"""Decode with libsndfile.

Shape legend: n = samples per channel, C = channels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from pentatonic.audio.formats.chunks import find_samples
from pentatonic.audio.formats.file_view import FileView
from pentatonic.errors import CorruptAudio

BLOCK = 1 << 16  # samples per channel that are decoded at a time
_UNKNOWN_FRAMES = 1 << 62
# Encodings in which every sample stands alone, so that decoding from any sample gives the same as from the first.
_SEEKABLE = frozenset(
    {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC_16"}
)


class _ForwardReader(soundfile.SoundFile):
    """A sound file read in one direction.

    The base class seeks to the new position after every read of a seekable file. Where decoding stops early, at damage
    or at the end of a stream of unknown length, that seek fails and hides how many samples were decoded.
    """

    def seekable(self) -> bool:
        """Always False, see the class."""
        return False


class SoundFileSource:
    """A file opened by libsndfile; see :class:`pentatonic.audio.sources.Source`.

    Args:
        path: The file.
        container: From :func:`pentatonic.audio.formats.identify.identify`.
        offset: Byte at which the container starts.

    Raises:
        CorruptAudio: The header is damaged, or libsndfile does not know the encoding.
    """

    def __init__(self, path: Path, container: str, offset: int) -> None:
        self.container, self._path, self._offset = container, path, offset
        self.notes: list[str] = []
        # Opened by descriptor, so that libsndfile cannot guess a headerless format from the suffix of the name.
        self._raw = path.open("rb", buffering=0)
        try:
            self._file: Any = _ForwardReader(self._input(), closefd=False)
        except soundfile.LibsndfileError as error:
            self._raw.close()
            raise CorruptAudio(path, f"the {container} header is damaged: {error.error_string}") from error
        except BaseException:
            self._raw.close()
            raise
        self.sample_rate, self.channels = self._file.samplerate, self._file.channels
        self.format, self.subtype = self._file.format, self._file.subtype
        self.frames = self._count()

    def _input(self) -> int | io.BufferedReader:
        """What libsndfile reads: the descriptor of the file at the first byte, or a view of the file."""
        with self._path.open("rb") as file:
            samples = find_samples(file, self.container, self._size())
        if samples is not None and samples.repair:
            return self._view(FileView(self._raw, 0, self._size(), replaced=samples.repair))
        self._raw.seek(self._offset)
        return self._raw.fileno()

    def _size(self) -> int:
        return self._path.stat().st_size

    def _view(self, view: FileView) -> io.BufferedReader:
        return io.BufferedReader(view, 1 << 16)

    def _count(self) -> int | None:
        """Samples per channel, or None where the header does not state them."""
        return self._file.frames if self._file.frames < _UNKNOWN_FRAMES else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._raw.close()

    def blocks(self, start: int) -> Iterator[NDArray[np.float32]]:
        """See :meth:`pentatonic.audio.sources.Source.blocks`."""
        position = self._seek_point(start)
        if position:
            try:
                self._file.seek(position)
            except soundfile.LibsndfileError as error:
                reason = f"cannot seek to sample {position}: {error.error_string}"
                raise CorruptAudio(self._path, reason) from error
        skip = start - position
        while True:
            n_wanted = BLOCK if self.frames is None else min(BLOCK, self.frames - position)
            block = np.empty((max(0, n_wanted), self.channels), np.float32)
            failure: soundfile.LibsndfileError | None = None
            try:
                n = len(self._file.read(out=block)) if len(block) else 0
            except soundfile.LibsndfileError as error:
                failure, n = error, self._decoded_since(position)
            fault = self._look(position, n)
            if fault is not None:
                n = fault.samples_decoded - position
            position += n
            if skip < n:
                yield block[skip:n]
            skip = max(0, skip - n)
            if fault is not None:
                raise fault
            if failure is not None:
                text = f"decoding failed after {position} samples: {failure.error_string}"
                raise CorruptAudio(self._path, text, position) from failure
            if n == 0:
                break
        self._check_length(position)

    def _seek_point(self, start: int) -> int:
        """The sample, at or before ``start``, from which decoding gives the same as from the first one."""
        # In PAF of 24 bits libsndfile seeks to the wrong place in the last block.
        exact = self.subtype in _SEEKABLE and self.container != "PAF"
        return start if exact and self.frames is not None else 0

    def _look(self, position: int, n: int) -> CorruptAudio | None:
        """Look at ``n`` samples that were decoded from ``position`` on; the fault after which nothing may be used."""
        return None

    def _decoded_since(self, position: int) -> int:
        try:
            return max(0, self._file.tell() - position)
        except soundfile.LibsndfileError:
            return 0

    def _check_length(self, position: int) -> None:
        """Compare the number of samples that were decoded with the one that was stated."""
        if self.frames is not None and position < self.frames:
            self.notes.append(f"the header states {self.frames} samples, {position} could be decoded")
