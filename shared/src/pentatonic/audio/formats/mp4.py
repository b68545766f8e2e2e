"""Boxes of MP4 files, as far as the length of the sound depends on them.

Source: ISO/IEC 14496-12, sections 4.2 (boxes) and 8.6.6 (edit list).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_MAX_BOXES = 10_000  # real files have far fewer; a malicious one could have millions
_EDIT_LIST_BYTES = 2000  # enough for its first hundred edits


def boxes(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte, length in bytes) of the boxes from ``start`` to ``stop``, a position inside the file."""
    for _ in range(_MAX_BOXES):
        if start + 8 > stop:
            return
        file.seek(start)
        head = file.read(16)
        length, header = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(head[8:16], "big"), 16
        if length < header:  # 0: up to the end of the file
            return
        yield head[4:8], start + header, length - header
        start += length


def priming(file: BinaryIO, size: int) -> int | None:
    """Samples at the start that the edit list of the first audio track drops; None where there is no edit list."""
    for moov in _inside(file, 0, size, b"moov"):
        for trak in _inside(file, *moov, b"trak"):
            if not any(_is_sound(file, *mdia) for mdia in _inside(file, *trak, b"mdia")):
                continue
            for edts in _inside(file, *trak, b"edts"):
                for start, stop in _inside(file, *edts, b"elst"):
                    return _first_edit(file, start, stop)
            return None
    return None


def _inside(file: BinaryIO, start: int, stop: int, wanted: bytes) -> list[tuple[int, int]]:
    """(start, stop) of the boxes of this name."""
    found = boxes(file, start, stop)
    return [(first, min(first + length, stop)) for name, first, length in found if name == wanted]


def _is_sound(file: BinaryIO, start: int, stop: int) -> bool:
    for first, _ in _inside(file, start, stop, b"hdlr"):
        file.seek(first + 8)
        return file.read(4) == b"soun"
    return False


def _first_edit(file: BinaryIO, start: int, stop: int) -> int:
    """Time at which the first edit starts that is not empty, in the units of the track (samples, for sound)."""
    file.seek(start)
    head = file.read(min(stop - start, _EDIT_LIST_BYTES))
    size = 8 if head[:1] == b"\x01" else 4
    for at in range(8 + size, len(head) - size + 1, 2 * size + 4):
        time = int.from_bytes(head[at : at + size], "big", signed=True)
        if time >= 0:  # -1: silence before the sound
            return time
    return 0
