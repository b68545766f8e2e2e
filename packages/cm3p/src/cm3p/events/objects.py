"""Hit objects to events."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

from cm3p.beatmap.errors import FormatError
from cm3p.beatmap.objects import CATCH, MANIA, OSU, TAIKO, Beatmap, Circle, HitObject, Hold, Slider, Spinner
from cm3p.beatmap.timing import Timing
from cm3p.beatmap.token_end import is_arc, token_ends
from cm3p.events.groups import EventType, Group
from cm3p.events.hitsounds import HitSound, HitSounds, set_hitsounds
from cm3p.events.options import ParserOptions
from cm3p.events.snapping import scroll_speed_at, snapping_at
from cm3p.events.times import divided, group_time

log = logging.getLogger(__name__)

MAX_SLIDER_POINTS = 100
"""A slider of so many control points, or more, gives no events, as in the original."""
_MAX_REPEATS = 9000  # the limit of the game
_CENTRE = (256.0, 192.0)
_PLAYFIELD_WIDTH = 512
_BODY_REFERENCE_US = 1000
_EDGE_SAMPLE = "0:0"
_INT64 = 1 << 63
_ANCHORS = {
    "B": EventType.BEZIER_ANCHOR,
    "C": EventType.CATMULL_ANCHOR,
    "L": EventType.RED_ANCHOR,
    "P": EventType.PERFECT_ANCHOR,
}
# What a bad value of an object that was made, not read, leads to.
_FAULTS = (ArithmeticError, ValueError, IndexError)

Point = tuple[float, float]


class ObjectEvents:
    """Events of the hit objects of a map.

    Args:
        beatmap: The map.
        timing: Its timing points.
        options: What to make.
        strict: Raise where the original fails; else an object with a fault is left out, and logged.
    """

    def __init__(self, beatmap: Beatmap, timing: Timing, options: ParserOptions, *, strict: bool) -> None:
        self._beatmap, self._timing, self._options, self._strict = beatmap, timing, options, strict
        self._sounds = HitSounds(timing, strict=strict)
        self._positioned = beatmap.mode in (OSU, CATCH)
        self._taiko = beatmap.mode == TAIKO
        self._keys = int(beatmap.circle_size) if beatmap.mode == MANIA else 0
        self._last_position: Point = _CENTRE
        self._ends: dict[int, Point] = {}

    def groups(self) -> list[Group]:
        """Return the events of all objects, sorted by time; at equal times in the order of the file.

        Raises:
            FormatError: An object has a fault, in strict mode.
        """
        objects = self._beatmap.hit_objects
        if not self._taiko:
            sliders = [item for item in objects if isinstance(item, Slider) and _is_short(item)]
            self._ends = dict(zip(map(id, sliders), self._slider_ends(sliders), strict=True))
        groups: list[Group] = []
        for item in objects:
            before = self._last_position
            try:
                groups.extend(self._events(item))
            except _FAULTS as error:
                message = f"the object at {item.time_ms} ms cannot be read: {error}"
                if self._strict:
                    raise FormatError(message) from error
                log.warning("%s; it is left out", message)
                self._last_position = before
        groups.sort(key=lambda group: group.time)
        return groups

    def _slider_ends(self, sliders: list[Slider]) -> list[Point]:
        try:
            return token_ends(sliders)
        except _FAULTS:  # a slider among them has a fault; its own error comes with its events
            return [_own_end(slider) for slider in sliders]

    def _events(self, item: HitObject) -> list[Group]:
        start_us = int(item.time_ms) * 1000
        if isinstance(item, Circle):
            circle = self._group(EventType.CIRCLE, start_us, (item.x, item.y), combo=item.new_combo)
            if self._taiko:
                circle.scroll_speed = scroll_speed_at(self._timing, start_us)
            return [self._sound(circle, start_us, item.hit_sound, item.sample)]
        if isinstance(item, Slider):
            return self._drumroll(item, start_us) if self._taiko else list(self._slider(item, start_us))
        if isinstance(item, Spinner):
            return self._denden(item, start_us) if self._taiko else self._spinner(item, start_us)
        if isinstance(item, Hold):
            return self._hold(item, start_us)
        raise TypeError(f"{type(item).__name__} is not a circle, slider, spinner or hold note")

    def _slider(self, item: Slider, start_us: int) -> Iterator[Group]:
        if not _is_short(item):
            log.info("the slider at %s ms has %d control points; left out", item.time_ms, len(item.points))
            return
        end_us = start_us + 1000 * self._timing.slider_duration_ms(item, self._beatmap.slider_multiplier)
        repeat = item.repeat
        if not self._strict:
            repeat = min(repeat or 1, _MAX_REPEATS)
        span_us = divided(end_us - start_us, repeat)
        old = self._options.slider_version == 1
        head = self._group(EventType.SLIDER_HEAD, start_us, (item.x, item.y), combo=item.new_combo)
        if self._options.add_sv:
            head.scroll_speed = scroll_speed_at(self._timing, start_us)
        yield self._edge_sound(head, item, 0, start_us)
        last = len(item.points) - 1
        for index, event in _interior_anchors(item):
            time_us = start_us + divided(index * span_us, last) if old else start_us
            yield self._anchor(event, time_us, item.points[index])
        if not old:
            yield self._anchor(EventType.LAST_ANCHOR, start_us, item.points[-1])
        end = self._group(EventType.SLIDER_END, start_us + span_us, _whole(item.points[-1]) if old else None)
        if self._options.add_hitsounds:
            body = self._sounds.at(start_us + _BODY_REFERENCE_US, item.hit_sound, item.sample)
            edges = [self._edge(item, index, start_us + index * span_us) for index in range(1, repeat)]
            set_hitsounds(end, [body, *edges])
        yield end
        tail = self._group(EventType.REPEAT_END, end_us, self._ends[id(item)])
        yield self._edge_sound(tail, item, -1, end_us)

    def _spinner(self, item: Spinner, start_us: int) -> list[Group]:
        end_us = int(item.end_time_ms) * 1000
        start = self._group(EventType.SPINNER, start_us)
        end = self._group(EventType.SPINNER_END, end_us)
        self._sound(end, end_us, item.hit_sound, item.sample)
        self._last_position = _CENTRE
        return [start, end]

    def _hold(self, item: Hold, start_us: int) -> list[Group]:
        if self._positioned and self._options.add_distances and self._strict:
            raise ValueError("hold notes have no distance outside osu!mania")
        start = self._group(EventType.HOLD_NOTE, start_us, (item.x, item.y))
        self._sound(start, start_us, item.hit_sound, item.sample)
        return [start, self._group(EventType.HOLD_NOTE_END, int(item.end_time_ms) * 1000, (item.x, item.y))]

    def _drumroll(self, item: Slider, start_us: int) -> list[Group]:
        duration_ms = self._timing.slider_duration_ms(item, self._beatmap.slider_multiplier)
        if item.repeat == 0 and self._strict:
            raise ZeroDivisionError("a slider is travelled 0 times")
        start = self._group(EventType.DRUMROLL, start_us)
        start.scroll_speed = scroll_speed_at(self._timing, start_us)
        self._sound(start, start_us, item.hit_sound, item.sample)
        return [start, self._group(EventType.DRUMROLL_END, start_us + 1000 * duration_ms)]

    def _denden(self, item: Spinner, start_us: int) -> list[Group]:
        start = self._group(EventType.DENDEN, start_us)
        start.scroll_speed = scroll_speed_at(self._timing, start_us)
        self._sound(start, start_us, item.hit_sound, item.sample)
        return [start, self._group(EventType.DENDEN_END, int(item.end_time_ms) * 1000)]

    def _group(
        self, event: EventType, time_us: int, position: Point | None = None, *, combo: bool = False
    ) -> Group:
        group = Group(event, group_time(time_us), has_time=True)
        if self._options.add_snapping:
            group.snapping = snapping_at(self._timing, time_us, strict=self._strict)
        if self._positioned:
            group.new_combo = combo
        if position is not None:
            self._place(group, position)
        return group

    def _anchor(self, event: EventType, time_us: int, position: Point) -> Group:
        group = Group(event, group_time(time_us))
        self._place(group, _whole(position))
        return group

    def _place(self, group: Group, position: Point) -> None:
        x, y = position
        if self._positioned:
            if group.event_type is not EventType.REPEAT_END:
                x, y = int(x), int(y)
            if self._options.add_distances:
                if self._strict and max(abs(x), abs(y)) >= _INT64:
                    raise ValueError("a position beyond 64 bits has no distance")
                group.distance = int(math.hypot(x - self._last_position[0], y - self._last_position[1]))
            if self._options.add_positions:
                group.x, group.y = int(x), int(y)
            self._last_position = (x, y)
        elif self._keys and self._options.mania_columns:
            group.mania_column = 1 + int(min(max(x / _PLAYFIELD_WIDTH * self._keys, 0), self._keys - 1))

    def _sound(self, group: Group, time_us: int, sound: int, sample: str) -> Group:
        if self._options.add_hitsounds:
            set_hitsounds(group, [self._sounds.at(time_us, sound, sample)])
        return group

    def _edge_sound(self, group: Group, item: Slider, index: int, time_us: int) -> Group:
        if self._options.add_hitsounds:
            set_hitsounds(group, [self._edge(item, index, time_us)])
        return group

    def _edge(self, item: Slider, index: int, time_us: int) -> HitSound:
        """Hit sound of an edge: 0 the head, -1 the end."""
        sound = _item(item.edge_sounds, index, 0)
        return self._sounds.at(time_us, sound, _item(item.edge_sets, index, _EDGE_SAMPLE))


def _interior_anchors(item: Slider) -> Iterator[tuple[int, EventType]]:
    """Control points between the first and the last: their index and kind; a corner of Bezier curves is red."""
    points = item.points
    kinds = [_ANCHORS[item.kind]] * len(points)
    joints = {segment.first for segment in item.segments}
    stops = [segment.first for segment in item.segments[1:]] + [len(points) - 1]
    for segment, stop in zip(item.segments, stops, strict=False):
        part = points[segment.first : stop + 1]
        kind = "B" if segment.kind == "P" and not is_arc([_whole(point) for point in part]) else segment.kind
        kinds[segment.first : stop] = [_ANCHORS[kind]] * (stop - segment.first)
    for index in range(1, len(points) - 1):
        kind = kinds[index]
        if index in joints:
            yield index, EventType.RED_ANCHOR
        elif kind is not EventType.BEZIER_ANCHOR:
            yield index, kind
        elif _whole(points[index]) == _whole(points[index + 1]):
            yield index, EventType.RED_ANCHOR
        elif _whole(points[index]) != _whole(points[index - 1]):
            yield index, kind


def _own_end(slider: Slider) -> Point:
    try:
        return token_ends([slider])[0]
    except _FAULTS:
        return math.nan, math.nan


def _is_short(item: Slider) -> bool:
    return len(item.points) < MAX_SLIDER_POINTS


def _whole(point: Point) -> Point:
    return int(point[0]), int(point[1])


def _item(values: list[Any], index: int, default: Any) -> Any:
    return values[index] if -len(values) <= index < len(values) else default
