"""Sliders as the game plays them: when and where their heads, ticks, repeats and ends are.

The game looks timing points up otherwise than the tokens do: sorted by time, an inherited point before an uninherited
one of the same time counts, and beat lengths are limited.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

from cm3p.beatmap.errors import LimitExceeded
from cm3p.beatmap.objects import MANIA, TAIKO, Beatmap, Slider, TimingPoint
from cm3p.beatmap.path import SliderPath

_SCORING_DISTANCE = 100.0  # px per beat at a slider multiplier of 1
_BEAT_LENGTHS_MS = (6.0, 60_000.0)
_MULTIPLIERS, _TICK_RATES = (0.4, 3.6), (0.5, 8.0)
_LONGEST = 100_000.0  # px of a slider that get ticks
_END_MARGIN_MS = 10.0  # no tick so shortly before an end
_FIRST_WITH_SCALED_TICKS = 8  # file version from which faster sliders have fewer ticks per px
MOST_EVENTS = 1_000_000


T = TypeVar("T")


@dataclass(frozen=True)
class SliderEvent:
    """A moment of a slider that counts.

    Args:
        kind: What it is.
        time_ms: When.
        progress: Where on the path: 0 at the head, 1 at the other end.
    """

    kind: Literal["head", "tick", "repeat", "end"]
    time_ms: float
    progress: float


class GameTiming:
    """Timing points as the game looks them up.

    Args:
        points: Timing points of a map, in any order.
    """

    def __init__(self, points: Sequence[TimingPoint]) -> None:
        beats: dict[float, float] = {}
        speeds: dict[float, tuple[bool, float]] = {}
        for point in points:
            if point.uninherited and math.isfinite(point.beat_length_ms):
                beats[point.time_ms] = _clip(point.beat_length_ms, _BEAT_LENGTHS_MS)
            # At equal times the last inherited point counts, and an uninherited one only without such.
            if not point.uninherited or speeds.get(point.time_ms, (True, 0.0))[0]:
                speeds[point.time_ms] = point.uninherited, point.beat_length_ms
        self._beat_times, self._beats = _columns(beats)
        self._speed_times, columns = _columns(speeds)
        self._speeds = [beat_length_ms for _, beat_length_ms in columns]

    def beat_length_at(self, time_ms: float) -> float:
        """Return the milliseconds per beat; those of the first point before it."""
        if not self._beats:
            return 1000.0
        return self._beats[max(0, bisect_right(self._beat_times, time_ms) - 1)]

    def raw_speed_at(self, time_ms: float) -> float:
        """Return the beat length as it is in the file of the point that sets the slider speed; 1 before all."""
        index = bisect_right(self._speed_times, time_ms) - 1
        return self._speeds[index] if index >= 0 else 1.0


class SliderPlay:
    """One slider in play.

    Args:
        slider: The slider.
        beatmap: Its map.
        timing: The map's timing points.

    Attributes:
        length: Of its path in px.
        spans: How often the path is travelled.
        span_ms: Duration of one travel.
        velocity: Speed in px per ms.
        tick_distance: Between ticks in px; infinite for none.

    Raises:
        LimitExceeded: The length depends on the curve, which asks for too much work.
    """

    def __init__(self, slider: Slider, beatmap: Beatmap, timing: GameTiming) -> None:
        self.slider = slider
        self._version = beatmap.version
        # The curve itself sets the length only where it has none, or where it may not be extended.
        is_given = slider.length > 0 and len(slider.points) > 1 and slider.points[-1] != slider.points[-2]
        self.length = slider.length if is_given else self.path.length
        self.spans = max(1, slider.repeat)
        raw = timing.raw_speed_at(slider.time_ms)
        speed = _clip(100 / -raw if raw < 0 else 1.0, (0.1, 10.0))
        beat_length_ms = timing.beat_length_at(slider.time_ms)
        slowest = 10_000 if beatmap.mode in (TAIKO, MANIA) else 1000
        # The game rounds to single precision here.
        adjusted_ms = beat_length_ms * _clip(_single(100 / speed), (10, slowest)) / 100
        multiplier = _clip(beatmap.slider_multiplier, _MULTIPLIERS)
        self.velocity = _SCORING_DISTANCE * multiplier / adjusted_ms
        self.span_ms = self.length / self.velocity
        tick_rate = _clip(beatmap.slider_tick_rate, _TICK_RATES)
        self.tick_distance = self.velocity * beat_length_ms / tick_rate
        if beatmap.version < _FIRST_WITH_SCALED_TICKS:
            self.tick_distance /= speed
        if math.isnan(raw):
            self.tick_distance = math.inf

    @cached_property
    def path(self) -> SliderPath:
        """Its path, made when it is first asked for; raises as :class:`SliderPath`."""
        return SliderPath(self.slider, self._version)

    @property
    def end_ms(self) -> float:
        """When the slider ends."""
        return self.slider.time_ms + self.spans * self.span_ms

    def tick_count(self) -> int:
        """Return the number of ticks of one travel."""
        length, distance = self._tick_lengths()
        if distance <= 0:
            return 0
        # None at the very end, nor in the last milliseconds.
        return max(0, math.ceil((length - self.velocity * _END_MARGIN_MS) / distance) - 1)

    def event_count(self) -> int:
        """Return the number of heads, ticks, repeats and ends of the slider, without making them."""
        return self.spans * (self.tick_count() + 1) + 1

    def events(self) -> Iterator[SliderEvent]:
        """Yield the events in the order of time.

        Raises:
            LimitExceeded: They are more than a million.
        """
        if (count := self.event_count()) > MOST_EVENTS:
            raise LimitExceeded(f"a slider has {count} events; at most {MOST_EVENTS} are allowed")
        length, distance = self._tick_lengths()
        progresses = [number * distance / length for number in range(1, self.tick_count() + 1)]
        start_ms = self.slider.time_ms
        yield SliderEvent("head", start_ms, 0.0)
        for span in range(self.spans):
            span_start_ms = start_ms + span * self.span_ms
            backwards = span % 2 == 1
            for progress in reversed(progresses) if backwards else progresses:
                travelled = 1 - progress if backwards else progress
                yield SliderEvent("tick", span_start_ms + travelled * self.span_ms, progress)
            if span < self.spans - 1:
                yield SliderEvent("repeat", span_start_ms + self.span_ms, (span + 1) % 2)
        yield SliderEvent("end", self.end_ms, self.spans % 2)

    def _tick_lengths(self) -> tuple[float, float]:
        """Return the length that has ticks, and the distance between them."""
        length = min(self.length, _LONGEST)
        return length, min(self.tick_distance, length)


def _columns(table: dict[float, T]) -> tuple[list[float], list[T]]:
    order = sorted(table)
    return order, [table[key] for key in order]


def _clip(value: float, limits: tuple[float, float]) -> float:
    return max(limits[0], min(value, limits[1]))  # the lower limit for NaN


def _single(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]
