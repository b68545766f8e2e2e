"""The likeliest beats and bars: dynamic programming over the place in the bar and the tempo (a bar pointer).

The model is the bar pointer of Whiteley, Cemgil and Godsill (ISMIR 2006) with the tempo changing only at beats, as
Krebs, Böck and Widmer proposed (ISMIR 2015). A state is a beat: its time, its place in a bar, and the interval to the
next beat, on a grid of time. A path adds up, for each of its beats, the evidence for it, a preference for tempi
(log-normal, as in Ellis, Journal of New Music Research 2007), and a price of changing the tempo. A path may stop and
begin again later at another tempo and place in the bar, for a fixed price: so it passes silence, and follows a tempo
that doubles.

Beats depend only on beats that are at least the shortest interval earlier, so as many points of the grid are computed
at once.

Shape legend: G points of the grid, R rows (a place in a bar of one of the meters), J intervals, W changes of interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omar_rq.reading.activations import GRID_HZ, Evidence

_STEP = 1.03  # ratio of neighbouring intervals, where the grid is fine enough
_CHANGE_PRICE = 30.0  # of a change of the tempo by a factor of e
_BREAK_PRICE = 12.0
_LARGEST_CHANGE = 0.2  # of the logarithm of the interval, from a beat to the next
_START = -1

# Points that are decoded at once, and how far into the neighbours: memory stays bounded for recordings of any length.
_CHUNK, _REACH = 240 * GRID_HZ, 20 * GRID_HZ


@dataclass(frozen=True)
class Tempi:
    """Which tempi are allowed, and how they are preferred.

    Attributes:
        slowest: In beats per minute.
        fastest: In beats per minute.
        prior: Preferred tempo in beats per minute; None: all alike.
        width: Octaves of tempo that cost half a unit of evidence per beat.
    """

    slowest: float = 55.0
    fastest: float = 215.0
    prior: float | None = 120.0
    width: float = 0.6

    def intervals(self) -> np.ndarray:
        """(J,) points of the grid, ascending."""
        shortest, longest = 60 * GRID_HZ / self.fastest, 60 * GRID_HZ / self.slowest
        count = int(np.log(longest / shortest) / np.log(_STEP)) + 2
        spaced = np.unique(np.rint(np.geomspace(shortest, longest, count)).astype(int))
        inside = spaced[(spaced >= shortest - 1e-9) & (spaced <= longest + 1e-9)]
        return inside if len(inside) else spaced[:1]

    def preference(self, intervals: np.ndarray) -> np.ndarray:
        """(J,) logarithms, at most 0."""
        if self.prior is None:
            return np.zeros(len(intervals))
        return -0.5 * (np.log2(60 * GRID_HZ / intervals / self.prior) / self.width) ** 2


@dataclass(frozen=True)
class Path:
    """Beats of the likeliest path.

    Attributes:
        times: Seconds, ascending.
        positions: Places in the bar, from 1.
        score: Of each of the meters, the evidence of its likeliest path.
        meter: Index of the meter.
    """

    times: np.ndarray
    positions: np.ndarray
    score: np.ndarray
    meter: int


def find_path(evidence: Evidence, meters: Sequence[int], tempi: Tempi) -> Path:
    """Find the likeliest beats; of equally likely meters the first.

    Args:
        evidence: What is known of beats.
        meters: Beats of a bar, of each meter that is allowed.
        tempi: Tempi that are allowed.
    """
    n_points = len(evidence.beat)
    parts = []
    for first in range(0, n_points, _CHUNK):
        begin, end = max(0, first - _REACH), min(n_points, first + _CHUNK + _REACH)
        parts.append((first, begin, _Chunk(evidence, begin, end, meters, tempi)))
    score = np.sum([chunk.scores for _, _, chunk in parts], axis=0)
    meter = int(np.argmax(score))
    found: list[tuple[int, int]] = []
    for first, begin, chunk in parts:
        for point, position in chunk.beats(meter):
            at = begin + point
            if first <= at < first + _CHUNK and (not found or at - found[-1][0] > chunk.intervals[0] / 2):
                found.append((at, position))
    times = evidence.start + np.array([at for at, _ in found], dtype=np.float64) / GRID_HZ
    return Path(times, np.array([position for _, position in found], dtype=int), score, meter)


class _Chunk:
    """Dynamic programming over a stretch of the grid.

    Attributes:
        intervals: (J,) points.
        scores: Of the likeliest path of each meter.
    """

    def __init__(self, evidence: Evidence, begin: int, end: int, meters: Sequence[int], tempi: Tempi) -> None:
        self.intervals = tempi.intervals()
        self._meters = list(meters)
        self._first_row = np.concatenate(([0], np.cumsum(meters)[:-1]))
        rows = [(m, p) for m, beats in enumerate(meters) for p in range(beats)]
        self._meter_of = np.array([m for m, _ in rows])
        self._previous = np.array([self._first_row[m] + (p - 1) % meters[m] for m, p in rows])
        is_first = np.array([p == 0 for _, p in rows])
        beat, down, other = (
            values[begin:end, None] for values in (evidence.beat, evidence.downbeat, evidence.other)
        )
        self._gain = (beat + np.where(is_first, down, other)).astype(np.float32)  # (G, R)
        self._solve(tempi.preference(self.intervals).astype(np.float32))

    def _solve(self, preference: np.ndarray) -> None:
        n_points, n_rows = self._gain.shape
        intervals, n_tempi = self.intervals, len(self.intervals)
        shortest, longest = int(intervals[0]), int(intervals[-1])
        price, reach = _change_prices(intervals)
        score = np.full((longest + n_points, n_rows, n_tempi), -np.inf, np.float32)
        self._choice = np.empty((n_points, n_rows, n_tempi), np.int8)
        self._reach = reach
        n_meters = len(self._meters)
        self._best = np.full((n_points, n_meters), -np.inf)  # the best end up to each point, and where it is
        self._where = np.zeros((n_points, n_meters, 3), np.int32)
        for begin in range(0, n_points, shortest):
            points = np.arange(begin, min(begin + shortest, n_points))
            came = score[
                (points[:, None] - intervals + longest)[:, None, :],
                self._previous[:, None],
                np.arange(n_tempi),
            ]
            reached, choice = _best_source(came + preference, price)
            started = self._starts(points, shortest)[:, self._meter_of, None]
            self._choice[points] = np.where(started > reached, _START, choice)
            score[points + longest] = np.maximum(reached, started) + self._gain[points][..., None]
            self._note_ends(points, score[points + longest])
        self.scores = np.maximum(self._best[-1], 0.0)

    def _starts(self, points: np.ndarray, shortest: int) -> np.ndarray:
        """(n, meters): what a path has that begins at these points, after a break or as the first."""
        before = points - shortest
        ended = np.where(before[:, None] >= 0, self._best[np.maximum(before, 0)], -np.inf)
        return np.maximum(ended - _BREAK_PRICE, 0.0).astype(np.float32)

    def _note_ends(self, points: np.ndarray, score: np.ndarray) -> None:
        n_points, _, n_tempi = score.shape
        for meter, (first, beats) in enumerate(zip(self._first_row, self._meters, strict=True)):
            flat = score[:, first : first + beats].reshape(n_points, -1)
            ends = flat.argmax(1)
            before = self._best[points[0] - 1, meter] if points[0] else -np.inf
            values = np.append(before, flat[np.arange(n_points), ends])
            best = np.maximum.accumulate(values)
            # Where the running maximum was reached; -1: before these points.
            latest = np.maximum.accumulate(np.where(values[1:] > best[:-1], np.arange(n_points), -1))
            rows, tempi = np.divmod(ends[latest], n_tempi)
            places = np.stack((points[latest], first + rows, tempi), axis=1)
            earlier = self._where[points[0] - 1, meter] if points[0] else places[0]
            self._best[points, meter] = best[1:]
            self._where[points, meter] = np.where(latest[:, None] >= 0, places, earlier)

    def beats(self, meter: int) -> list[tuple[int, int]]:
        """Points and places in the bar of the likeliest path of a meter, in the order of time."""
        if self._best[-1, meter] <= 0:
            return []
        shortest = int(self.intervals[0])
        point, row, tempo = map(int, self._where[-1, meter])
        found = []
        while True:
            found.append((point, row - int(self._first_row[meter]) + 1))
            choice = int(self._choice[point, row, tempo])
            if choice != _START:
                tempo += choice - self._reach
                point, row = point - int(self.intervals[tempo]), int(self._previous[row])
            elif point >= shortest and self._best[point - shortest, meter] > _BREAK_PRICE:
                point, row, tempo = map(int, self._where[point - shortest, meter])
            else:
                return found[::-1]


def _best_source(came: np.ndarray, price: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of coming from each interval near: the best value (n, R, J), and which it is, from 0 to W - 1.

    Args:
        came: (n, R, J) of paths that come with each interval.
        price: (J, W) of changing it.
    """
    n_tempi, width = price.shape
    reach = width // 2
    padded = np.pad(came, ((0, 0), (0, 0), (reach, reach)), constant_values=-np.inf)
    best, choice = np.full_like(came, -np.inf), np.zeros(came.shape, np.int8)
    for k in range(width):
        value = padded[..., k : k + n_tempi] - price[:, k]
        choice[value > best] = k
        np.maximum(best, value, out=best)
    return best, choice


def _change_prices(intervals: np.ndarray) -> tuple[np.ndarray, int]:
    """Prices (J, W) of coming to interval j from interval j + w - reach, and the reach."""
    logs, n_tempi = np.log(intervals), len(intervals)
    far = np.abs(logs[:, None] - logs) <= _LARGEST_CHANGE + 1e-9
    reach = int(max(np.abs(np.subtract(*np.nonzero(far)))))
    source = np.arange(n_tempi)[:, None] + np.arange(-reach, reach + 1)
    inside = (source >= 0) & (source < n_tempi)
    change = np.abs(logs[np.clip(source, 0, n_tempi - 1)] - logs[:, None])
    allowed = inside & (change <= _LARGEST_CHANGE + 1e-9)
    return np.where(allowed, _CHANGE_PRICE * change, np.inf).astype(np.float32), reach
