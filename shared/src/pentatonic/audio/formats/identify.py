"""Detect the container of a file from its first bytes, and say which decoders read it.

Files whose first bytes are not listed here are refused before a decoder sees them: decoders guess, and some of their
formats (playlists, subtitles, raw samples) would turn any text into sound, or open other files.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from pentatonic.audio.formats import mpeg

LIBSNDFILE = frozenset(
    {"WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3"}
    | {"AVR", "IRCAM", "NIST", "PAF", "PVF", "SVX", "VOC", "WVE", "XI"}
)
"""Containers that libsndfile reads, with the encodings that it knows."""

FFMPEG_DEMUXERS = {
    "AAC": "aac",
    "AC3": "ac3",
    "AIFF": "aiff",
    "AMR": "amr",
    "APE": "ape",
    "ASF": "asf",
    "AU": "au",
    "AVI": "avi",
    "AVR": "avr",
    "CAF": "caf",
    "DSDIFF": "iff",
    "DSF": "dsf",
    "DTS": "dts",
    "EAC3": "eac3",
    "FLAC": "flac",
    "FLV": "flv",
    "IRCAM": "ircam",
    "MATROSKA": "matroska",
    "MP4": "mp4",
    "MPC": "mpc",
    "MPC8": "mpc8",
    "MPEG-PS": "mpeg",
    "MPEG-TS": "mpegts",
    "NIST": "nistsphere",
    "OGG": "ogg",
    "REALMEDIA": "rm",
    "RF64": "wav",
    "SHORTEN": "shn",
    "SVX": "iff",
    "TAK": "tak",
    "TTA": "tta",
    "VOC": "voc",
    "W64": "w64",
    "WAV": "wav",
    "WAVPACK": "wv",
}
"""Container -> FFmpeg's demuxer of it. Where libsndfile reads the container too, it is tried first."""

_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_MAGIC = (
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "OGG"),
    (0, b".snd", "AU"),
    (0, b"caff", "CAF"),
    (0, _W64_RIFF, "W64"),
    (4, b"ftyp", "MP4"),
    (4, b"moov", "MP4"),
    (4, b"mdat", "MP4"),
    (4, b"wide", "MP4"),
    (0, b"\x1a\x45\xdf\xa3", "MATROSKA"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF"),
    (0, b"wvpk", "WAVPACK"),
    (0, b"MAC ", "APE"),
    (0, b"TTA1", "TTA"),
    (0, b"tBaK", "TAK"),
    (0, b"ajkg", "SHORTEN"),
    (0, b"MP+", "MPC"),
    (0, b"MPCK", "MPC8"),
    (0, b"DSD \x1c\0\0\0\0\0\0\0", "DSF"),
    (0, b"#!AMR\n", "AMR"),
    (0, b"#!AMR-WB\n", "AMR"),
    (0, b"FLV\x01", "FLV"),
    (0, b".RMF\0\0\0", "REALMEDIA"),
    (0, b"\0\0\x01\xba", "MPEG-PS"),
    (0, b"\x7f\xfe\x80\x01", "DTS"),
    (0, b"\xfe\x7f\x01\x80", "DTS"),
    (0, b"\x1f\xff\xe8\x00", "DTS"),
    (0, b"\xff\x1f\x00\xe8", "DTS"),
    (0, b"Creative Voice File\x1a", "VOC"),
    (0, b"NIST_1A\n", "NIST"),
    (0, b"2BIT", "AVR"),
    (0, b"PVF1\n", "PVF"),
    (0, b" paf", "PAF"),
    (0, b"fap ", "PAF"),
    (0, b"ALawSoundFile**\0", "WVE"),
    (0, b"Extended Instrument: ", "XI"),
)
# First four bytes -> {bytes 8 to 12: container}; a file truncated before byte 12 still counts.
_FORMS = {
    b"RIFF": {b"WAVE": "WAV", b"AVI ": "AVI"},
    b"RIFX": {b"WAVE": "WAV"},
    b"RF64": {b"WAVE": "RF64"},
    b"FORM": {b"AIFF": "AIFF", b"AIFC": "AIFF", b"8SVX": "SVX", b"16SV": "SVX"},
}
_FRM8 = (b"FRM8", 12, b"DSD ")
_HEAD_BYTES = 64
# Formats that repeat a short mark: this many in a row are no chance.
_CONFIRMING = 4
_TS_PACKETS = ((0, 188), (4, 192))  # (position of the first mark, distance) of broadcast and of disc streams
_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def identify(path: Path) -> tuple[str | None, int]:
    """Detect the container, and the byte at which it starts (after ID3 tags and, for MP3, after other bytes).

    Args:
        path: A readable file.

    Returns:
        A member of :data:`LIBSNDFILE` or a key of :data:`FFMPEG_DEMUXERS`, or None for anything else; the offset in
        bytes.
    """
    with path.open("rb") as file:
        offset = mpeg.skip_id3(file)
        head = file.read(_HEAD_BYTES)
        name = _by_magic(head) or _by_form(head) or _by_marks(file, offset)
        if name is not None or head[:4] in _FORMS:
            return name, offset
        first = mpeg.find_frame(file, offset)
        return ("MP3", first) if first is not None else (None, offset)


def _by_magic(head: bytes) -> str | None:
    for at, magic, name in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return name
    # IRCAM: two fixed bytes, a machine and a zero, in either order of bytes.
    if len(head) >= 4 and (head[:2] + head[3:4] == b"\x64\xa3\0" or head[:1] + head[2:4] == b"\0\xa3\x64"):
        return "IRCAM"
    mark, at, kind = _FRM8
    return "DSDIFF" if head.startswith(mark) and head[at : at + len(kind)] == kind else None


def _by_form(head: bytes) -> str | None:
    kinds = _FORMS.get(head[:4], {})
    return next((name for kind, name in kinds.items() if kind.startswith(head[8:12])), None)


def _by_marks(file: BinaryIO, offset: int) -> str | None:
    file.seek(offset)
    head = file.read(4 + 192 * _CONFIRMING)
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"
    for first, distance in _TS_PACKETS:
        marks, flags = (head[at::distance][:_CONFIRMING] for at in (first, first + 3))
        # Every packet says that it has a payload, or a field of its own.
        if marks == b"\x47" * _CONFIRMING and all(flag & 0x30 for flag in flags):
            return "MPEG-TS"
    return _ac3(file, offset)


def _ac3(file: BinaryIO, offset: int) -> str | None:
    """AC-3 or Enhanced AC-3, where frame follows on frame (ETSI TS 102 366)."""
    name, position = None, offset
    for _ in range(_CONFIRMING):
        file.seek(position)
        head = file.read(6)
        if len(head) < 6:
            break
        if head[:2] != b"\x0b\x77":
            return None
        if head[5] >> 3 > 10:
            n_words = (int.from_bytes(head[2:4], "big") & 0x7FF) + 1
            name, position = "EAC3", position + 2 * n_words
            continue
        rate, code = head[4] >> 6, head[4] & 63
        if rate == 3 or code >= 2 * len(_AC3_KBITS):
            return None
        kbits = _AC3_KBITS[code >> 1]
        n_words = (2 * kbits, kbits * 96_000 // 44_100 + (code & 1), 3 * kbits)[rate]
        name, position = "AC3", position + 2 * n_words
    return name
