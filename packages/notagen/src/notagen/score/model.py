"""A piece in musical time, the common model of MusicXML export and playback.

All objects are immutable. Times are exact fractions of a whole note, counted from the start of the measure; pitches are
as written, with the octave of the clef applied (``c`` under ``treble-8`` is middle C), before :attr:`Voice.transpose`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from notagen.abc.accidentals import Alteration
from notagen.abc.duration import Key, Meter
from notagen.notation.repeats import repeat_times

_NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


@dataclass(frozen=True, slots=True)
class Pitch:
    """A pitch with its spelling.

    Args:
        step: ``C`` to ``B``.
        alter: Semitones from the natural note, -2..2 (beyond that only in keys of more than seven signs); quarter tones
            are fractions.
        octave: 4 starts at middle C.
    """

    step: str
    alter: Alteration
    octave: int

    @property
    def semitones(self) -> Alteration:
        """Semitones from MIDI note 0; no whole number for quarter tones."""
        return 12 * (self.octave + 1) + _NATURALS[self.step] + self.alter

    @property
    def midi(self) -> int:
        """MIDI number of the pitch, 60 for middle C; it may be outside 0..127. Quarter tones go to the natural."""
        return 12 * (self.octave + 1) + _NATURALS[self.step] + int(self.alter)


@dataclass(frozen=True, slots=True)
class Head:
    """A note head: one note of a chord, or a single note.

    Args:
        pitch: Its pitch, with the key and earlier accidentals of the bar applied.
        accidental: The accidental written before it, as of :class:`notagen.abc.syntax.Note`.
        tie_start: Whether it is tied to the same pitch in the next event of its layer.
        tie_stop: Whether it is tied to the same pitch in the event before.
        marks: Of a note in a chord: decorations of this note alone, such as ``string=3``.
    """

    pitch: Pitch
    accidental: str = ""
    tie_start: bool = False
    tie_stop: bool = False
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SlurEnd:
    """The start or the end of a slur; ``number`` distinguishes slurs of a part that are open at the same time.

    A slur may start in one voice of a part and end in another.
    """

    number: int
    starts: bool
    dotted: bool = False


@dataclass(frozen=True, slots=True)
class GraceNote:
    """A grace note or chord, which takes no time; ``duration`` is its written length, ``slurs`` as of an event."""

    heads: tuple[Head, ...]
    duration: Fraction
    slash: bool
    slurs: tuple[SlurEnd, ...] = ()


@dataclass(frozen=True, slots=True)
class Annotation:
    """Text beside the staff; ``placement`` is ``above``, ``below``, ``left``, ``right`` or empty (anywhere)."""

    text: str
    placement: str


@dataclass(frozen=True, slots=True)
class Marks:
    """Marks written before an event.

    Args:
        decorations: Names without ``!``; one-letter decorations have their full name, such as ``trill`` for ``T``.
        annotations: Texts.
        chord_symbols: Chord symbols such as ``Gm7/D``.
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
    """One of the tuplets of an event: ``actual`` notes in the time of ``normal``."""

    actual: int
    normal: int
    starts: bool
    stops: bool


@dataclass(frozen=True, slots=True)
class Syllable:
    """A syllable of the lyrics, sung on one note or more.

    Args:
        text: The syllable, without hyphens at its ends.
        before: Whether a hyphen joins it to the syllable before.
        after: Whether a hyphen joins it to the next syllable.
        extended: Whether it is held on the notes after it, which have no syllable.
    """

    text: str
    before: bool = False
    after: bool = False
    extended: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A note, a chord or a rest.

    Args:
        onset: Time since the start of the measure.
        duration: Duration, with tuplets and broken rhythm applied.
        heads: Its notes in the order of the source; none for a rest.
        invisible: Whether it is a rest that is not drawn (``x``).
        marks: Marks written before it.
        tuplets: The tuplets it is part of, the outermost first.
        slurs: Slurs that start or end at it.
        joined: Whether no blank separates it from the event before, so that short notes share a beam.
        staff: Staves below the one of its voice on which it is written; negative: above.
        lyrics: Its syllable in each verse, None for a verse without one; a syllable may be held on from a note before.
    """

    onset: Fraction
    duration: Fraction
    heads: tuple[Head, ...] = ()
    invisible: bool = False
    marks: Marks = NO_MARKS
    tuplets: tuple[TupletMark, ...] = ()
    slurs: tuple[SlurEnd, ...] = ()
    joined: bool = False
    staff: int = 0
    lyrics: tuple[Syllable | None, ...] = ()

    @property
    def rest(self) -> bool:
        """Whether the event is a rest."""
        return not self.heads

    @property
    def end(self) -> Fraction:
        """Time at which it ends, since the start of the measure."""
        return self.onset + self.duration

    @property
    def written_duration(self) -> Fraction:
        """Duration of its note value, without the effect of tuplets."""
        duration = self.duration
        for tuplet in self.tuplets:
            duration *= Fraction(tuplet.actual, tuplet.normal)
        return duration


@dataclass(frozen=True, slots=True)
class Layer:
    """One sequence of events of a measure; an overlay ``&`` starts another one.

    Args:
        events: Events in order, without gaps.
        trailing: Marks after the last event.
    """

    events: tuple[Event, ...]
    trailing: Marks = NO_MARKS

    @property
    def duration(self) -> Fraction:
        """Sum of the durations of its events."""
        return self.events[-1].end if self.events else Fraction(0)


@dataclass(frozen=True, slots=True)
class Tempo:
    """A tempo of ``per_minute`` beats of length ``beat``; either is None where only the ``text`` is known."""

    beat: Fraction | None
    per_minute: Fraction | None
    text: str = ""

    @property
    def whole_note_s(self) -> float | None:
        """Duration of a whole note in seconds; None where only the text is known."""
        if self.beat is None or self.per_minute is None:
            return None
        return float(60 / (self.beat * self.per_minute))


@dataclass(frozen=True, slots=True)
class TimeSignature:
    """A meter and its spelling: ``6/8``, ``C``, ``C|``, ``2+3/8``; ``meter`` is None for free meter."""

    meter: Meter | None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Clef:
    """A clef by its ABC word: ``treble``, ``alto``, ``tenor``, ``bass``, ``perc``, optionally with ``-8 +8 -15 +15``.

    The octave of a clef is already applied to the pitches under it; it only says how they are drawn.
    """

    word: str


@dataclass(frozen=True, slots=True)
class Transposition:
    """Semitones from the written to the sounding pitch."""

    semitones: int


@dataclass(frozen=True, slots=True)
class Change:
    """A change of key, meter, clef, transposition or tempo, or a section label (as text), inside a measure."""

    onset: Fraction
    value: Key | TimeSignature | Clef | Transposition | Tempo | str


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of one voice.

    Args:
        key: Key at its start.
        time: Time signature at its start.
        clef: Clef at its start.
        layers: At least one; further ones are overlays.
        changes: Changes after its start, and all its tempos and section labels.
        left: Barline before it, such as ``|:``; the same as ``right`` of the measure before.
        right: Barline after it; empty at the end of an unfinished piece.
        ending: Numbers of its ending (volta); empty outside of endings.
        ending_starts: Whether it is the first measure of the ending.
        ending_stops: Whether it is the last measure of the ending.
        line: Line of the source; None for a measure that the source leaves out.
        transpose: Semitones from written to sounding pitch at its start.
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
    transpose: int = 0

    @property
    def duration(self) -> Fraction:
        """Duration of its longest layer."""
        return max(layer.duration for layer in self.layers)

    @property
    def nominal_duration(self) -> Fraction | None:
        """Duration by the meter; None in free meter."""
        return self.time.meter.length if self.time.meter else None

    @property
    def repeat_starts(self) -> bool:
        """Whether a repeat starts with the measure."""
        return self.left.endswith(":")

    @property
    def repeat_stops(self) -> bool:
        """Whether a repeat ends with the measure."""
        return self.right.startswith(":")

    @property
    def repeat_times(self) -> int:
        """How often the repeat that ends with the measure is played; 1 where none ends."""
        return repeat_times(self.right)


@dataclass(frozen=True, slots=True)
class Voice:
    """One voice of the piece.

    Args:
        name: Name as in ``V:name``.
        measures: The measures; all voices have the same number.
        full_name: Instrument name before the first system; empty for none.
        abbreviation: Instrument name before the other systems; empty for none.
        transpose: Semitones from written to sounding pitch at the start; measures have their own.
        staff_lines: Number of staff lines; None where the source does not say.
        percussion: Whether its notes are positions on the staff without pitch.
        programme: General MIDI programme, 0..127; None where the source does not say.
    """

    name: str
    measures: tuple[Measure, ...]
    full_name: str = ""
    abbreviation: str = ""
    transpose: int = 0
    staff_lines: int | None = None
    percussion: bool = False
    programme: int | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One or more staves for one player, each with the names of its voices."""

    staves: tuple[tuple[str, ...], ...]

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the voices of all staves, from the top."""
        return tuple(name for staff in self.staves for name in staff)


@dataclass(frozen=True, slots=True)
class Group:
    """Parts under one brace or bracket; ``joined`` if barlines go through all of them."""

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
        subtitle: Second title, such as that of a movement or of a song in a cycle; empty without one.
        credits: Pairs of role and name: ``composer``, ``lyricist``, ``arranger``, ``rights`` and others, in order.
        tempo: Tempo at the start; None where the header has none.
        unit_length: Unit note length of the header, in whole notes.
        part_order: Labels of the sections in the order in which they are played, from ``P:`` in the header.
        notes: What a reader should know about how the text was understood; empty for most pieces.
    """

    voices: Mapping[str, Voice]
    layout: tuple[Part | Group, ...]
    title: str = ""
    composer: str = ""
    tempo: Tempo | None = None
    unit_length: Fraction = Fraction(1, 8)
    part_order: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    subtitle: str = ""
    credits: tuple[tuple[str, str], ...] = ()

    @property
    def measure_count(self) -> int:
        """The number of measures, the same in all voices."""
        return len(next(iter(self.voices.values())).measures)

    @property
    def key(self) -> Key:
        """Key at the start, of the first voice that is not percussion."""
        keys = [voice.measures[0].key for voice in self.voices.values() if not voice.percussion]
        return keys[0] if keys else Key("", "", 0)

    @property
    def time(self) -> TimeSignature:
        """Time signature at the start."""
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
