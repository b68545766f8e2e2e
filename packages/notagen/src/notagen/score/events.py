"""Converts parsed bars to measures of events with exact times, resolved pitches, ties, slurs and tuplets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from notagen.abc.accidentals import Alteration, alteration_of
from notagen.abc.clefs import changes_key, clef_octaves, read_clef
from notagen.abc.duration import Key, durations, parse_key, parse_unit_length
from notagen.abc.syntax import (
    Bar,
    Chord,
    Decoration,
    Element,
    Grace,
    InlineField,
    Note,
    Overlay,
    QuotedText,
    Rest,
    Slur,
    Space,
    Tie,
)
from notagen.notation.named_marks import is_of_one_note
from notagen.score.event_line import EventLine
from notagen.score.layout import read_octave, read_tempo, read_time
from notagen.score.losses import lost
from notagen.score.model import (
    NO_MARKS,
    Annotation,
    Change,
    Clef,
    Event,
    GraceNote,
    Head,
    Layer,
    Marks,
    Measure,
    Pitch,
    Syllable,
    TimeSignature,
    Transposition,
    TupletMark,
)
from notagen.score.tuplets import stretched, tuplet_marks
from pentatonic.errors import FormatError

MAX_LAYERS = 4
#: Largest denominator of times in a measure, which are fractions of a whole note.
MAX_DENOMINATOR = 1 << 24

#: ``not``: for no other note; ``octave``: for the same letter in the same octave; ``pitch``: in all octaves.
Propagation = Literal["not", "octave", "pitch"]

_MAX_TRANSPOSE = 127
_STAFF = re.compile(r"staff\s+([+-]?)(\d{1,2})")
_TRANSPOSE = re.compile(r"(?:^|\s)transpose=([+-]?\d{1,3})(?!\S)")
_PLACEMENTS = {"^": "above", "_": "below", "<": "left", ">": "right", "@": ""}
_SHORTHAND = {
    ".": "staccato", "~": "roll", "H": "fermata", "L": "accent", "M": "lowermordent", "O": "coda",
    "P": "uppermordent", "S": "segno", "T": "trill", "u": "upbow", "v": "downbow",
}  # fmt: skip


@dataclass
class _Pending:
    """Marks for the next event."""

    decorations: list[str] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    chord_symbols: list[str] = field(default_factory=list)
    grace: list[GraceNote] = field(default_factory=list)

    def marks(self) -> Marks:
        return Marks(
            tuple(self.decorations), tuple(self.annotations), tuple(self.chord_symbols), tuple(self.grace)
        )

    def text(self, quoted: str) -> None:
        content = quoted[1:-1]
        if content[:1] in _PLACEMENTS and content:
            self.annotations.append(Annotation(content[1:].strip(), _PLACEMENTS[content[0]]))
        elif content[:1] in "ABCDEFG" and content:
            self.chord_symbols.append(content.strip())
        elif content.strip():
            self.annotations.append(Annotation(content.strip(), "above"))


@dataclass(frozen=True)
class OpenMeasure:
    """A measure without barlines; later measures may still add ties and slurs to the events in ``layers``."""

    key: Key
    time: TimeSignature
    clef: Clef
    layers: tuple[tuple[list[Event], Marks], ...]
    changes: tuple[Change, ...]
    line: int | None
    transpose: int = 0

    @property
    def duration(self) -> Fraction:
        """Duration of its longest layer."""
        return max(events[-1].end if events else Fraction(0) for events, _ in self.layers)

    def close(self, left: str, right: str) -> Measure:
        """Return the measure with the barlines before and after it."""
        layers = tuple(Layer(tuple(events), trailing) for events, trailing in self.layers)
        return Measure(
            self.key, self.time, self.clef, layers, self.changes, left, right,
            line=self.line, transpose=self.transpose,
        )  # fmt: skip


class VoiceReader:
    """Reads the bars of one voice in order.

    Args:
        key: Key at the start.
        time: Time signature at the start.
        clef: Clef at the start.
        unit_length: Unit note length at the start, in whole notes.
        transpose: Semitones from written to sounding pitch at the start.
        staves: First and last staff that the voice may be written on, as staves below its own; see ``[I:staff +1]``.
        octave: Octaves by which notes sound above what is written, by ``octave=``.
        propagation: For which later notes of a bar an accidental holds, by ``%%propagate-accidentals``.

    Attributes:
        doubtful: Number of notes that would be altered otherwise if accidentals held for the letter in all octaves, as
            other programs read it, and not in the same octave only. It is counted where the file does not say which.
    """

    def __init__(
        self,
        key: Key,
        time: TimeSignature,
        clef: Clef,
        unit_length: Fraction,
        transpose: int = 0,
        staves: tuple[int, int] = (0, 0),
        *,
        octave: int = 0,
        propagation: Propagation | None = None,
    ) -> None:
        self.key, self.time, self.clef, self.unit = key, time, clef, unit_length
        self.transpose, self.staves, self.staff = transpose, staves, 0
        self.octave, self.propagation = octave, propagation
        self.doubtful = 0
        self.lines = [EventLine()]
        self.measures = 0
        self.pending = _Pending()

    def bar(self, bar: Bar, lyrics: Mapping[int, Sequence[Syllable | None]] | None = None) -> OpenMeasure:
        """Read a bar.

        Args:
            bar: The bar.
            lyrics: Number of a note or chord of the first layer -> its syllables.

        Raises:
            FormatError: A duration, key, meter or note length in the bar is invalid.
        """
        self.accidentals: dict[tuple[str, int], Alteration] = {}
        self.by_letter: dict[str, Alteration] = {}
        self.changes: list[Change] = []
        self.onset, self.layer, self.joined = Fraction(0), 0, False
        elements = bar.elements
        first = next((i for i, element in enumerate(elements) if isinstance(element, (Note, Chord, Rest))), 0)
        for element in elements[:first]:
            if isinstance(element, InlineField):
                self._field(element)
        key, time, clef, transpose = self.key, self.time, self.clef, self.transpose
        self.lyrics, self.sung = lyrics or {}, 0
        self._start_measure()
        meter = self.time.meter
        lengths = durations(bar, meter=meter, bar_length=meter.length / self.unit if meter else None)
        lengths = stretched(elements, lengths)
        tuplets = tuplet_marks(elements, meter)
        trailing: dict[int, Marks] = {}
        for index, element in enumerate(elements):
            if isinstance(element, (Note, Chord, Rest)):
                self._event(element, lengths[index], tuplets.get(index, ()))
            elif isinstance(element, Overlay):
                trailing[self.layer] = self._take()
                self._overlay(bar)
            elif index >= first or not isinstance(element, InlineField):
                self._mark(element)
        trailing[self.layer] = self._take()
        for line in self.lines[self.layer + 1 :]:
            line.loosen()
        layers = tuple((line.events, trailing[i]) for i, line in enumerate(self.lines[: self.layer + 1]))
        return OpenMeasure(key, time, clef, layers, tuple(self.changes), bar.line, transpose)

    def rest(self, length: Fraction, invisible: bool) -> OpenMeasure:
        """Return a measure of rest for a bar that the source leaves out."""
        for line in self.lines:
            line.loosen()
        self._start_measure()
        self.lines[0].add(Event(Fraction(0), length, invisible=invisible))
        layers = ((self.lines[0].events, NO_MARKS),)
        return OpenMeasure(self.key, self.time, self.clef, layers, (), None, self.transpose)

    def _start_measure(self) -> None:
        for line in self.lines:
            line.start_measure(self.measures)
        self.measures += 1

    def _take(self) -> Marks:
        """Return the marks for the next event, and start an empty collection."""
        pending, self.pending = self.pending, _Pending()
        return pending.marks() or NO_MARKS

    def _overlay(self, bar: Bar) -> None:
        self.layer += 1
        if self.layer == MAX_LAYERS:
            raise FormatError(f"more than {MAX_LAYERS} layers in a bar", line=bar.line, column=bar.column)
        if self.layer == len(self.lines):
            self.lines.append(EventLine(measure=self.measures - 1))
        self.onset, self.joined = Fraction(0), False

    def _event(self, element: Note | Chord | Rest, length: Fraction, tuplets: tuple[TupletMark, ...]) -> None:
        line = self.lines[self.layer]
        inner = element.elements if isinstance(element, Chord) else ()
        own: list[str] = []  # marks of the next note of a chord
        chord: list[Head] = []
        for mark in inner:
            if isinstance(mark, Note):
                head, own, marks = self._head(mark, line), [], tuple(own)
                chord.append(replace(head, marks=marks) if marks else head)
            elif isinstance(mark, Decoration) and is_of_one_note(name := _decoration_name(mark.text)):
                own.append(name)
            elif not (isinstance(mark, Slur) and mark.text == ")"):
                self._mark(mark, skip=(Tie, Space))
        heads = tuple(chord) if inner else (self._head(element, line),) if isinstance(element, Note) else ()
        duration = length * self.unit
        invisible = isinstance(element, Rest) and element.letter in "xX"
        if not duration:
            raise FormatError("the length of a note or rest is 0")
        lyrics: tuple[Syllable | None, ...] = ()
        if heads and self.layer == 0:
            lyrics = tuple(self.lyrics.get(self.sung, ()))
            self.sung += 1
        line.add(
            Event(
                self.onset,
                duration,
                heads,
                invisible,
                self._take(),
                tuplets,
                (),
                self.joined,
                self.staff,
                lyrics,
            )
        )
        self.joined = True
        self.onset += duration
        if max(duration.denominator, self.onset.denominator) > MAX_DENOMINATOR:
            raise FormatError(f"the note lengths need a common denominator above {MAX_DENOMINATOR}")
        if isinstance(element, Chord):
            line.tie([element.tie or tie for tie in _tied(element)])
        elif isinstance(element, Note) and element.tie:
            line.tie()
        for mark in inner:
            if isinstance(mark, Slur) and mark.text == ")":
                line.close_slur()

    def _mark(self, element: Element, skip: tuple[type, ...] = ()) -> None:
        line = self.lines[self.layer]
        if isinstance(element, skip):
            return
        if isinstance(element, Space):
            self.joined = False
        elif isinstance(element, Decoration):
            if name := _decoration_name(element.text):
                self.pending.decorations.append(name)
        elif isinstance(element, QuotedText):
            self.pending.text(element.text)
        elif isinstance(element, Grace):
            self._grace(element, line)
        elif isinstance(element, Slur) and element.text == ")":
            line.close_slur()
        elif isinstance(element, Slur):
            line.opening.append(element.text.startswith("."))
        elif isinstance(element, Tie):
            line.tie()
        elif isinstance(element, InlineField):
            self._field(element)

    def _head(self, note: Note, line: EventLine | None = None) -> Head:
        step = note.letter.upper()
        octave = note.octave + self.octave + clef_octaves(self.clef.word)
        if note.accidental:
            alter = self._accidental(step, octave, alteration_of(note.accidental))
        elif (step, octave) in self.accidentals:
            alter = self.accidentals[step, octave]
            self.doubtful += alter != self.by_letter[step]
        elif line is not None and (step, octave) in line.tied:
            alter = line.tied[step, octave]  # a tie keeps the alteration beyond the barline
        elif self.propagation == "pitch" and step in self.by_letter:
            alter = self.by_letter[step]
        else:
            alter = self.key.alteration(step)
            self.doubtful += self.propagation is None and self.by_letter.get(step, alter) != alter
        return Head(Pitch(step, alter, octave), note.accidental)

    def _accidental(self, step: str, octave: int, alter: Alteration) -> Alteration:
        """Put an accidental in force for later notes of the bar; return its alteration."""
        if self.propagation == "pitch":
            self.accidentals = {place: held for place, held in self.accidentals.items() if place[0] != step}
        if self.propagation != "not":
            self.accidentals[step, octave] = self.by_letter[step] = alter
        return alter

    def _grace(self, grace: Grace, line: EventLine) -> None:
        for element in grace.elements:
            if isinstance(element, (Note, Chord)):
                notes = element.notes if isinstance(element, Chord) else (element,)
                heads = tuple(self._head(note) for note in notes)
                line.grace(len(self.pending.grace))
                self.pending.grace.append(GraceNote(heads, element.length * self.unit, grace.slash))
            elif isinstance(element, Slur):
                self._mark(element)

    def _field(self, element: InlineField) -> None:
        value = element.value.strip()
        change = None
        if element.name == "K":
            if changes_key(value):  # a clef alone leaves the accidentals of the bar in force
                before, self.key = self.key, parse_key(value)
                change = self.key if self.key != before else None
                self.accidentals, self.by_letter = {}, {}
            octave = read_octave(value)
            self.octave = self.octave if octave is None else octave
            self._set_clef(read_clef(value))
            if (found := _TRANSPOSE.search(value)) and abs(int(found[1])) <= _MAX_TRANSPOSE:
                self._set_transposition(int(found[1]))
        elif element.name == "I":
            self._set_staff(value)
        elif element.name == "M":
            change = self.time = read_time(value)
        elif element.name == "L":
            self.unit = parse_unit_length(value)
        elif element.name == "Q":
            change = read_tempo(value, self.unit)
        elif element.name == "P":
            change = value
        elif element.name not in "rV":
            lost(f"field {element.name}: in the music")
        if change and (self.onset or element.name in "QP"):
            self.changes.append(Change(self.onset, change))

    def _set_clef(self, word: str) -> None:
        if word and word != self.clef.word:
            self.clef = Clef(word)
            if self.onset:
                self.changes.append(Change(self.onset, self.clef))

    def _set_transposition(self, semitones: int) -> None:
        if semitones != self.transpose:
            self.transpose = semitones
            if self.onset:
                self.changes.append(Change(self.onset, Transposition(semitones)))

    def _set_staff(self, value: str) -> None:
        """Read ``staff +1`` or ``staff -1``, relative to the staff so far, or ``staff 2``, the number of a staff."""
        match = _STAFF.fullmatch(value)
        if match is None:
            lost(f"instruction [I:{value.partition(' ')[0][:20]}]")
            return
        first, last = self.staves
        number = int(match[2])
        staff = self.staff + (-number if match[1] == "-" else number) if match[1] else first + number - 1
        if not first <= staff <= last:
            lost("change to a staff that the part does not have")
        self.staff = min(max(staff, first), last)


def _decoration_name(text: str) -> str:
    if len(text) > 2 and text[0] in "!+":
        return text[1:-1].strip()
    return _SHORTHAND.get(text[0], "")


def _tied(chord: Chord) -> list[bool]:
    """Return for each note of a chord whether it has its own tie."""
    tied: list[bool] = []
    for element in chord.elements:
        if isinstance(element, Note):
            tied.append(element.tie)
        elif isinstance(element, Tie) and tied:
            tied[-1] = True
    return tied
