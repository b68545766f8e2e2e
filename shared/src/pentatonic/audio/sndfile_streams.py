"""FLAC and MPEG audio through libsndfile, with what it does not check: lengths, and changes inside the stream.

Shape legend: n = samples per channel, C = channels.
"""

from __future__ import annotations

import io
from pathlib import Path

from pentatonic.audio.formats import flac, mpeg
from pentatonic.audio.formats.chunks import find_samples
from pentatonic.audio.formats.file_view import FileView
from pentatonic.audio.sndfile import SoundFileSource
from pentatonic.errors import CorruptAudio, TruncatedAudio, UnsupportedFormat

_FLAC_BITS = (8, 16, 24)
# Decoding an MPEG-1 stream from a frame gives the same as from the first one, some frames later: the bit reservoir
# reaches back 511 bytes, and the smallest frames hold 60. The decoder sums in another order from frame to frame, with a
# period of four frames.
_LEAD_IN_FRAMES = 32
_PERIOD_FRAMES = 16


class FlacSource(SoundFileSource):
    """A FLAC file; see :class:`pentatonic.audio.sndfile.SoundFileSource`."""

    def _input(self) -> int | io.BufferedReader:
        size = self._size()
        with self._path.open("rb") as file:
            self._stream = flac.read_stream_header(file, self._offset)
            too_few = flac.states_too_few(file, self._offset, size)
            replaced = flac.without_length(file, self._offset) if too_few else {}
        if self._stream is None:
            raise CorruptAudio(self._path, "the FLAC header is damaged")
        if self._stream.bits not in _FLAC_BITS:
            raise UnsupportedFormat(self._path, f"libsndfile does not read FLAC of {self._stream.bits} bits")
        self._watched = flac.WatchedStream(self._raw, self._offset, size, self._stream, replaced)
        return self._view(self._watched)

    def _seek_point(self, start: int) -> int:
        return start if self.frames is not None else 0

    def _look(self, position: int, n: int) -> CorruptAudio | None:
        change = self._watched.change
        if change is None or self._stream is None or change.start(self._stream) >= position + n > position:
            return None
        end = max(position, change.start(self._stream))
        now = f"{change.sample_rate or self.sample_rate} Hz, {change.channels} channels"
        reason = f"the format changes inside the stream, after {end} samples, to {now}"
        return CorruptAudio(self._path, reason, min(end, position + n))

    def _check_length(self, position: int) -> None:
        if self.frames is not None and position < self.frames:
            reason = f"the header promises {self.frames} samples, {position} could be decoded"
            raise CorruptAudio(self._path, reason, position)


class MpegSource(SoundFileSource):
    """MPEG audio, in a file of its own or in a WAV; see :class:`pentatonic.audio.sndfile.SoundFileSource`."""

    def __init__(self, path: Path, container: str, offset: int) -> None:
        super().__init__(path, container, offset)
        if container != "MP3":
            self.format = container  # libsndfile sees the stream inside alone

    def _input(self) -> int | io.BufferedReader:
        start, stop = self._offset, self._size()
        with self._path.open("rb") as file:
            if samples := find_samples(file, self.container, stop):
                start, stop = samples.start, samples.start + samples.there
            stream = mpeg.scan(file, start, stop)
        if stream is None:
            raise CorruptAudio(self._path, "the MPEG audio header is damaged")
        self._stream = stream
        self._n_stated = stream.header.n_frames if stream.header else 0
        self._delay = stream.header.delay if stream.header and self._n_stated else 0
        if self._n_stated >= max(1, stream.n_frames) and self.container == "MP3":
            self._raw.seek(start)
            return self._raw.fileno()
        if stream.header and self._n_stated:
            count = max(self._n_stated, stream.n_frames)
            replaced = {stream.header.count_offset: count.to_bytes(4, "big")}
            return self._view(FileView(self._raw, start, stream.stop, replaced=replaced))
        # Without a length header the decoder estimates one from the size of the stream. Zeros behind, which are never
        # read, bring the estimate above the number of frames, so that it limits nothing.
        zeros = (stream.n_frames + 1) * mpeg.LARGEST_FRAME
        return self._view(FileView(self._raw, stream.start, stream.stop, zeros=zeros))

    def _count(self) -> int | None:
        there = self._stream.n_frames * self._stream.first.n_samples - self._delay
        if not self._n_stated:
            return there
        # Some encoders count the length header too, and the last frame may be incomplete.
        return min(self._file.frames, there) if self._n_missing == 1 else self._file.frames

    @property
    def _n_missing(self) -> int:
        return self._n_stated - self._stream.n_frames

    def _seek_point(self, start: int) -> int:
        first = self._stream.first
        if first.layer == 1 or not first.mpeg1:  # the decoder of the others keeps traces of the past for long
            return 0
        frame = (start + self._delay) // first.n_samples - _LEAD_IN_FRAMES
        return max(0, frame // _PERIOD_FRAMES * _PERIOD_FRAMES * first.n_samples - self._delay)

    def _check_length(self, position: int) -> None:
        if self.frames is not None and position < self.frames:
            reason = f"the header promises {self.frames} samples, {position} could be decoded"
            raise (TruncatedAudio if self._stream.cut else CorruptAudio)(self._path, reason, position)
        if self._stream.changes:
            reason = f"the format changes inside the stream, after {position} samples"
            raise CorruptAudio(self._path, reason, position)
        if self._n_missing == 1:
            self.notes.append(f"the header states {self._n_stated} frames, {self._stream.n_frames} are there")
        elif self._stream.cut and not self._n_stated:
            self.notes.append("the last frame is incomplete")
