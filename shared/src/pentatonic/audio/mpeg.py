"""Frame headers of MPEG audio (layers II and III), to find where a stream starts and how long it is.

A decoder takes the length from the length header (the "Xing" or "Info" frame), and without one extrapolates the size of
the first frame to the whole file. With a variable bit rate that estimate can silently drop half of the music, so a
stream without a length header is counted frame by frame here.

Sources: ISO/IEC 11172-3 and 13818-3 (frame header), the Xing VBR header as LAME writes it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

_SEARCH_BYTES = 1 << 16
_CONFIRMING_FRAMES = 3

# kbit/s by (MPEG-1, layer) and bit rate index - 1; index 0 (free format) and 15 are not usable.
_LOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBITS = {
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
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
        layer: 2 or 3.
        family: The header bits that all frames of a stream share (version, layer, sample rate).
        xing_offset: Position of a length header, in bytes from the start of the frame.
    """

    n_bytes: int
    n_samples: int
    layer: int
    family: int
    xing_offset: int


@dataclass(frozen=True)
class MpegStream:
    """Position and length of an MPEG audio stream.

    Attributes:
        offset: Position of the first frame in the file, in bytes.
        n_samples: Samples per channel, counted frame by frame; None when a length header states the length.
        n_bytes: Bytes from ``offset`` on: counted, or as the length header states; 0 when it does not state them.
    """

    offset: int
    n_samples: int | None
    n_bytes: int


def parse_header(header: bytes) -> Frame | None:
    """The layer II or III frame that starts with these four bytes, or None when they are not a frame header."""
    if len(header) < 4:
        return None
    word = int.from_bytes(header[:4], "big")
    version, layer = word >> 19 & 3, 4 - (word >> 17 & 3)  # version: 3 is MPEG-1, 2 MPEG-2, 0 MPEG-2.5
    bit_rate, rate = word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or version == 1 or layer not in (2, 3) or bit_rate in (0, 15) or rate == 3:
        return None
    mpeg1 = version == 3
    sample_rate = _RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    n_samples = 576 if layer == 3 and not mpeg1 else 1152
    padding = word >> 9 & 1
    n_bytes = n_samples // 8 * 1000 * _KBITS[mpeg1, layer][bit_rate - 1] // sample_rate + padding
    mono = word >> 6 & 3 == 3
    side_info = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    return Frame(n_bytes, n_samples, layer, word & 0xFFFE0C00, 4 + side_info)


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

    A frame counts when two more follow it, or when it is at ``start`` itself.

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
        fits = frame is not None and family in (None, frame.family)
        if fits and (at == 0 or _confirmed(file, start + at)):
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


def scan(file: BinaryIO, offset: int) -> MpegStream:
    """Read the length header of the stream whose first frame is at ``offset``, or count its frames."""
    file.seek(offset)
    head = file.read(256)
    first = parse_header(head)
    if first is None:
        return MpegStream(offset, None, 0)
    xing = head[first.xing_offset : first.xing_offset + 16]
    if len(xing) == 16 and xing[:4] in (b"Xing", b"Info"):
        flags, _, n_bytes = struct.unpack(">III", xing[4:])
        if flags & 1:
            return MpegStream(offset, None, n_bytes if flags & 2 else 0)
    n_samples, end = _count(file, offset, first.family)
    return MpegStream(offset, n_samples, end - offset)


def _count(file: BinaryIO, offset: int, family: int) -> tuple[int, int]:
    """Samples per channel, and the position after the last frame."""
    total, position = 0, offset
    while True:
        file.seek(position)
        frame = parse_header(file.read(4))
        if frame is not None and frame.family == family:
            total, position = total + frame.n_samples, position + frame.n_bytes
            continue
        found = find_frame(file, position + 1, family)
        if found is None:
            return total, position
        position = found


def normalised(file: BinaryIO, stream: MpegStream) -> bytes:
    """The frames of a counted stream without the tags after them; for layer III with a length header before them."""
    file.seek(stream.offset)
    data = file.read(stream.n_bytes)
    # At bit rate index 11 (112 to 192 kbit/s) a frame of any sample rate has room for the 12 bytes.
    header = bytes((data[0], data[1] | 1, data[2] & 0x0F | 0xB0, data[3]))
    frame = parse_header(header)
    if stream.n_samples is None or frame is None or frame.layer == 2:
        return data
    xing = b"Xing" + struct.pack(">II", 1, stream.n_samples // frame.n_samples)
    return (header + bytes(frame.xing_offset - 4) + xing).ljust(frame.n_bytes, b"\0") + data
