"""The sounding notes of a piece at each moment at which one of them begins or ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from notagen.score.model import Score


@dataclass(frozen=True)
class Sound:
    """Notes of one voice that begin together; notes that are tied to it count as one.

    Attributes:
        start: Time of its start since the start of the piece, in whole notes, repeats not played.
        end: Time of its end.
        pitches: MIDI numbers, rising.
    """

    start: Fraction
    end: Fraction
    pitches: tuple[int, ...]


def sounds_of(score: Score) -> list[list[Sound]]:
    """Return the sounds of each voice with pitches, in the order of the score."""
    voices = list(score.voices.values())
    starts = [Fraction(0)]
    for index in range(score.measure_count):
        starts.append(starts[-1] + max(voice.measures[index].duration for voice in voices))
    found: list[list[Sound]] = []
    for voice in voices:
        if voice.percussion:
            continue
        sounds: list[Sound] = []
        for start, measure in zip(starts, voice.measures, strict=False):
            events = [event for layer in measure.layers for event in layer.events if event.heads]
            for event in sorted(events, key=lambda event: event.onset):
                pitches = tuple(sorted(head.pitch.midi + voice.transpose for head in event.heads))
                begin, end = start + event.onset, start + event.end
                tied = all(head.tie_stop for head in event.heads)
                if tied and sounds and sounds[-1].pitches == pitches and sounds[-1].end == begin:
                    sounds[-1] = Sound(sounds[-1].start, end, pitches)
                else:
                    sounds.append(Sound(begin, end, pitches))
        found.append(sounds)
    return found


def moments(voices: Sequence[Sequence[Sound]]) -> list[list[Sound | None]]:
    """Return what each voice sounds at each time at which a sound begins; None for silence."""
    times = sorted({sound.start for sounds in voices for sound in sounds})
    columns: list[list[Sound | None]] = []
    for sounds in voices:
        column: list[Sound | None] = []
        index = 0
        for time in times:
            while index < len(sounds) and sounds[index].end <= time:
                index += 1
            column.append(sounds[index] if index < len(sounds) and sounds[index].start <= time else None)
        columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)]
