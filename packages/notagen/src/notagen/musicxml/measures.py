"""Reads the measures of one MusicXML part into timed events. All times are exact, in ticks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from xml.etree.ElementTree import Element

from notagen.abc.accidentals import SIGNS, Alteration
from notagen.musicxml.lyrics import Syllables
from notagen.musicxml.marks import (
    NOTE_VALUES,
    Directions,
    StaffMark,
    chord_symbol,
    note_marks,
    notehead,
    tempo,
)
from notagen.musicxml.values import (
    TICKS,
    Time,
    XmlKey,
    XmlMeter,
    decimal,
    integer,
    optional_integer,
    read_clef,
    read_key,
    read_meter,
    whole,
)
from notagen.notation.named_marks import is_of_one_note
from notagen.score.losses import lost
from notagen.score.model import Syllable, Transposition
from pentatonic.errors import FormatError

MAX_STAVES = 16
MAX_CHANGES = 64  # of key, meter and clef in one measure of a part
MAX_TUPLET = 99
MAX_TIMES = 20  # of a repeat

_VOLTA = re.compile(r"[0-9]{1,2}(?:[,.-][0-9]{1,2}){0,9}")
_STYLES = {"light-light": "||", "light-heavy": "|]", "heavy-heavy": "|]", "heavy-light": "[|"}


@dataclass(slots=True)
class Tone:
    """One pitch: a letter ``C``-``B``, an alteration -2..2 in steps of 1/2, an octave where 4 starts at middle C.

    ``marks`` are the decorations of this note alone: the shape of its head, its string and fret.
    """

    letter: str
    alteration: Alteration
    octave: int
    tied: bool = False
    unpitched: bool = False
    ends_tie: bool = False  # whether the file says so
    marks: tuple[str, ...] = ()


@dataclass(slots=True)
class GraceChord:
    """Grace notes that sound together; slurs as of :class:`XmlEvent`."""

    tones: list[Tone]
    slash: bool
    slur_starts: list[tuple[str, bool]] = field(default_factory=list)
    slur_stops: list[str] = field(default_factory=list)
    opened: str = ""  # of the first: before the group
    opened_inside: str = ""
    closed: str = ""


@dataclass(slots=True)
class XmlEvent:
    """A note, a chord, or a rest, which has no tones."""

    onset: Time
    length: Time
    tones: list[Tone] = field(default_factory=list)
    hidden: bool = False
    fills_measure: bool = False
    joined: bool = False  # a beam joins it to the next event
    ratio: tuple[int, int] | None = None  # of its tuplet: actual notes, normal notes
    tuplet_starts: bool = False
    tuplet_stops: bool = False
    grace: list[GraceChord] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    slur_starts: list[tuple[str, bool]] = field(
        default_factory=list
    )  # number; whether it is dotted or dashed
    slur_stops: list[str] = field(default_factory=list)
    opened: str = ""  # slur signs of ABC
    closed: str = ""
    staff: int = 1
    lyrics: dict[int, Syllable] = field(default_factory=dict)  # verse, from 1 -> its syllable

    @property
    def unpitched(self) -> bool:
        """Whether it is a drum: it has notes, all without pitch."""
        return bool(self.tones) and all(tone.unpitched for tone in self.tones)

    @property
    def end(self) -> Time:
        """Time at which the event ends."""
        return self.onset + self.length


@dataclass(frozen=True, slots=True)
class XmlChange:
    """A new key, meter, clef (its ABC word) or transposition on one staff, or on all where ``staff`` is None."""

    onset: Time
    staff: int | None
    value: XmlKey | XmlMeter | Transposition | str


@dataclass(frozen=True, slots=True)
class XmlMark:
    """A decoration or quoted text at a point in time, not attached to a note."""

    onset: Time
    staff: int
    voice: str | None
    text: str


@dataclass(slots=True)
class XmlMeasure:
    """One measure of a part; events come with their voice and staff, in the order of the file."""

    events: list[tuple[str, int, XmlEvent]] = field(default_factory=list)
    late_grace: list[tuple[str, int, list[GraceChord]]] = field(default_factory=list)
    marks: list[XmlMark] = field(default_factory=list)
    changes: list[XmlChange] = field(default_factory=list)
    tempos: list[tuple[Time, str]] = field(default_factory=list)
    left: str = ""
    right: str = ""
    volta: str = ""
    filled_to: Time = 0  # end of the time that forward elements and cue notes skip
    continues: bool = False  # its number marks it as the rest of the measure before

    @property
    def new_meter(self) -> XmlMeter | None:
        """The meter that the measure declares; None without one."""
        return next((change.value for change in self.changes if isinstance(change.value, XmlMeter)), None)


@dataclass(slots=True)
class XmlPart:
    """One part: its measures, and properties of the whole part."""

    measures: list[XmlMeasure]
    staves: int = 1
    staff_lines: dict[int, int] = field(default_factory=dict)


def read_part(name: str, measures: list[Element]) -> XmlPart:
    """Read one part.

    Args:
        name: Its identifier, for messages.
        measures: Its measures.

    Raises:
        FormatError: A value is missing or out of range; the message names part and measure.
    """
    reader = _PartReader(XmlPart([]))
    for number, measure in enumerate(measures, 1):
        try:
            reader.measure(measure)
        except FormatError as error:
            raise FormatError(f"part {name[:40]!r}, measure {number}: {error.reason}") from None
    reader.directions.finish()
    return reader.part


class _PartReader:
    def __init__(self, part: XmlPart) -> None:
        self.part = part
        self.division: Time = TICKS  # length of one of the divisions of a quarter note
        self.directions = Directions()
        self.syllables = Syllables()

    def measure(self, element: Element) -> None:
        numbered = element.get("number", "0").strip().isdecimal() and element.get("implicit") != "yes"
        self.current = XmlMeasure(continues=not numbered)
        self.part.measures.append(self.current)
        self.at: Time = 0
        self.counted: Time = 0
        self.exact: dict[Time, Time] = {}
        self.last: XmlEvent | None = None
        self.cued = False  # whether it is a cue note
        self.elsewhere: dict[int, XmlEvent] = {}  # notes of its chord on other staves
        self.grace: dict[tuple[str, int], list[GraceChord]] = {}
        for child in element:
            if (handler := _HANDLERS.get(child.tag)) is not None:
                handler(self, child)
        self.directions.end_measure()
        self.current.late_grace += [(voice, staff, grace) for (voice, staff), grace in self.grace.items()]

    def note(self, note: Element) -> None:
        voice, staff = note.findtext("voice", "1").strip(), self.staff(note)
        tone = _tone(note)
        cue = note.find("cue") is not None  # a cue note shows the music of another part
        follows = note.find("chord") is not None
        grace = note.find("grace")
        if grace is not None:
            if tone and not cue:
                self._grace(self.grace.setdefault((voice, staff), []), tone, note, follows)
            return
        if follows and self.last is not None and self.cued and not cue and tone:
            # A real note in a chord with a cue note: the chord starts where the cue note did.
            self.last = _event(note, self.last.onset, self.last.length, tone)
            self.last.lyrics = self.syllables.of(note, {})
            self.elsewhere = {}
            self._keep(self.last, voice, staff)
            return
        if follows and self.last is not None:
            if tone and self.last.tones and cue == self.cued:
                self._add_to_chord(self.last, note, tone, voice, staff)
            return
        onset, counted = self.at, self._time(note, "duration")
        length = _exact(note, counted, self.division)
        self._advance(counted, length)
        self.last = _event(note, onset, length, tone)
        self.last.lyrics = self.syllables.of(note, {})
        self.elsewhere = {}
        self.cued = cue
        if cue:
            self.current.filled_to = max(self.current.filled_to, self.at)
        elif length:
            self._keep(self.last, voice, staff)

    def _add_to_chord(self, chord: XmlEvent, note: Element, tone: Tone, voice: str, staff: int) -> None:
        """Add a note to a chord; the notes on another staff than the first one become a chord there."""
        if self.cued or staff == chord.staff:
            chord.tones.append(tone)
        elif (other := self.elsewhere.get(staff)) is not None:
            other.tones.append(tone)
        else:
            other = XmlEvent(
                chord.onset, chord.length, [tone], joined=chord.joined, ratio=chord.ratio, staff=staff
            )
            other.tuplet_starts, other.tuplet_stops = chord.tuplet_starts, chord.tuplet_stops
            self.current.events.append((voice, staff, other))
            self.elsewhere[staff] = other
            lost("chord over two staves, written as one on each")
        _add_notations(chord, note, tone)
        chord.lyrics = self.syllables.of(note, chord.lyrics)

    def _keep(self, event: XmlEvent, voice: str, staff: int) -> None:
        self.cued, event.staff = False, staff
        event.grace = self.grace.pop((voice, staff), [])
        self.current.events.append((voice, staff, event))

    def _grace(self, group: list[GraceChord], tone: Tone, note: Element, follows: bool) -> None:
        tone.tied = False
        if follows and group:
            group[-1].tones.append(tone)
        else:
            grace = note.find("grace")
            group.append(GraceChord([tone], grace is not None and grace.get("slash") == "yes"))
        for notations in note.findall("notations"):
            _add_slurs(group[-1], notations)
            lost("mark of a grace note", len(note_marks(notations)))
        lost("note head of a grace note", int(notehead(note) is not None))

    def backup(self, element: Element) -> None:
        self._move(-self._time(element, "duration"))

    def forward(self, element: Element) -> None:
        self._move(self._time(element, "duration"))
        self.current.filled_to = max(self.current.filled_to, self.at)

    def _advance(self, counted: Time, length: Time) -> None:
        """Move past a note; ``counted`` is its length in the file, which may be rounded inside a tuplet."""
        self.counted += counted
        self.at += length
        self.exact.setdefault(self.counted, self.at)

    def _move(self, counted: Time) -> None:
        self.counted = max(0, self.counted + counted)
        self.at = self.exact.get(self.counted, max(0, self.at + counted)) if self.counted else 0
        self.last = None

    def attributes(self, attributes: Element) -> None:
        divisions = attributes.find("divisions")
        if divisions is not None:
            per_quarter = decimal(divisions, "divisions")
            if per_quarter <= 0:
                raise FormatError("divisions must be positive")
            self.division = whole(Fraction(TICKS) / per_quarter)
        if (staves := attributes.find("staves")) is not None:
            self.part.staves = max(self.part.staves, integer(staves, "staves", 0, MAX_STAVES))
        for key in attributes.findall("key"):
            self._change(key, read_key(key), None)
        if (time := attributes.find("time")) is not None:
            self.current.changes.append(XmlChange(self.at, None, read_meter(time)))
        for clef in attributes.findall("clef"):
            self._change(clef, read_clef(clef), 1)
        for transpose in attributes.findall("transpose"):
            chromatic = optional_integer(transpose, "chromatic", -99, 99)
            semitones = chromatic + 12 * optional_integer(transpose, "octave-change", -5, 5)
            self._change(transpose, Transposition(semitones), None)
        if len(self.part.measures) == 1:
            self._declare(attributes)
        if len(self.current.changes) > MAX_CHANGES:
            raise FormatError(f"more than {MAX_CHANGES} changes of key, meter and clef")

    def _declare(self, attributes: Element) -> None:
        """Read the staff lines, which ABC declares once for each voice."""
        for details in attributes.findall("staff-details"):
            if (lines := details.find("staff-lines")) is not None:
                staff = _number_attribute(details, 1)
                self.part.staff_lines[staff or 1] = integer(lines, "staff-lines", 0, 20)

    def _change(self, element: Element, value: XmlKey | Transposition | str, staff: int | None) -> None:
        self.current.changes.append(XmlChange(self.at, _number_attribute(element, staff), value))

    def direction(self, direction: Element) -> None:
        onset = max(0, self.at + self._offset(direction))
        named = direction.findtext("voice")
        place = StaffMark(onset, self.staff(direction), named.strip() if named else None, "")
        for mark in self.directions.marks(direction, place):
            xml_mark = XmlMark(mark.onset, mark.staff, mark.voice, mark.text)
            if mark.closing:
                self._at_last_note(xml_mark)
            else:
                self.current.marks.append(xml_mark)
        self._tempo(direction, onset)

    def _at_last_note(self, mark: XmlMark) -> None:
        """Add a mark to the last note before its time, in this measure or in the one before."""
        for measure, end in zip(self.part.measures[:-3:-1], (mark.onset, None), strict=False):
            onsets = [
                event.onset
                for voice, staff, event in measure.events
                if staff == mark.staff and mark.voice in (None, voice) and (end is None or event.onset < end)
            ]
            if onsets:
                measure.marks.append(replace(mark, onset=max(onsets)))
                return
        self.current.marks.append(mark)

    def sound(self, sound: Element) -> None:
        self._tempo(sound, self.at)

    def _tempo(self, element: Element, onset: Time) -> None:
        if beats := tempo(element):
            self.current.tempos.append((onset, beats))

    def harmony(self, harmony: Element) -> None:
        onset = max(0, self.at + self._offset(harmony))
        if symbol := chord_symbol(harmony):
            self.current.marks.append(XmlMark(onset, self.staff(harmony), None, f'"{symbol}"'))

    def barline(self, barline: Element) -> None:
        sign = _STYLES.get(barline.findtext("bar-style", "").strip(), "")
        repeat = barline.find("repeat")
        side = barline.get("location", "right")
        ending = barline.find("ending")
        if ending is not None and ending.get("type") == "start":
            number = re.sub(r"\s", "", ending.get("number", ""))
            self.current.volta = number if _VOLTA.fullmatch(number) else ""
        if repeat is not None and repeat.get("direction") in ("forward", "backward"):
            sign = "|:" if repeat.get("direction") == "forward" else ":|"
            if sign == ":|":
                sign = f"{':' * (_times(repeat) - 1)}|"
        if side == "left":
            self.current.left = sign
        elif side == "right":
            self.current.right = sign

    def staff(self, element: Element) -> int:
        staff = optional_integer(element, "staff", 1, MAX_STAVES, default=1)
        self.part.staves = max(self.part.staves, staff)
        return staff

    def _time(self, element: Element, name: str) -> Time:
        child = element.find(name)
        if child is None:
            raise FormatError(f"{element.tag} without {name}")
        length = decimal(child, name)
        if length < 0:
            raise FormatError(f"{name} must not be negative")
        return length * self.division

    def _offset(self, element: Element) -> Time:
        offset = element.find("offset")
        return 0 if offset is None else decimal(offset, "offset") * self.division


_HANDLERS = {
    "note": _PartReader.note,
    "backup": _PartReader.backup,
    "forward": _PartReader.forward,
    "attributes": _PartReader.attributes,
    "direction": _PartReader.direction,
    "sound": _PartReader.sound,
    "harmony": _PartReader.harmony,
    "barline": _PartReader.barline,
}


def _times(repeat: Element) -> int:
    """Return how often a repeat is played, from 2 on."""
    text = repeat.get("times", "2").strip()
    if text.isascii() and text.isdigit() and 2 <= int(text[:9]) <= MAX_TIMES:
        return int(text)
    lost("number of times of a repeat")
    return 2


def _event(note: Element, onset: Time, length: Time, tone: Tone | None) -> XmlEvent:
    event = XmlEvent(onset, length, [tone] if tone else [])
    rest = note.find("rest")
    if tone is None and rest is not None:
        # Before version 2 of the format, a rest that fills the measure is one without a type.
        event.fills_measure = rest.get("measure") == "yes" or note.find("type") is None
        event.hidden = note.get("print-object") == "no"
    elif tone is None:
        raise FormatError("a note has neither pitch nor rest")
    first_beam = note.find("beam")
    event.joined = first_beam is not None and (first_beam.text or "").strip() in ("begin", "continue")
    event.ratio = _ratio(note)
    _add_notations(event, note, tone)
    return event


def _exact(note: Element, counted: Time, division: Time) -> Time:
    """Return the length by type, dots and tuplet, if the length in the file is that length rounded; else the latter."""
    stated = _stated(note.findtext("type", "").strip(), len(note.findall("dot")), _ratio(note))
    return counted if stated is None or abs(stated - counted) >= division else stated


@lru_cache(maxsize=4096)
def _stated(name: str, dots: int, ratio: tuple[int, int] | None) -> Time | None:
    """Return the length of a note by the name of its value, dots and tuplet; None without such a value."""
    if (value := NOTE_VALUES.get(name)) is None:
        return None
    actual, normal = ratio or (1, 1)
    return whole(value * 4 * TICKS * (2 - Fraction(1, 2 ** min(dots, 4))) * Fraction(normal, actual))


def _add_notations(event: XmlEvent, note: Element, tone: Tone | None) -> None:
    """Add the marks of a note to its chord, and those that are of one note alone to the tone."""
    if tone is not None and (head := notehead(note)):
        tone.marks = (head,)
    for notations in note.findall("notations"):
        for mark in note_marks(notations):
            if tone is not None and is_of_one_note(mark[1:]):
                tone.marks += (mark,)
            elif mark not in event.marks:
                event.marks.append(mark)
        _add_slurs(event, notations)
        for tuplet in notations.findall("tuplet"):
            event.tuplet_starts |= tuplet.get("type") == "start"
            event.tuplet_stops |= tuplet.get("type") == "stop"


def _add_slurs(note: XmlEvent | GraceChord, notations: Element) -> None:
    for slur in notations.findall("slur"):
        number = slur.get("number", "1")
        if slur.get("type") == "start":
            note.slur_starts.append((number, slur.get("line-type") in ("dotted", "dashed")))
        elif slur.get("type") == "stop":
            note.slur_stops.append(number)


def _tone(note: Element) -> Tone | None:
    for kind, prefix in (("pitch", ""), ("unpitched", "display-")):
        if (pitch := note.find(kind)) is None:
            continue
        letter = pitch.findtext(f"{prefix}step", "B" if prefix else "").strip()
        if len(letter) != 1 or letter not in "ABCDEFG":
            raise FormatError(f"step {letter[:9]!r} is not one of A to G")
        alter = pitch.find("alter")
        alteration: Alteration = 0 if alter is None else decimal(alter, "alter")
        if abs(int(alteration)) > 2:
            raise FormatError(f"alter is {float(alteration):g}; allowed are -2 to 2")
        if alteration not in SIGNS:
            lost("alteration between quarter tones, rounded")
            alteration = min(SIGNS, key=lambda sign: (abs(sign - alteration), abs(sign)))
        octave = optional_integer(pitch, f"{prefix}octave", -1, 9, default=4)
        ties = {tie.get("type") for tie in note.findall("tie")}
        return Tone(letter, alteration, octave, "start" in ties, bool(prefix), "stop" in ties)
    return None


def _ratio(note: Element) -> tuple[int, int] | None:
    modification = note.find("time-modification")
    if modification is None:
        return None
    actual, normal = (
        optional_integer(modification, f"{name}-notes", 1, 999, default=1) for name in ("actual", "normal")
    )
    return (actual, normal) if actual != normal and max(actual, normal) <= MAX_TUPLET else None


def _number_attribute(element: Element, default: int | None) -> int | None:
    text = element.get("number", "").strip()
    return int(text) if re.fullmatch("[0-9]{1,2}", text) else default
