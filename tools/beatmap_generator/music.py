"""Pieces: notes on a beat grid, with tempo, bars and sections known exactly."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

MELODY, HARMONY, BASS, DRUMS = range(4)
KICK, SNARE, HAT, CRASH = 36, 38, 42, 49  # General MIDI drums
_SALIENCE = {MELODY: 1.0, HARMONY: 0.25, BASS: 0.3}
_DRUM_SALIENCE = {KICK: 0.5, SNARE: 0.7, HAT: 0.12, CRASH: 0.9}


@dataclass(frozen=True, slots=True)
class Note:
    """A note.

    Args:
        beat: Onset in beats from the first bar line; negative in a pickup.
        beats: Duration.
        pitch: MIDI number; for drums the General MIDI drum.
        loudness: 0 to 1.
        voice: ``MELODY``, ``HARMONY``, ``BASS`` or ``DRUMS``.
    """

    beat: float
    beats: float
    pitch: int
    loudness: float = 0.7
    voice: int = MELODY


@dataclass(frozen=True)
class Theme:
    """Material of a piece: whole bars of one meter.

    Args:
        name: Unique; decides over the split.
        title: Of the music.
        artist: Who wrote it.
        meter: Beats per bar.
        ternary: Whether a beat divides into three.
        bars: Length.
        notes: Onsets from 0 to ``bars * meter``.
    """

    name: str
    title: str
    artist: str
    meter: int
    ternary: bool
    bars: int
    notes: Sequence[Note]


@dataclass(frozen=True, slots=True)
class Section:
    """Some bars of a piece.

    Args:
        start: First beat.
        end: The beat after it.
        intensity: 0 (silent) to 1 (climax).
    """

    start: float
    end: float
    intensity: float

    @property
    def kiai(self) -> bool:
        """Whether it is a climax."""
        return self.intensity >= 0.9


@dataclass(slots=True)
class Slot:
    """A position of the grid where an object may be.

    Args:
        beat: Position.
        level: 0 on a beat, 1 on a half (third), 2 on a quarter (sixth).
        bar: Index of the bar.
        salience: How much starts to sound here; 0 for nothing.
        pitch: Of the melody note that starts or sounds here.
        held: Beats that the melody note lasts.
        drums: Drums that are hit.
    """

    beat: float
    level: int
    bar: int
    salience: float = 0.0
    pitch: int = 60
    held: float = 0.0
    drums: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Piece:
    """An arranged theme.

    Args:
        theme: What it was made from.
        tempo: (beat, milliseconds per beat) of every tempo, the first one at beat 0.
        lead_in_ms: Time of beat 0 in the audio.
        sections: Without gaps from beat 0 to the end.
        notes: All voices.
        programs: General MIDI programs of melody, harmony and bass.
    """

    theme: Theme
    tempo: Sequence[tuple[float, float]]
    lead_in_ms: float
    sections: Sequence[Section]
    notes: Sequence[Note]
    programs: tuple[int, int, int]

    @property
    def name(self) -> str:
        """Name of the theme."""
        return self.theme.name

    @property
    def meter(self) -> int:
        """Beats per bar."""
        return self.theme.meter

    @property
    def steps(self) -> int:
        """Grid positions per beat."""
        return 6 if self.theme.ternary else 4

    @property
    def step_ms(self) -> float:
        """Milliseconds per grid position at the first tempo."""
        return self.tempo[0][1] / self.steps

    @property
    def end(self) -> float:
        """The beat after the last section."""
        return self.sections[-1].end

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return self.time_ms(self.end) / 1000 + 1.5

    def time_ms(self, beat: float) -> float:
        """Return the time of a beat in the audio."""
        time = self.lead_in_ms
        for (start, length), (end, _) in zip(self.tempo, [*self.tempo[1:], (float("inf"), 0.0)], strict=True):
            time += (min(beat, end) - start) * length
            if beat <= end:
                break
        return time

    def beat_length_at(self, beat: float) -> float:
        """Return the milliseconds per beat at a beat."""
        return self.tempo[max(0, bisect_right([start for start, _ in self.tempo], beat) - 1)][1]

    def changes_tempo(self, start: float, end: float) -> bool:
        """Whether the tempo changes after a beat and before another one."""
        return any(start < beat < end for beat, _ in self.tempo)

    def section_at(self, beat: float) -> Section:
        """Return the section that holds a beat."""
        index = bisect_right([section.start for section in self.sections], beat + 1e-6) - 1
        return self.sections[max(0, index)]

    @cached_property
    def grid(self) -> list[Slot]:
        """All grid positions in order, with what sounds there."""
        steps, coarse = self.steps, 3 if self.theme.ternary else 2
        slots = [
            Slot(
                beat=index / steps,
                level=0 if index % steps == 0 else 1 if index % (steps // coarse) == 0 else 2,
                bar=int(index / steps // self.meter),
            )
            for index in range(int(self.end * steps))
        ]
        for note in sorted(self.notes, key=lambda note: (note.voice != MELODY, note.pitch)):
            index = round(note.beat * steps)
            if abs(index / steps - note.beat) > 1e-3 or not 0 <= index < len(slots):
                continue  # a triplet among quarters, or a pickup: nothing is mapped to it
            slot = slots[index]
            if note.voice == DRUMS:
                slot.salience += _DRUM_SALIENCE.get(note.pitch, 0.2) * note.loudness
                slot.drums.add(note.pitch)
            else:
                slot.salience += _SALIENCE[note.voice] * note.loudness
            if note.voice == MELODY:
                slot.pitch, slot.held = note.pitch, note.beats
        for earlier, slot in pairwise(slots):
            if not slot.held:
                slot.pitch = earlier.pitch
        return slots
