"""Maps for the benchmarks: as many objects, curves and timing points as a dense ranked map has."""

from __future__ import annotations

import random

LENGTH_S = 253.0
OBJECTS = 1378
_POINTS_PER_OBJECT = 0.4
_BEAT_MS = 333.333333333333
_CURVES = ("L",) * 54 + ("P",) * 21 + ("B",) * 25
_CONTROL_POINTS = (4,) * 43 + (5,) * 5 + (6,) * 40 + (7,) * 7 + (8,) * 4 + (12,)


def generated_map(seed: int, objects: int = OBJECTS, length_s: float = LENGTH_S) -> str:
    """Return a map of the osu! ruleset, some 51 bytes for each object; equal seeds give equal maps.

    Args:
        seed: Of the generator.
        objects: Circles, sliders and spinners.
        length_s: About the time of the last object.
    """
    rng = random.Random(seed)
    step_ms = 1000 * length_s / objects
    lines = [
        "osu file format v14", "", "[General]", "AudioFilename: audio.flac", "StackLeniency: 0.4", "Mode: 0", "",
        "[Metadata]", f"Title:Generated {seed}", "Artist:Nobody", "Creator:benchmark", "Version:Dense",
        f"BeatmapID:{seed + 1}", f"BeatmapSetID:{seed + 1}", "",
        "[Difficulty]", "HPDrainRate:6", "CircleSize:4", "OverallDifficulty:8", "ApproachRate:9",
        "SliderMultiplier:1.4", "SliderTickRate:1", "", "[TimingPoints]",
    ]  # fmt: skip
    for index in range(max(1, round(_POINTS_PER_OBJECT * objects))):
        red = index % 62 == 0
        time_ms = index * step_ms / _POINTS_PER_OBJECT
        beat = _BEAT_MS if red else -round(rng.uniform(60, 140), 2)
        lines.append(
            f"{time_ms:.0f},{beat},4,2,{rng.randrange(3)},{rng.randrange(30, 90)},{int(red)},{int(index % 97 > 60)}"
        )
    lines += ["", "[HitObjects]"]
    x, y = 256, 192
    for index in range(objects):
        x, y = (min(max(at + rng.randint(-90, 90), 0), most) for at, most in ((x, 512), (y, 384)))
        lines.append(_object(rng, index, x, y, round(500 + index * step_ms), step_ms))
    return "\n".join(lines) + "\n"


def _object(rng: random.Random, index: int, x: int, y: int, time_ms: int, step_ms: float) -> str:
    combo = 4 * (index % 6 == 0)
    sound, sample = rng.choice((0, 0, 2, 4, 8)), rng.choice(("0:0:0:0:", "0:0:0:0:", "2:0:0:0:", "0:1:0:45:"))
    kind = rng.random()
    if index % 700 == 699:
        return f"256,192,{time_ms},12,{sound},{time_ms + 4 * round(step_ms)},{sample}"
    if kind > 0.263:
        return f"{x},{y},{time_ms},{1 + combo},{sound},{sample}"
    letter = rng.choice(_CURVES)
    count = {"L": 1, "P": 2}.get(letter) or rng.choice(_CONTROL_POINTS) - 1
    points = [(x, y)]
    for number in range(count):
        points.append(points[-1] if letter == "B" and number == 2 else _beside(rng, points[-1]))
    anchors = "|".join(f"{px}:{py}" for px, py in points[1:])
    repeat = rng.choice((1,) * 12 + (2,))
    sounds, sets = "|".join([str(sound)] * (repeat + 1)), "|".join(["0:0"] * (repeat + 1))
    edges = f",{sounds},{sets},{sample}"
    return f"{x},{y},{time_ms},{2 + combo},{sound},{letter}|{anchors},{repeat},{rng.choice((35, 70, 105, 140))}{edges}"


def _beside(rng: random.Random, point: tuple[int, int]) -> tuple[int, int]:
    return point[0] + rng.randint(-60, 60), point[1] + rng.choice((-40, -20, 20, 40))
