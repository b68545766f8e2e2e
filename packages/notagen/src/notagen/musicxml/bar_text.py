"""Writes one bar of a voice as ABC. Accidentals hold for the same letter in the same octave, up to the barline."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from notagen.abc.accidentals import SIGNS, Alteration
from notagen.abc.clefs import clef_octaves
from notagen.musicxml.measures import GraceChord, Tone, XmlChange, XmlEvent, XmlMark
from notagen.musicxml.values import TICKS, Time, XmlKey, XmlMeter
from notagen.musicxml.voices import VoiceMeasure
from notagen.score.model import Transposition
from pentatonic.errors import FormatError

MAX_BAR_CHARACTERS = 60_000
MAX_LENGTH_NUMBER = 9999  # largest numerator or denominator of a length

_EIGHTH = TICKS // 2  # the unit of all lengths is L:1/8
_SHARPS = "FCGDAEB"
_TUPLET_TIMES = {
    2: 3,
    3: 2,
    4: 3,
    6: 2,
    8: 3,
}  # default q of (p, for those p where it does not depend on the meter
_MAX_TUPLET_NOTES = 99


class BarWriter:
    """Writes the bars of one voice in order, and keeps track of the key, meter and clef in force.

    Args:
        key: The key at the start; None in percussion, which has no keys and no accidentals.
        meter: The meter at the start.
        clef: The clef at the start.
        transpose: Semitones from written to sounding pitch at the start.
        staff: The staff of the voice.
    """

    def __init__(
        self, key: XmlKey | None, meter: XmlMeter, clef: str, transpose: int = 0, staff: int = 1
    ) -> None:
        self.key, self.meter, self.clef, self.transpose, self.staff = key, meter, clef, transpose, staff
        self._written: dict[tuple[str, int], Alteration] = {}

    def change(self, change: XmlChange) -> str:
        """Put a change in force and return its inline field; empty where nothing changes."""
        value = change.value
        if isinstance(value, XmlMeter):
            changed, self.meter = value.name != self.meter.name, value
            return f"[M:{value.name}]" if changed else ""
        if self.key is None:
            return ""
        if isinstance(value, Transposition):
            changed, self.transpose = value.semitones != self.transpose, value.semitones
            return f"[K:transpose={value.semitones}]" if changed else ""
        if not isinstance(value, XmlKey):
            changed, self.clef = value != self.clef, value
            return f"[K:{value}]" if changed else ""
        if value.fifths == self.key.fifths:
            return ""
        self.key = value
        self._written = {}  # a new key cancels the accidentals of the bar
        return f"[K:{value.name}]"

    def bar(self, measure: VoiceMeasure, tempos: Sequence[tuple[Time, str]] = ()) -> str:
        """Return the text of one bar, without barlines.

        Args:
            measure: The bar. Changes and marks during an event are written before the next event.
            tempos: Onsets and values of ``Q:`` fields.

        Raises:
            FormatError: The bar is too long, or has a length that ABC cannot express.
        """
        self._written = {}
        pending: list[tuple[Time, int, XmlChange | XmlMark | str]] = [
            *((change.onset, 0, change) for change in measure.changes),
            *((onset, 0, f"[Q:{beats}]") for onset, beats in tempos),
            *((mark.onset, 1 if mark.text.startswith('"') else 2, mark) for mark in measure.marks),
        ]
        pending.sort(key=lambda item: item[0])
        pending.reverse()
        tuplets = _tuplet_marks(measure.events)
        parts: list[str] = []
        for index, event in enumerate(measure.events):
            due: list[tuple[int, XmlChange | XmlMark | str]] = []
            last = index == len(measure.events) - 1
            while pending and (last or pending[-1][0] <= event.onset):
                due.append(pending.pop()[1:])
            due.sort(key=lambda item: item[0])
            parts += [self._moment(item) for _, item in due]
            parts += [self._staff(event), tuplets.get(index, ""), self._event(event)]
            if not last and not (event.joined and measure.events[index + 1].tones):
                parts.append(" ")
        parts += [self._grace(measure.late_grace)]
        text = "".join(parts)
        if len(text) > MAX_BAR_CHARACTERS:
            raise FormatError(f"a bar of {len(text)} characters; at most {MAX_BAR_CHARACTERS} are allowed")
        return text

    def _moment(self, item: XmlChange | XmlMark | str) -> str:
        if isinstance(item, str):
            return item
        return item.text if isinstance(item, XmlMark) else self.change(item)

    def _staff(self, event: XmlEvent) -> str:
        """Return the change to the staff of a note, in staves down from the last one; rests have none of their own."""
        if not event.tones or event.staff == self.staff:
            return ""
        down, self.staff = event.staff - self.staff, event.staff
        return f"[I:staff {down:+d}]"

    def _event(self, event: XmlEvent) -> str:
        length = _length(event.length, event.ratio)
        grace = self._grace(event.grace)
        of_all = _marks_of_all(event.tones)
        marks = "".join([*of_all, *event.marks])
        if not event.tones:
            body = f"{'x' if event.hidden else 'z'}{length}"
        elif len(event.tones) == 1:
            body = f"{self._tone(event.tones[0])}{length}{'-' if event.tones[0].tied else ''}"
        else:
            body = self._chord(event.tones, length, of_all)
        return f"{grace}{event.opened}{marks}{body}{event.closed}"

    def _chord(self, tones: Sequence[Tone], length: str, of_all: Sequence[str] = ()) -> str:
        """Return a chord; marks of single notes stand before them, but for those that all notes have."""
        inner, tied = "", all(tone.tied for tone in tones)
        for tone in tones:
            own = "".join(mark for mark in tone.marks if mark not in of_all)
            inner += f"{own}{self._tone(tone)}{'-' if tone.tied and not tied else ''}"
        return f"[{inner}]{length}{'-' if tied else ''}"

    def _grace(self, chords: Sequence[GraceChord]) -> str:
        if not chords:
            return ""
        inner = "".join(
            f"{chord.opened_inside}{self._chord_or_tone(chord.tones)}{chord.closed}" for chord in chords
        )
        return f"{chords[0].opened}{{{'/' if chords[0].slash else ''}{inner}}}"

    def _chord_or_tone(self, tones: Sequence[Tone]) -> str:
        return self._tone(tones[0]) if len(tones) == 1 else self._chord(tones, "")

    def _tone(self, tone: Tone) -> str:
        place = (tone.letter, tone.octave)
        in_force = self._written.get(
            place, _signature(self.key.fifths if self.key else 0).get(tone.letter, 0)
        )
        name = _tone_name(tone.letter, tone.octave - clef_octaves(self.clef))
        if tone.alteration == in_force:
            return name
        self._written[place] = tone.alteration
        return SIGNS[tone.alteration] + name


def _marks_of_all(tones: Sequence[Tone]) -> tuple[str, ...]:
    """Return the marks of a single note, and the shape of the heads of a chord, where all have the same."""
    if len(tones) < 2:
        return tones[0].marks if tones else ()
    first = tones[0].marks[:1]
    shared = bool(first) and first[0].startswith("!style=") and all(tone.marks[:1] == first for tone in tones)
    return first if shared else ()


def _tuplet_marks(events: Sequence[XmlEvent]) -> dict[int, str]:
    """Return the tuplet marks of a bar by the index of the event that they come before.

    A tuplet ends where the source says so; without that, as soon as the denominator of its length is a power of two.
    """
    marks: dict[int, str] = {}
    start = 0
    total: Time = 0
    ratio: tuple[int, int] | None = None
    for index, event in enumerate(events):
        if ratio and (event.ratio != ratio or event.tuplet_starts or index - start == _MAX_TUPLET_NOTES):
            marks[start] = _tuplet_mark(ratio, index - start)
            ratio = None
        if event.ratio and not ratio:
            start, total, ratio = index, 0, event.ratio
        if ratio:
            total += event.length
            marked = events[start].tuplet_starts
            if event.tuplet_stops or (not marked and _binary(total)):
                marks[start] = _tuplet_mark(ratio, index + 1 - start)
                ratio = None
    if ratio:
        marks[start] = _tuplet_mark(ratio, len(events) - start)
    return marks


def _binary(length: Time) -> bool:
    """Whether a length is a sum of undotted notes outside tuplets."""
    denominator = Fraction(length, TICKS).denominator
    return denominator & (denominator - 1) == 0


def _tuplet_mark(ratio: tuple[int, int], notes: int) -> str:
    p, q = ratio
    return f"({p}" if notes == p and _TUPLET_TIMES.get(p) == q else f"({p}:{q}:{notes}"


@lru_cache(maxsize=4096)
def _length(ticks: Time, ratio: tuple[int, int] | None) -> str:
    """Return the length of a note as ABC writes it: ``""``, ``2``, ``/``, ``3/2``."""
    length = Fraction(ticks, _EIGHTH)
    if ratio:
        length *= Fraction(*ratio)
    over, under = length.as_integer_ratio()
    if max(over, under) > MAX_LENGTH_NUMBER:
        raise FormatError(
            f"a note length needs a number above {MAX_LENGTH_NUMBER}, which is not allowed in ABC"
        )
    if under == 1:
        return "" if over == 1 else str(over)
    return f"{'' if over == 1 else over}/{'' if (over, under) == (1, 2) else under}"


@lru_cache(maxsize=16)
def _signature(fifths: int) -> dict[str, int]:
    """Return the alterations of a key signature by letter."""
    altered = _SHARPS[:fifths] if fifths >= 0 else _SHARPS[fifths:]
    return dict.fromkeys(altered, 1 if fifths > 0 else -1)


@lru_cache(maxsize=128)
def _tone_name(letter: str, octave: int) -> str:
    return letter.lower() + "'" * (octave - 5) if octave > 4 else letter + "," * (4 - octave)
