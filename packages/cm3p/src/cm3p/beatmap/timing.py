"""Look-ups in the timing points of a map, by bisection."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from cm3p.beatmap.objects import Slider, TimingPoint

_SLOWEST, _FASTEST = 0.1, 10.0  # limits of the slider speed multiplier
_TRUNCATION_GUARD_MS = 1e-5
_LATEST_MS = 8.64e16  # a billion days


def microseconds(time_ms: float) -> int:
    """Round a time in milliseconds to whole microseconds, halves to even, as ``datetime.timedelta`` does.

    Raises:
        ValueError: It is NaN.
        OverflowError: It is infinite, or beyond a billion days.
    """
    if abs(time_ms) >= _LATEST_MS:
        raise OverflowError("a time is beyond a billion days")
    fraction, whole = math.modf(time_ms)
    return int(whole) * 1000 + round(fraction * 1000)


class Timing:
    """The timing points of a map.

    "The point at t" is the last one in file order that starts at or before t, else the first one. "The parent" of a
    point that inherits is the last point before it, in file order, that has no parent; an inherited point before any
    other has none, and is itself the parent of those that follow.

    Args:
        points: In file order; at least one.

    Attributes:
        points: The same.
        offsets_us: Their starts in whole microseconds.

    Raises:
        ValueError: There are no points.
    """

    def __init__(self, points: Sequence[TimingPoint]) -> None:
        if not points:
            raise ValueError("a map needs at least one timing point")
        self.points = points
        self.offsets_us = [microseconds(point.time_ms) for point in points]
        self._index_of = {id(point): index for index, point in enumerate(points)}
        self._parents = self._find_parents()
        self._keys_us, self._indices = self._bisection_table()

    def index_at(self, time_us: int) -> int:
        """Return the index of the point at a time in whole microseconds."""
        at = bisect_right(self._keys_us, time_us) - 1
        return self._indices[at] if at >= 0 else 0

    def point_at(self, time_ms: float) -> TimingPoint:
        """Return the point at a time."""
        return self.points[self.index_at(microseconds(time_ms))]

    def parent_index(self, index: int) -> int | None:
        """Return the index of a point's parent, None if it has none."""
        return self._parents[index]

    def parent_of(self, point: TimingPoint) -> TimingPoint | None:
        """Return a point's parent, None if it has none.

        Args:
            point: One of ``points``, the same object.
        """
        parent = self._parents[self._index_of[id(point)]]
        return None if parent is None else self.points[parent]

    def beat_length_at(self, index: int) -> float:
        """Return the beat length in force at a point: its parent's, or its own when it has none."""
        parent = self._parents[index]
        return self.points[index if parent is None else parent].beat_length_ms

    def velocity_at(self, index: int) -> float:
        """Return the slider speed multiplier of a point, 0.1 to 10."""
        beat_length_ms = self.points[index].beat_length_ms
        if self._parents[index] is None or not beat_length_ms < 0:
            return 1.0
        return min(max(-100 / beat_length_ms, _SLOWEST), _FASTEST)

    def slider_duration_ms(self, slider: Slider, slider_multiplier: float) -> int:
        """Return how long a slider lasts with all its repeats, as the reader behind the original truncates it.

        Args:
            slider: A slider of the map.
            slider_multiplier: ``Beatmap.slider_multiplier``.

        Returns:
            Whole milliseconds; negative for a negative length or number of repeats.

        Raises:
            ZeroDivisionError, ValueError, OverflowError: The map has a slider multiplier of 0, or a beat length or
                slider length that is not finite; maps that were read do not have them.
        """
        index = self.index_at(microseconds(slider.time_ms))
        beats = slider.length * slider.repeat / (slider_multiplier * 100 * self.velocity_at(index))
        return int(beats * self.beat_length_at(index) + _TRUNCATION_GUARD_MS)

    def _find_parents(self) -> list[int | None]:
        parents: list[int | None] = []
        last: int | None = None
        for index, point in enumerate(self.points):
            if point.uninherited or last is None:
                last = index
                parents.append(None)
            else:
                parents.append(last)
        return parents

    def _bisection_table(self) -> tuple[list[int], list[int]]:
        """Starts in rising order, and for each the last point in file order among those that have started."""
        order = sorted(range(len(self.points)), key=self.offsets_us.__getitem__)
        indices, last = [], -1
        for index in order:
            last = max(last, index)
            indices.append(last)
        return [self.offsets_us[index] for index in order], indices
