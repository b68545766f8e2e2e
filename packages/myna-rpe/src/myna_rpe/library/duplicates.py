"""Near-duplicates: other versions of the same recording, found by sound.

Each recording is compared with its nearest neighbours by their fingerprints (:mod:`myna_rpe.library.fingerprint`).
Most neighbours are other pieces, and how well those match says what chance and style alone give in this library: the
threshold lies far above that.

Shapes: n recordings, k neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from myna_rpe.library.fingerprint import Fingerprint, match

_LOWEST, _HIGHEST = 0.65, 0.8
_DEVIATIONS = 6.0
_LEAST_PAIRS = 30
_TO_DEVIATION = 1.4826  # of a normal distribution: standard deviation by median absolute deviation


@dataclass(frozen=True)
class Calibration:
    """Where a threshold comes from.

    Attributes:
        pairs: Pairs of neighbours that were compared.
        median: Median of how well they match.
        deviation: Robust standard deviation of that.
    """

    pairs: int
    median: float
    deviation: float


@dataclass(frozen=True)
class Duplicates:
    """Groups of near-duplicates.

    Attributes:
        groups: Rows of each group, rising; those alone are in none.
        threshold: Least match of two near-duplicates.
        calibration: Where it comes from.
        matches: Pair of rows -> match, of all pairs that were compared.
    """

    groups: list[list[int]]
    threshold: float
    calibration: Calibration
    matches: dict[tuple[int, int], float]


def find_groups(
    neighbours: np.ndarray,
    prints: Sequence[Fingerprint | None],
    known: Mapping[tuple[int, int], float] | None = None,
) -> Duplicates:
    """Find near-duplicates among neighbours.

    Args:
        neighbours: ``(n, k)`` rows of the nearest recordings of each; a row itself counts as none.
        prints: n fingerprints.
        known: Matches of pairs, the lower row first, that were compared before: comparing takes some milliseconds.
    """
    known = known or {}
    pairs = {
        (min(row, other), max(row, other))
        for row, others in enumerate(neighbours.tolist())
        for other in others
        if other != row
    }
    matches = {}
    for row, other in sorted(pairs):
        if (row, other) in known:
            matches[row, other] = known[row, other]
            continue
        a, b = prints[row], prints[other]
        matches[row, other] = 0.0 if a is None or b is None else match(a, b)
    threshold, calibration = calibrated(list(matches.values()))
    alike = [pair for pair, value in matches.items() if value >= threshold]
    return Duplicates(_components(len(prints), alike), threshold, calibration, matches)


def calibrated(matches: Sequence[float]) -> tuple[float, Calibration]:
    """Return the threshold for a library: six deviations above the median, between 0.65 and 0.8.

    The deviation is that of the lower half, by which the near-duplicates among the pairs do not matter. With fewer than
    30 pairs it is not known, and the threshold is the highest.
    """
    values = np.asarray(matches, np.float64)
    if len(values) == 0:
        return _HIGHEST, Calibration(0, 0.0, 0.0)
    median = float(np.median(values))
    below = values[values <= median]
    deviation = _TO_DEVIATION * float(np.median(median - below))
    calibration = Calibration(len(values), median, deviation)
    if len(values) < _LEAST_PAIRS:
        return _HIGHEST, calibration
    return float(np.clip(median + _DEVIATIONS * deviation, _LOWEST, _HIGHEST)), calibration


def _components(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Rows that are joined by pairs, of two and more."""
    first = list(range(count))

    def root(row: int) -> int:
        while first[row] != row:
            first[row] = first[first[row]]
            row = first[row]
        return row

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        first[high] = low
    members: dict[int, list[int]] = {}
    for row in range(count):
        members.setdefault(root(row), []).append(row)
    return [rows for rows in members.values() if len(rows) > 1]
