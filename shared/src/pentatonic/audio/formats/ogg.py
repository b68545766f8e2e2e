"""Integrity of Ogg files.

Ogg decoders silently skip lost pages or replace them by silence, so every page is checked before decoding: pages must
follow each other without gaps, and their checksums must match.

Source: RFC 3533, section 6.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import BinaryIO

from pentatonic.errors import CorruptAudio, TruncatedAudio

_HEADER_BYTES = 27
_END_OF_STREAM = 4
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def find_fault(path: Path, file: BinaryIO) -> CorruptAudio | str | None:
    """The first fault of an Ogg file, or None.

    Args:
        path: Path for the error message.
        file: The file, open for reading, at its first page.

    Returns:
        TruncatedAudio when the file ends inside a page, CorruptAudio when a page is damaged or missing in between; the
        text of a warning when the last page does not end a stream, as where a recording was stopped.
    """
    position, ended = 0, False
    while True:
        header = file.read(_HEADER_BYTES)
        if ended and header[:4] != b"OggS":
            return None  # the end, or tags after the last page
        header += file.read(header[26]) if len(header) == _HEADER_BYTES else b""
        if not header:
            return f"ends at byte {position} without the page that ends the stream"
        if not header.startswith(b"OggS"[: len(header)]):
            return CorruptAudio(path, f"damaged: no Ogg page at byte {position}")
        body_bytes = sum(header[_HEADER_BYTES:])
        body = file.read(body_bytes)
        if len(header) < _HEADER_BYTES or len(header) < _HEADER_BYTES + header[26] or len(body) < body_bytes:
            return TruncatedAudio(path, f"ends inside the Ogg page at byte {position}")
        if int.from_bytes(header[22:26], "little") != _checksum(header[:22] + bytes(4) + header[26:] + body):
            return CorruptAudio(path, f"damaged: wrong checksum of the Ogg page at byte {position}")
        position += len(header) + body_bytes
        ended = bool(header[5] & _END_OF_STREAM)


def _checksum(page: bytes) -> int:
    """CRC-32 of polynomial 0x04c11db7, most significant bit first, from 0 (zlib's is least significant bit first)."""
    mirrored = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
