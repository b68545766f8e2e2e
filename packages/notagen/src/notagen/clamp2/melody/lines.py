"""Melodic lines of scores: what is searched, and what is searched for.

- A tied note is one note.
- Grace notes are left out.
- Of a chord, the highest note counts; it goes on where it is tied.
- A rest belongs to the time of the note before it: the span of a note reaches to the start of the next one.
- An overlay (``&``) is a line of its own, and so is each further one. Percussion has no lines.
- Repeats are not played out, and pitches are those that sound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise

from notagen.score.model import Event, Measure, Pitch, Score, Voice
from pentatonic.errors import FormatError

#: Numerators and denominators of times are less than this, so that their ratios fit 64 bits.
MAX_NUMBER = 1 << 31

_STEPS = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}
_NAMES = {fifths: step for step, fifths in _STEPS.items()}


@dataclass(frozen=True, slots=True)
class LineNote:
    """One note of a line.

    Args:
        pitch: MIDI number, 0 to 127.
        fifths: Its name as a place in the circle of fifths: 0 for C, 1 for G, -2 for B flat.
        bar: Number of the bar in which it starts, from 1.
        onset: Start, in whole notes from the start of the piece.
        length: Time that it sounds, in whole notes.
    """

    pitch: int
    fifths: int
    bar: int
    onset: Fraction
    length: Fraction

    @property
    def name(self) -> str:
        """Name and octave, such as ``Bb4``; middle C is ``C4``."""
        return pitch_name(self.pitch, self.fifths)


@dataclass(frozen=True)
class Line:
    """One melodic line.

    Args:
        voice: Name of its voice or track.
        notes: Its notes in order, each starting after the one before.
        overlay: Whether it is an overlay of the voice, which only has some of its bars.
    """

    voice: str
    notes: tuple[LineNote, ...]
    overlay: bool = False

    @property
    def spans(self) -> list[Fraction]:
        """Time from the start of each note to the start of the next one; of the last one its length."""
        onsets = [note.onset for note in self.notes]
        return [*(b - a for a, b in pairwise(onsets)), *(note.length for note in self.notes[-1:])]


def lines_of(score: Score) -> list[Line]:
    """Return the melodic lines of a score that have notes.

    Raises:
        FormatError: A note is outside of MIDI's range, or a time is no usual fraction.
    """
    lines = []
    for voice in score.voices.values():
        if voice.percussion:
            continue
        for layer in range(max(len(measure.layers) for measure in voice.measures)):
            if notes := _LayerReader(voice, layer).read():
                lines.append(Line(voice.name, tuple(notes), overlay=layer > 0))
    return lines


def pitch_name(pitch: int, fifths: int) -> str:
    """Return name and octave of a MIDI number under a place in the circle of fifths."""
    alteration, step = divmod(fifths + 1, 7)
    sign = "#" * alteration if alteration > 0 else "b" * -alteration
    return f"{_NAMES[step - 1]}{sign}{(pitch - alteration) // 12 - 1}"


def fifths_of(pitch: Pitch) -> int:
    """Return the place of a pitch's name in the circle of fifths; quarter tones go to the natural, as in MIDI."""
    return _STEPS[pitch.step] + 7 * int(pitch.alter)


@dataclass
class _LayerReader:
    voice: Voice
    layer: int
    notes: list[LineNote] = field(default_factory=list)

    def read(self) -> list[LineNote]:
        start = Fraction(0)
        for bar, measure in enumerate(self.voice.measures, 1):
            for event in self._events(measure):
                if event.heads and event.duration:
                    self._add(event, bar, start + event.onset, measure.transpose)
            start += measure.duration
            _check_time(start, bar)
        return self.notes

    def _events(self, measure: Measure) -> Iterator[Event]:
        if self.layer < len(measure.layers):
            yield from measure.layers[self.layer].events

    def _add(self, event: Event, bar: int, onset: Fraction, transpose: int) -> None:
        head = max(event.heads, key=lambda head: head.pitch.midi)
        pitch = head.pitch.midi + transpose
        last = self.notes[-1] if self.notes else None
        if head.tie_stop and last is not None and last.pitch == pitch and last.onset + last.length == onset:
            self.notes[-1] = replace(last, length=last.length + event.duration)
            return
        if not 0 <= pitch <= 127:
            raise FormatError(
                f"bar {bar} of voice {self.voice.name} has a note outside of MIDI's 0 to 127: {pitch}"
            )
        _check_time(onset, bar)
        _check_time(event.duration, bar)
        self.notes.append(LineNote(pitch, _sounding(head.pitch, transpose), bar, onset, event.duration))


def _sounding(pitch: Pitch, transpose: int) -> int:
    """Return the place in the circle of fifths of the name under which a pitch of a transposing instrument sounds."""
    fifths = fifths_of(pitch)
    if transpose % 12 == 0:
        return fifths
    moved = (7 * transpose + 5) % 12 - 5  # the nearest place with that pitch class
    return fifths + moved


def _check_time(time: Fraction, bar: int) -> None:
    if time.denominator >= MAX_NUMBER or time.numerator >= MAX_NUMBER:
        raise FormatError(f"bar {bar} has a time that is no usual fraction of a whole note")
