"""Decoders behind one interface: libsndfile first, FFmpeg (PyAV) for files that it cannot read.

Shape legend: n = samples per channel, C = channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pentatonic.audio import ffmpeg
from pentatonic.audio.ffmpeg import FFmpegSource
from pentatonic.audio.formats.chunks import find_samples
from pentatonic.audio.formats.identify import FFMPEG_DEMUXERS, LIBSNDFILE, identify
from pentatonic.audio.sndfile import SoundFileSource
from pentatonic.audio.sndfile_streams import FlacSource, MpegSource
from pentatonic.errors import (
    AudioError,
    AudioFileNotFound,
    AudioLimitExceeded,
    CorruptAudio,
    UnsupportedFormat,
)


class Source(Protocol):
    """An open file: its header, and its samples in order.

    Attributes:
        container: Name of the container, see :mod:`pentatonic.audio.formats`.
        sample_rate: In Hz.
        channels: Number of channels.
        frames: Samples per channel of an intact file; None when only decoding can tell.
        notes: Where the file holds less than its header states, though that is no fault; complete after the last block.
        format: Container name for the user.
        subtype: Encoding name for the user.
    """

    container: str
    sample_rate: int
    channels: int
    frames: int | None
    notes: list[str]
    format: str
    subtype: str

    def blocks(self, start: int) -> Iterator[NDArray[np.float32]]:
        """Float32 blocks (n, C) from sample ``start`` to the end; may be called once.

        Raises:
            CorruptAudio: At the first damage, after everything before it was yielded.
            TruncatedAudio: At the end, when there are fewer samples than the header promises.
        """
        ...


def probe(path: Path, max_bytes: int) -> tuple[str, int]:
    """Detect the container of an audio file from its content, and the byte at which it starts.

    Args:
        path: The file.
        max_bytes: Size of the largest file that is allowed.

    Raises:
        AudioFileNotFound: The path is missing, or not a regular file.
        AudioLimitExceeded: The file is larger than ``max_bytes``.
        UnsupportedFormat: The content is not audio in a known container.
        AudioError: The file cannot be read (permissions, storage).
    """
    try:
        if not path.is_file():
            reason = "is not a regular file" if path.exists() else "no such file, or a dangling link"
            raise AudioFileNotFound(path, reason)
        if (size := path.stat().st_size) > max_bytes:
            raise AudioLimitExceeded(path, f"{size} bytes; at most {max_bytes} are allowed")
        container, offset = identify(path)
    except OSError as error:
        raise AudioError(path, f"cannot be read: {error.strerror}") from error
    if container is None:
        raise UnsupportedFormat(path, "not audio in a known format (the content counts, not the suffix)")
    return container, offset


@contextmanager
def open_source(path: Path, container: str, offset: int) -> Iterator[Source]:
    """Open a file with the first decoder that reads it.

    Args:
        path: The file.
        container: From :func:`probe`.
        offset: From :func:`probe`.

    Yields:
        The source, closed on exit.

    Raises:
        UnsupportedFormat: No installed decoder reads it.
        CorruptAudio: Its header is damaged.
    """
    with closing(_first_decoder(path, container, offset)) as source:
        yield source


def _first_decoder(path: Path, container: str, offset: int) -> SoundFileSource | FFmpegSource:
    if container not in LIBSNDFILE:
        return FFmpegSource(path, container)
    try:
        return _sound_file(path, container, offset)
    except (CorruptAudio, UnsupportedFormat) as error:
        if container in FFMPEG_DEMUXERS:
            if not ffmpeg.is_installed():
                reason = f"{error.reason}; if it is whole, its encoding needs FFmpeg: {ffmpeg.HOW_TO_INSTALL}"
                raise type(error)(path, reason) from error
            with suppress(AudioError):
                return FFmpegSource(path, container)
        raise error


def _sound_file(path: Path, container: str, offset: int) -> SoundFileSource:
    if container == "FLAC":
        return FlacSource(path, container, offset)
    if container == "WAV" and _holds_mpeg(path):
        return MpegSource(path, container, offset)
    return (MpegSource if container == "MP3" else SoundFileSource)(path, container, offset)


def _holds_mpeg(path: Path) -> bool:
    with path.open("rb") as file:
        samples = find_samples(file, "WAV", path.stat().st_size)
    return samples is not None and samples.is_mpeg
