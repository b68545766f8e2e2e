"""What happens over time in all rulesets: measures, beats, kiai time, breaks, and when objects start and end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from cm3p.beatmap import Beatmap, GameTiming, HitObject, Hold, LimitExceeded, Slider, SliderPlay, Spinner

_KIAI_BIT = 1
_FASTEST_BEAT_MS = 20.0  # beats that follow each other faster are not drawn
_LONGEST_MS = 36_000_000.0
_FARTHEST_PX = 10_000.0  # pictures cannot place text much farther


@dataclass(frozen=True)
class Part:
    """A part of a map.

    Args:
        start_ms: Its start.
        end_ms: Its end.
    """

    start_ms: float
    end_ms: float

    @property
    def length_ms(self) -> float:
        """Its length."""
        return self.end_ms - self.start_ms

    def divided(self, count: int) -> list[Part]:
        """Return equal parts of it."""
        each = self.length_ms / count
        return [
            Part(self.start_ms + number * each, self.start_ms + (number + 1) * each)
            for number in range(count)
        ]


class Timeline:
    """A map over time.

    Args:
        beatmap: The map.

    Attributes:
        objects: Objects with a finite time and a position near the playfield, by time.
    """

    def __init__(self, beatmap: Beatmap) -> None:
        self.beatmap = beatmap
        self._timing = GameTiming(beatmap.timing_points)
        self.objects = sorted(filter(_can_be_drawn, beatmap.hit_objects), key=lambda each: each.time_ms)
        self._ends: dict[int, float] = {}

    def play(self, slider: Slider) -> SliderPlay | None:
        """Return a slider in play; None where its path asks for too much work."""
        try:
            play = SliderPlay(slider, self.beatmap, self._timing)
            return play if play.path.length >= 0 else None
        except (LimitExceeded, ArithmeticError, ValueError):
            return None

    def end_ms(self, item: HitObject) -> float:
        """Return when an object ends."""
        if id(item) not in self._ends:
            self._ends[id(item)] = self._end_ms(item)
        return self._ends[id(item)]

    def _end_ms(self, item: HitObject) -> float:
        end = item.time_ms
        if isinstance(item, Slider):
            play = self.play(item)
            end = item.time_ms if play is None else play.end_ms
        elif isinstance(item, Spinner | Hold):
            end = item.end_time_ms
        return (
            end if math.isfinite(end) and item.time_ms <= end < item.time_ms + _LONGEST_MS else item.time_ms
        )

    @cached_property
    def whole(self) -> Part:
        """From the first object to the end of the last."""
        if not self.objects:
            return Part(0.0, 1000.0)
        start = self.objects[0].time_ms
        return Part(start, max(start + 1000.0, *(self.end_ms(each) for each in self.objects)))

    def inside(self, part: Part) -> list[HitObject]:
        """Return the objects that are there during a part."""
        return [
            each for each in self.objects if each.time_ms < part.end_ms and self.end_ms(each) >= part.start_ms
        ]

    def kiai(self, part: Part) -> list[Part]:
        """Return the kiai times within a part."""
        points = sorted(self.beatmap.timing_points, key=lambda point: point.time_ms)
        spans: list[Part] = []
        start: float | None = None
        for point in points:
            is_kiai = bool(point.effects & _KIAI_BIT)
            if is_kiai and start is None:
                start = point.time_ms
            elif not is_kiai and start is not None:
                spans.append(Part(start, point.time_ms))
                start = None
        if start is not None:
            spans.append(Part(start, math.inf))
        clipped = [Part(max(each.start_ms, part.start_ms), min(each.end_ms, part.end_ms)) for each in spans]
        return [each for each in clipped if each.length_ms > 0]

    def breaks(self, part: Part) -> list[Part]:
        """Return the breaks within a part."""
        clipped = [
            Part(max(each.start_ms, part.start_ms), min(each.end_ms, part.end_ms))
            for each in self.beatmap.breaks
        ]
        return [each for each in clipped if each.length_ms > 0]

    def beats(self, part: Part) -> Iterator[tuple[float, bool]]:
        """Yield the beats within a part, and whether a measure starts there."""
        points = sorted(
            (each for each in self.beatmap.timing_points if each.uninherited and each.beat_length_ms > 0),
            key=lambda point: point.time_ms,
        )
        for number, point in enumerate(points):
            beat_ms = point.beat_length_ms
            if not (math.isfinite(point.time_ms) and _FASTEST_BEAT_MS <= beat_ms < _LONGEST_MS):
                continue
            until = points[number + 1].time_ms if number + 1 < len(points) else math.inf
            first = max(0, math.ceil((part.start_ms - point.time_ms) / beat_ms))
            last = math.ceil((min(part.end_ms, until) - point.time_ms) / beat_ms)
            for beat in range(first, last):
                yield point.time_ms + beat * beat_ms, beat % max(1, point.meter) == 0


def _can_be_drawn(item: HitObject) -> bool:
    return math.isfinite(item.time_ms) and abs(item.x) <= _FARTHEST_PX and abs(item.y) <= _FARTHEST_PX
