"""Harmony and voice leading of pieces with several voices, by the rules of textbooks of four-part writing.

Human music breaks these rules, too; the counts mean something only beside those of music of the same kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from notagen.evaluation.measures.sounding import Sound, moments

_TRIADS = ((0, 4, 7), (0, 3, 7), (0, 3, 6), (0, 4, 8))
_SEVENTHS = ((0, 4, 7, 11), (0, 4, 7, 10), (0, 3, 7, 10), (0, 3, 6, 10), (0, 3, 6, 9))
_CHORDS = frozenset(
    frozenset((root + step) % 12 for step in chord) for root in range(12) for chord in (*_TRIADS, *_SEVENTHS)
)


@dataclass(frozen=True)
class VoiceCounts:
    """Counts of one piece.

    Attributes:
        sonorities: Moments at which a note begins and at least three notes sound.
        no_chords: Of these, those whose pitch classes are not part of one triad or seventh chord.
        motions: Steps from one moment to the next in which both voices of a pair move.
        parallels: Of these, those from a fifth to a fifth, or from a unison or octave to one, in the same direction.
        pairs: Moments at which two neighbouring voices sound.
        crossings: Of these, those at which the lower voice is above the higher one.
        ranges: Semitones from the lowest to the highest note of each voice.
    """

    sonorities: int
    no_chords: int
    motions: int
    parallels: int
    pairs: int
    crossings: int
    ranges: tuple[int, ...]


def count_voices(voices: Sequence[Sequence[Sound]]) -> VoiceCounts:
    """Count in the sounds of voices, the highest voice first; of chords in one voice the top note leads."""
    rows = moments(voices)
    sets = [_pitches(row) for row in rows]
    chords = [pitches for pitches in sets if len(pitches) > 2]
    steps = [motion for before, after in pairwise(rows) for motion in _motions(before, after)]
    neighbours = [
        (upper.pitches[-1], lower.pitches[-1])
        for row in rows
        for upper, lower in pairwise(row)
        if upper is not None and lower is not None
    ]
    notes = [[pitch for sound in sounds for pitch in sound.pitches] for sounds in voices]
    return VoiceCounts(
        len(chords),
        sum(not _is_chord(pitches) for pitches in chords),
        len(steps),
        sum(steps),
        len(neighbours),
        sum(lower > upper for upper, lower in neighbours),
        tuple(max(pitches) - min(pitches) for pitches in notes if pitches),
    )


def _pitches(row: Sequence[Sound | None]) -> list[int]:
    return [pitch for sound in row if sound is not None for pitch in sound.pitches]


def _is_chord(pitches: Sequence[int]) -> bool:
    classes = frozenset(pitch % 12 for pitch in pitches)
    return any(classes <= chord for chord in _CHORDS)


def _motions(before: Sequence[Sound | None], after: Sequence[Sound | None]) -> Iterator[bool]:
    """Yield for each pair of voices that both move whether they move in parallel fifths or octaves."""
    moves = [
        (first.pitches[-1], second.pitches[-1])
        for first, second in zip(before, after, strict=True)
        if first is not None and second is not None and first.pitches != second.pitches
    ]
    for (a, b), (c, d) in combinations(moves, 2):
        interval = abs(a - c) % 12
        yield interval in (0, 7) and abs(b - d) % 12 == interval and (b > a) == (d > c) and a != b and c != d
