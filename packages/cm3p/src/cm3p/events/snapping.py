"""Beat divisors and scroll speeds at a time."""

from __future__ import annotations

from cm3p.beatmap.timing import Timing

_MAX_DIVISOR = 16
_TOLERANCE_MS = 2
_SLOWEST, _FASTEST = 0.01, 10.0


def snapping_at(timing: Timing, time_us: int, *, strict: bool) -> int:
    """Return the smallest beat divisor from 1 to 16 that a time is within 2 ms of, 0 for none.

    Args:
        timing: Timing points of the map.
        time_us: Exact time in microseconds.
        strict: Raise for a beat length that is zero or not a number; else the answer is 0.

    Raises:
        ZeroDivisionError, ValueError, OverflowError: In strict mode.
    """
    index = timing.index_at(time_us)
    parent = timing.parent_index(index)
    beat_length_ms = timing.beat_length_at(index)
    elapsed_ms = (time_us - timing.offsets_us[index if parent is None else parent]) / 1000
    try:
        beats = elapsed_ms / beat_length_ms
        for divisor in range(1, _MAX_DIVISOR + 1):
            if abs(beats - round(beats * divisor) / divisor) * beat_length_ms < _TOLERANCE_MS:
                return divisor
    except (ZeroDivisionError, ValueError, OverflowError):
        if strict:
            raise
    return 0


def scroll_speed_at(timing: Timing, time_us: int) -> float:
    """Return the scroll speed at a time, 0.01 to 10."""
    index = timing.index_at(time_us)
    beat_length_ms = timing.points[index].beat_length_ms
    if timing.parent_index(index) is None or not beat_length_ms < 0:
        return 1.0
    return min(max(-100 / beat_length_ms, _SLOWEST), _FASTEST)
