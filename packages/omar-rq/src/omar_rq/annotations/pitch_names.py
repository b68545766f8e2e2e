"""Names of pitch classes, of keys and of chords, in any spelling."""

from __future__ import annotations

PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_NATURALS = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))
_SIGNS = {"#": 1, "b": -1}


def pitch_class(name: str) -> int | None:
    """Semitones above C of a name such as ``F#`` or ``Bb``, from 0 to 11; None of anything else."""
    if not name or name[0] not in _NATURALS or any(sign not in _SIGNS for sign in name[1:]):
        return None
    return (_NATURALS[name[0]] + sum(_SIGNS[sign] for sign in name[1:])) % 12


def split_key(label: str) -> tuple[int, str] | None:
    """Tonic from 0 to 11 and mode of ``A minor``; None of anything else."""
    name, _, mode = label.partition(" ")
    tonic = pitch_class(name)
    return None if tonic is None or mode not in ("major", "minor") else (tonic, mode)


def split_chord(label: str) -> tuple[int, str] | None:
    """Root from 0 to 11 and quality of ``A:min`` or ``A``, which is major; None of no chord."""
    name, _, quality = label.partition(":")
    root = pitch_class(name)
    return None if root is None else (root, quality or "maj")
