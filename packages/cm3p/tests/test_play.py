"""Sliders in play: events, durations, combos; and the game's own numbers for real maps."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cm3p.beatmap import (
    Beatmap,
    Circle,
    GameTiming,
    Hold,
    LimitExceeded,
    Slider,
    SliderPlay,
    Spinner,
    TimingPoint,
    max_combo,
    read_beatmap,
)

RULESETS = ("osu", "taiko", "catch", "mania")


def slider(length: float = 300, repeat: int = 1, time_ms: float = 1000, end: float = 100) -> Slider:
    return Slider(0, 0, time_ms, 2, 0, points=[(0, 0), (end, 0)], repeat=repeat, length=length)


def play(item: Slider, *, points: list[TimingPoint] | None = None, **kwargs: Any) -> SliderPlay:
    beatmap = Beatmap(slider_multiplier=1.0, **kwargs)
    return SliderPlay(item, beatmap, GameTiming(points or [TimingPoint(0, 500)]))


def test_ticks_repeats_and_ends() -> None:
    played = play(slider(length=250, repeat=2))
    assert [(e.kind, e.time_ms, round(e.progress, 3)) for e in played.events()] == [
        ("head", 1000, 0),
        ("tick", 1500, 0.4),
        ("tick", 2000, 0.8),
        ("repeat", 2250, 1),
        ("tick", 2500, 0.8),
        ("tick", 3000, 0.4),
        ("end", 3500, 0),
    ]
    assert (played.end_ms, played.event_count(), played.tick_count()) == (3500, 7, 2)


def test_no_tick_at_an_end_nor_just_before_it() -> None:
    assert play(slider(length=200)).tick_count() == 1
    assert play(slider(length=201.9)).tick_count() == 1
    assert play(slider(length=202.1)).tick_count() == 2


@pytest.mark.parametrize(
    ("version", "speed", "ticks", "end_ms"),
    [(14, -50, 2, 2500), (7, -50, 5, 2500), (14, -1, 0, 1300), (14, 50, 5, 4000)],
)
def test_speed_and_version(version: int, speed: float, ticks: int, end_ms: float) -> None:
    points = [TimingPoint(0, 500), TimingPoint(1000, speed, uninherited=False)]
    played = play(slider(length=600), points=points, version=version)
    assert (played.tick_count(), played.end_ms) == (ticks, end_ms)


def test_game_timing_is_sorted_and_inherited_points_win() -> None:
    points = [
        TimingPoint(100, -50, uninherited=False),
        TimingPoint(100, 400),
        TimingPoint(0, 300),
        TimingPoint(200, 2),
        TimingPoint(300, math.inf),
    ]
    timing = GameTiming(points)
    assert [timing.beat_length_at(time) for time in (-5, 0, 99, 100, 250, 350)] == [300, 300, 300, 400, 6, 6]
    assert [timing.raw_speed_at(time) for time in (-5, 50, 100, 250)] == [1, 300, -50, 2]


def test_a_speed_that_is_not_a_number_has_no_ticks() -> None:
    points = [TimingPoint(0, 500), TimingPoint(1000, math.nan, uninherited=False)]
    assert play(slider(length=600), points=points).tick_count() == 0


def test_hostile_repeats_are_counted_but_not_made() -> None:
    played = play(slider(length=100_000, repeat=9000), slider_tick_rate=4.0)
    assert played.event_count() == 9000 * 4000 + 1
    with pytest.raises(LimitExceeded, match="36000001 events"):
        next(iter(played.events()))


def test_combos() -> None:
    objects = [
        Circle(0, 0, 0, 1, 0),
        slider(length=250, repeat=2),
        Spinner(0, 0, 9, 8, 0, 500),
        Hold(0, 0, 9, 128, 0, 259),
    ]
    combos = []
    for mode in range(4):
        beatmap = Beatmap(
            mode=mode, slider_multiplier=1.0, timing_points=[TimingPoint(0, 500)], hit_objects=objects
        )
        combos.append(max_combo(beatmap))
    assert combos == [1 + 7 + 1 + 1, 1, 1 + 7, 1 + 26 + 5 + 3]


@pytest.fixture(scope="module")
def facts(real_maps: Path) -> dict[str, Any]:
    return json.loads((real_maps / "goldens/oracle_facts.json").read_text(encoding="utf-8"))


def test_counts_combos_and_settings_are_those_of_the_oracles(real_maps: Path, facts: dict[str, Any]) -> None:
    assert len(facts) >= 150
    for name, fact in facts.items():
        beatmap = read_beatmap(real_maps / "osu" / name)
        rosu, fosu = fact["rosu-pp-py"], fact["fosu-lazer"]
        kinds = Counter(type(item) for item in beatmap.hit_objects)
        counts = {
            "circles": kinds[Circle],
            "sliders": kinds[Slider],
            "spinners": kinds[Spinner],
            "holds": kinds[Hold],
        }
        assert counts == {key: rosu[key] for key in counts}, name
        assert (len(beatmap.breaks), beatmap.mode) == (rosu["breaks"], rosu["mode"]), name
        assert max_combo(beatmap) == rosu["rulesets"][RULESETS[beatmap.mode]]["max_combo"], name
        assert (beatmap.version, beatmap.title, beatmap.version_name) == (
            fosu["format_version"], fosu["title"], fosu["version"],
        ), name  # fmt: skip
        settings = {
            "ar": beatmap.approach_rate, "cs": beatmap.circle_size, "hp": beatmap.hp_drain_rate,
            "od": beatmap.overall_difficulty, "slider_multiplier": beatmap.slider_multiplier,
            "slider_tick_rate": beatmap.slider_tick_rate,
        }  # fmt: skip
        assert settings == pytest.approx(fosu["difficulty"], rel=1e-6), name


def expected(real_maps: Path, suite: str) -> list[tuple[Beatmap, list[dict[str, Any]]]]:
    """Maps of one of the game's test suites, and what the game made of their objects."""
    found = []
    for file in sorted((real_maps / "osu/client-tests-expected").glob(f"{suite}.*.json")):
        name = file.name.replace("-expected-conversion.json", ".osu")
        source = real_maps / "osu/client-tests" / name
        if not source.exists():
            source = source.with_name(name.replace(".tests__", "__"))
        text = re.sub(
            r",(\s*[}\]])", r"\1", file.read_text(encoding="utf-8-sig")
        )  # commas at the end of lists
        found.append((read_beatmap(source), json.loads(text)["Mappings"]))
    assert len(found) >= 5
    return found


@pytest.mark.parametrize("suite", RULESETS)
def test_objects_start_when_the_game_starts_them(suite: str, real_maps: Path) -> None:
    for beatmap, mappings in expected(real_maps, suite):
        starts = sorted(int(item.time_ms) for item in beatmap.hit_objects)
        assert starts == sorted(int(mapping["StartTime"]) for mapping in mappings)


def test_sliders_of_the_osu_ruleset_are_where_the_game_has_them(real_maps: Path) -> None:
    sliders = 0
    for beatmap, mappings in expected(real_maps, "osu"):
        timing = GameTiming(beatmap.timing_points)
        for item, mapping in zip(sorted(beatmap.hit_objects, key=lambda o: o.time_ms), mappings, strict=True):
            if not isinstance(item, Slider):
                continue
            played = SliderPlay(item, beatmap, timing)
            events = list(played.events())
            assert len(events) == len(mapping["Objects"])
            for event, nested in zip(events, mapping["Objects"], strict=True):
                time_ms = event.time_ms
                if event.kind == "end":  # the game's "last tick", 36 ms before the end
                    time_ms = max(item.time_ms + (played.end_ms - item.time_ms) / 2, played.end_ms - 36)
                assert 0 <= time_ms - nested["StartTime"] < 1
                x, y = played.path.point_at(event.progress * played.path.length)
                stack = nested.get("StackOffset", {"X": 0.0, "Y": 0.0})
                distance = math.hypot(x - nested["X"] + stack["X"], y - nested["Y"] + stack["Y"])
                # Its positions are those at whole milliseconds, up to one before the event.
                allowed = {"head": 1e-6, "end": 0.2}.get(event.kind, played.velocity)
                assert distance <= allowed, (item.time_ms, event)
            sliders += 1
    assert sliders >= 1282


def test_sliders_of_the_catch_ruleset_have_the_times_of_the_game(real_maps: Path) -> None:
    sliders = 0
    for beatmap, mappings in expected(real_maps, "catch"):
        timing = GameTiming(beatmap.timing_points)
        by_start = Counter(int(mapping["StartTime"]) for mapping in mappings)
        objects = {int(mapping["StartTime"]): mapping["Objects"] for mapping in mappings}
        for item in beatmap.hit_objects:
            start = int(item.time_ms)
            if isinstance(item, Slider) and by_start[start] == 1:
                times = [nested["StartTime"] for nested in objects[start]]
                for event in SliderPlay(item, beatmap, timing).events():
                    assert min(abs(event.time_ms - time) for time in times) < 1.01
                sliders += 1
    assert sliders >= 2900


@pytest.mark.parametrize("suite", ["taiko", "mania"])
def test_what_lasts_ends_when_the_game_ends_it(suite: str, real_maps: Path) -> None:
    compared = 0
    for beatmap, mappings in expected(real_maps, suite):
        timing = GameTiming(beatmap.timing_points)
        by_start = Counter(int(mapping["StartTime"]) for mapping in mappings)
        objects = {int(mapping["StartTime"]): mapping["Objects"] for mapping in mappings}
        for item in beatmap.hit_objects:
            start = int(item.time_ms)
            if by_start[start] != 1 or isinstance(item, Circle):
                continue
            end_ms = (
                SliderPlay(item, beatmap, timing).end_ms if isinstance(item, Slider) else item.end_time_ms
            )
            spans = item.repeat if isinstance(item, Slider) else 1
            # Conversions to mania end at a whole number of whole-millisecond spans.
            allowed_ms = 1.01 if suite == "taiko" or spans == 1 else spans
            assert abs(max(nested["EndTime"] for nested in objects[start]) - end_ms) <= allowed_ms
            compared += 1
    assert compared >= 10
