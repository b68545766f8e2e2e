"""Events that come from timing points: beats, kiai, and the scroll speed of osu!mania."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cm3p.beatmap.errors import LimitExceeded
from cm3p.beatmap.objects import Beatmap, Hold
from cm3p.beatmap.timing import Timing, microseconds
from cm3p.events.groups import EventType, Group
from cm3p.events.options import ParserOptions
from cm3p.events.snapping import snapping_at
from cm3p.events.times import group_time

MAX_BEATS = 200_000
"""Beats of a map that are made before it is refused: 18 hours at 180 beats per minute."""
_SHORTEST_BEAT_MS = 10
_CLEARANCE_MS = 10  # beats this close to the next point are left out
_US_PER_S, _S_PER_DAY = 1_000_000, 86_400


class TimingEvents:
    """Events of the timing points of a map.

    Args:
        beatmap: The map.
        timing: Its timing points.
        options: What to make.
        strict: Raise where the original fails, for meters and beat lengths of zero; else they are repaired.
    """

    def __init__(self, beatmap: Beatmap, timing: Timing, options: ParserOptions, *, strict: bool) -> None:
        self._beatmap, self._timing, self._options, self._strict = beatmap, timing, options, strict

    def beats(self, last_time_ms: int) -> list[Group]:
        """Return timing points, measures and beats, point by point in the order of the file.

        Beats go on up to the next point, also after the end of the song. Where they are too many, those after the end
        and before 0 are left out, but for the timing points.

        Args:
            last_time_ms: End of the song.

        Raises:
            LimitExceeded: There are more than :data:`MAX_BEATS` within the song.
            ZeroDivisionError: A beat length or a meter is 0, in strict mode.
        """
        timing = self._timing
        points = [index for index in range(len(timing.points)) if self._has_tempo(index)]
        starts_ms = [timing.offsets_us[index] / 1000 for index in points]
        limits_ms = [start_ms - _CLEARANCE_MS for start_ms in starts_ms[1:]] + [last_time_ms]
        lengths_ms = [timing.points[index].beat_length_ms for index in points]
        earliest_ms = -math.inf
        if _count_beats(starts_ms, limits_ms, lengths_ms) > MAX_BEATS:
            limits_ms, earliest_ms = [min(limit_ms, last_time_ms) for limit_ms in limits_ms], 0.0
            inside_ms = [max(start_ms, earliest_ms) for start_ms in starts_ms]
            if (count := _count_beats(inside_ms, limits_ms, lengths_ms)) > MAX_BEATS:
                raise LimitExceeded(
                    f"the timing points make {count:.0f} beats; at most {MAX_BEATS} are allowed"
                )
        groups: list[Group] = []
        for index, start_ms, limit_ms, length_ms in zip(
            points, starts_ms, limits_ms, lengths_ms, strict=False
        ):
            meter = timing.points[index].meter
            if not self._strict:
                meter = meter or 4
            beat = 0
            while (time_ms := start_ms + beat * length_ms) <= limit_ms:
                if beat == 0 and self._options.add_timing_points:
                    event = EventType.TIMING_POINT
                else:
                    event = EventType.BEAT if beat % meter else EventType.MEASURE
                groups.append(Group(event, group_time(microseconds(time_ms)), True))
                if length_ms <= _SHORTEST_BEAT_MS:
                    break
                beat += 1
                if time_ms < earliest_ms:
                    beat = max(beat, math.ceil((earliest_ms - start_ms) / length_ms))
        return groups

    def _has_tempo(self, index: int) -> bool:
        """Whether a point has beats: a positive beat length, up to two minutes."""
        beat_length_ms = self._timing.points[index].beat_length_ms
        if not beat_length_ms > 0:
            if beat_length_ms == 0 and self._strict:
                raise ZeroDivisionError("a timing point has a beat length of 0")
            return False
        # A beat length of 1e-305 ms has an infinite number of beats per minute.
        return beat_length_ms < 1 or round(60_000 / beat_length_ms) > 0

    def kiai(self) -> Iterator[Group]:
        """Yield the starts and ends of kiai time, in the order of the file."""
        active = False
        for point, offset_us in zip(self._timing.points, self._timing.offsets_us, strict=True):
            if (point.effects != 0) != active:
                active = not active
                yield self._group(EventType.KIAI_ON if active else EventType.KIAI_OFF, offset_us)

    def scroll_speed_changes(self) -> Iterator[Group]:
        """Yield the changes of the scroll speed of osu!mania, in the order of the file.

        Raises:
            ValueError: The map has no objects, in strict mode.
            ZeroDivisionError: A beat length is 0, in strict mode.
        """
        if not self._beatmap.hit_objects:
            if self._strict:
                raise ValueError("a map of osu!mania without objects has no scroll speed")
            return
        timing, offsets = self._timing, self._timing.offsets_us
        normalised = self._options.mania_bpm_normalized_scroll_speed
        median_ms = self._median_beat_length() if normalised else 0.0
        beat_length_ms, speed, previous = 0.0, 1.0, None
        for index, point in enumerate(timing.points):
            if timing.parent_index(index) is None:
                beat_length_ms, speed = point.beat_length_ms, 1.0
            else:
                speed = self._speed(point.beat_length_ms)
            if index + 1 < len(offsets) and offsets[index + 1] <= offsets[index]:
                continue
            value = speed
            if normalised and (beat_length_ms or self._strict):
                value = speed * median_ms / beat_length_ms
            if math.isnan(value) and not self._strict:
                value = 1.0
            if value != previous:
                previous = value
                change = self._group(EventType.SCROLL_SPEED_CHANGE, offsets[index])
                change.scroll_speed = value
                yield change

    def _speed(self, beat_length_ms: float) -> float:
        if not self._strict and (beat_length_ms == 0 or math.isnan(beat_length_ms)):
            return 1.0
        return -100 / beat_length_ms

    def _median_beat_length(self) -> float:
        """The beat length that holds for the longest time, in ms; 0 if none does.

        The original counts whole seconds within a day; ``exact_median_beat_length`` counts as the game does.
        """
        timing = self._timing
        last = self._beatmap.hit_objects[-1]
        last_time = self._median_time(
            microseconds(last.end_time_ms if isinstance(last, Hold) else last.time_ms)
        )
        totals: dict[float, int] = {}
        beat_length_ms = 0.0
        for index in reversed(range(len(timing.points))):
            inherited = timing.parent_index(index) is not None
            if not inherited:
                beat_length_ms = timing.points[index].beat_length_ms
            time = self._median_time(timing.offsets_us[index])
            if beat_length_ms == 0 or time > last_time or (inherited and index > 0):
                continue
            totals[beat_length_ms] = totals.get(beat_length_ms, 0) + int(last_time - (time if index else 0))
            last_time = time
        longest = max(totals.values(), default=0)
        return next((length for length, total in totals.items() if total == longest > 0), 0.0)

    def _median_time(self, time_us: int) -> float:
        if self._options.exact_median_beat_length:
            return time_us / 1000
        return time_us // _US_PER_S % _S_PER_DAY * 1000

    def _group(self, event: EventType, time_us: int) -> Group:
        group = Group(event, group_time(time_us), has_time=True)
        if self._options.add_snapping:
            group.snapping = snapping_at(self._timing, time_us, strict=self._strict)
        return group


def _count_beats(starts_ms: list[float], limits_ms: list[float], lengths_ms: list[float]) -> float:
    """Number of beats of all points, give or take one each."""
    return sum(
        (limit_ms - start_ms) / length_ms
        for start_ms, limit_ms, length_ms in zip(starts_ms, limits_ms, lengths_ms, strict=False)
        if length_ms > _SHORTEST_BEAT_MS and limit_ms > start_ms
    )
