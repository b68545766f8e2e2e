"""Labels of music whose notes are known: chords, keys and beats, by rules that are stated here.

**Chord of a beat.** The time that each pitch class sounds in the beat is summed over all notes but drums. A major or
minor triad is the chord where each of its three tones sounds for a quarter of the beat or more, and its tones have two
thirds of all the time; of several the one with the most time, then the one whose root is the lowest note. Otherwise the
label is ``N``: also for diminished, augmented and incomplete chords. Neighbours with one label are one span.

**Key of a stretch.** Where no score says it: the major or minor key whose profile correlates most with the time of the
twelve pitch classes (Krumhansl and Kessler 1982, https://doi.org/10.1037/0033-295X.89.4.334).

Times are seconds; a note is (start, end, MIDI pitch).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
LEAST_TONE, LEAST_SHARE = 0.25, 2 / 3
_THIRDS = {"maj": 4, "min": 3}
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)

Note = tuple[float, float, int]
Span = tuple[float, float, str]


def pitch_class_times(notes: Sequence[Note], start: float, end: float) -> NDArray[np.float64]:
    """Seconds that each pitch class sounds between two times, ``(12,)``; notes of one pitch class add up."""
    times = np.zeros(12)
    for begin, stop, pitch in notes:
        times[pitch % 12] += max(0.0, min(stop, end) - max(begin, start))
    return times


def chord_of(notes: Sequence[Note], start: float, end: float) -> str:
    """The chord between two times, by the rule above: ``C:maj`` … ``B:min`` or ``N``."""
    times, best = pitch_class_times(notes, start, end), ("N", 0.0, False)
    lowest = min((pitch for begin, stop, pitch in notes if begin < end and stop > start), default=0)
    for root in range(12):
        for quality, third in _THIRDS.items():
            tones = times[[root, (root + third) % 12, (root + 7) % 12]]
            enough = tones.min() >= LEAST_TONE * (end - start) and tones.sum() >= LEAST_SHARE * times.sum()
            rank = (float(tones.sum()), root == lowest % 12)
            if enough and rank > best[1:]:
                best = (f"{NAMES[root]}:{quality}", *rank)
    return best[0]


def chords(notes: Sequence[Note], beats: Sequence[float], end: float) -> list[Span]:
    """Chords of the beats from the first one to ``end``, neighbours joined.

    Args:
        notes: Without drums.
        beats: Ascending.
        end: Of the last beat.
    """
    spans: list[Span] = []
    ordered = sorted(notes)
    longest = max((stop - begin for begin, stop, _ in ordered), default=0.0)
    begins = np.array([note[0] for note in ordered])
    for start, stop in zip(beats, [*beats[1:], end], strict=True):
        if stop <= start:
            continue
        low, high = np.searchsorted(begins, [start - longest, stop])
        label = chord_of(ordered[low:high], start, stop)
        if spans and spans[-1][2] == label:
            spans[-1] = (spans[-1][0], stop, label)
        else:
            spans.append((start, stop, label))
    return spans


def key_of(times: NDArray[np.float64]) -> str | None:
    """The key of pitch class times ``(12,)``, such as ``F# minor``; None where all are alike."""
    if times.std() == 0:
        return None
    scores = {
        f"{NAMES[tonic]} {mode}": float(np.corrcoef(np.roll(profile, tonic), times)[0, 1])
        for mode, profile in (("major", _MAJOR), ("minor", _MINOR))
        for tonic in range(12)
    }
    return max(scores, key=lambda name: scores[name])


def transposed_key(tonic: int, mode: str, shift: int) -> str:
    """Name of a key, with a sharp where one is needed."""
    return f"{NAMES[(tonic + shift) % 12]} {mode}"
