"""Writes one part of a score: its measures, with attributes, barlines and the voices of its staves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from xml.etree.ElementTree import Element, SubElement

from notagen.abc.duration import Key
from notagen.musicxml.voice_assignment import LayerSlot, VoiceAssignment, is_measure_rest
from notagen.musicxml.writer_elements import add
from notagen.musicxml.writer_marks import (
    Place,
    Position,
    count_lost_end,
    is_line_end,
    line_ends,
    with_tremolos,
    write_directions,
    write_label,
    write_octave_ends,
    write_tempo,
)
from notagen.musicxml.writer_notes import NoteWriter, beams
from notagen.score import (
    Change,
    Clef,
    Marks,
    Measure,
    Part,
    Score,
    Tempo,
    TimeSignature,
    Transposition,
)
from pentatonic.errors import FormatError

_MODES = {
    "maj": "major", "min": "minor", "dor": "dorian", "phr": "phrygian", "lyd": "lydian", "mix": "mixolydian",
    "loc": "locrian", "aeo": "aeolian", "ion": "ionian",
}  # fmt: skip
_CLEFS = {
    "treble": ("G", "2"), "bass": ("F", "4"), "alto": ("C", "3"), "tenor": ("C", "4"), "soprano": ("C", "1"),
    "mezzosoprano": ("C", "2"), "baritone": ("F", "3"), "perc": ("percussion", None), "none": ("none", None),
    "G": ("G", "2"), "F": ("F", "4"), "C": ("C", "3"),
}  # fmt: skip
_CLEF = re.compile(r"([A-Za-z]+)([1-5]?)(?:([+-])(8|15))?")
_BAR_STYLES = {"||": "light-light", "|]": "light-heavy", "[|": "heavy-light"}


class PartWriter:
    """Writes one part.

    Args:
        score: The piece.
        part: The part.
        divisions: Divisions of a quarter note.
        leads: Whether it is the first part, which has the tempos and section labels of the score.
    """

    def __init__(self, score: Score, part: Part, divisions: int, *, leads: bool) -> None:
        self.score, self.part, self.divisions, self.leads = score, part, divisions, leads
        self.assignment = VoiceAssignment(part, score.voices)
        self.voices = self.assignment.voices
        self.ends: dict[str, frozenset[Position]] = {voice.name: line_ends(voice) for voice in self.voices}
        # Last written values, so that only changes are written.
        self.key: Key | None = None
        self.time: TimeSignature | None = None
        self.clefs: dict[int, Clef] = {}
        self.transpose = 0

    def write(self, parent: Element) -> None:
        """Append the measures to the ``<part>``.

        Raises:
            FormatError: A note or a rest cannot be written; the message names voice and bar.
        """
        for index in range(self.score.measure_count):
            measure = add(parent, "measure", None, {"number": str(index + 1)})
            if index == 0 and self._pickup():
                measure.set("implicit", "yes")
            first = self.voices[0].measures[index]
            self._left_barline(measure, first)
            self._attributes(measure, index)
            self._music(measure, index)
            self._right_barline(measure, first)

    def _pickup(self) -> bool:
        """Whether the first bar is shorter than the meter in all voices of the score."""
        first = [voice.measures[0] for voice in self.score.voices.values()]
        nominal = first[0].nominal_duration
        return nominal is not None and max(measure.duration for measure in first) < nominal

    # --- attributes

    def _attributes(self, measure: Element, index: int) -> None:
        first = self.voices[0].measures[index]
        attributes = Element("attributes")
        if index == 0:
            add(attributes, "divisions", self.divisions)
        if index == 0 or self.key != first.key:
            self._key(attributes, first.key)
        if self.time != first.time:
            self._time(attributes, first.time)
        if index == 0 and len(self.part.staves) > 1:
            add(attributes, "staves", len(self.part.staves))
        for number, names in enumerate(self.part.staves, 1):
            self._clef(attributes, number, self.score.voices[names[0]].measures[index].clef)
        if index == 0:
            self._instrument(attributes)
        self._transposition(attributes, first.transpose)
        if len(attributes):
            measure.append(attributes)

    def _key(self, parent: Element, key: Key) -> None:
        self.key = key
        element = add(parent, "key")
        if key.accidentals:
            for letter in "FCGDAEB":
                if alteration := key.alteration(letter):
                    add(element, "key-step", letter)
                    add(element, "key-alter", alteration)
            return
        add(element, "fifths", key.fifths)
        if key.mode:
            add(element, "mode", _MODES[key.mode])

    def _time(self, parent: Element, time: TimeSignature) -> None:
        started, self.time = self.time is not None, time
        if time.meter is None:
            if started:
                add(add(parent, "time"), "senza-misura")
            return
        symbol = {"C": "common", "C|": "cut"}.get(time.text)
        element = add(parent, "time", None, {"symbol": symbol} if symbol else {})
        beats, _, unit = "".join(time.text.split()).rpartition("/")
        add(element, "beats", time.meter.beats if symbol else beats.strip("()"))
        add(element, "beat-type", time.meter.unit if symbol else unit)

    def _clef(self, parent: Element, staff: int, clef: Clef) -> None:
        if self.clefs.get(staff) == clef:
            return
        self.clefs[staff] = clef
        match = _CLEF.fullmatch(clef.word)
        word, line, direction, octaves = match.groups() if match else ("treble", "", None, None)
        sign, usual = _CLEFS.get(word, _CLEFS["treble"])
        element = add(parent, "clef", None, {"number": str(staff)} if len(self.part.staves) > 1 else {})
        add(element, "sign", sign)
        if usual:
            add(element, "line", line or usual)
        if octaves:
            add(
                element, "clef-octave-change", (1 if direction == "+" else -1) * (2 if octaves == "15" else 1)
            )

    def _instrument(self, parent: Element) -> None:
        for number, names in enumerate(self.part.staves, 1):
            lines = self.score.voices[names[0]].staff_lines
            if lines is not None:
                attributes = {"number": str(number)} if len(self.part.staves) > 1 else {}
                add(add(parent, "staff-details", None, attributes), "staff-lines", lines)

    def _transposition(self, parent: Element, semitones: int) -> None:
        if semitones != self.transpose:
            self.transpose = semitones
            add(add(parent, "transpose"), "chromatic", semitones)

    # --- barlines

    def _left_barline(self, parent: Element, measure: Measure) -> None:
        if not measure.repeat_starts and not measure.ending_starts:
            return
        barline = add(parent, "barline", None, {"location": "left"})
        if measure.repeat_starts:
            add(barline, "bar-style", "heavy-light")
        if measure.ending_starts:
            self._ending(barline, measure, "start")
        if measure.repeat_starts:
            add(barline, "repeat", None, {"direction": "forward"})

    def _right_barline(self, parent: Element, measure: Measure) -> None:
        style = "light-heavy" if measure.repeat_stops else _BAR_STYLES.get(measure.right)
        if style is None and not measure.ending_stops:
            return
        barline = add(parent, "barline", None, {"location": "right"})
        if style:
            add(barline, "bar-style", style)
        if measure.ending_stops:
            self._ending(barline, measure, "stop")
        if measure.repeat_stops:
            times = {"times": str(measure.repeat_times)} if measure.repeat_times > 2 else {}
            add(barline, "repeat", None, {"direction": "backward", **times})

    def _ending(self, barline: Element, measure: Measure, kind: str) -> None:
        add(barline, "ending", None, {"number": ", ".join(map(str, measure.ending)), "type": kind})

    # --- music

    def _music(self, measure: Element, index: int) -> None:
        before: LayerSlot | None = None
        for slot in self.assignment.slots(index):
            writer = NoteWriter(measure, slot.place, self.divisions)
            changes = self._clef_changes(slot)
            if before is None:
                changes = sorted([*self._changes(index), *changes], key=lambda change: change.onset)
            elif before.layer.duration:
                add(add(measure, "backup"), "duration", writer.units(before.layer.duration))
            try:
                self._layer(writer, slot, changes)
            except FormatError as error:
                reason = f"voice {slot.voice.name}, bar {index + 1}: {error.reason}"
                raise FormatError(reason, line=slot.measure.line) from None
            before = slot

    def _layer(self, writer: NoteWriter, slot: LayerSlot, changes: Sequence[Change]) -> None:
        layer = slot.layer
        rests = is_measure_rest(layer, slot.measure)
        waiting = list(reversed(changes))
        home = slot.place.staff
        signs = with_tremolos(layer)
        for event_index, (event, own, kinds) in enumerate(
            zip(layer.events, signs, beams(layer), strict=True)
        ):
            while waiting and waiting[-1].onset <= event.onset:
                self._change(writer.measure, waiting.pop().value, slot.place)
            if home is not None:
                writer.place = replace(slot.place, staff=home + event.staff)
            marks = self._kept(own, slot, event_index)
            self._before(writer, marks)
            if rests:
                writer.measure_rest(event, marks.decorations)
            else:
                writer.event(event, marks.decorations, kinds)
            write_octave_ends(writer.measure, marks, writer.place)
        for change in reversed(waiting):
            if isinstance(change.value, (Tempo, str)):  # others are attributes of the next measure
                self._change(writer.measure, change.value, slot.place)
        self._before(writer, self._kept(layer.trailing, slot, len(layer.events)))

    def _before(self, writer: NoteWriter, marks: Marks) -> None:
        """Write directions and grace notes before an event, or at the end of the measure."""
        write_directions(writer.measure, marks, writer.place)
        for grace in marks.grace:
            writer.grace(grace)

    def _kept(self, marks: Marks, slot: LayerSlot, event: int) -> Marks:
        """Return the marks without hairpins and other lines of which the other end is missing."""
        ends = self.ends[slot.voice.name]
        kept: list[str] = []
        for place, name in enumerate(marks.decorations):
            if not is_line_end(name) or (slot.index, slot.layer_index, event, place) in ends:
                kept.append(name)
            else:
                count_lost_end(name)
        return replace(marks, decorations=tuple(kept))

    def _changes(self, index: int) -> list[Change]:
        """Return the changes inside a measure: keys, meters and transpositions of the part, and tempos and labels."""
        of_part = self.voices[0].measures[index].changes
        changes = [
            change for change in of_part if isinstance(change.value, (Key, TimeSignature, Transposition))
        ]
        if self.leads:
            if index == 0 and self.score.tempo is not None:
                changes.insert(0, Change(Fraction(0), self.score.tempo))
            of_score = (
                change for voice in self.score.voices.values() for change in voice.measures[index].changes
            )
            changes += dict.fromkeys(change for change in of_score if isinstance(change.value, (Tempo, str)))
        return changes

    def _clef_changes(self, slot: LayerSlot) -> list[Change]:
        """Return the clef changes inside a measure, which are taken from the first voice of each staff."""
        leads = any(names[0] == slot.voice.name for names in self.part.staves) and slot.layer_index == 0
        changes = slot.measure.changes if leads else ()
        return [change for change in changes if isinstance(change.value, Clef)]

    def _change(
        self, measure: Element, value: Key | TimeSignature | Clef | Transposition | Tempo | str, place: Place
    ) -> None:
        if isinstance(value, Tempo):
            write_tempo(measure, value, place)
        elif isinstance(value, str):
            write_label(measure, value, place)
        else:
            attributes = SubElement(measure, "attributes")
            if isinstance(value, Key):
                self._key(attributes, value)
            elif isinstance(value, TimeSignature):
                self._time(attributes, value)
            elif isinstance(value, Transposition):
                self._transposition(attributes, value.semitones)
            else:
                self._clef(attributes, place.staff or 1, value)
