"""Length of a song."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cm3p.beatmap.objects import Beatmap, Hold, Slider, Spinner
from cm3p.beatmap.timing import Timing, microseconds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AFTER_LAST_OBJECT_S = 0.000999
_AFTER_LAST_POINT_S = 0.01


def get_song_length(
    audio_samples: NDArray[np.floating] | None = None,
    sampling_rate: int | None = None,
    beatmap: Beatmap | None = None,
) -> float:
    """Return the length of a song in seconds.

    Args:
        audio_samples: (n,) samples; if given, their number over the rate is the length.
        sampling_rate: Samples per second.
        beatmap: Without audio, the end of the last object in the order of the file, or the last timing point.

    Returns:
        Seconds; 0 without audio and without a map.
    """
    if audio_samples is not None and sampling_rate:
        return len(audio_samples) / sampling_rate
    if beatmap is None:
        return 0.0
    if beatmap.hit_objects:
        return _end_us(beatmap) / 1_000_000 + _AFTER_LAST_OBJECT_S
    if beatmap.timing_points:
        return microseconds(beatmap.timing_points[-1].time_ms) / 1_000_000 + _AFTER_LAST_POINT_S
    return 0.0


def _end_us(beatmap: Beatmap) -> int:
    last = beatmap.hit_objects[-1]
    if isinstance(last, Spinner | Hold):
        return int(last.end_time_ms) * 1000
    if isinstance(last, Slider) and beatmap.timing_points:
        duration_ms = Timing(beatmap.timing_points).slider_duration_ms(last, beatmap.slider_multiplier)
        return (int(last.time_ms) + duration_ms) * 1000
    return int(last.time_ms) * 1000
