"""The audio of maps: files, and members of archives; decoded once for all maps of a song.

Shapes: n samples.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from cm3p.beatmap import AudioSource, MapEntry
from pentatonic.audio import DecodingProcess
from pentatonic.audio_folder.reading import open_audio
from pentatonic.errors import InputError


class MissingAudio(InputError):
    """A map whose audio is not there, where it is needed."""


class SongReader:
    """Decodes songs in a process of its own; the last one is remembered. Use it as a context manager.

    Args:
        sample_rate: Of the samples, in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._decoder = DecodingProcess()
        self._last: tuple[AudioSource, Tensor] | None = None

    def __enter__(self) -> Self:
        self._decoder.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._decoder.close()

    def read_for(self, entry: MapEntry) -> Tensor:
        """Return the song of a map, (n,) float32.

        Raises:
            MissingAudio: There is none.
            AudioError, FormatError: It cannot be read.
        """
        if entry.audio is None:
            raise MissingAudio(f"{entry.audio_note or 'there is no audio'}; --no-audio embeds maps alone")
        return self.read(entry.audio)

    def read(self, source: AudioSource) -> Tensor:
        """Return a song, (n,) float32; errors as :meth:`read_for`."""
        if self._last is None or self._last[0] != source:
            self._last = None  # free the memory first
            self._last = source, self._decode(source)
        return self._last[1]

    def _decode(self, source: AudioSource) -> Tensor:
        if source.member is None:
            return self._decode_file(source.path)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "song")  # the decoder looks at the content, and not at the suffix
            path.write_bytes(source.read())
            return self._decode_file(path)

    def _decode_file(self, path: Path) -> Tensor:
        blocks = open_audio(path, stream=self._decoder.stream, sample_rate=self.sample_rate)
        return torch.cat([torch.zeros(0), *blocks])
