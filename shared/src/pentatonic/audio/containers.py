"""Detect the container of a file from its first bytes, and check its length against its header."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from pentatonic.audio import mpeg, ogg
from pentatonic.errors import CorruptAudio, TruncatedAudio

# Containers that each decoder may open; anything else is refused before a decoder reads it.
LIBSNDFILE = frozenset({"WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3"})
FFMPEG_DEMUXERS = {
    "MP4": "mp4",
    "MATROSKA": "matroska",
    "ASF": "asf",
    "AAC": "aac",
    "WAVPACK": "wv",
    "APE": "ape",
    # For encodings that libsndfile cannot decode, in containers that it can read.
    "WAV": "wav",
    "AIFF": "aiff",
    "CAF": "caf",
}

_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
_MAGIC = (
    (0, b"fLaC", "FLAC"),
    (0, b".snd", "AU"),
    (0, b"caff", "CAF"),
    (0, _W64_RIFF, "W64"),
    (4, b"ftyp", "MP4"),
    (0, b"\x1a\x45\xdf\xa3", "MATROSKA"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF"),
    (0, b"wvpk", "WAVPACK"),
    (0, b"MAC ", "APE"),
)
# First four bytes -> (allowed bytes 8 to 12, container); a file truncated before byte 12 still counts.
_FORMS = {
    b"RIFF": ((b"WAVE",), "WAV"),
    b"RIFX": ((b"WAVE",), "WAV"),
    b"RF64": ((b"WAVE",), "RF64"),
    b"FORM": ((b"AIFF", b"AIFC"), "AIFF"),
}
_OGG_CODECS = (b"\x01vorbis", b"OpusHead")
_SAMPLE_CHUNKS = (b"data", b"SSND", b"mdat", b"moov", _W64_DATA)
_MAX_CHUNKS = 10_000  # real files have far fewer before their samples; a malicious one could have millions


def identify(path: Path) -> tuple[str | None, int]:
    """Detect the container, and the byte at which it starts (after ID3 tags and, for MP3, after other bytes).

    Args:
        path: A readable file.

    Returns:
        A key of :data:`LIBSNDFILE` or :data:`FFMPEG_DEMUXERS`, or None for anything else; the offset in bytes.
    """
    with path.open("rb") as file:
        offset = mpeg.skip_id3(file)
        head = file.read(64)
        for at, magic, name in _MAGIC:
            if head[at : at + len(magic)] == magic:
                return name, offset
        if head[:4] in _FORMS:
            kinds, name = _FORMS[head[:4]]
            return (name if any(kind.startswith(head[8:12]) for kind in kinds) else None), offset
        if head[:4] == b"OggS":
            payload = head[28:36]
            known = any(payload.startswith(codec) or codec.startswith(payload) for codec in _OGG_CODECS)
            return ("OGG" if known else None), offset
        if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
            return "AAC", offset
        first = mpeg.find_frame(file, offset)
        return ("MP3", first) if first is not None else (None, offset)


def find_fault(path: Path, container: str) -> CorruptAudio | None:
    """Find faults that the container alone shows, without decoding; None when there are none.

    Decoders read to the end of the file and report that as its length, so a missing second half would go unnoticed.
    FLAC and MP3 state a number of samples instead, which is compared after decoding.

    Args:
        path: A readable file.
        container: From :func:`identify`.

    Returns:
        TruncatedAudio when the file is shorter than its chunks; CorruptAudio when an Ogg page is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if container == "OGG":
            return ogg.find_fault(path, file)
        for name, start, length in islice(_chunks(file, container), _MAX_CHUNKS):
            if start + length <= size:
                continue
            if name in _SAMPLE_CHUNKS:
                have = max(0, size - start)
                reason = f"the header promises {length} bytes of samples, {have} are there"
                return TruncatedAudio(path, reason)
            break  # chunks behind the end cannot be read; the decoder checks the header
    return None


def _chunks(file: BinaryIO, container: str) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte, length in bytes) of each chunk."""
    if container in ("WAV", "RF64", "AIFF"):
        yield from _riff_chunks(file)
    elif container == "W64":
        yield from _plain_chunks(file, 40, struct.Struct("<16sQ"), align=8, inclusive=True)
    elif container == "CAF":
        for name, start, length in _plain_chunks(file, 8, struct.Struct(">4sq"), align=1, inclusive=False):
            yield name, start, max(0, length)  # -1: up to the end of the file
    elif container == "AU":
        head = file.read(12)
        if len(head) == 12:
            start, length = struct.unpack(">II", head[4:])
            yield b"data", start, 0 if length == 0xFFFFFFFF else length  # all ones: not known
    elif container == "MP4":
        yield from _boxes(file)


def _plain_chunks(
    file: BinaryIO, position: int, header: struct.Struct, *, align: int, inclusive: bool
) -> Iterator[tuple[bytes, int, int]]:
    while True:
        file.seek(position)
        head = file.read(header.size)
        if len(head) < header.size:
            return
        name, length = header.unpack(head)
        if inclusive:
            length -= header.size
        start = position + header.size
        yield name, start, length
        if length < 0:
            return
        position = start + -(-length // align) * align


def _riff_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    big_endian = file.read(4) in (b"RIFX", b"FORM")
    data_bytes = 0xFFFFFFFF
    for name, start, length in _plain_chunks(
        file, 12, struct.Struct(">4sI" if big_endian else "<4sI"), align=2, inclusive=False
    ):
        if name == b"ds64" and length >= 16:
            file.seek(start + 8)
            data_bytes = int.from_bytes(file.read(8), "little")
        in_ds64 = name == b"data" and length == 0xFFFFFFFF
        yield name, start, data_bytes if in_ds64 else length


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    position = 0
    while True:
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            return
        length, header = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(head[8:16], "big"), 16
        if length < header:  # 0: up to the end of the file
            return
        yield head[4:8], position + header, length - header
        position += length
