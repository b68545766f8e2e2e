"""Headers of FLAC frames, for what the decoder does not report.

libsndfile stops at the number of samples that the file header states, even when more follow, and does not say that the
sample rate changes inside the stream. Both show in the headers of the frames.

Source: RFC 9639, sections 8.2 (STREAMINFO) and 9.1 (frame header).
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import BinaryIO

from pentatonic.audio.formats.file_view import FileView

_RATES = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
_BITS = {0: 0, 1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}
_BLOCK_SIZES = {1: 192, 2: 576, 3: 1152, 4: 2304, 5: 4608} | {code: 1 << code for code in range(8, 16)}
_SYNC = re.compile(rb"\xff[\xf8\xf9]")  # the second where sizes of frames vary
_LONGEST_HEADER = 16
_TAIL_BYTES = 1 << 16


@dataclass(frozen=True)
class StreamHeader:
    """What the STREAMINFO block states.

    Attributes:
        sample_rate: In Hz.
        channels: Number of channels.
        bits: Bits per sample.
        n_samples: Samples per channel; 0 where they are not stated.
        block_size: Samples per channel of every frame but the last, where frames have one size.
        max_frame_bytes: Size of the largest frame; 0 where it is not stated.
    """

    sample_rate: int
    channels: int
    bits: int
    n_samples: int
    block_size: int
    max_frame_bytes: int


@dataclass(frozen=True)
class FrameHeader:
    """Header of one frame.

    Attributes:
        sample_rate: In Hz; 0: that of the stream.
        channels: Number of channels.
        bits: Bits per sample; 0: those of the stream.
        n_samples: Samples per channel.
        number: First sample of the frame where sizes of frames vary, else the number of the frame.
        varies: Whether sizes of frames vary.
    """

    sample_rate: int
    channels: int
    bits: int
    n_samples: int
    number: int
    varies: bool

    def start(self, stream: StreamHeader) -> int:
        """First sample of the frame."""
        return self.number if self.varies else self.number * stream.block_size

    def follows(self, other: FrameHeader) -> bool:
        """Whether this frame comes right after another one of the same format."""
        step = other.n_samples if other.varies else 1
        return self.number == other.number + step and (
            (self.sample_rate, self.channels, self.bits, self.varies)
            == (other.sample_rate, other.channels, other.bits, other.varies)
        )

    def fits(self, stream: StreamHeader) -> bool:
        """Whether the frame has the sample rate, the channels and the bits of the stream."""
        return (
            self.sample_rate in (0, stream.sample_rate)
            and self.channels == stream.channels
            and self.bits in (0, stream.bits)
        )


def read_stream_header(file: BinaryIO, offset: int) -> StreamHeader | None:
    """Read the header of the FLAC stream at ``offset``; None when it is damaged."""
    file.seek(offset)
    head = file.read(42)
    if len(head) < 42 or head[:4] != b"fLaC" or head[4] & 0x7F:
        return None
    packed = int.from_bytes(head[18:26], "big")
    return StreamHeader(
        sample_rate=packed >> 44,
        channels=(packed >> 41 & 7) + 1,
        bits=(packed >> 36 & 31) + 1,
        n_samples=packed & (1 << 36) - 1,
        block_size=int.from_bytes(head[10:12], "big"),
        max_frame_bytes=int.from_bytes(head[15:18], "big"),
    )


def states_too_few(file: BinaryIO, offset: int, size: int) -> bool:
    """Whether frames lie behind the number of samples that the header states, by the last frame of the file.

    Args:
        file: A buffered binary file.
        offset: Where the FLAC stream starts.
        size: Size of the file in bytes.
    """
    stream = read_stream_header(file, offset)
    if stream is None or stream.n_samples == 0:
        return False
    start = max(offset, size - max(_TAIL_BYTES, 2 * stream.max_frame_bytes))
    file.seek(start)
    tail = file.read(size - start)
    for found in reversed(list(_SYNC.finditer(tail))):
        frame = parse_frame(tail, found.start())
        if frame is not None and frame.fits(stream):
            return frame.start(stream) + frame.n_samples > stream.n_samples
    return False


def without_length(file: BinaryIO, offset: int) -> dict[int, bytes]:
    """Bytes of the header that say "length unknown", by their position in the stream."""
    file.seek(offset + 21)
    return {21: bytes([file.read(1)[0] & 0xF0]) + bytes(4)}


class WatchedStream(FileView):
    """A FLAC stream that notes where the format of its frames changes, while a decoder reads it.

    Attributes:
        change: The first frame of another sample rate, number of channels or bits than the header states, or None.
    """

    def __init__(
        self, file: io.FileIO, start: int, stop: int, stream: StreamHeader, replaced: dict[int, bytes]
    ) -> None:
        super().__init__(file, start, stop, replaced=replaced)
        self._stream = stream
        self._usual: set[int] = set()
        self._suspect: FrameHeader | None = None
        self._before, self._next = b"", 0
        self.change: FrameHeader | None = None

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read, and look at the frame headers in what was read."""
        if self.tell() != self._next:
            self._before = b""
        n = super().readinto(buffer)
        self._next = self.tell()
        if self.change is None:
            self._look(self._before + bytes(buffer[:n]))
        return n

    def _look(self, data: bytes) -> None:
        """Look at the frame headers in what was read, but for its last bytes, which come again before the next ones."""
        stop = max(0, len(data) - _LONGEST_HEADER)
        for found in _SYNC.finditer(data, 0, stop + 1):
            at = found.start()
            code = (data[at + 2] & 0x0F) << 8 | data[at + 3]
            if code not in self._usual:
                self._judge(code, parse_frame(data, at))
        self._before = data[stop:]

    def _judge(self, code: int, frame: FrameHeader | None) -> None:
        if frame is None:
            return
        if frame.fits(self._stream):
            # Codes 12 to 14 give the rate in bytes of their own, so the next one with this code may differ.
            if code >> 8 < 12:
                self._usual.add(code)
            return
        # Two in a row prove that it is not chance.
        if self.change is None and self._suspect is not None and frame.follows(self._suspect):
            self.change = self._suspect
        self._suspect = frame


def parse_frame(data: bytes, at: int) -> FrameHeader | None:
    """The frame header at this position, or None when there is none; its checksum is checked."""
    head = data[at : at + _LONGEST_HEADER]
    if len(head) < 6 or not _SYNC.match(head):
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    channel_code, bits_code = head[3] >> 4, head[3] >> 1 & 7
    if size_code == 0 or rate_code == 15 or channel_code > 10 or bits_code == 3 or head[3] & 1:
        return None
    number, position = _coded_number(head)
    extra = {6: 1, 7: 2}.get(size_code, 0)
    rate_bytes = {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    end = position + extra + rate_bytes
    if number is None or end >= len(head) or _crc_8(head[:end]) != head[end]:
        return None
    n_samples = _BLOCK_SIZES.get(size_code) or int.from_bytes(head[position : position + extra], "big") + 1
    rate = int.from_bytes(head[position + extra : end], "big") * {12: 1000, 14: 10}.get(rate_code, 1)
    return FrameHeader(
        sample_rate=rate if rate_bytes else _RATES[rate_code],
        channels=channel_code + 1 if channel_code < 8 else 2,
        bits=_BITS[bits_code],
        n_samples=n_samples,
        number=number,
        varies=bool(head[1] & 1),
    )


def _coded_number(head: bytes) -> tuple[int | None, int]:
    """The number of the frame, coded as a character of UTF-8 is, and the position behind it."""
    first = head[4]
    if first < 0x80:
        return first, 5
    n_more = 7 - (first ^ 0xFF).bit_length()
    if not 1 <= n_more <= 6:
        return None, 5
    number = first & (1 << 6 - n_more) - 1
    for byte in head[5 : 5 + n_more]:
        if byte & 0xC0 != 0x80:
            return None, 5
        number = number << 6 | byte & 0x3F
    return number, 5 + n_more


def _crc_8(data: bytes) -> int:
    """CRC of polynomial 0x07, from 0."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc
