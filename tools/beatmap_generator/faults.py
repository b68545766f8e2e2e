"""Planting faults in maps, with a list of what was planted."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from beatmap_generator.mapping import ends_of
from beatmap_generator.rulesets.mania import column_x
from cm3p.beatmap import Beatmap, Circle, HitObject, Slider
from cm3p.beatmap.objects import CATCH, MANIA, OSU, TAIKO

_UNSNAPPED_MS = (6, 30)
_KEPT_GAP_MS = 15  # to the neighbours of an object that is moved in time
_FARTHEST = 40.0  # how near an object may remain that is moved in space
_APART = 4  # objects between two faults
_TRIES = 200
UNSNAPPED, MISPLACED, SILENT = "unsnapped", "misplaced", "missing hit sound"


@dataclass(frozen=True, slots=True)
class Fault:
    """A planted fault.

    Args:
        kind: ``unsnapped``, ``misplaced`` (another column in mania; the other colour in taiko; elsewhere a position off
            the pattern) or ``missing hit sound``.
        object: Index of the object in the map.
        time_ms: Its time in the file as written.
        change: What was changed.
    """

    kind: str
    object: int
    time_ms: float
    change: str


def plant(beatmap: Beatmap, count: int, rng: random.Random) -> list[Fault]:
    """Plant faults into single objects, the kinds in turn, never two near each other.

    Args:
        beatmap: Changed in place; the order of its objects stays.
        count: How many; fewer if the map has no room for them.
        rng: Where and how.

    Returns:
        What was planted, by time.
    """
    faults: list[Fault] = []
    ends = ends_of(beatmap)
    for number in range(count):
        kind = (UNSNAPPED, MISPLACED, SILENT)[number % 3]
        for _ in range(_TRIES):
            index = rng.randrange(1, max(2, len(beatmap.hit_objects) - 1))
            if any(abs(index - fault.object) <= _APART for fault in faults) or index >= len(ends) - 1:
                continue
            if change := _PLANTERS[kind](beatmap, index, ends, rng):
                faults.append(Fault(kind, index, beatmap.hit_objects[index].time_ms, change))
                break
    return sorted(faults, key=lambda fault: fault.object)


def _unsnap(beatmap: Beatmap, index: int, ends: list[float], rng: random.Random) -> str:
    item = beatmap.hit_objects[index]
    shift = rng.choice((-1, 1)) * rng.randint(*_UNSNAPPED_MS)
    before, after = beatmap.hit_objects[index - 1].time_ms, beatmap.hit_objects[index + 1].time_ms
    if beatmap.mode != MANIA:
        before = ends[index - 1]
    end = item.time_ms if beatmap.mode == MANIA else ends[index]
    if not isinstance(item, Circle | Slider):
        return ""
    if item.time_ms + shift < before + _KEPT_GAP_MS or end + shift > after - _KEPT_GAP_MS:
        return ""
    item.time_ms += shift
    return f"{shift:+d} ms"


def _misplace(beatmap: Beatmap, index: int, ends: list[float], rng: random.Random) -> str:
    item = beatmap.hit_objects[index]
    if not isinstance(item, Circle):
        return ""
    if beatmap.mode == TAIKO:
        item.hit_sound ^= 8 if not item.hit_sound & 2 else 2
        return "other colour"
    old = item.x, item.y
    if beatmap.mode == MANIA:
        keys = int(beatmap.circle_size)
        used = {
            other.x for other, end in zip(beatmap.hit_objects, ends, strict=True) if _near(other, end, item)
        }
        free = [column_x(column, keys) for column in range(keys) if column_x(column, keys) not in used]
        if not free:
            return ""
        item.x = rng.choice(free)
    else:
        item.x = float(rng.randint(10, 502))
        item.y = float(rng.randint(10, 374)) if beatmap.mode == OSU else item.y
        if math.dist(old, (item.x, item.y)) < (3 if beatmap.mode == CATCH else 2) * _FARTHEST:
            item.x, item.y = old
            return ""
    return f"from {old[0]:g},{old[1]:g} to {item.x:g},{item.y:g}"


def _near(other: HitObject, end: float, item: Circle) -> bool:
    return other.time_ms - 150 <= item.time_ms <= end + 150


def _silence(beatmap: Beatmap, index: int, ends: list[float], rng: random.Random) -> str:
    item = beatmap.hit_objects[index]
    if beatmap.mode == TAIKO or not isinstance(item, Circle) or not item.hit_sound:
        return ""
    old, item.hit_sound = item.hit_sound, 0
    return f"hit sound {old} removed"


_PLANTERS = {UNSNAPPED: _unsnap, MISPLACED: _misplace, SILENT: _silence}
