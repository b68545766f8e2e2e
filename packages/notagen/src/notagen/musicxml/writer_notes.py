"""Writes the notes of one layer: values, pitches, ties, beams, tuplets and notations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from xml.etree.ElementTree import Element, SubElement

from notagen.abc.accidentals import Alteration, alteration_of
from notagen.musicxml.writer_elements import MAX_DURATION, add, note_values
from notagen.musicxml.writer_marks import Place, notehead, write_notations
from notagen.notation.named_marks import NON_ARPEGGIO
from notagen.score import Event, GraceNote, Head, Layer, SlurEnd, Syllable
from pentatonic.errors import FormatError

_OF_ALL_NOTES = frozenset({"arpeggio", NON_ARPEGGIO})
#: Octaves that MusicXML allows.
OCTAVES = range(10)

#: Alteration -> value of ``<accidental>``.
_ACCIDENTALS: dict[Alteration, str] = {
    -2: "flat-flat", Fraction(-3, 2): "three-quarters-flat", -1: "flat", Fraction(-1, 2): "quarter-flat",
    0: "natural", Fraction(1, 2): "quarter-sharp", 1: "sharp", Fraction(3, 2): "three-quarters-sharp",
    2: "double-sharp",
}  # fmt: skip
_GRACE_TYPE = "eighth"
#: Whether a hyphen comes before and after a syllable -> value of ``<syllabic>``.
_SYLLABIC = {(False, False): "single", (False, True): "begin", (True, True): "middle", (True, False): "end"}
_FLAGS = {"eighth": 1, "16th": 2, "32nd": 3, "64th": 4, "128th": 5, "256th": 6, "512th": 7, "1024th": 8}

#: Values of the ``<beam>`` elements of a note, from the first level on.
Beams = tuple[str, ...]


def pieces(event: Event) -> list[tuple[Fraction, str, int]]:
    """Return duration, type and dots of the tied notes (or rests) that an event is written as.

    Raises:
        FormatError: The event is longer than ``MAX_DURATION``.
    """
    written = event.written_duration
    if written > MAX_DURATION:
        raise FormatError(f"a note or rest is longer than {MAX_DURATION} whole notes, the longest allowed")
    factor = event.duration / written
    return [(value * factor, name, dots) for value, name, dots in note_values(written)]


def beams(layer: Layer) -> list[Beams]:
    """Return the beams of each event: they join notes shorter than a quarter without a blank between them."""
    flags = [_flags(event) for event in layer.events]
    result: list[Beams] = [()] * len(flags)
    start = 0
    for index in range(1, len(flags) + 1):
        joined = index < len(flags) and flags[index - 1] and flags[index] and layer.events[index].joined
        if not joined:
            if index - start > 1:
                result[start:index] = _beamed(flags[start:index])
            start = index
    return result


def _flags(event: Event) -> int:
    values = () if event.rest else note_values(min(event.written_duration, MAX_DURATION))
    return _FLAGS.get(values[0][1], 0) if len(values) == 1 else 0


def _beamed(flags: Sequence[int]) -> list[Beams]:
    """Return the beams of a group: a level joins neighbours that both have it; without one it becomes a hook."""
    group: list[Beams] = []
    for index, count in enumerate(flags):
        before = flags[index - 1] if index else 0
        after = flags[index + 1] if index + 1 < len(flags) else 0
        kinds = (
            "continue" if level <= before and level <= after
            else "end" if level <= before
            else "begin" if level <= after
            else "backward hook" if before
            else "forward hook"
            for level in range(1, count + 1)
        )  # fmt: skip
        group.append(tuple(kinds))
    return group


class NoteWriter:
    """Writes the events of one layer into a measure.

    Args:
        measure: The measure.
        place: Staff and voice number in the part.
        divisions: Divisions of a quarter note.
    """

    def __init__(self, measure: Element, place: Place, divisions: int) -> None:
        self.measure, self.place, self.divisions = measure, place, divisions

    def units(self, duration: Fraction) -> int:
        """Convert a duration in whole notes to divisions."""
        return int(duration * 4 * self.divisions)

    def measure_rest(self, event: Event, decorations: Sequence[str]) -> None:
        """Write a rest as long as the bar, without a note value."""
        note = self._note(event)
        add(note, "rest", None, {"measure": "yes"})
        add(note, "duration", self.units(event.duration))
        self._voice(note)
        self._staff(note)
        self._notations(note, (), self._ends(event, True, True), decorations)

    def event(self, event: Event, decorations: Sequence[str], beams: Beams) -> None:
        """Write a note, chord or rest with these of its decorations."""
        values = pieces(event)
        shared = notehead(event.marks.decorations)
        for index, value in enumerate(values):
            first, last = index == 0, index == len(values) - 1
            for number, head in enumerate(event.heads or (None,)):
                note = self._note(event)
                if number:
                    add(note, "chord")
                self._pitch(note, head)
                add(note, "duration", self.units(value[0]))
                ties = _ties(head, first, last)
                for tie in ties:
                    add(note, "tie", None, {"type": tie})
                self._voice(note)
                self._value(note, value, head.accidental if head and first else "")
                self._time_modification(note, event)
                if style := (notehead(head.marks) if head else None) or shared:
                    add(note, "notehead", style[0], style[1])
                self._staff(note)
                alone = head.marks if head else ()
                signs = [*decorations, *alone] if first else []
                if number:
                    own = [name for name in signs if name in _OF_ALL_NOTES or name in alone]
                    self._notations(note, ties, (), _bracketed(own, number, len(event.heads)))
                else:
                    for level, kind in enumerate(beams, 1):
                        add(note, "beam", kind, {"number": str(level)})
                    signs = _bracketed(signs, number, len(event.heads))
                    self._notations(note, ties, self._ends(event, first, last), signs)
                    if first:
                        self._lyrics(note, event.lyrics)

    def grace(self, grace: GraceNote) -> None:
        """Write a grace note or chord."""
        for number, head in enumerate(grace.heads):
            note = SubElement(self.measure, "note")
            add(note, "grace", None, {"slash": "yes"} if grace.slash else {})
            if number:
                add(note, "chord")
            self._pitch(note, head)
            self._voice(note)
            values = note_values(min(grace.duration, MAX_DURATION)) if grace.duration else ()
            name, dots = values[0][1:] if len(values) == 1 else (_GRACE_TYPE, 0)
            self._value(note, (grace.duration, name, dots), head.accidental)
            self._staff(note)
            if number == 0:
                self._notations(note, (), _slurs(grace.slurs, True, True), ())

    def _note(self, event: Event) -> Element:
        return SubElement(self.measure, "note", {"print-object": "no"} if event.invisible else {})

    def _pitch(self, note: Element, head: Head | None) -> None:
        if head is None:
            add(note, "rest")
            return
        if head.pitch.octave not in OCTAVES:
            raise FormatError(
                f"a note is in octave {head.pitch.octave}; MusicXML allows {OCTAVES[0]} to {OCTAVES[-1]}"
            )
        kind, prefix = ("unpitched", "display-") if self.place.percussion else ("pitch", "")
        pitch = SubElement(note, kind)
        add(pitch, f"{prefix}step", head.pitch.step)
        if head.pitch.alter and not self.place.percussion:
            add(pitch, "alter", f"{float(head.pitch.alter):g}")
        add(pitch, f"{prefix}octave", head.pitch.octave)

    def _voice(self, note: Element) -> None:
        add(note, "voice", self.place.voice)

    def _value(self, note: Element, value: tuple[Fraction, str, int], accidental: str) -> None:
        add(note, "type", value[1])
        for _ in range(value[2]):
            add(note, "dot")
        if accidental:
            add(note, "accidental", _ACCIDENTALS[alteration_of(accidental)])

    def _time_modification(self, note: Element, event: Event) -> None:
        if event.tuplets:
            actual = normal = 1
            for tuplet in event.tuplets:
                actual, normal = actual * tuplet.actual, normal * tuplet.normal
            modification = SubElement(note, "time-modification")
            add(modification, "actual-notes", actual)
            add(modification, "normal-notes", normal)

    def _staff(self, note: Element) -> None:
        if self.place.staff is not None:
            add(note, "staff", self.place.staff)

    def _ends(self, event: Event, first: bool, last: bool) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield starts of slurs and tuplets for the first of the tied notes, and stops for the last."""
        yield from _slurs(event.slurs, first, last)
        for number, tuplet in enumerate(event.tuplets, 1):
            if tuplet.starts and first:
                yield "tuplet", {"type": "start", "number": str(number)}
            if tuplet.stops and last:
                yield "tuplet", {"type": "stop", "number": str(number)}

    def _lyrics(self, note: Element, verses: Sequence[Syllable | None]) -> None:
        for number, syllable in enumerate(verses, 1):
            if syllable is None:
                continue
            lyric = add(note, "lyric", None, {"number": str(number)})
            add(lyric, "syllabic", _SYLLABIC[syllable.before, syllable.after])
            add(lyric, "text", syllable.text)
            if syllable.extended:
                add(lyric, "extend")

    def _notations(
        self,
        note: Element,
        ties: Iterable[str],
        ends: Iterable[tuple[str, dict[str, str]]],
        signs: Sequence[str],
    ) -> None:
        notations = Element("notations")
        for tie in ties:
            add(notations, "tied", None, {"type": tie})
        for tag, attributes in ends:
            add(notations, tag, None, attributes)
        write_notations(notations, signs)
        if len(notations):
            note.append(notations)


def _bracketed(signs: Sequence[str], number: int, notes: int) -> list[str]:
    """Return the signs of a note of a chord; the bracket before an unbroken chord ends at its outer notes."""
    place = {0: ".bottom", notes - 1: ".top"}.get(number, "")
    return [f"{name}{place}" if name == NON_ARPEGGIO else name for name in signs]


def _ties(head: Head | None, first: bool, last: bool) -> list[str]:
    if head is None:
        return []
    stops = head.tie_stop if first else True
    starts = head.tie_start if last else True
    return ["stop"] * stops + ["start"] * starts


def _slurs(slurs: Iterable[SlurEnd], first: bool, last: bool) -> Iterator[tuple[str, dict[str, str]]]:
    for slur in slurs:
        number = {"number": str(slur.number)}
        if slur.starts and first:
            yield "slur", {"type": "start"} | number | ({"line-type": "dotted"} if slur.dotted else {})
        elif not slur.starts and last:
            yield "slur", {"type": "stop"} | number
