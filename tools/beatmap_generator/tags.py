"""Tags of a map, from the patterns that it has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from beatmap_generator.hitsounds import CLAP, FINISH, WHISTLE
from beatmap_generator.rulesets.shapes import WIDTH
from cm3p.beatmap import Beatmap, HitObject, Hold, Slider, Timing
from cm3p.beatmap.objects import CATCH, MANIA, OSU, TAIKO

MOST_TAGS = 3


@dataclass(frozen=True, slots=True)
class Tag:
    """A row of the table of tags.

    Args:
        id: Unique.
        name: Group and name, as the game's website has them.
        ruleset_id: Ruleset that it is for.
        description: What a map with it has.
        threshold: A map has it when its measure is as large.
    """

    id: int
    name: str
    ruleset_id: int
    description: str
    threshold: float


# The project's own table: small, every tag is measured in the map, and no name occurs twice.
TAGS = (
    Tag(1, "skillset/streams", OSU, "long runs of objects at the finest snap", 0.25),
    Tag(2, "skillset/jumps", OSU, "objects far apart in a short time", 0.3),
    Tag(3, "skillset/sliders", OSU, "mostly sliders", 0.62),
    Tag(4, "tech/slider speed", OSU, "slider speed changes often", 0.25),
    Tag(5, "aim/sharp angles", OSU, "movement turns back", 0.45),
    Tag(6, "aim/flow", OSU, "movement goes on in wide turns", 0.45),
    Tag(7, "aim/precision", OSU, "small circles", 4.4),
    Tag(8, "style/symmetrical", OSU, "combos mirror each other", 0.3),
    Tag(9, "style/stacks", OSU, "objects on top of each other", 0.12),
    Tag(10, "tap/bursts", OSU, "short runs of objects at the finest snap", 0.12),
    Tag(11, "style/slider art", OSU, "sliders of many control points", 0.3),
    Tag(20, "tap/stamina", TAIKO, "dense throughout", 5.0),
    Tag(21, "style/kats", TAIKO, "more kats than dons", 0.5),
    Tag(22, "style/large notes", TAIKO, "many large notes", 0.06),
    Tag(23, "tech/scroll speed", TAIKO, "scroll speed changes often", 0.25),
    Tag(24, "tech/colour changes", TAIKO, "colours alternate", 0.5),
    Tag(30, "movement/wide", CATCH, "movement across the width", 0.25),
    Tag(31, "movement/dashes", CATCH, "as far as a dash reaches", 0.25),
    Tag(32, "movement/direction changes", CATCH, "movement turns often", 0.6),
    Tag(33, "style/juice streams", CATCH, "mostly sliders", 0.5),
    Tag(40, "style/holds", MANIA, "many hold notes", 0.3),
    Tag(41, "pattern/chords", MANIA, "many notes at once", 0.45),
    Tag(42, "pattern/jacks", MANIA, "columns are hit again at once", 0.12),
    Tag(43, "tech/scroll changes", MANIA, "scroll speed changes often", 0.25),
    Tag(44, "pattern/single notes", MANIA, "one note after the other", 0.85),
)


def tags_of(beatmap: Beatmap) -> list[tuple[int, int]]:
    """Return (tag id, votes) of a map's clearest tags, the clearest first."""
    if len(beatmap.hit_objects) < 2:
        return []
    measures = _MEASURES[beatmap.mode](beatmap)
    clear = sorted(
        ((measures[tag.name] / tag.threshold, tag.id) for tag in TAGS if tag.ruleset_id == beatmap.mode),
        reverse=True,
    )
    return [(tag_id, round(10 * ratio)) for ratio, tag_id in clear if ratio >= 1][:MOST_TAGS]


def _osu(beatmap: Beatmap) -> dict[str, float]:
    objects = beatmap.hit_objects
    pairs = list(pairwise(objects))
    steps = [(b.time_ms - a.time_ms, math.dist((a.x, a.y), (b.x, b.y))) for a, b in pairs]
    fast = [gap_ms < 160 for gap_ms, _ in steps]
    lengths = [len(run) for run in "".join("x" if short else " " for short in fast).split()]
    sliders = [item for item in objects if isinstance(item, Slider)]
    angles = _turns(objects)
    heads = [item.x for item in objects if item.new_combo]
    mirrored = [abs(a + b - WIDTH) < 4 and abs(a - b) > 20 for a, b in pairwise(heads)]
    return {
        "skillset/streams": sum(length for length in lengths if length >= 4) / len(steps),
        "skillset/jumps": _share([gap_ms < 450 and distance > 170 for gap_ms, distance in steps]),
        "skillset/sliders": len(sliders) / len(objects),
        "tech/slider speed": _speed_changes(beatmap),
        "aim/sharp angles": _share([angle > 2.0 for angle in angles]),
        "aim/flow": _share([0.3 < angle < 1.2 for angle in angles]),
        "aim/precision": beatmap.circle_size,
        "style/symmetrical": _share(mirrored),
        "style/stacks": _share([distance < 3 for _, distance in steps]),
        "tap/bursts": sum(length for length in lengths if 2 <= length < 4) / len(steps),
        "style/slider art": _share([len(slider.points) > 3 for slider in sliders]),
    }


def _taiko(beatmap: Beatmap) -> dict[str, float]:
    notes = [item for item in beatmap.hit_objects if not isinstance(item, Slider)]
    kats = [bool(item.hit_sound & (CLAP | WHISTLE)) for item in notes]
    seconds = (beatmap.hit_objects[-1].time_ms - beatmap.hit_objects[0].time_ms) / 1000
    return {
        "tap/stamina": len(beatmap.hit_objects) / seconds,
        "style/kats": _share(kats),
        "style/large notes": _share([bool(item.hit_sound & FINISH) for item in notes]),
        "tech/scroll speed": _speed_changes(beatmap),
        "tech/colour changes": _share([a != b for a, b in pairwise(kats)]),
    }


def _catch(beatmap: Beatmap) -> dict[str, float]:
    objects = beatmap.hit_objects
    steps = [(b.time_ms - a.time_ms, b.x - a.x) for a, b in pairwise(objects)]
    moves = [move for _, move in steps if abs(move) > 8]
    return {
        "movement/wide": _share([abs(move) > 200 for _, move in steps]),
        "movement/dashes": _share([abs(move) > 0.7 * gap_ms for gap_ms, move in steps]),
        "movement/direction changes": _share([a * b < 0 for a, b in pairwise(moves)]),
        "style/juice streams": _share([isinstance(item, Slider) for item in objects]),
    }


def _mania(beatmap: Beatmap) -> dict[str, float]:
    objects = beatmap.hit_objects
    sizes = Counter(item.time_ms for item in objects)
    last: dict[float, int] = {}
    repeated = []
    for index, time_ms in enumerate(sizes):
        for item in (item for item in objects if item.time_ms == time_ms):
            repeated.append(last.get(item.x) == index - 1)
            last[item.x] = index
    return {
        "style/holds": _share([isinstance(item, Hold) for item in objects]),
        "pattern/chords": _share([size > 1 for size in sizes.values()]),
        "pattern/jacks": _share(repeated),
        "tech/scroll changes": _speed_changes(beatmap),
        "pattern/single notes": _share([size == 1 for size in sizes.values()]),
    }


_MEASURES = {OSU: _osu, TAIKO: _taiko, CATCH: _catch, MANIA: _mania}


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 0.0


def _turns(objects: Sequence[HitObject]) -> list[float]:
    """Absolute turns of the movement in radians, where it moves."""
    heads = [complex(item.x, item.y) for item in objects]
    moves = [b - a for a, b in pairwise(heads)]
    moves = [move for move in moves if abs(move) > 30]
    return [abs(math.atan2((a.conjugate() * b).imag, (a.conjugate() * b).real)) for a, b in pairwise(moves)]


def _speed_changes(beatmap: Beatmap) -> float:
    """Share of the bars that have another speed than 1."""
    timing = Timing(beatmap.timing_points)
    first, last = beatmap.hit_objects[0].time_ms, beatmap.hit_objects[-1].time_ms
    point = beatmap.timing_points[0]
    bar_ms = point.beat_length_ms * point.meter
    bars = [first + index * bar_ms for index in range(max(1, int((last - first) / bar_ms)))]
    return _share([timing.velocity_at(timing.index_at(round(1000 * time))) != 1 for time in bars])
