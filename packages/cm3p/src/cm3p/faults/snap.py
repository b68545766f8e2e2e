"""The plain rule that the fault finder is compared with: objects that are off the timing grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cm3p.beatmap import Beatmap
from cm3p.beatmap.timing import Timing, microseconds

ALL_DIVISORS = tuple(range(1, 17))
"""Every beat divisor from 1 to 16: as the snapping tokens have it."""
EDITOR_DIVISORS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16)
"""The divisors that the game's editor offers."""
TOLERANCE_MS = 2.0
"""Objects 1 to 2 ms off the grid are normal: editors truncate times to whole milliseconds."""


def off_grid_ms(beatmap: Beatmap, divisors: Sequence[int] = ALL_DIVISORS) -> np.ndarray:
    """Return how far the start of each object is from the nearest line of the timing grid.

    The grid at an object is that of the last timing point with a tempo of its own before it.

    Args:
        beatmap: The map.
        divisors: Beats are divided by each of them.

    Returns:
        (objects,) float64 in ms, 0 or more; 0 where there is no grid.
    """
    offsets = np.zeros(len(beatmap.hit_objects))
    if not beatmap.timing_points:
        return offsets
    timing = Timing(beatmap.timing_points)
    for number, item in enumerate(beatmap.hit_objects):
        try:
            time_us = microseconds(item.time_ms)
        except (ValueError, OverflowError):
            continue
        index = timing.index_at(time_us)
        parent = timing.parent_index(index)
        beat_ms = timing.beat_length_at(index)
        if not (math.isfinite(beat_ms) and beat_ms > 0):
            continue
        beats = (time_us - timing.offsets_us[index if parent is None else parent]) / 1000 / beat_ms
        offsets[number] = min(abs(beats - round(beats * n) / n) for n in divisors) * beat_ms
    return offsets
