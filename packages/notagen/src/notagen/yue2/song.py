"""What a text in the dialect means: bars, notes, chord symbols and keys of the two voices; and what may stand in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from pentatonic.errors import FormatError

VOICES = ("Vocal", "Ins")
VOICE_HEADERS = (
    'V: Vocal clef=treble name="Vocal Melody" snm="Vocal"',
    'V: Ins clef=treble name="Ins Melody" snm="Inst."',
)
#: Lengths that a note or rest may have, in units of ``L:``.
LENGTHS = (48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)
MAX_UNIT = 1024
MAX_GROUP_BARS = 4

_MAJORS = ["Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#"]
_MINORS = ["Abm", "Ebm", "Bbm", "Fm", "Cm", "Gm", "Dm", "Am", "Em", "Bm", "F#m", "C#m", "G#m", "D#m", "A#m"]
#: Key -> number of sharps; flats are negative.
KEYS = {name: place - 7 for names in (_MAJORS, _MINORS) for place, name in enumerate(names)}
QUALITIES = (
    "",
    "m",
    "dim",
    "aug",
    "7",
    "maj7",
    "m7",
    "dim7",
    "m7b5",
    "sus4",
    "sus2",
    "6",
    "m6",
    "7sus4",
    "m(maj7)",
)
_ROOT = "[A-G](?:bb|##|b|#)?"
CHORD = re.compile(rf"({_ROOT})({'|'.join(map(re.escape, QUALITIES))})(?:/({_ROOT}))?")
NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


class DialectError(FormatError):
    """A text breaks a rule of the dialect.

    Args:
        kind: Name of the rule, such as ``bar_underfull``.
        reason: What is wrong, and what would be allowed.
        line: Line of the text, from 1.
        column: Column of the token, from 1.
        group: Number of the group, from 1.
        voice: ``Vocal`` or ``Ins``.
        bar: Number of the bar in the voice, from 1.
    """

    def __init__(
        self,
        kind: str,
        reason: str,
        *,
        line: int | None = None,
        column: int | None = None,
        group: int | None = None,
        voice: str | None = None,
        bar: int | None = None,
    ) -> None:
        super().__init__(reason, line=line, column=column)
        self.kind, self.group, self.voice, self.bar = kind, group, voice, bar


@dataclass(frozen=True)
class Note:
    """A sounding note; tied notes are one.

    Args:
        onset: Start in quarters since the start of the piece.
        duration: In quarters.
        pitch: MIDI number, 0 to 127.
        spelling: Letter ``A`` to ``G`` and its alteration in semitones; None: by the key.
    """

    onset: Fraction
    duration: Fraction
    pitch: int
    spelling: tuple[str, int] | None = field(default=None, compare=False)

    @property
    def end(self) -> Fraction:
        """End in quarters since the start of the piece."""
        return self.onset + self.duration


@dataclass(frozen=True)
class Bar:
    """A bar of both voices.

    Args:
        meter: Numerator and denominator as written.
        key: Of :data:`KEYS`.
        label: Label of the section that it belongs to; empty for none.
    """

    meter: tuple[int, int] = (4, 4)
    key: str = "C"
    label: str = ""

    @property
    def length(self) -> Fraction:
        """Length in quarters."""
        return Fraction(4 * self.meter[0], self.meter[1])


@dataclass
class VoiceMusic:
    """The music of one voice.

    Attributes:
        notes: In the order of time, without overlaps.
        chords: (onset in quarters, symbol).
        keys: (time in quarters, key), the key of the header first.
        bars: (start, length in quarters, meter as written).
    """

    notes: list[Note] = field(default_factory=list)
    chords: list[tuple[Fraction, str]] = field(default_factory=list)
    keys: list[tuple[Fraction, str]] = field(default_factory=list)
    bars: list[tuple[Fraction, Fraction, tuple[int, int]]] = field(default_factory=list)

    @property
    def length(self) -> Fraction:
        """Length in quarters."""
        return self.bars[-1][0] + self.bars[-1][1] if self.bars else Fraction(0)


@dataclass
class Song:
    """A text in the dialect, read.

    Attributes:
        bpm: Quarter notes a minute.
        unit: Unit note length in whole notes.
        voices: ``Vocal`` and ``Ins``.
    """

    bpm: int
    unit: Fraction
    voices: dict[str, VoiceMusic]

    @property
    def length(self) -> Fraction:
        """Length in quarters."""
        return self.voices["Vocal"].length

    @property
    def duration_s(self) -> float:
        """Nominal duration in seconds."""
        return float(self.length * 60 / self.bpm)


def signature(key: str) -> dict[str, int]:
    """Return the alteration of each letter in a key."""
    return {letter: (KEYS[key] + 6 - place) // 7 for place, letter in enumerate("FCGDAEB")}
