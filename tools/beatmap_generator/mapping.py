"""A piece and a style to a map."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

from beatmap_generator.music import Piece
from beatmap_generator.rulesets.catch import catch_objects
from beatmap_generator.rulesets.mania import mania_objects
from beatmap_generator.rulesets.standard import osu_objects
from beatmap_generator.rulesets.taiko import taiko_objects
from beatmap_generator.style import Style
from beatmap_generator.timing import plan_timing
from cm3p.beatmap import Beatmap, Break, HitObject, Hold, Slider, Spinner, Timing
from cm3p.beatmap.objects import CATCH, MANIA, NEW_COMBO_BIT, OSU, SPINNER_BIT, TAIKO

OBJECTS_OF = {OSU: osu_objects, TAIKO: taiko_objects, CATCH: catch_objects, MANIA: mania_objects}
AUDIO_NAME = "audio.ogg"
_SHORTEST_BREAK_MS = 3000
_BEFORE_BREAK_MS, _AFTER_BREAK_MS = 200, 1000
_LAST_YEAR_OF_FILLED_BREAKS = 2010
_UNSNAPPED_MS = (4, 12)
_SAMPLE_SETS = {1: "Normal", 2: "Soft", 3: "Drum"}


def make_map(piece: Piece, style: Style, seed: str) -> Beatmap:
    """Return a map of a piece in a style; ids and the creator are left to the data set.

    Args:
        piece: The music.
        style: All parameters.
        seed: Decides everything that the style leaves open.
    """
    rng = random.Random(f"map/{seed}")
    plan = plan_timing(piece, style, rng)
    beatmap = Beatmap(
        version=style.version,
        mode=style.mode,
        audio_filename=AUDIO_NAME,
        title=piece.theme.title,
        title_unicode=piece.theme.title,
        artist=piece.theme.artist,
        artist_unicode=piece.theme.artist,
        creator=style.persona.name,
        version_name=style.level_name,
        tags=["generated"],
        hp_drain_rate=style.hp_drain_rate,
        circle_size=style.circle_size,
        overall_difficulty=style.overall_difficulty,
        approach_rate=style.approach_rate,
        slider_multiplier=style.slider_multiplier,
        slider_tick_rate=style.persona.ticks,
        stack_leniency=style.stack_leniency,
        timing_points=plan.points,
        hit_objects=OBJECTS_OF[style.mode](piece, style, plan, rng),
        header=_header(piece, style),
    )
    _add_spinners(beatmap, piece, style)
    if style.unsnapped:
        unsnap(beatmap, style.unsnapped, rng)
    gaps = _gaps(beatmap)
    beatmap.breaks = [Break(start + _BEFORE_BREAK_MS, end - _AFTER_BREAK_MS) for start, end in gaps]
    return beatmap


def ends_of(beatmap: Beatmap) -> list[float]:
    """Return when the objects end, in milliseconds."""
    timing = Timing(beatmap.timing_points)
    return [_end(item, timing, beatmap.slider_multiplier) for item in beatmap.hit_objects]


def unsnap(beatmap: Beatmap, share: float, rng: random.Random) -> None:
    """Move some objects by a few milliseconds. None comes closer than 30 ms to its neighbours (in its column)."""
    lanes: dict[float, list[tuple[HitObject, float]]] = {}
    for item, end in zip(beatmap.hit_objects, ends_of(beatmap), strict=True):
        lanes.setdefault(item.x if beatmap.mode == MANIA else 0, []).append((item, end))
    for lane in lanes.values():
        for (_, before), (item, end), (after, _) in zip(lane, lane[1:], lane[2:], strict=False):
            if rng.random() >= share or isinstance(item, Spinner | Hold):
                continue
            shift = rng.choice((-1, 1)) * rng.randint(*_UNSNAPPED_MS)
            if before + 30 < item.time_ms + shift and end + shift + 30 < after.time_ms:
                item.time_ms += shift
    beatmap.hit_objects.sort(key=lambda item: item.time_ms)


def _header(piece: Piece, style: Style) -> dict[str, dict[str, str]]:
    """Keys that the game writes into every file, and those that a map keeps as text."""
    climax = next((section for section in piece.sections if section.kiai), piece.sections[0])
    return {
        "General": {
            "AudioFilename": AUDIO_NAME,
            "AudioLeadIn": "0",
            "PreviewTime": str(round(piece.time_ms(climax.start))),
            "Countdown": "0",
            "SampleSet": _SAMPLE_SETS[style.persona.sample_set],
            "StackLeniency": f"{style.stack_leniency:g}",
            "Mode": str(style.mode),
        },
        "Metadata": {"Title": piece.theme.title, "Artist": piece.theme.artist, "Version": style.level_name},
        "Difficulty": {
            "HPDrainRate": f"{style.hp_drain_rate:g}",
            "CircleSize": f"{style.circle_size:g}",
            "OverallDifficulty": f"{style.overall_difficulty:g}",
            "ApproachRate": f"{style.approach_rate:g}",
            "SliderMultiplier": f"{style.slider_multiplier:g}",
            "SliderTickRate": f"{style.persona.ticks:g}",
        },
    }


def _end(item: HitObject, timing: Timing, slider_multiplier: float) -> float:
    if isinstance(item, Slider):
        return item.time_ms + timing.slider_duration_ms(item, slider_multiplier)
    return item.end_time_ms if isinstance(item, Spinner | Hold) else item.time_ms


def _gaps(beatmap: Beatmap) -> list[tuple[float, float]]:
    """(end, start) of neighbours between which there is room for a break."""
    ends, starts = ends_of(beatmap), [item.time_ms for item in beatmap.hit_objects]
    gaps = zip(ends, starts[1:], strict=False)
    return [(end, start) for end, start in gaps if start - end >= _SHORTEST_BREAK_MS]


def _add_spinners(beatmap: Beatmap, piece: Piece, style: Style) -> None:
    """Put a spinner at the end, by habit, and in old maps into silent bars; not in mania."""
    if style.mode == MANIA or not beatmap.hit_objects:
        return
    if style.persona.spinner_end:
        beats = 4 if piece.beat_length_at(piece.end) < 450 else 2
        start = piece.time_ms(piece.end - beats) - 1
        kept = [item for item, end in zip(beatmap.hit_objects, ends_of(beatmap), strict=True) if end < start]
        if len(kept) > 1:
            beatmap.hit_objects = kept
            _spin(beatmap, _on_beats(piece, start, piece.time_ms(piece.end)))
    if style.year <= _LAST_YEAR_OF_FILLED_BREAKS:
        for end, start in _gaps(beatmap):
            _spin(beatmap, _on_beats(piece, end, start))
    beatmap.hit_objects.sort(key=lambda item: item.time_ms)


def _on_beats(piece: Piece, start_ms: float, end_ms: float) -> Sequence[float]:
    """Times of the beats between two times, one beat away from both."""
    times = [float(round(piece.time_ms(beat))) for beat in range(int(piece.end) + 1)]
    within = [b for a, b in pairwise(times) if a >= start_ms - 1 and b <= end_ms + 1]
    return within[:-1]


def _spin(beatmap: Beatmap, beats: Sequence[float]) -> None:
    if len(beats) >= 2 and beats[-1] - beats[0] >= 700:
        kind = SPINNER_BIT | NEW_COMBO_BIT
        beatmap.hit_objects.append(Spinner(256.0, 192.0, beats[0], kind, 0, end_time_ms=beats[-1]))
