"""A piece in musical time: what the programs that write, play and repair music share.

All objects are immutable. Times are exact fractions of a whole note, counted from the start of the measure;
a pitch is the one that the staff shows (see :attr:`Voice.transpose`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from notagen.abc.duration import Key, Meter

_NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


@dataclass(frozen=True, slots=True)
class Pitch:
    """A pitch with its spelling.

    Args:
        step: ``C`` to ``B``.
        alter: Semitones from the natural note, -2..2 (more only in keys of more than seven signs).
        octave: 4 starts at middle C.
    """

    step: str
    alter: int
    octave: int

    @property
    def midi(self) -> int:
        """The number of the pitch, 60 for middle C; it can lie outside 0..127."""
        return 12 * (self.octave + 1) + _NATURALS[self.step] + self.alter


@dataclass(frozen=True, slots=True)
class Head:
    """One note of a chord.

    Args:
        pitch: Its pitch, the key and the accidentals earlier in the bar applied.
        accidental: The sign that is written before it: ``""``, ``^``, ``^^``, ``=``, ``_`` or ``__``.
        tie_start: It sounds on into the same pitch of the next event of its layer.
        tie_stop: It continues the event before.
    """

    pitch: Pitch
    accidental: str = ""
    tie_start: bool = False
    tie_stop: bool = False


@dataclass(frozen=True, slots=True)
class GraceNote:
    """A grace note (or chord), which takes no time; ``duration`` is how long it is written."""

    heads: tuple[Head, ...]
    duration: Fraction
    slash: bool


@dataclass(frozen=True, slots=True)
class Annotation:
    """Text at the staff; ``placement`` is ``above``, ``below``, ``left``, ``right`` or empty (anywhere)."""

    text: str
    placement: str


@dataclass(frozen=True, slots=True)
class Marks:
    """What is written before an event.

    Args:
        decorations: Names without their ``!``; the one-letter signs have the name they stand for, such as
            ``trill`` for ``T``.
        annotations: Texts.
        chord_symbols: Such as ``Gm7/D``.
        grace: Grace notes.
    """

    decorations: tuple[str, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    chord_symbols: tuple[str, ...] = ()
    grace: tuple[GraceNote, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.decorations or self.annotations or self.chord_symbols or self.grace)


NO_MARKS = Marks()


@dataclass(frozen=True, slots=True)
class TupletMark:
    """A tuplet that an event is in: ``actual`` notes in the time of ``normal``."""

    actual: int
    normal: int
    starts: bool
    stops: bool


@dataclass(frozen=True, slots=True)
class SlurEnd:
    """The start or the end of a slur; ``number`` tells apart slurs of a layer that are open together."""

    number: int
    starts: bool
    dotted: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A note, a chord or a rest.

    Args:
        onset: Time since the start of the measure.
        duration: How long it lasts; tuplets and broken rhythm are applied.
        heads: Its notes in the order of the source; none for a rest.
        invisible: A rest that is not drawn (``x``).
        marks: What is written before it.
        tuplets: The tuplets it is in, the outermost first.
        slurs: Slurs that start or end at it.
        joined: No blank stands between it and the event before: short notes share a beam.
    """

    onset: Fraction
    duration: Fraction
    heads: tuple[Head, ...] = ()
    invisible: bool = False
    marks: Marks = NO_MARKS
    tuplets: tuple[TupletMark, ...] = ()
    slurs: tuple[SlurEnd, ...] = ()
    joined: bool = False

    @property
    def rest(self) -> bool:
        """Whether it is silent."""
        return not self.heads

    @property
    def end(self) -> Fraction:
        """Time of its end since the start of the measure."""
        return self.onset + self.duration

    @property
    def written_duration(self) -> Fraction:
        """The duration that its note value shows: the tuplets taken out."""
        duration = self.duration
        for tuplet in self.tuplets:
            duration *= Fraction(tuplet.actual, tuplet.normal)
        return duration


@dataclass(frozen=True, slots=True)
class Layer:
    """One line of events of a measure; an overlay ``&`` starts another one.

    Args:
        events: In time, without gaps.
        trailing: What is written after the last event.
    """

    events: tuple[Event, ...]
    trailing: Marks = NO_MARKS

    @property
    def duration(self) -> Fraction:
        """The sum of its events."""
        return self.events[-1].end if self.events else Fraction(0)


@dataclass(frozen=True, slots=True)
class Tempo:
    """A tempo: ``per_minute`` beats of the length ``beat``; either may be absent, and so may the ``text``."""

    beat: Fraction | None
    per_minute: Fraction | None
    text: str = ""

    @property
    def whole_note_s(self) -> float | None:
        """Seconds that a whole note lasts; None when only the text is known."""
        if self.beat is None or self.per_minute is None:
            return None
        return float(60 / (self.beat * self.per_minute))


@dataclass(frozen=True, slots=True)
class TimeSignature:
    """A meter and how it is written: ``6/8``, ``C``, ``C|``, ``2+3/8``; ``meter`` is None in free meter."""

    meter: Meter | None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Clef:
    """A clef by its word: ``treble``, ``alto``, ``tenor``, ``bass``, ``perc``, perhaps with ``-8 +8 -15 +15``.

    Pitches are those that sound: the octave of a clef only says how they are drawn.
    """

    word: str


@dataclass(frozen=True, slots=True)
class Change:
    """A key, meter, clef, tempo or section label (as text) that comes into force inside a measure."""

    onset: Fraction
    value: Key | TimeSignature | Clef | Tempo | str


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of one voice.

    Args:
        key: The key in force at its start.
        time: The time signature in force at its start.
        clef: The clef in force at its start.
        layers: At least one; the others are overlays.
        changes: What changes later in it, and every tempo and label of it.
        left: Barline sign before it, such as ``|:``; the same as the ``right`` of the measure before.
        right: Barline sign after it; empty where the music breaks off.
        ending: Numbers of the ending (volta) that it belongs to; empty outside of endings.
        ending_starts: Whether the ending starts with it.
        ending_stops: Whether the ending stops with it.
        line: Line of the source it comes from.
    """

    key: Key
    time: TimeSignature
    clef: Clef
    layers: tuple[Layer, ...]
    changes: tuple[Change, ...] = ()
    left: str = ""
    right: str = ""
    ending: tuple[int, ...] = ()
    ending_starts: bool = False
    ending_stops: bool = False
    line: int | None = None

    @property
    def duration(self) -> Fraction:
        """How long its longest layer lasts."""
        return max(layer.duration for layer in self.layers)

    @property
    def nominal_duration(self) -> Fraction | None:
        """How long the meter says it lasts; None in free meter."""
        return self.time.meter.length if self.time.meter else None

    @property
    def repeat_starts(self) -> bool:
        """Whether repeated music starts with it."""
        return self.left.endswith(":")

    @property
    def repeat_stops(self) -> bool:
        """Whether repeated music stops with it."""
        return self.right.startswith(":")


@dataclass(frozen=True, slots=True)
class Voice:
    """One voice of the piece.

    Args:
        name: As in ``V:name``.
        measures: As many as every other voice has.
        full_name: Name of the instrument before the first system; empty for none.
        abbreviation: Its name before the other systems.
        transpose: Semitones from the pitches of the score to those that sound.
        staff_lines: Lines of its staff, where the source says.
        percussion: Its notes are places on the staff, not pitches.
    """

    name: str
    measures: tuple[Measure, ...]
    full_name: str = ""
    abbreviation: str = ""
    transpose: int = 0
    staff_lines: int | None = None
    percussion: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """What one player reads: staves, each with the names of the voices on it."""

    staves: tuple[tuple[str, ...], ...]

    @property
    def voices(self) -> tuple[str, ...]:
        """The voices of all staves, from the top."""
        return tuple(name for staff in self.staves for name in staff)


@dataclass(frozen=True, slots=True)
class Group:
    """Parts under one sign at the left edge; ``joined`` where barlines go through all of them."""

    symbol: Literal["brace", "bracket"]
    members: tuple[Part | Group, ...]
    joined: bool = False


@dataclass(frozen=True)
class Score:
    """A piece.

    Args:
        voices: Name -> voice, in the order of the declarations.
        layout: Parts and groups of parts, from the top.
        title: First title; empty without one.
        composer: First composer; empty without one.
        tempo: The tempo at the start, where the header has one.
        unit_length: The note length of the header, in whole notes.
    """

    voices: Mapping[str, Voice]
    layout: tuple[Part | Group, ...]
    title: str = ""
    composer: str = ""
    tempo: Tempo | None = None
    unit_length: Fraction = Fraction(1, 8)

    @property
    def measure_count(self) -> int:
        """The number of measures, the same in all voices."""
        return len(next(iter(self.voices.values())).measures)

    @property
    def key(self) -> Key:
        """The key at the start, of the first voice that has one."""
        keys = [voice.measures[0].key for voice in self.voices.values() if not voice.percussion]
        return keys[0] if keys else Key("", "", 0)

    @property
    def time(self) -> TimeSignature:
        """The time signature at the start."""
        return next(iter(self.voices.values())).measures[0].time

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts, from the top."""
        return tuple(parts_of(self.layout))


def parts_of(layout: Sequence[Part | Group]) -> Iterator[Part]:
    """Yield the parts of a layout, from the top."""
    pending = list(reversed(layout))
    while pending:
        node = pending.pop()
        if isinstance(node, Part):
            yield node
        else:
            pending += reversed(node.members)
