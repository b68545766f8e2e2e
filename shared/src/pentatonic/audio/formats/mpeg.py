"""Frame headers of MPEG audio (layers I to III), to find where a stream starts and how long it is.

A decoder takes the length from the length header (the "Xing" or "Info" frame), and without one extrapolates the size of
the first frames to the whole file. With a variable bit rate that estimate can silently drop half of the music, and a
length header may be wrong too, so frames are counted here.

Sources: ISO/IEC 11172-3 and 13818-3 (frame header), the Xing VBR header as LAME writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

_SEARCH_BYTES = 1 << 16
_READ_BYTES = 1 << 20
_CONFIRMING_FRAMES = 3
LARGEST_FRAME = 2881
"""Bytes of the largest layer II or III frame."""
DECODER_DELAY = 529
"""Samples by which the output of a layer III decoder lags; dropped with the delay of the encoder, if that is known."""

# kbit/s by (MPEG-1, layer) and bit rate index - 1; index 0 (free format) and 15 are not usable.
_LOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBITS = {
    (True, 1): tuple(range(32, 449, 32)),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): _LOW,
    (False, 3): _LOW,
}
_RATES = (44100, 48000, 32000)


@dataclass(frozen=True)
class Frame:
    """One frame header.

    Attributes:
        n_bytes: Bytes from this header to the next.
        n_samples: Samples per channel.
        layer: 1, 2 or 3.
        mpeg1: MPEG-1, and not one of the later versions with lower sample rates.
        family: The header bits that all frames of a stream share (version, layer, sample rate).
        xing_offset: Position of a length header, in bytes from the start of the frame.
    """

    n_bytes: int
    n_samples: int
    layer: int
    mpeg1: bool
    family: int
    xing_offset: int


@dataclass(frozen=True)
class LengthHeader:
    """A length header, in a frame of its own that is not music.

    Attributes:
        count_offset: Position of the number of frames, in bytes from the start of the stream.
        n_frames: Number of frames as stated; 0 where it is not stated.
        n_bytes: Bytes of the stream as stated; 0 where they are not stated.
        delay: Samples at the start that a decoder drops.
    """

    count_offset: int
    n_frames: int
    n_bytes: int
    delay: int


@dataclass(frozen=True)
class MpegStream:
    """Position and length of an MPEG audio stream.

    Attributes:
        first: Header of the first frame.
        start: Position of the first frame that is music, in bytes.
        stop: Position after the last whole frame, in bytes.
        n_frames: Whole frames of music.
        cut: The stream ends inside a frame, or before the number of bytes that the length header states.
        changes: After ``stop`` go on frames of another version, layer or sample rate.
        header: The length header, in front of ``start``, or None.
    """

    first: Frame
    start: int
    stop: int
    n_frames: int
    cut: bool
    changes: bool
    header: LengthHeader | None


def parse_header(header: bytes) -> Frame | None:
    """The frame that starts with these four bytes, or None when they are not a frame header."""
    if len(header) < 4:
        return None
    word = int.from_bytes(header[:4], "big")
    version, layer = word >> 19 & 3, 4 - (word >> 17 & 3)  # version: 3 is MPEG-1, 2 MPEG-2, 0 MPEG-2.5
    bit_rate, rate = word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return None
    mpeg1 = version == 3
    sample_rate = _RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    n_samples = {1: 384, 2: 1152, 3: 1152 if mpeg1 else 576}[layer]
    slot = 4 if layer == 1 else 1  # a frame is a whole number of slots, in bytes
    padding = word >> 9 & 1
    n_slots = n_samples // 8 * 1000 * _KBITS[mpeg1, layer][bit_rate - 1] // (slot * sample_rate) + padding
    mono = word >> 6 & 3 == 3
    side_info = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    return Frame(slot * n_slots, n_samples, layer, mpeg1, word & 0xFFFE0C00, 4 + side_info)


def skip_id3(file: BinaryIO) -> int:
    """Seek to the first byte after any ID3v2 tags, and return that position."""
    position = 0
    while True:
        file.seek(position)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3":
            file.seek(position)
            return position
        a, b, c, d = (byte & 0x7F for byte in head[6:])
        footer = 10 if head[5] & 0x10 else 0
        position += 10 + (a << 21 | b << 14 | c << 7 | d) + footer


def find_frame(file: BinaryIO, start: int, family: int | None = None) -> int | None:
    """The position of the first frame in the 64 KiB from ``start``, or None.

    A frame counts when two more follow it, or when it is at ``start`` itself (but not in layer I, whose header may also
    be the start of a text in UTF-16).

    Args:
        file: A buffered binary file.
        start: Position to search from, in bytes.
        family: Accept only frames of this family.
    """
    file.seek(start)
    data = file.read(_SEARCH_BYTES)
    at = data.find(b"\xff")
    while at >= 0:
        frame = parse_header(data[at : at + 4])
        if frame is not None and family in (None, frame.family):
            trusted = at == 0 and frame.layer != 1
            if trusted or _confirmed(file, start + at):
                return start + at
        at = data.find(b"\xff", at + 1)
    return None


def _confirmed(file: BinaryIO, position: int) -> bool:
    family = None
    for _ in range(_CONFIRMING_FRAMES):
        file.seek(position)
        frame = parse_header(file.read(4))
        if frame is None or family not in (None, frame.family):
            return False
        family, position = frame.family, position + frame.n_bytes
    return True


def scan(file: BinaryIO, offset: int, stop: int) -> MpegStream | None:
    """Read the length header of a stream, if it has one, and count its frames.

    Args:
        file: A buffered binary file.
        offset: Position of the first frame, in bytes.
        stop: Position after the last byte that may belong to the stream.

    Returns:
        The stream, or None when there is no frame at ``offset``.
    """
    file.seek(offset)
    head = file.read(256)
    first = parse_header(head)
    if first is None:
        return None
    header = _length_header(head, first)
    start = offset + first.n_bytes if header else offset
    n_frames, end, cut = _count(file, start, stop, first.family)
    changes = not cut and _has_frames(file, end, stop)
    cut = cut or (header is not None and stop < offset + header.n_bytes)
    return MpegStream(first, start, end, n_frames, cut, changes, header)


def _length_header(head: bytes, first: Frame) -> LengthHeader | None:
    at = first.xing_offset
    if first.layer != 3 or head[at : at + 4] not in (b"Xing", b"Info"):
        return None
    flags = int.from_bytes(head[at + 4 : at + 8], "big")
    # Each of four fields is there when its flag is set: number of frames, of bytes, table of contents, quality.
    sizes = [size if flags >> bit & 1 else 0 for bit, size in enumerate((4, 4, 100, 4))]
    counts, lame = at + 8, at + 8 + sum(sizes)
    n_frames = int.from_bytes(head[counts : counts + sizes[0]], "big")
    n_bytes = int.from_bytes(head[counts + sizes[0] : counts + sum(sizes[:2])], "big")
    delay = int.from_bytes(head[lame + 21 : lame + 23], "big") >> 4 if lame + 24 <= first.n_bytes else 0
    return LengthHeader(counts, n_frames, n_bytes, DECODER_DELAY + delay)


def _count(file: BinaryIO, start: int, stop: int, family: int) -> tuple[int, int, bool]:
    """Whole frames, the position after the last one, and whether the stream ends inside another one."""
    n_frames, position, end = 0, start, start
    sizes: dict[bytes, int] = {}  # bytes of a frame by the three bytes of its header that decide them
    data, at_data = b"", start
    while position + 4 <= stop:
        at = position - at_data
        if not 0 <= at <= len(data) - 4:
            file.seek(position)
            data, at_data, at = file.read(_READ_BYTES), position, 0
        size = sizes.get(data[at : at + 3])
        if size is None:
            frame = parse_header(data[at : at + 4])
            if frame is None or frame.family != family:
                found = find_frame(file, position + 1, family)
                if found is None:
                    break
                position = found
                continue
            size = sizes[data[at : at + 3]] = frame.n_bytes
        if position + size > stop:
            return n_frames, end, True
        n_frames, position = n_frames + 1, position + size
        end = position
    return n_frames, end, False


def _has_frames(file: BinaryIO, position: int, stop: int) -> bool:
    found = find_frame(file, position, None) if position < stop else None
    return found is not None and _confirmed(file, found)
