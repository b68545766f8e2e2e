"""Find the samples in files that consist of chunks, and how many bytes of them are there.

Programs that write to a pipe, or that were killed, leave a length in the header that means nothing: 0, or one near the
largest that the field can hold. Then all that is there counts as samples, and a decoder gets a repaired header.

Sources: the specifications of RIFF WAVE, EBU Tech 3306 (RF64), Sony Wave64, AIFF-C, CAF, IFF 8SVX and Sun audio.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

UNKNOWN_FROM = 0x7FFFF000
"""The lowest of the lengths that programs write to a pipe; it and all above mean "unknown"."""

_W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
_W64_FORMAT = bytes.fromhex("666d7420f3acd3118cd100c04f8edb8a")
_W64_RIFF_LENGTH = 16  # position of the length of the file
_AU_SAMPLE_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
_MPEG_IN_WAV = (0x50, 0x55)
_MAX_CHUNKS = 10_000  # real files have far fewer before their samples; a malicious one could have millions


@dataclass(frozen=True)
class Layout:
    """How chunks follow each other.

    Attributes:
        first: Position of the first chunk.
        samples: Name of the chunk of samples; its size is also that of all names.
        length: Coding of the length, which follows the name.
        align: Chunks start at multiples of so many bytes.
        inclusive: The length counts name and length too.
    """

    first: int
    samples: bytes
    length: struct.Struct
    align: int
    inclusive: bool = False

    @property
    def header(self) -> int:
        """Bytes of name and length."""
        return len(self.samples) + self.length.size


_LAYOUTS = {
    "WAV": Layout(12, b"data", struct.Struct("<I"), 2),
    "RF64": Layout(12, b"data", struct.Struct("<I"), 2),
    "AIFF": Layout(12, b"SSND", struct.Struct(">I"), 2),
    "SVX": Layout(12, b"BODY", struct.Struct(">I"), 2),
    "W64": Layout(40, _W64_DATA, struct.Struct("<Q"), 8, inclusive=True),
    "CAF": Layout(8, b"data", struct.Struct(">q"), 1),
}
_RIFX = Layout(12, b"data", struct.Struct(">I"), 2)


@dataclass(frozen=True)
class Samples:
    """Where the samples are.

    Attributes:
        start: Position of the first byte.
        stated: Bytes as the header states; None where it says that they are not known, or 0 with samples behind.
        there: Bytes up to the end of the chunk or of the file.
        is_promise: The stated length means something, and is not off by less than a block.
        is_mpeg: They are MPEG audio inside a WAV.
        repair: Position in the file -> bytes, so that a decoder reads all that is there.
    """

    start: int
    stated: int | None
    there: int
    is_promise: bool
    is_mpeg: bool
    repair: dict[int, bytes]


def find_samples(file: BinaryIO, container: str, size: int) -> Samples | None:
    """Find the samples of a file that consists of chunks.

    Args:
        file: A buffered binary file.
        container: From :func:`pentatonic.audio.formats.identify.identify`.
        size: Size of the file in bytes.

    Returns:
        Where they are; None in other containers, and where they are missing.
    """
    if container == "AU":
        return _au_samples(file, size)
    if container not in _LAYOUTS:
        return None
    file.seek(0)
    layout = _RIFX if file.read(4) == b"RIFX" else _LAYOUTS[container]
    file.seek(8)
    # Bytes of a block of samples, of which the last may be incomplete.
    block, is_mpeg, long_field = 2 if file.read(4) == b"16SV" else 1, False, 0
    for name, start, length in _chunks(file, layout, layout.first, size):
        if name in (b"fmt ", b"desc", b"COMM", _W64_FORMAT):
            block, is_mpeg = _format(file, name, start, "big" if layout is _RIFX else "little")
        if name == b"ds64":
            long_field = start + 8  # RF64: the length of the samples in 64 bits
        if name == layout.samples:
            field, coding = start - layout.length.size, layout.length
            if length == 0xFFFFFFFF and long_field:
                field, coding = long_field, struct.Struct("<Q")
                file.seek(field)
                length = int.from_bytes(file.read(coding.size), "little")  # noqa: PLW2901 - the one that counts
            behind = max(0, size - start)
            stated = _stated(file, layout, start, length, size)
            there = behind if stated is None else min(stated, behind)
            included = layout.header if layout.inclusive else 0
            known = stated is not None and stated + included < UNKNOWN_FROM
            repair: dict[int, bytes] = {}
            if not known and there != stated:
                repair[field] = coding.pack(min(there + included, (1 << 8 * coding.size) - 1))
                if container == "W64":
                    repair[_W64_RIFF_LENGTH] = coding.pack(size)
            return Samples(start, stated, there, known and length - there >= block, is_mpeg, repair)
    return None


def _chunks(file: BinaryIO, layout: Layout, position: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte, length in bytes) of each chunk from this position on."""
    for _ in range(_MAX_CHUNKS):
        if position + layout.header > size:
            return
        file.seek(position)
        head = file.read(layout.header)
        (length,) = layout.length.unpack_from(head, len(layout.samples))
        if layout.inclusive:
            length -= layout.header
        start = position + layout.header
        yield head[: len(layout.samples)], start, length
        if length < 0:
            return
        position = start + -(-length // layout.align) * layout.align


def _stated(file: BinaryIO, layout: Layout, start: int, length: int, size: int) -> int | None:
    """The length of the chunk of samples, or None where it is none: negative, or 0 with samples behind."""
    empty = 8 if layout.samples == b"SSND" else 0  # two numbers that come before the samples
    if length < 0:
        return None
    if length > empty or size <= start + empty or _are_chunks(file, layout, start + length, size):
        return length
    return None


def _are_chunks(file: BinaryIO, layout: Layout, position: int, size: int) -> bool:
    """Whether chunks fill the file from this position on."""
    end = position
    for name, start, length in _chunks(file, layout, position, size):
        end = start + length
        if length < 0 or end > size or not name[:4].isascii() or not name[:4].decode("ascii").isprintable():
            return False
    return size - end < layout.align


def _format(file: BinaryIO, name: bytes, start: int, order: Literal["big", "little"]) -> tuple[int, bool]:
    """Bytes of a block of samples by the chunk that describes them, and whether they are MPEG audio."""
    file.seek(start)
    head = file.read(20).ljust(20, b"\0")
    if name == b"COMM":
        channels, _, bits = struct.unpack_from(">HIH", head)
        return max(1, channels * -(-bits // 8)), False
    if name == b"desc":
        return max(1, int.from_bytes(head[16:20], "big")), False
    return max(1, int.from_bytes(head[12:14], order)), int.from_bytes(head[:2], order) in _MPEG_IN_WAV


def _au_samples(file: BinaryIO, size: int) -> Samples | None:
    file.seek(0)
    head = file.read(24)
    if len(head) < 24:
        return None
    start, length, encoding, _, channels = struct.unpack(">5I", head[4:])
    block = max(1, _AU_SAMPLE_BYTES.get(encoding, 1) * channels)
    behind = max(0, size - start)
    stated = None if length == 0xFFFFFFFF or (length == 0 and behind) else length
    there = behind if stated is None else min(stated, behind)
    known = stated is not None and stated < UNKNOWN_FROM
    repair = {} if known or length in (there, 0xFFFFFFFF) else {8: b"\xff" * 4}
    return Samples(start, stated, there, known and length - there >= block, False, repair)
