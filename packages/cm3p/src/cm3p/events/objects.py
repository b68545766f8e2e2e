"""Hit objects to events."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from operator import attrgetter

from cm3p.beatmap.errors import FormatError, LimitExceeded
from cm3p.beatmap.objects import CATCH, MANIA, OSU, TAIKO, Beatmap, Circle, HitObject, Hold, Slider, Spinner
from cm3p.beatmap.timing import Timing
from cm3p.beatmap.token_end import is_arc, token_ends
from cm3p.events.groups import EventType, Group
from cm3p.events.hitsounds import HitSound, HitSounds
from cm3p.events.options import ParserOptions
from cm3p.events.snapping import scroll_speed_at, snapping_at
from cm3p.events.times import divided, group_time

log = logging.getLogger(__name__)

MAX_SLIDER_POINTS = 100
"""A slider of so many control points, or more, gives no events, as in the original."""
MAX_TRAVELS = 200_000
"""How often all sliders of a map together may be travelled, each with a hit sound, before the map is refused."""
_MAX_REPEATS = 9000  # of one slider, as in the game
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
        self._positioned, self._snapped = beatmap.mode in (OSU, CATCH), options.add_snapping
        self._taiko = beatmap.mode == TAIKO
        self._keys = int(beatmap.circle_size) if beatmap.mode == MANIA else 0
        self._last_position: Point = _CENTRE
        self._ends: dict[int, Point] = {}

    def groups(self) -> list[Group]:
        """Return the events of all objects, sorted by time; at equal times in the order of the file.

        Raises:
            FormatError: An object has a fault, in strict mode.
            LimitExceeded: The sliders are travelled more than :data:`MAX_TRAVELS` times.
        """
        objects = self._beatmap.hit_objects
        if not self._taiko:
            sliders = [item for item in objects if isinstance(item, Slider) and _is_short(item)]
            travels = sum(min(max(slider.repeat, 1), _MAX_REPEATS) for slider in sliders)
            if travels > MAX_TRAVELS:
                raise LimitExceeded(
                    f"the sliders are travelled {travels} times; at most {MAX_TRAVELS} are allowed"
                )
            self._ends = dict(zip(map(id, sliders), self._slider_ends(sliders), strict=True))
        groups: list[Group] = []
        for index, item in enumerate(objects):
            before = self._last_position
            try:
                events = self._events(item)
            except _FAULTS as error:
                message = f"the object at {item.time_ms:g} ms cannot be read: {error}"
                if self._strict:
                    raise FormatError(message) from error
                log.warning("%s; it is left out", message)
                self._last_position = before
                continue
            for group in events:
                group.object_index = index
            groups.extend(events)
        groups.sort(key=attrgetter("time"))
        return groups

    def _slider_ends(self, sliders: list[Slider]) -> list[Point]:
        try:
            return token_ends(sliders)
        except _FAULTS:  # a slider among them has a fault; its own error comes with its events
            return [_own_end(slider) for slider in sliders]

    def _events(self, item: HitObject) -> list[Group]:
        start_us = int(item.time_ms) * 1000
        if isinstance(item, Circle):
            sound = self._sound(start_us, item.hit_sound, item.sample)
            speed = scroll_speed_at(self._timing, start_us) if self._taiko else None
            return [self._group(EventType.CIRCLE, start_us, (item.x, item.y), item.new_combo, sound, speed)]
        if isinstance(item, Slider):
            return self._drumroll(item, start_us) if self._taiko else self._slider(item, start_us)
        if isinstance(item, Spinner):
            return self._denden(item, start_us) if self._taiko else self._spinner(item, start_us)
        if isinstance(item, Hold):
            return self._hold(item, start_us)
        raise ValueError(f"{type(item).__name__} is not a circle, slider, spinner or hold note")

    def _slider(self, item: Slider, start_us: int) -> list[Group]:
        points, options = item.points, self._options
        if not _is_short(item):
            log.info("the slider at %s ms has %d control points; it is left out", item.time_ms, len(points))
            return []
        end_us = start_us + 1000 * self._timing.slider_duration_ms(item, self._beatmap.slider_multiplier)
        repeat = item.repeat
        if not self._strict:
            repeat = min(repeat or 1, _MAX_REPEATS)
        span_us = divided(end_us - start_us, repeat)
        old = options.slider_version == 1
        speed = scroll_speed_at(self._timing, start_us) if options.add_sv else None
        sound = self._edge(item, 0, start_us)
        groups = [
            self._group(EventType.SLIDER_HEAD, start_us, (item.x, item.y), item.new_combo, sound, speed)
        ]
        for index, event in _interior_anchors(item):
            time_us = start_us + divided(index * span_us, len(points) - 1) if old else start_us
            groups.append(self._anchor(event, time_us, points[index]))
        if not old:
            groups.append(self._anchor(EventType.LAST_ANCHOR, start_us, points[-1]))
        body = self._sound(start_us + _BODY_REFERENCE_US, item.hit_sound, item.sample)
        end = self._group(EventType.SLIDER_END, start_us + span_us, points[-1] if old else None, sound=body)
        for index in range(1, repeat):
            _add_sound(end, self._edge(item, index, start_us + index * span_us))
        tail = self._edge(item, -1, end_us)
        groups += (end, self._group(EventType.REPEAT_END, end_us, self._ends[id(item)], sound=tail))
        return groups

    def _spinner(self, item: Spinner, start_us: int) -> list[Group]:
        end_us = int(item.end_time_ms) * 1000
        sound = self._sound(end_us, item.hit_sound, item.sample)
        self._last_position = _CENTRE
        return [
            self._group(EventType.SPINNER, start_us),
            self._group(EventType.SPINNER_END, end_us, sound=sound),
        ]

    def _hold(self, item: Hold, start_us: int) -> list[Group]:
        if self._positioned and self._options.add_distances and self._strict:
            raise ValueError("hold notes have no distance outside osu!mania")
        position, end_us = (item.x, item.y), int(item.end_time_ms) * 1000
        sound = self._sound(start_us, item.hit_sound, item.sample)
        return [
            self._group(EventType.HOLD_NOTE, start_us, position, sound=sound),
            self._group(EventType.HOLD_NOTE_END, end_us, position),
        ]

    def _drumroll(self, item: Slider, start_us: int) -> list[Group]:
        duration_ms = self._timing.slider_duration_ms(item, self._beatmap.slider_multiplier)
        if item.repeat == 0 and self._strict:
            raise ValueError("a slider is travelled 0 times")
        return self._taiko_span(
            EventType.DRUMROLL, EventType.DRUMROLL_END, item, start_us, 1000 * duration_ms
        )

    def _denden(self, item: Spinner, start_us: int) -> list[Group]:
        duration_us = int(item.end_time_ms) * 1000 - start_us
        return self._taiko_span(EventType.DENDEN, EventType.DENDEN_END, item, start_us, duration_us)

    def _taiko_span(
        self, start: EventType, end: EventType, item: Slider | Spinner, start_us: int, duration_us: int
    ) -> list[Group]:
        sound = self._sound(start_us, item.hit_sound, item.sample)
        speed = scroll_speed_at(self._timing, start_us)
        return [
            self._group(start, start_us, sound=sound, scroll_speed=speed),
            self._group(end, start_us + duration_us),
        ]

    def _group(
        self,
        event: EventType,
        time_us: int,
        position: Point | None = None,
        new_combo: bool = False,
        sound: HitSound | None = None,
        scroll_speed: float | None = None,
    ) -> Group:
        snapping = snapping_at(self._timing, time_us, strict=self._strict) if self._snapped else None
        time, combo = group_time(time_us), new_combo and self._positioned
        if sound is None:
            group = Group(event, time, True, snapping, new_combo=combo, scroll_speed=scroll_speed)
        else:
            bits, sample_set, addition, volume = sound
            group = Group(
                event, time, True, snapping, None, None, None, None, combo, [bits], [sample_set], [addition], [volume],
                scroll_speed,
            )  # fmt: skip
        if position is not None:
            self._place(group, position)
        return group

    def _anchor(self, event: EventType, time_us: int, position: Point) -> Group:
        group = Group(event, group_time(time_us))
        self._place(group, position)
        return group

    def _place(self, group: Group, position: Point) -> None:
        x, y = position
        if self._positioned:
            whole = (int(x), int(y))
            # The end of a slider is the only position with a fraction that later distances see.
            place = position if group.event_type is EventType.REPEAT_END else whole
            if self._options.add_distances:
                group.distance = self._distance(place)
            if self._options.add_positions:
                group.x, group.y = whole
            self._last_position = place
        elif self._keys and self._options.mania_columns:
            group.mania_column = 1 + int(min(max(x / _PLAYFIELD_WIDTH * self._keys, 0), self._keys - 1))

    def _distance(self, place: Point) -> int:
        if self._strict and max(abs(place[0]), abs(place[1])) >= _INT64:
            raise ValueError("a position beyond 64 bits has no distance")
        return int(math.dist(place, self._last_position))

    def _edge(self, item: Slider, index: int, time_us: int) -> HitSound | None:
        """Hit sound of an edge: 0 the head, -1 the end."""
        if not self._options.add_hitsounds:
            return None
        sounds, sets = item.edge_sounds, item.edge_sets
        sound = sounds[index] if -len(sounds) <= index < len(sounds) else 0
        sample = sets[index] if -len(sets) <= index < len(sets) else _EDGE_SAMPLE
        return self._sounds.at(time_us, sound, sample)

    def _sound(self, time_us: int, sound: int, sample: str) -> HitSound | None:
        return self._sounds.at(time_us, sound, sample) if self._options.add_hitsounds else None


def _add_sound(group: Group, sound: HitSound | None) -> None:
    if sound is not None:
        bits, sample_set, addition, volume = sound
        group.hitsounds.append(bits)
        group.samplesets.append(sample_set)
        group.additions.append(addition)
        group.volumes.append(volume)


def _interior_anchors(item: Slider) -> Iterator[tuple[int, EventType]]:
    """Control points between the first and the last: their index and kind; a corner of Bezier curves is red."""
    if len(item.points) < 3:
        return
    points = [_whole(point) for point in item.points]
    kinds, joints = _anchor_kinds(item, points)
    for index in range(1, len(points) - 1):
        kind = kinds[index]
        if index in joints:
            yield index, EventType.RED_ANCHOR
        elif kind is not EventType.BEZIER_ANCHOR:
            yield index, kind
        elif points[index] == points[index + 1]:
            yield index, EventType.RED_ANCHOR
        elif points[index] != points[index - 1]:
            yield index, kind


def _anchor_kinds(item: Slider, points: list[Point]) -> tuple[list[EventType], set[int]]:
    """Kind of each control point, and the indices where two typed segments meet."""
    kinds = [_ANCHORS[item.kind]] * len(points)
    stops = [segment.first for segment in item.segments[1:]] + [len(points) - 1]
    for segment, stop in zip(item.segments, stops, strict=False):
        is_bent = segment.kind == "P" and not is_arc(points[segment.first : stop + 1])
        kinds[segment.first : stop] = [_ANCHORS["B" if is_bent else segment.kind]] * (stop - segment.first)
    return kinds, {segment.first for segment in item.segments}


def _own_end(slider: Slider) -> Point:
    try:
        return token_ends([slider])[0]
    except _FAULTS:
        return math.nan, math.nan


def _is_short(item: Slider) -> bool:
    return len(item.points) < MAX_SLIDER_POINTS


def _whole(point: Point) -> Point:
    return int(point[0]), int(point[1])
