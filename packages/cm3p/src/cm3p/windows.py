"""Windows of a song."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cm3p.events.groups import Group
from pentatonic.errors import InputError, UsageError

MAX_WINDOWS = 4096
"""Windows of a map that are made before it is refused: 18 hours in windows of 16 s."""


class TooManyWindows(InputError):
    """A song is so long that it has more windows than are allowed."""


def window_starts(
    length_s: float, stride_s: float, min_window_s: float, max_windows: int = MAX_WINDOWS
) -> list[float]:
    """Return where the windows of a song start: at 0, ``stride_s``, ``2 * stride_s`` and so on.

    Args:
        length_s: Length of the song in seconds.
        stride_s: From one start to the next.
        min_window_s: Windows start earlier than this before the end.
        max_windows: Most windows.

    Returns:
        Seconds; empty for a song that is not longer than ``min_window_s``.

    Raises:
        TooManyWindows: There are more than ``max_windows``.
        UsageError: The stride is not above 0, or an option is not finite.
        InputError: The length of the song is not finite.
    """
    if not (math.isfinite(stride_s) and stride_s > 0):
        raise UsageError(f"window_stride_sec is {stride_s}; allowed: finite numbers above 0")
    if not math.isfinite(min_window_s):
        raise UsageError(f"min_window_length_sec is {min_window_s}; allowed: finite numbers")
    if not math.isfinite(length_s):
        raise InputError(f"the length of the song is {length_s} s; allowed: finite numbers")
    last_start_s = length_s - min_window_s
    count = max(0, math.ceil(last_start_s / stride_s))
    if count > max_windows:
        raise TooManyWindows(
            f"the song is {length_s:g} s long and has {count} windows {stride_s:g} s apart; "
            f"at most {max_windows} are made (--max-windows)"
        )
    return [index * stride_s for index in range(count) if index * stride_s < last_start_s]


def groups_in_windows(
    groups: Sequence[Group], starts_s: Sequence[float], window_s: float, stride_s: float
) -> list[list[Group]]:
    """Return the events of each window.

    Events are found by one search forward, as in the original: a window ends at the first event at or after its end,
    so events that are not in the order of their times may be lost.

    Args:
        groups: Events of the song.
        starts_s: Starts of the windows in seconds, as :func:`window_starts` returns them.
        window_s: Length of a window.
        stride_s: From one start to the next.

    Raises:
        UsageError: The window is not above 0.
    """
    if not (math.isfinite(window_s) and window_s > 0):
        raise UsageError(f"window_length_sec is {window_s}; allowed: finite numbers above 0")
    windows: list[list[Group]] = []
    first = 0
    for start_s in starts_s:
        start_ms, end_ms, next_start_ms = (
            start_s * 1000,
            (start_s + window_s) * 1000,
            (start_s + stride_s) * 1000,
        )
        passed, inside = 0, []
        for index in range(first, len(groups)):
            time = groups[index].time
            if time >= end_ms:
                break
            passed += time < next_start_ms
            if time >= start_ms:
                inside.append(groups[index])
        first += passed
        windows.append(inside)
    return windows
