"""Performance of a score: start, length and loudness of each note, with repeats, endings and jumps played out.

Positions and lengths are exact, in whole notes since the start; seconds follow from the tempi. A dynamic mark holds for
all voices of a part up to the next one; staccato shortens notes, accents are louder, a fermata slows its note down, and
grace notes take their time from the note after them. Other ornaments, hairpins and chord symbols are not played.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import TypeVar

from notagen.abc.duration import Key, Meter
from notagen.score import (
    Event,
    Measure,
    Part,
    Pitch,
    Score,
    Tempo,
    TimeSignature,
    Transposition,
    Voice,
    read_score,
)
from notagen.sound.instruments import drum_of, programme_of
from notagen.sound.play_order import order_of
from pentatonic.errors import InputError

#: Most bars of all voices together, with repeats played out.
MAX_PLAYED_BARS = 1 << 18
MAX_DURATION_S = 12 * 3600.0
#: Seconds of a whole note if the piece has no tempo: 120 quarter notes a minute.
DEFAULT_WHOLE_NOTE_S = 2.0

_DYNAMICS = {"pppp": 20, "ppp": 28, "pp": 38, "p": 50, "mp": 62, "mf": 74, "f": 88, "ff": 102, "fff": 114,
             "ffff": 122}  # fmt: skip
_DEFAULT_VELOCITY = 80
_ACCENTS = {"accent": 14, ">": 14, "emphasis": 14, "marcato": 22, "^": 22, "sfz": 26, "sf": 22, "fz": 22}
_SHARES = {"staccato": Fraction(1, 2), "wedge": Fraction(1, 3)}
T = TypeVar("T")
_FERMATAS = frozenset({"fermata", "invertedfermata"})
_FERMATA_STRETCH = 1.75
_GRACE_LENGTH = Fraction(1, 32)
_MAX_GRACE_SHARE = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class PlayedNote:
    """One played note.

    Args:
        position: Start, in whole notes since the start of the piece.
        length: Length in whole notes.
        onset_s: Start in seconds.
        duration_s: Length in seconds.
        pitch: MIDI number, 0..127, 60 for middle C; in a percussion track the General MIDI drum.
        velocity: Loudness, 1..127.
        cents: How much it sounds above ``pitch``, in hundredths of a semitone: 0, or 50 or -50 for quarter tones.
    """

    position: Fraction
    length: Fraction
    onset_s: float
    duration_s: float
    pitch: int
    velocity: int
    cents: int = 0


@dataclass(frozen=True, slots=True)
class Track:
    """The notes of one voice.

    Args:
        voice: Name of the voice.
        name: Name of the instrument, of the voice or else of its part; may be empty.
        programme: General MIDI programme, 0..127, 0 for piano.
        percussion: Whether pitches are drums.
        notes: Notes by position, then by pitch and cents.
    """

    voice: str
    name: str
    programme: int
    percussion: bool
    notes: tuple[PlayedNote, ...]


@dataclass(frozen=True, slots=True)
class Performance:
    """A played piece.

    Args:
        tracks: One per voice, in the order of the score.
        length: Length in whole notes, including silence at the end.
        duration_s: Length in seconds.
        tempi: (position, seconds of a whole note from there on); the first is at 0.
        meters: (position, time signature); the first is at 0.
        keys: (position, key); the first is at 0.
    """

    tracks: tuple[Track, ...]
    length: Fraction
    duration_s: float
    tempi: tuple[tuple[Fraction, float], ...]
    meters: tuple[tuple[Fraction, Meter | None], ...]
    keys: tuple[tuple[Fraction, Key], ...]


def perform(text: str) -> Performance:
    """Perform a piece.

    Args:
        text: One tune in ABC, in any layout; see :func:`notagen.score.read_score`.

    Returns:
        The performance, without notes whose pitch is outside the range of MIDI.

    Raises:
        FormatError: The text is not a tune.
        InputError: The performance is longer than ``MAX_DURATION_S`` or has more than ``MAX_PLAYED_BARS`` bars.
    """
    score = read_score(text)
    order = order_of(score, limit=MAX_PLAYED_BARS // len(score.voices))
    clock = _Clock.of(score, order)
    if clock.end_s > MAX_DURATION_S:
        raise InputError(
            f"the piece lasts {clock.end_s / 3600:.1f} hours; at most {MAX_DURATION_S / 3600:g} are allowed"
        )
    tracks = {track.voice: track for part in score.parts for track in _tracks(score, part, order, clock)}
    first = next(iter(score.voices.values()))
    keyed = next((voice for voice in score.voices.values() if not voice.percussion), first)
    return Performance(
        tuple(tracks[name] for name in score.voices),
        clock.end,
        clock.end_s,
        tuple(zip(clock.positions, clock.rates, strict=True)),
        _distinct((p, s.meter) for p, s in _signatures(first, order, clock) if isinstance(s, TimeSignature)),
        _distinct((p, s) for p, s in _signatures(keyed, order, clock) if isinstance(s, Key)),
    )


def until(performance: Performance, seconds: float) -> Performance:
    """Return a piece without the notes that start after a time, and without what only concerns them.

    Args:
        performance: The piece; at most so long as ``seconds``, it is returned as it is.
        seconds: Since the start.
    """
    if performance.duration_s <= seconds:
        return performance
    tracks = tuple(
        replace(track, notes=tuple(note for note in track.notes if note.onset_s < seconds))
        for track in performance.tracks
    )
    ends = (note.position + note.length for track in tracks for note in track.notes)
    end = max(ends, default=Fraction(0))
    kept = {name: _before(getattr(performance, name), end) for name in ("tempi", "meters", "keys")}
    return replace(performance, tracks=tracks, length=end, duration_s=seconds, **kept)


def _before(changes: tuple[tuple[Fraction, T], ...], end: Fraction) -> tuple[tuple[Fraction, T], ...]:
    return tuple(change for change in changes if not change[0] or change[0] < end)


def _name(score: Score, part: Part) -> str:
    """Return the instrument name of a part: the first name of one of its voices."""
    return next((score.voices[name].full_name for name in part.voices if score.voices[name].full_name), "")


# --- time -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Clock:
    """Start of the played measures, and conversion of positions to seconds.

    Args:
        starts: Position of each played measure.
        end: Position of the end.
        positions: Positions of tempo changes.
        rates: Seconds of a whole note from each of ``positions`` on.
        times_s: Time of each of ``positions``.
    """

    starts: list[Fraction]
    end: Fraction
    positions: list[Fraction]
    rates: list[float]
    times_s: list[float]

    @classmethod
    def of(cls, score: Score, order: Sequence[int]) -> _Clock:
        rows = list(zip(*(voice.measures for voice in score.voices.values()), strict=True))
        lengths = [max(measure.duration for measure in row) for row in rows]
        *starts, end = accumulate((lengths[index] for index in order), initial=Fraction(0))
        tempi = _tempi_of_measures(rows, score.tempo)
        changes = [
            (start + onset, rate)
            for start, index in zip(starts, order, strict=True)
            for onset, rate in tempi[index]
            if start + onset < end
        ]
        points = _distinct(changes)
        positions, rates = [p for p, _ in points], [rate for _, rate in points]
        passed = (float(b - a) * rate for (a, b), rate in zip(pairwise(positions), rates, strict=False))
        return cls(starts, end, positions, rates, list(accumulate(passed, initial=0.0)))

    @property
    def end_s(self) -> float:
        return self.at(self.end)

    def at(self, position: Fraction) -> float:
        """Return the time of a position in seconds."""
        index = bisect_right(self.positions, position) - 1
        return self.times_s[index] + float(position - self.positions[index]) * self.rates[index]


def _tempi_of_measures(
    rows: Sequence[Sequence[Measure]], tempo: Tempo | None
) -> list[list[tuple[Fraction, float]]]:
    """Return for each measure of the score the tempi as (onset, seconds of a whole note); the first onset is 0."""
    rate = (tempo and tempo.whole_note_s) or DEFAULT_WHOLE_NOTE_S
    tempi: list[list[tuple[Fraction, float]]] = []
    for row in rows:
        changes = {Fraction(0): rate}
        for change in (change for measure in row for change in measure.changes):
            if isinstance(change.value, Tempo) and change.value.whole_note_s:
                changes[change.onset] = change.value.whole_note_s
        plain = sorted(changes.items())
        rate = plain[-1][1]
        tempi.append(_stretched(plain, _fermatas(row)))
    return tempi


def _fermatas(row: Sequence[Measure]) -> list[tuple[Fraction, Fraction]]:
    """Return start and end of each note with a fermata; of notes that end together only the latest start."""
    starts: dict[Fraction, Fraction] = {}
    for event in (event for measure in row for layer in measure.layers for event in layer.events):
        if not _FERMATAS.isdisjoint(event.marks.decorations):
            starts[event.end] = max(event.onset, starts.get(event.end, event.onset))
    return sorted((start, end) for end, start in starts.items())


def _stretched(
    plain: Sequence[tuple[Fraction, float]], held: Sequence[tuple[Fraction, Fraction]]
) -> list[tuple[Fraction, float]]:
    """Return the tempi, slower in the intervals that are held."""
    if not held:
        return list(plain)
    rates = dict(plain)
    opened = Counter(start for start, _ in held)
    closed = Counter(end for _, end in held)
    stretched: list[tuple[Fraction, float]] = []
    rate, depth = 0.0, 0
    for point in sorted(rates.keys() | opened.keys() | closed.keys()):
        rate = rates.get(point, rate)
        depth += opened[point] - closed[point]
        stretched.append((point, rate * _FERMATA_STRETCH if depth else rate))
    return stretched


def _signatures(
    voice: Voice, order: Sequence[int], clock: _Clock
) -> Iterator[tuple[Fraction, Key | TimeSignature]]:
    """Yield the keys and time signatures of a voice in the order in which they are played."""
    for start, index in zip(clock.starts, order, strict=True):
        measure = voice.measures[index]
        yield start, measure.key
        yield start, measure.time
        for change in measure.changes:
            if isinstance(change.value, (Key, TimeSignature)):
                yield start + change.onset, change.value


def _distinct(points: Iterable[tuple[Fraction, T]]) -> tuple[tuple[Fraction, T], ...]:
    """Drop points at which the value does not change; of several at one position the last one counts."""
    kept: list[tuple[Fraction, T]] = []
    for position, value in dict(points).items():
        if not kept or kept[-1][1] != value:
            kept.append((position, value))
    return tuple(kept)


# --- notes ------------------------------------------------------------------------------------------------


class _Loudness:
    """The dynamics of a part, merged from all its voices."""

    def __init__(self, score: Score, part: Part) -> None:
        found = {
            (index, event.onset): _DYNAMICS[name]
            for voice in (score.voices[name] for name in part.voices)
            for index, measure in enumerate(voice.measures)
            for layer in measure.layers
            for event in layer.events
            for name in event.marks.decorations
            if name in _DYNAMICS
        }
        self.places = sorted(found)
        self.velocities = [found[place] for place in self.places]

    def at(self, measure: int, event: Event) -> int:
        """Return the velocity of an event."""
        index = bisect_right(self.places, (measure, event.onset))
        level = self.velocities[index - 1] if index else _DEFAULT_VELOCITY
        return min(level + max((_ACCENTS.get(name, 0) for name in event.marks.decorations), default=0), 127)


_Sounding = tuple[int, int]  # MIDI number, and cents above it


@dataclass
class _Player:
    """Collects the played notes of a voice, without times in seconds.

    Attributes:
        held: Of the whole part: pitch that is tied on, and where it ends -> notes of its player, and its index there.
        transpose: Semitones from written to sounding pitch, of the event that is played.
    """

    voice: Voice
    name: str
    held: dict[tuple[_Sounding, Fraction], list[tuple[list[PlayedNote], int]]]
    notes: list[PlayedNote] = field(default_factory=list)
    transpose: int = 0

    def play(self, event: Event, start: Fraction, velocity: int, transpose: int) -> None:
        """Add the notes of one event at a position."""
        self.transpose = transpose
        length = event.duration
        grace = event.marks.grace
        if grace:
            each = min(_GRACE_LENGTH, length * _MAX_GRACE_SHARE / len(grace))
            for note in grace:
                for head in note.heads:
                    self._note(self._pitch(head.pitch), start, each, velocity)
                start, length = start + each, length - each
        share = min(
            (_SHARES[name] for name in event.marks.decorations if name in _SHARES), default=Fraction(1)
        )
        for head in event.heads:
            pitch = self._pitch(head.pitch)
            tied = self._tied(pitch, start) if head.tie_stop else None
            sounding = length if head.tie_start else length * share
            if tied is not None:
                notes, index = tied
                notes[index] = replace(notes[index], length=notes[index].length + sounding)
            else:
                notes, index = self.notes, len(self.notes)
                self._note(pitch, start, sounding, velocity)
            if head.tie_start:
                self.held.setdefault((pitch, start + length), []).append((notes, index))

    def _tied(self, pitch: _Sounding, start: Fraction) -> tuple[list[PlayedNote], int] | None:
        """Return the note that is tied to one of this pitch, of the same voice where there are several."""
        held = self.held.get((pitch, start))
        if not held:
            return None
        own = next((index for index, (notes, _) in enumerate(held) if notes is self.notes), 0)
        return held.pop(own)

    def _pitch(self, pitch: Pitch) -> _Sounding:
        if self.voice.percussion:
            return drum_of(self.name, pitch.midi), 0
        return pitch.midi + self.transpose, int(100 * (pitch.semitones - pitch.midi))

    def _note(self, pitch: _Sounding, position: Fraction, length: Fraction, velocity: int) -> None:
        self.notes.append(PlayedNote(position, length, 0.0, 0.0, pitch[0], velocity, pitch[1]))


def _tracks(score: Score, part: Part, order: Sequence[int], clock: _Clock) -> Iterator[Track]:
    """Yield the tracks of a part; its voices are played together, because ties may go from one to another."""
    loudness, part_name = _Loudness(score, part), _name(score, part)
    held: dict[tuple[_Sounding, Fraction], list[tuple[list[PlayedNote], int]]] = {}
    voices = [score.voices[name] for name in part.voices]
    players = [_Player(voice, voice.full_name or part_name, held) for voice in voices]
    for start, index in zip(clock.starts, order, strict=True):
        events = [
            (event.onset, player, event)
            for player in players
            for layer in player.voice.measures[index].layers
            for event in layer.events
            if event.heads or event.marks.grace
        ]
        for onset, player, event in sorted(events, key=lambda item: item[0]):
            transpose = _transposition(player.voice.measures[index], onset)
            player.play(event, start + onset, loudness.at(index, event), transpose)
    for player in players:
        said = player.voice.programme
        programme = programme_of(player.name) if said is None else said
        notes = _timed(player.notes, clock)
        yield Track(player.voice.name, player.name, programme, player.voice.percussion, notes)


def _transposition(measure: Measure, onset: Fraction) -> int:
    """Return the semitones from written to sounding pitch at a time of a measure."""
    semitones = measure.transpose
    for change in measure.changes:
        if isinstance(change.value, Transposition) and change.onset <= onset:
            semitones = change.value.semitones
    return semitones


def _timed(notes: Iterable[PlayedNote], clock: _Clock) -> tuple[PlayedNote, ...]:
    """Add times in seconds; notes of one pitch that start together become one, with the largest length and velocity."""
    merged: dict[tuple[Fraction, int, int], PlayedNote] = {}
    for note in notes:
        if 0 <= note.pitch <= 127:
            place = (note.position, note.pitch, note.cents)
            same = merged.get(place, note)
            length, velocity = max(note.length, same.length), max(note.velocity, same.velocity)
            merged[place] = replace(note, length=length, velocity=velocity)
    timed = []
    for place in sorted(merged):
        note = merged[place]
        onset_s = clock.at(note.position)
        end_s = clock.at(note.position + note.length)
        timed.append(replace(note, onset_s=onset_s, duration_s=end_s - onset_s))
    return tuple(timed)
