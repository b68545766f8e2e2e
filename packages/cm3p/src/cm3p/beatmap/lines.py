"""Lines of timing points and hit objects, read as the original's reader reads them.

These functions are the common path: they raise ``ValueError`` for whatever the original refuses. What they raise for,
:mod:`cm3p.beatmap.repair` mends or drops in tolerant mode.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NoReturn

from cm3p.beatmap.objects import (
    CIRCLE_BIT,
    DEFAULT_SAMPLE,
    FARTHEST,
    HOLD_BIT,
    SLIDER_BIT,
    SPINNER_BIT,
    Break,
    Circle,
    HitObject,
    Hold,
    Point,
    Slider,
    Spinner,
    TimingPoint,
)
from cm3p.beatmap.token_end import is_arc, truncated

LATEST_MS = 8.64e16 - 1e6  # times are held in whole microseconds of less than a billion days
MOST_REPEATS = 9000  # as the game: beyond it a slider is refused


def read_timing_point(text: str) -> TimingPoint:
    """Read a line of ``[TimingPoints]``.

    Raises:
        ValueError: The original cannot read it, or divides by zero for it.
    """
    fields = text.split(",")
    time_ms = float(fields[0])
    beat_length_ms = float(fields[1]) if len(fields) > 1 else _missing("beat length")
    if not -LATEST_MS < time_ms < LATEST_MS:
        raise ValueError("the time is not finite, or too far")
    if beat_length_ms == 0:
        raise ValueError("the beat length is 0")
    others = fields[2:8]
    if len(others) < len(_DEFAULTS):
        others += _DEFAULTS[len(others) :]
    meter, sample_set, sample_index, volume, flag, effects = map(int, others)
    if meter == 0 and beat_length_ms > 10:
        raise ValueError("the meter is 0")
    if math.isnan(beat_length_ms):
        beat_length_ms = math.nan  # the same object for all, so that equal maps compare equal
    return TimingPoint(
        time_ms, beat_length_ms, meter, sample_set, sample_index, min(max(volume, 0), 100), flag != 0, effects
    )


_DEFAULTS = ("4", "0", "0", "100", "1", "0")


def read_hit_object(text: str, check_edges: bool = True) -> HitObject:
    """Read a line of ``[HitObjects]``.

    Args:
        text: The line.
        check_edges: Whether the samples of slider edges must be readable; taiko does not use them.

    Raises:
        ValueError: The original cannot read it.
    """
    fields = text.split(",")
    if len(fields) < 5:
        raise ValueError("an object has at least 5 fields")
    x, y, time_ms = float(fields[0]), float(fields[1]), int(fields[2])
    kind, hit_sound = int(fields[3]), int(fields[4])
    if not (-FARTHEST < x < FARTHEST and -FARTHEST < y < FARTHEST):
        raise ValueError("the position is not finite, or too far")
    if not -LATEST_MS < time_ms < LATEST_MS:
        raise ValueError("the time is too far")
    time_ms = float(time_ms)
    if kind & CIRCLE_BIT:
        return Circle(x, y, time_ms, kind, hit_sound, _only_sample(fields, 5))
    if kind & SLIDER_BIT:
        return _read_slider(x, y, time_ms, kind, hit_sound, fields, check_edges)
    if kind & SPINNER_BIT:
        end_ms = read_end(fields[5] if len(fields) > 5 else _missing("end time"))
        return Spinner(x, y, time_ms, kind, hit_sound, end_ms, _only_sample(fields, 6))
    if kind & HOLD_BIT:
        if len(fields) != 6:
            raise ValueError("a hold has 6 fields")
        end, colon, sample = fields[5].partition(":")
        if not colon or not is_sample(sample):
            raise ValueError("the hold's sample cannot be read")
        return Hold(x, y, time_ms, kind, hit_sound, read_end(end), sample)
    raise ValueError("the type is none of circle, slider, spinner and hold")


def read_break(text: str) -> Break | None:
    """Read a break of ``[Events]``; None for any other event."""
    fields = text.split(",")
    if fields[0] not in ("2", "Break") or len(fields) < 3:
        return None
    try:
        start_ms, end_ms = float(fields[1]), float(fields[2])
    except ValueError:
        return None
    return Break(start_ms, end_ms) if abs(start_ms) < LATEST_MS and abs(end_ms) < LATEST_MS else None


def read_end(text: str) -> float:
    """Read the end of a spinner or hold, whole milliseconds."""
    end_ms = int(text)
    if not -LATEST_MS < end_ms < LATEST_MS:
        raise ValueError("the end time is too far")
    return float(end_ms)


def first_unreadable(text: str, numbers: int) -> int:
    """Return where to look in a line that cannot be read.

    Args:
        text: The line.
        numbers: How many fields at its start should be finite numbers.

    Returns:
        Offset of the first of these fields that is none, else of the field after them, else 0.
    """
    offset = 0
    for index, field in enumerate(text.split(",")):
        try:
            readable = index < numbers and math.isfinite(float(field))
        except ValueError:
            readable = False
        if not readable:
            return offset
        offset += len(field) + 1
    return 0


@lru_cache(maxsize=4096)
def is_sample(text: str) -> bool:
    """Tell whether a sample string (or that of an edge) has readable sets and volume."""
    parts = text.split(":")
    try:
        _ = int(parts[0]), int(parts[1])
        if len(parts) > 3:
            int(parts[3])
    except (ValueError, IndexError):
        return False
    return True


def curve_kind(letter: str, points: list[Point]) -> str:
    """Return the kind of a whole curve: an arc needs three points that are not on a line, else it is a Bezier curve."""
    if letter == "P" and not (len(points) == 3 and is_arc(truncated(points))):
        return "B"
    return letter


def _read_slider(
    x: float, y: float, time_ms: float, kind: int, hit_sound: int, fields: list[str], check_edges: bool
) -> Slider:
    if not 8 <= len(fields) <= 11:
        raise ValueError("a slider has 8 to 11 fields")
    letter, *anchors = fields[5].split("|")
    if letter not in ("B", "L", "P", "C"):
        raise ValueError("the type of the curve is none of B, L, P and C")
    points = [(x, y)]
    for anchor in anchors:
        anchor_x, anchor_y = map(float, anchor.split(":"))
        if not (-FARTHEST < anchor_x < FARTHEST and -FARTHEST < anchor_y < FARTHEST):
            raise ValueError("a control point is not finite, or too far")
        points.append((anchor_x, anchor_y))
    if letter == "L" and not anchors:
        raise ValueError("a linear slider has no second point")
    repeat, length = int(fields[6]), float(fields[7])
    if repeat == 0 or repeat > MOST_REPEATS:
        raise ValueError(f"the number of repeats is not in 1 to {MOST_REPEATS}")
    if not -FARTHEST < length < FARTHEST:
        raise ValueError("the length is not finite, or too far")
    edge_sounds = [int(part) for part in fields[8].split("|")] if len(fields) > 8 and fields[8] else []
    edge_sets = fields[9].split("|") if len(fields) > 9 and fields[9] else []
    if check_edges and not all(map(is_sample, (*edge_sets[: max(repeat, 1)], *edge_sets[-1:]))):
        raise ValueError("the sample of an edge cannot be read")
    sample = _only_sample(fields, 10)
    return Slider(
        x, y, time_ms, kind, hit_sound, letter, curve_kind(letter, points), points, repeat, length, [], edge_sounds,
        edge_sets, sample,
    )  # fmt: skip


def _only_sample(fields: list[str], at: int) -> str:
    """Return the last field, a sample string, or the default if it is missing."""
    if len(fields) <= at:
        return DEFAULT_SAMPLE
    if len(fields) > at + 1:
        raise ValueError("there are too many fields")
    sample = fields[at]
    if not is_sample(sample):
        raise ValueError("the sample cannot be read")
    return sample


def _missing(what: str) -> NoReturn:
    raise ValueError(f"the {what} is missing")
