"""What a probe says of beats, token by token, as evidence on a fine grid of time.

Tokens are 40 to 64 ms long, longer than beats may be off. So the log-odds of the tokens are interpolated with a
cubic that puts a peak between two tokens (Catmull-Rom), and are compared with a level of this recording
between its valleys and its peaks: a probe that is rarely sure says as much as one that always is.

Shape legend: N tokens, G points of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GRID_HZ = 100
"""Points of the grid per second."""

_SUREST = 0.995  # probabilities beyond count as this
_WINDOW_S = 1.0  # contains a beat at 60 bpm and faster, and a place between beats
_LEVEL = 0.6  # of the way from the valleys to the peaks
_LEAST_CONTRAST = 0.5  # of log-odds between peaks and valleys; below, there is nothing to track
_LEAST_PEAK = 0.1  # probability of the usual peak
_BEAT_RANGE = (-2.5, 3.0)
_DOWNBEAT_RANGE = 2.0
_DOWNBEAT_SHARES = (1 / 8, 1 / 2)


@dataclass(frozen=True)
class Evidence:
    """Evidence for beats, in natural logarithms of odds; 0 says nothing.

    Attributes:
        start: Seconds of the first point.
        beat: (G,) that there is a beat.
        downbeat: (G,) that a beat, if there is one, is the first of its bar.
        other: (G,) that it is not.
        chance: (G,) probability of a beat, as the probe says.
        is_flat: Whether the probe hears no beats, as in silence.
        knows_downbeats: Whether the probe tells downbeats from beats at all.
    """

    start: float
    beat: np.ndarray
    downbeat: np.ndarray
    other: np.ndarray
    chance: np.ndarray
    is_flat: bool
    knows_downbeats: bool

    def chance_at(self, time: float | np.ndarray) -> np.ndarray:
        """Probability of a beat at times in seconds, of the nearest point."""
        index = np.rint((np.asarray(time) - self.start) * GRID_HZ).astype(int)
        return self.chance[np.clip(index, 0, len(self.chance) - 1)]


def evidence_of(times: np.ndarray, beat: np.ndarray, downbeat: np.ndarray | None, rate: float) -> Evidence:
    """Compare probabilities of tokens with those of the whole recording, on the fine grid.

    Args:
        times: (N,) seconds that the answers of tokens stand for; N at least 1.
        beat: (N,) probabilities of a beat.
        downbeat: (N,) probabilities of a downbeat; None where the probe has none.
        rate: Tokens per second.
    """
    odds = _log_odds(beat)
    valley, peak = _levels(odds, max(1, round(_WINDOW_S * rate)))
    count = max(1, round((times[-1] - times[0]) * GRID_HZ) + 1)
    places = np.arange(count) / GRID_HZ * rate
    fine = catmull_rom(odds, places)
    strength = np.clip(fine - valley - _LEVEL * (peak - valley), *_BEAT_RANGE)
    first, others = np.zeros(count), np.zeros(count)
    if downbeat is not None:
        share = np.clip(downbeat.sum() / max(float(beat.sum()), 1e-9), *_DOWNBEAT_SHARES)
        given_beat = np.clip(downbeat / np.maximum(beat, 1e-9), 1 - _SUREST, _SUREST)
        of_beats = np.clip(_probability(catmull_rom(_log_odds(given_beat), places)), 1 - _SUREST, _SUREST)
        first = np.clip(np.log(of_beats / share), -_DOWNBEAT_RANGE, _DOWNBEAT_RANGE)
        others = np.clip(np.log((1 - of_beats) / (1 - share)), -_DOWNBEAT_RANGE, _DOWNBEAT_RANGE)
        # Where a beat is doubtful, so is what it would be in its bar: otherwise it pays to add weak beats to a bar.
        sure = _probability(strength)
        first, others = first * sure, others * sure
    is_flat = peak - valley < _LEAST_CONTRAST or _probability(np.array(peak)) < _LEAST_PEAK
    return Evidence(
        float(times[0]), strength, first, others, _probability(fine), bool(is_flat), downbeat is not None
    )


def catmull_rom(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Interpolate values (N,) at places (G,), counted in values from the first; a cubic through all values."""
    last = len(values) - 1
    base = np.clip(np.floor(places).astype(int), 0, max(last - 1, 0))
    x = np.clip(places - base, 0.0, 1.0)
    a, b, c, d = (values[np.clip(base + i, 0, last)] for i in (-1, 0, 1, 2))
    return b + x / 2 * (c - a + x * (2 * a - 5 * b + 4 * c - d + x * (3 * (b - c) + d - a)))


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    p = np.clip(np.asarray(probabilities, np.float64), 1 - _SUREST, _SUREST)
    return np.log(p / (1 - p))


def _probability(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def _levels(odds: np.ndarray, window: int) -> tuple[float, float]:
    """The usual smallest and largest value of a window."""
    whole = max(1, len(odds) // window)
    parts = np.array_split(odds, whole)
    return float(np.median([part.min() for part in parts])), float(np.median([part.max() for part in parts]))
