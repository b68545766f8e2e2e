"""Lines that the original's reader refuses: mended as the game does, or given up.

Each function returns what the line says and what was done to it, or raises ``ValueError`` with the reason why the line
must be dropped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from cm3p.beatmap.errors import LimitExceeded
from cm3p.beatmap.lines import (
    LATEST_MS,
    MOST_REPEATS,
    curve_kind,
    is_sample,
)
from cm3p.beatmap.objects import (
    CIRCLE_BIT,
    DEFAULT_SAMPLE,
    FARTHEST,
    HOLD_BIT,
    SLIDER_BIT,
    SPINNER_BIT,
    Circle,
    HitObject,
    Hold,
    Point,
    Segment,
    Slider,
    Spinner,
    TimingPoint,
)
from cm3p.beatmap.path import SliderPath

_CURVE = re.compile(r"([BCLP])(\d{0,3})$")


def mend_timing_point(text: str) -> tuple[TimingPoint, list[str]]:
    """Read a line of ``[TimingPoints]`` that the original refuses."""
    fields = [field.strip() for field in text.split(",")]
    if len(fields) < 2:
        raise ValueError("a timing point has at least a time and a beat length")
    time_ms = _finite(fields[0], LATEST_MS, "time")
    try:
        beat_length_ms = float(fields[1])
    except ValueError:
        raise ValueError("the beat length is not a number") from None
    done: list[str] = []
    meter, sample_set, sample_index, volume, flag, effects = (
        _integer(fields[i] if i < len(fields) else "", default, name, done)
        for i, (name, default) in enumerate(_OPTIONAL_FIELDS, 2)
    )
    uninherited = flag != 0
    if beat_length_ms == 0 or math.isnan(beat_length_ms):
        if uninherited:
            raise ValueError("the beat length is 0 or not a number")
        beat_length_ms = -100.0
        done.append("the beat length of 0 is taken as -100, the speed as it is")
    if meter == 0:
        meter = 4
        done.append("the meter of 0 is taken as 4")
    volume = min(max(volume, 0), 100)
    return TimingPoint(
        time_ms, beat_length_ms, meter, sample_set, sample_index, volume, uninherited, effects
    ), done


_OPTIONAL_FIELDS = (
    ("meter", 4),
    ("sample set", 0),
    ("sample index", 0),
    ("volume", 100),
    ("uninherited flag", 1),
    ("effects", 0),
)


def mend_hit_object(text: str) -> tuple[HitObject, list[str]]:
    """Read a line of ``[HitObjects]`` that the original refuses. A slider without a length has the length NaN."""
    fields = [field.strip() for field in text.split(",")]
    if len(fields) < 4:
        raise ValueError("an object has at least a position, a time and a type")
    done: list[str] = []
    x, y = (_finite(field, FARTHEST, "position") for field in fields[:2])
    time_ms = _finite(fields[2], LATEST_MS, "time")
    try:
        kind = int(float(fields[3]))
    except (ValueError, OverflowError):
        raise ValueError("the type is not a number") from None
    hit_sound = _integer(fields[4] if len(fields) > 4 else "", 0, "hit sound", done)
    if len(fields) < 5:
        done.append("the hit sound is missing and taken as 0")
    rest = fields[5:]
    if kind & CIRCLE_BIT:
        return Circle(x, y, time_ms, kind, hit_sound, _sample(rest, done)), done
    if kind & SLIDER_BIT:
        slider = Slider(x, y, time_ms, kind, hit_sound)
        _mend_slider(slider, rest, done)
        return slider, done
    if kind & SPINNER_BIT:
        if not rest:
            raise ValueError("the spinner has no end time")
        end_ms = _finite(rest[0], LATEST_MS, "end time")
        return Spinner(x, y, time_ms, kind, hit_sound, end_ms, _sample(rest[1:], done)), done
    if kind & HOLD_BIT:
        end, _, sample = (rest[0] if rest else "").partition(":")
        if not end:
            end = fields[2]
            done.append("the hold has no end time and ends where it starts")
        samples = [sample] if sample else rest[1:]
        end_ms = _finite(end, LATEST_MS, "end time")
        return Hold(x, y, time_ms, kind, hit_sound, end_ms, _sample(samples, done)), done
    raise ValueError("the type is none of circle, slider, spinner and hold")


def _mend_slider(slider: Slider, fields: list[str], done: list[str]) -> None:
    if not fields:
        raise ValueError("the slider has no curve")
    slider.points, segments = _curve(fields[0], (slider.x, slider.y), done)
    first = segments[0]
    slider.curve = first.kind + (str(first.degree) if first.degree else "")
    if len(segments) > 1 or first.degree:
        slider.segments, slider.kind = segments, first.kind
    else:
        slider.kind = curve_kind(first.kind, slider.points)
    slider.repeat = _integer(fields[1] if len(fields) > 1 else "", 1, "number of repeats", done)
    if slider.repeat > MOST_REPEATS:
        raise ValueError(f"more than {MOST_REPEATS} repeats")
    if slider.repeat == 0:
        slider.repeat = 1
        done.append("0 repeats are taken as 1")
    if len(fields) > 2 and fields[2]:
        slider.length = _finite(fields[2], FARTHEST, "length")
    else:
        slider.length = math.nan
        done.append("the length is missing and taken as that of the curve")
    slider.edge_sounds = [
        _integer(part, 0, "hit sound of an edge", done)
        for part in _parts(fields[3] if len(fields) > 3 else "")
    ]
    slider.edge_sets = [_edge_set(part, done) for part in _parts(fields[4] if len(fields) > 4 else "")]
    slider.sample = _sample(fields[5:], done)


def complete_lengths(sliders: Sequence[Slider]) -> list[str | None]:
    """Give mended sliders without a length that of their curves.

    Args:
        sliders: Sliders from :func:`mend_hit_object` whose length is NaN.

    Returns:
        For each the reason why it must be dropped, or None.
    """
    reasons: list[str | None] = []
    for slider, path in zip(sliders, SliderPath.of_many(sliders), strict=True):
        if isinstance(path, LimitExceeded):
            reasons.append(f"the length is missing, and {path}")
        else:
            slider.length = path.length
            reasons.append(None)
    return reasons


def _curve(text: str, head: Point, done: list[str]) -> tuple[list[Point], list[Segment]]:
    points, segments = [head], []
    for position, part in enumerate(text.split("|")):
        if position and (":" in part or not part[:1].isalpha()):
            points.append(_anchor(part))
            continue
        if (match := _CURVE.match(part)) and not (match[2] and match[1] != "B"):
            kind, degree = match[1], int(match[2] or 0)
        else:
            done.append(f"the curve type {part[:10]!r} is unknown and taken as a Bezier curve")
            kind, degree = "B", 0
            if not position and ":" in part:
                points.append(_anchor(part))
        # A segment starts at the first point after its letter, the first one at the head.
        segments.append(Segment(kind, degree, len(points) if position else 0))
    while segments[-1].first >= len(points):
        segments.pop()
        done.append("a curve type at the end has no points and is left out")
    if len(points) == 1:
        done.append("the slider has only one point and ends there")
    return points, segments


def _anchor(text: str) -> Point:
    x, colon, y = text.partition(":")
    if not colon:
        raise ValueError("a control point is not x:y")
    return _finite(x, FARTHEST, "control point"), _finite(y, FARTHEST, "control point")


def _sample(fields: list[str], done: list[str]) -> str:
    """Return the sample string of the last field, with defaults for its unreadable parts."""
    if len(fields) > 1:
        done.append("fields after the sample are left out")
    if not fields or not fields[0]:
        return DEFAULT_SAMPLE
    sample = fields[0]
    if is_sample(sample):
        return sample
    parts = sample.split(":", 4)
    parts += ["0"] * (4 - len(parts)) + [""] * (len(parts) < 5)
    parts[:4] = [part if _is_integer(part) else "0" for part in parts[:4]]
    done.append("unreadable parts of the sample are taken as 0")
    return ":".join(parts)


def _edge_set(text: str, done: list[str]) -> str:
    if is_sample(text):
        return text
    parts = [part if _is_integer(part) else "0" for part in (*text.split(":"), "0")[:2]]
    done.append("unreadable parts of an edge's sample are taken as 0")
    return ":".join(parts)


def _parts(text: str) -> list[str]:
    return text.split("|") if text else []


def _integer(text: str, default: int, name: str, done: list[str]) -> int:
    """Return an integer, cut from a float if it is one; the default if the text is empty."""
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = int(float(text))
    except (ValueError, OverflowError):
        done.append(f"the {name} is not a number and taken as {default}")
        return default
    done.append(f"the {name} is not an integer and taken as {number}")
    return number


def _is_integer(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def _finite(text: str, most: float, name: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"the {name} is not a number") from None
    if not -most < number < most:
        raise ValueError(f"the {name} is not finite, or too far")
    return number
