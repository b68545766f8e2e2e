"""Check the length of a file against what its container states.

Decoders read to the end of the file and report that as its length, so a missing second half would go unnoticed. But not
every length in a header is a promise. Promises are: lengths of chunks of samples (below 0x7FFFF000, other than 0 with
samples behind, and not off by less than a block), of MP4 boxes and of Matroska's segment, and the pages of Ogg. FLAC,
MP3 and others state a number of samples instead, which is compared after decoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pentatonic.audio.formats import mp4, ogg
from pentatonic.audio.formats.chunks import UNKNOWN_FROM, find_samples
from pentatonic.errors import CorruptAudio, TruncatedAudio

_EBML_SEGMENT = 0x18538067
_MAX_ELEMENTS = 100  # at the top; real files have two


def find_fault(path: Path, container: str) -> CorruptAudio | str | None:
    """Find faults that the container alone shows, without decoding.

    Args:
        path: A readable file.
        container: From :func:`pentatonic.audio.formats.identify.identify`.

    Returns:
        TruncatedAudio when the file is shorter than a promised length; CorruptAudio when an Ogg page is damaged; the
        text of a warning when the file is shorter than a length that is no promise; None otherwise.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if container == "OGG":
            return ogg.find_fault(path, file)
        if container in _PARTS:
            for start, length in _PARTS[container](file, size):
                if start + length > size:
                    reason = (
                        f"the header promises {length} bytes of samples, {max(0, size - start)} are there"
                    )
                    return TruncatedAudio(path, reason)
            return None
        samples = find_samples(file, container, size)
    if samples is None or samples.stated is None or samples.there >= samples.stated:
        return None
    lengths = f"{samples.stated} bytes of samples, {samples.there} are there"
    if samples.is_promise:
        return TruncatedAudio(path, f"the header promises {lengths}")
    return f"the header states {lengths}"


def _mp4_boxes(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """(first byte, length) of the boxes of an MP4 file that hold samples or their index."""
    for name, start, length in mp4.boxes(file, 0, size):
        if name in (b"mdat", b"moov"):
            yield start, length


def _avi_parts(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """(first byte, length) of what the first length of an AVI file counts."""
    file.seek(4)
    length = int.from_bytes(file.read(4), "little")
    if 0 < length < UNKNOWN_FROM:
        yield 8, length


def _segments(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """(first byte, length) of the segments of a Matroska file (RFC 8794); one that was written to a pipe has none."""
    position = 0
    for _ in range(_MAX_ELEMENTS):
        if position + 12 > size:
            return
        file.seek(position)
        head = file.read(12)
        if not head[0] >> 4:
            return
        id_bytes = 9 - head[0].bit_length()
        length_bytes = 9 - head[id_bytes].bit_length()
        length = int.from_bytes(head[id_bytes : id_bytes + length_bytes], "big") - (1 << 7 * length_bytes)
        start = position + id_bytes + length_bytes
        if length_bytes > 8 or length == (1 << 7 * length_bytes) - 1:  # all ones: not known
            return
        if int.from_bytes(head[:id_bytes], "big") == _EBML_SEGMENT:
            yield start, length
        position = start + length


_PARTS = {"MP4": _mp4_boxes, "MATROSKA": _segments, "AVI": _avi_parts}
