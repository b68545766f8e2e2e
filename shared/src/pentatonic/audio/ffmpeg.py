"""Decode with FFmpeg, through PyAV.

Shape legend: n = samples per channel, C = channels.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pentatonic.audio.formats import mp4
from pentatonic.audio.formats.identify import FFMPEG_DEMUXERS
from pentatonic.errors import CorruptAudio, TruncatedAudio, UnsupportedFormat

HOW_TO_INSTALL = "pip install 'pentatonic[ffmpeg]'"
# Containers whose header states the duration; of the others it is an estimate, or it was not known when written.
_PROMISED_DURATION = frozenset({"AIFF", "APE", "ASF", "CAF", "DSF", "FLAC", "TAK", "TTA", "WAVPACK"})
# Containers of films, which may hold no sound: where the header is unreadable, nothing says that there is any.
_VIDEO = frozenset({"AVI", "FLV", "MPEG-PS", "MPEG-TS", "REALMEDIA"})
_TOLERANCE_S = 0.1  # some round durations to a few ms


def is_installed() -> bool:
    """Whether the extra ``ffmpeg`` is installed."""
    return importlib.util.find_spec("av") is not None


class FFmpegSource:
    """A file opened by FFmpeg; see :class:`pentatonic.audio.sources.Source`.

    Args:
        path: The file.
        container: From :func:`pentatonic.audio.formats.identify.identify`.

    Raises:
        UnsupportedFormat: FFmpeg is not installed, or the file has no audio in an encoding that it knows.
        CorruptAudio: The header is damaged.
    """

    def __init__(self, path: Path, container: str) -> None:
        try:
            import av
            import av.error
        except ImportError as error:
            text = f"{container} files need FFmpeg: {HOW_TO_INSTALL}"
            raise UnsupportedFormat(path, text) from error
        self.container, self.format, self._path = container, container, path
        self.notes: list[str] = []
        self._error: type[Exception] = av.error.FFmpegError
        self._resampler = av.AudioResampler(
            format="flt"
        )  # interleaved, because PyAV reads at most eight planes
        try:
            # The demuxer is given, so that FFmpeg does not detect it: a playlist could make it open other files and
            # URLs. Nor may a demuxer use the network.
            self._file: Any = av.open(
                f"file:{path}",
                format=FFMPEG_DEMUXERS[container],
                options={"protocol_whitelist": "file"},
                metadata_errors="replace",
            )
        except av.error.FFmpegError as error:
            kind = UnsupportedFormat if container in _VIDEO else CorruptAudio
            raise kind(path, f"the {container} header is damaged: {error.strerror}") from error
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
        self.frames, self._end = self._stated_length()

    def _stated_length(self) -> tuple[int | None, int | None]:
        """Samples per channel that the header promises, and after how many the padding of the encoder begins.

        An MP4 index counts samples exactly; fragments and other containers round or estimate. Without an edit list the
        count includes the priming of the encoder, of which only FFmpeg knows whether it drops it.
        """
        stream = self._stream
        exact = stream.frames > 0 and stream.time_base == Fraction(1, self.sample_rate)
        if self.container != "MP4" or not exact or not stream.duration:
            return None, None
        with self._path.open("rb") as file:
            priming = mp4.priming(file, self._path.stat().st_size)
        if priming is None:
            return None, stream.duration - max(0, stream.start_time or 0)
        n_decoded = stream.frames * (stream.codec_context.frame_size or 0) - priming
        return (stream.duration if n_decoded >= stream.duration else None), stream.duration

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def blocks(self, start: int) -> Iterator[NDArray[np.float32]]:
        """See :meth:`pentatonic.audio.sources.Source.blocks`.

        Decodes from the beginning, since FFmpeg does not seek to a sample.
        """
        position = 0
        try:
            for block in self._decoded():
                position += len(block)
                surplus = max(0, position - self._end) if self._end is not None else 0
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
        if self.container in _PROMISED_DURATION and self._file.duration:
            promised = int((self._file.duration / 1e6 - _TOLERANCE_S) * self.sample_rate)
        if promised is not None and position < promised:
            reason = f"the header promises {promised} samples, {position} could be decoded"
            raise TruncatedAudio(self._path, reason, position)
