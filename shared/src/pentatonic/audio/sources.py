"""Decoders behind one interface: libsndfile first, FFmpeg (PyAV) for files that it cannot read.

Shape legend: n = samples per channel, C = channels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from pentatonic.audio import mpeg
from pentatonic.audio.containers import FFMPEG_DEMUXERS, LIBSNDFILE, identify
from pentatonic.errors import (
    AudioError,
    AudioFileNotFound,
    AudioLimitExceeded,
    CorruptAudio,
    TruncatedAudio,
    UnsupportedFormat,
)

BLOCK = 1 << 16  # samples per channel that a source decodes at a time
_UNKNOWN_FRAMES = 1 << 62
# Some MP3 encoders count the header frame and some do not; containers that round durations are off by a few ms.
_MP3_TOLERANCE = 1152
_FFMPEG_TOLERANCE_S = 0.1


class Source(Protocol):
    """An open file: its header, and its samples in order.

    Attributes:
        container: Key of the container, see :mod:`pentatonic.audio.containers`.
        sample_rate: In Hz.
        channels: Number of channels.
        frames: Samples per channel according to the header; None when it does not state them.
        format: Container name for the user.
        subtype: Encoding name for the user.
    """

    container: str
    sample_rate: int
    channels: int
    frames: int | None
    format: str
    subtype: str

    def blocks(self, start: int) -> Iterator[NDArray[np.float32]]:
        """Float32 blocks (n, C) from sample ``start`` to the end; may be called once.

        Raises:
            CorruptAudio: At the first damage, after everything before it was yielded.
            TruncatedAudio: At the end, when there are fewer samples than the header states.
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
        return SoundFileSource(path, container, offset)
    except CorruptAudio as error:
        if container in FFMPEG_DEMUXERS:
            with suppress(AudioError):
                return FFmpegSource(path, container)
        raise error


class _ForwardReader(soundfile.SoundFile):
    """A sound file read in one direction.

    The base class seeks to the new position after every read of a seekable file. Where decoding stops early, at damage
    or at the end of a stream of unknown length, that seek fails and hides how many samples were decoded.
    """

    def seekable(self) -> bool:
        """Always False, see the class."""
        return False


class SoundFileSource:
    """A file opened by libsndfile; see :class:`Source`."""

    def __init__(self, path: Path, container: str, offset: int) -> None:
        self.container, self._path = container, path
        self._stream: mpeg.MpegStream | None = None
        if container == "MP3":
            with path.open("rb") as file:
                self._stream = mpeg.scan(file, offset)
        # Opened by descriptor, so that libsndfile cannot guess a headerless format from the suffix of the name.
        self._raw = path.open("rb", buffering=0)
        self._raw.seek(offset)
        try:
            self._file: Any = _ForwardReader(self._counted() or self._raw.fileno(), closefd=False)
        except soundfile.LibsndfileError as error:
            self._raw.close()
            raise CorruptAudio(path, f"the {container} header is damaged: {error.error_string}") from error
        self.sample_rate, self.channels = self._file.samplerate, self._file.channels
        self.format, self.subtype = self._file.format, self._file.subtype
        self.frames = self._file.frames if self._file.frames < _UNKNOWN_FRAMES else None

    def _counted(self) -> io.BytesIO | None:
        """An MP3 without a length header gets one in memory, because the decoder would only estimate its length."""
        stream = self._stream
        if stream is None or stream.n_samples is None:
            return None
        with self._path.open("rb") as file:
            return io.BytesIO(mpeg.normalised(file, stream))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._raw.close()

    def blocks(self, start: int) -> Iterator[NDArray[np.float32]]:
        """See :meth:`Source.blocks`."""
        position, skip = start, 0
        if start and (self.container == "OGG" or self.frames is None):
            # Seeking near the end of a Vorbis stream returns wrong samples, and needs a known length in FLAC.
            position, skip = 0, start
        elif start:
            try:
                self._file.seek(start)
            except soundfile.LibsndfileError as error:
                raise CorruptAudio(
                    self._path, f"cannot seek to sample {start}: {error.error_string}"
                ) from error
        while True:
            block = np.empty((BLOCK, self.channels), np.float32)
            failure: soundfile.LibsndfileError | None = None
            try:
                n = len(self._file.read(out=block))
            except soundfile.LibsndfileError as error:
                failure, n = error, self._decoded_since(position)
            position += n
            if skip < n:
                yield block[skip:n]
            skip = max(0, skip - n)
            if failure is not None:
                text = f"decoding failed after {position} samples: {failure.error_string}"
                raise CorruptAudio(self._path, text, position) from failure
            if n == 0:
                break
        self._check_length(position)

    def _decoded_since(self, position: int) -> int:
        try:
            return max(0, self._file.tell() - position)
        except soundfile.LibsndfileError:
            return 0

    def _check_length(self, position: int) -> None:
        tolerance = _MP3_TOLERANCE if self.container == "MP3" else 0
        if self.frames is None or position >= self.frames - tolerance:
            return
        reason = f"the header promises {self.frames} samples, {position} could be decoded"
        stream = self._stream
        cut = stream is not None and self._path.stat().st_size < stream.offset + stream.n_bytes
        raise (TruncatedAudio if cut else CorruptAudio)(self._path, reason, position)


class FFmpegSource:
    """A file opened by FFmpeg through PyAV; see :class:`Source`."""

    def __init__(self, path: Path, container: str) -> None:
        try:
            import av
            import av.error
        except ImportError as error:
            text = f"{container} files need FFmpeg: pip install 'pentatonic[ffmpeg]'"
            raise UnsupportedFormat(path, text) from error
        self.container, self.format, self._path = container, container, path
        self._error: type[Exception] = av.error.FFmpegError
        self._resampler = av.AudioResampler(
            format="flt"
        )  # interleaved, because PyAV reads at most eight planes
        try:
            # The demuxer is given, so that FFmpeg does not detect it: a playlist could make it open other files and
            # URLs.
            self._file: Any = av.open(
                f"file:{path}", format=FFMPEG_DEMUXERS[container], metadata_errors="replace"
            )
        except av.error.FFmpegError as error:
            raise CorruptAudio(path, f"the {container} header is damaged: {error.strerror}") from error
        try:
            self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> None:
        streams = self._file.streams.audio
        if not streams or streams[0].codec_context is None:
            reason = f"no audio stream of a known encoding in the {self.container} file"
            raise UnsupportedFormat(self._path, reason)
        self._stream, codec = streams[0], streams[0].codec_context
        self.sample_rate, self.channels, self.subtype = (
            codec.sample_rate,
            codec.layout.nb_channels,
            codec.name,
        )
        if self.sample_rate <= 0 or self.channels <= 0:
            raise CorruptAudio(
                self._path, f"the {self.container} header states no sample rate or no channels"
            )
        # An MP4 index counts samples exactly; fragments and other containers round or estimate.
        counts = (
            self.container == "MP4"
            and self._stream.frames > 0
            and self._stream.time_base == Fraction(1, self.sample_rate)
        )
        self.frames = (self._stream.duration or None) if counts else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def blocks(self, start: int) -> Iterator[NDArray[np.float32]]:
        """See :meth:`Source.blocks`; decodes from the beginning, since FFmpeg does not seek to a sample."""
        position = 0
        try:
            for block in self._decoded():
                position += len(block)
                surplus = max(0, position - self.frames) if self.frames is not None else 0  # encoder padding
                end = len(block) - surplus
                begin = max(0, start - (position - len(block)))
                if begin < end:
                    yield block[begin:end]
        except (self._error, ValueError) as error:  # ValueError also from the resampler
            text = f"decoding failed after {position} samples: {getattr(error, 'strerror', error)}"
            raise CorruptAudio(self._path, text, position) from error
        self._check_length(position)

    def _decoded(self) -> Iterator[NDArray[np.float32]]:
        for frame in self._file.decode(self._stream):
            if (frame.layout.nb_channels, frame.sample_rate) != (self.channels, self.sample_rate):
                raise ValueError("the channels or the sample rate change inside the stream")
            for packed in self._resampler.resample(frame):
                yield packed.to_ndarray().astype(np.float32, copy=False).reshape(-1, self.channels)

    def _check_length(self, position: int) -> None:
        promised = self.frames
        if promised is None and self.container != "AAC" and self._file.duration:
            promised = int((self._file.duration / 1e6 - _FFMPEG_TOLERANCE_S) * self.sample_rate)
        if promised is not None and position < promised:
            reason = f"the header promises {promised} samples, {position} could be decoded"
            raise TruncatedAudio(self._path, reason, position)
