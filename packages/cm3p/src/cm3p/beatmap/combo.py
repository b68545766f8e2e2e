"""Combos of a map, from what its file says: the number that the game writes on each object, and the highest combo.

The highest combo is that of the map's own ruleset in the current client. Conversions to other rulesets are not
computed: they need the rulesets' pattern generators.
"""

from __future__ import annotations

from cm3p.beatmap.objects import CATCH, MANIA, TAIKO, Beatmap, Circle, HitObject, Hold, Slider, Spinner
from cm3p.beatmap.play import GameTiming, SliderPlay

_HELD_MS = 100.0  # what is held in mania counts once more for each of these


def combo_numbers(beatmap: Beatmap) -> list[int]:
    """Return the number of each object in its combo, from 1, as the game writes it on circles.

    Objects count in the order of time. The first one starts a combo, and so does the one after a spinner; a spinner
    that is not the first object never does.

    Args:
        beatmap: A map.

    Returns:
        One number for each of ``beatmap.hit_objects``.
    """
    objects = beatmap.hit_objects
    numbers = [0] * len(objects)
    number, starts = 0, True
    for index in sorted(range(len(objects)), key=lambda each: objects[each].time_ms):
        spinner = isinstance(objects[index], Spinner)
        starts = starts or (objects[index].new_combo and not spinner)
        numbers[index] = number = 1 if starts else number + 1
        starts = spinner
    return numbers


def max_combo(beatmap: Beatmap) -> int:
    """Return the highest combo of a map in its own ruleset.

    Args:
        beatmap: A map.

    Raises:
        LimitExceeded: The curve of a slider asks for too much work.
    """
    timing = GameTiming(beatmap.timing_points)
    return sum(_combo_of(item, beatmap, timing) for item in beatmap.hit_objects)


def _combo_of(item: HitObject, beatmap: Beatmap, timing: GameTiming) -> int:
    if beatmap.mode == TAIKO:
        return int(isinstance(item, Circle))  # drum rolls and swells have none
    if beatmap.mode == MANIA:
        return 1 + int(max(0.0, _duration_ms(item, beatmap, timing)) / _HELD_MS)
    if isinstance(item, Slider):
        return SliderPlay(item, beatmap, timing).event_count()
    return int(not (beatmap.mode == CATCH and isinstance(item, Spinner | Hold)))  # bananas have none


def _duration_ms(item: HitObject, beatmap: Beatmap, timing: GameTiming) -> float:
    if isinstance(item, Slider):
        return SliderPlay(item, beatmap, timing).end_ms - item.time_ms
    return item.end_time_ms - item.time_ms if isinstance(item, Spinner | Hold) else 0.0
