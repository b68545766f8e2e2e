"""Maps made to be slow or endless: work grows with the size of the file, and what would be endless is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cm3p.beatmap import (
    LimitExceeded,
    Segment,
    Slider,
    SliderPath,
    flatten,
    max_combo,
    read_beatmap,
    token_ends,
)
from cm3p.beatmap.timing import Timing, microseconds
from cm3p.events.hitsounds import HitSounds
from cm3p.events.objects import MAX_TRAVELS
from cm3p.events.parser import CM3PBeatmapParser
from cm3p.inference.maps import WindowOptions, encode_map
from cm3p.processor import CM3PProcessor
from cm3p.windows import TooManyWindows

MODEL = Path(__file__).parent / "goldens" / "saved_full"
HEADER = (
    "osu file format v14\n[General]\nAudioFilename: a.mp3\nStackLeniency: NaN\n[Editor]\nBookmarks: NaN\n"
    "DistanceSpacing: NaN\n[Metadata]\nTitle:T\nArtist:A\nCreator:C\nVersion:V\n[Difficulty]\nHPDrainRate:NaN\n"
    "CircleSize:4\nOverallDifficulty:5\nSliderMultiplier:1.4\nSliderTickRate:1\n"
)


def osu(points: str, objects: str) -> str:
    return f"{HEADER}[TimingPoints]\n{points}\n[HitObjects]\n{objects}\n"


def anchors(count: int) -> str:
    return "|".join(f"{7 * i % 512}:{11 * i % 384}" for i in range(count))


def contest_map(anchor_count: int = 30_000) -> str:
    """A map as mappers hand them in to contests of the strange: see the tests that use it."""
    points = [
        "-200000001,NaN,4,2,1,60,1,0", "-200000001,300,4,2,1,60,1,0", "0,1E-298,4,2,1,60,1,0", "10,-NaN,4,2,1,60,0,0",
        "500,Infinity,4,2,1,60,1,0", "1000,400,4,2,1,60,1,1", "1500,-1E-298,4,2,1,60,0,0",
        "1151400000,300,4,2,1,60,1,0",
    ]  # fmt: skip
    objects = [
        "256,192,-2147481848,1,0,0:0:0:0:", f"100,100,1000,2,0,B|{anchors(anchor_count)},1,200",
        "10,20,1500,1,2,0:0:0:0:", "256,192,2000,12,0,3000", "50,60,4000,2,0,L|150:60,1,0",
        "1,1,1150000000,1,0,0:0:0:0:",
    ]  # fmt: skip
    return osu("\n".join(points), "\n".join(objects))


@pytest.fixture(scope="module")
def processor() -> CM3PProcessor:
    return CM3PProcessor.from_pretrained(MODEL)


def test_a_contest_map_is_read_with_warnings_and_refused_for_its_windows(processor: CM3PProcessor) -> None:
    beatmap = read_beatmap(contest_map())
    assert [item.time_ms for item in beatmap.hit_objects] == [
        -2147481848, 1000, 1500, 2000, 4000, 1150000000,
    ]  # fmt: skip
    assert any("StackLeniency is not finite" in str(warning) for warning in beatmap.warnings)
    assert any("Bookmarks cannot be read" in str(warning) for warning in beatmap.warnings)
    assert all(math.isfinite(x) and math.isfinite(y) for x, y in token_ends([beatmap.hit_objects[1]]))
    assert max_combo(beatmap) > 0
    with pytest.raises(TooManyWindows, match=r"\d{5,} windows .* at most 1000 are made \(--max-windows\)"):
        encode_map(processor, beatmap, None, WindowOptions(max_windows=1000))


def test_a_contest_map_without_its_end_has_finite_tokens(processor: CM3PProcessor) -> None:
    text = contest_map().replace("1,1,1150000000,1,0,0:0:0:0:\n", "")
    encoded = encode_map(processor, read_beatmap(text), None, WindowOptions(max_windows=10))
    (ids,) = encoded.windows
    tokens = processor.beatmap_tokenizer.convert_ids_to_tokens(ids)
    assert (
        tokens.count("[CIRCLE]") + tokens.count("[CIRCLE_NEW_COMBO]") == 1
    )  # the other one is before the song
    assert not any(word in token for token in tokens for word in ("nan", "NaN", "inf", "[UNK]"))


def test_a_hundred_thousand_objects() -> None:
    lines = (f"{i % 512},{i % 384},{10 * i},1,0,0:0:0:0:" for i in range(100_000))
    beatmap = read_beatmap(osu("0,300,4,2,1,60,1,0", "\n".join(lines)))
    groups = CM3PBeatmapParser(add_timing=False).parse_beatmap(beatmap)
    assert (len(groups), groups[-1].time, max_combo(beatmap)) == (100_000, 999_990, 100_000)


@pytest.mark.parametrize("beat_length", ["1E-298", "1E-320", "0.0000001"])
def test_infinite_tempo_has_one_beat(beat_length: str) -> None:
    beatmap = read_beatmap(osu(f"0,{beat_length},4,2,1,60,1,0", "1,1,100,1,0\n1,1,90000,2,0,L|50:1,1,100"))
    kinds = [str(group.event_type) for group in CM3PBeatmapParser().parse_beatmap(beatmap)]
    assert kinds.count("timing_point") == 1
    assert "beat" not in kinds


@pytest.mark.parametrize("length", ["0", "-5", "1E-300", ""])
@pytest.mark.parametrize("curve", ["L|1:1", "B|1:1|1:1", "P|1:1|1:1", "C|1:1", "B3|1:1|1:1|1:1|1:1", "L"])
def test_sliders_without_length(curve: str, length: str) -> None:
    beatmap = read_beatmap(osu("0,300,4,2,1,60,1,0", f"1,1,100,2,0,{curve},3,{length}\n5,5,900,1,0"))
    groups = CM3PBeatmapParser().parse_beatmap(beatmap)
    assert [group.time for group in groups if group.event_type == "circle"] == [900]
    assert max_combo(beatmap) >= 1


def test_curve_types_without_points_at_the_end_are_left_out() -> None:
    (slider,) = read_beatmap(osu("0,300", "1,1,100,2,0,L|50:1|B|B|P,1,50")).hit_objects
    assert isinstance(slider, Slider)
    assert (slider.curve, slider.points, slider.segments) == ("L", [(1, 1), (50, 1)], [])


def test_sliders_that_are_travelled_too_often_are_refused_together() -> None:
    line = "1,1,{},2,0,L|50:1,9000,50"
    few = osu("0,300", "\n".join(line.format(i) for i in range(MAX_TRAVELS // 9000)))
    many = osu("0,300", "\n".join(line.format(i) for i in range(MAX_TRAVELS // 9000 + 1)))
    parser = CM3PBeatmapParser(add_timing=False)
    assert sum(len(group.hitsounds) for group in parser.parse_beatmap(read_beatmap(few))) > 9000
    with pytest.raises(LimitExceeded, match="travelled 207000 times; at most 200000"):
        parser.parse_beatmap(read_beatmap(many))


# What follows counts steps: twice the input is allowed at most a little more than twice the work.


def counted(
    monkeypatch: pytest.MonkeyPatch, place: Any, name: str, size: Callable[..., int] | None = None
) -> list[int]:
    """Replace a function by one that also notes how much it does: calls, or what ``size`` says of its arguments."""
    original, counts = getattr(place, name), []

    def counting(*arguments: Any, **options: Any) -> Any:
        counts.append(1 if size is None else size(*arguments))
        return original(*arguments, **options)

    monkeypatch.setattr(place, name, counting)
    return counts


def spline(count: int, degree: int) -> Slider:
    points = [(float(7 * i % 512), float(11 * i % 384)) for i in range(count)]
    return Slider(0, 0, 0, 2, 0, f"B{degree}", "B", points, 1, 100.0, [Segment("B", degree, 0)])


def bezier(count: int) -> Slider:
    points = [(float(7 * i % 512), float(11 * i % 384)) for i in range(count)]
    return Slider(0, 0, 0, 2, 0, "B", "B", points, 1, 100.0)


def smooth(count: int) -> np.ndarray:
    turns = np.linspace(0, 3, count)
    return 200 * turns * np.exp(2j * turns)


def test_curves_of_many_points_take_linear_work(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = counted(
        monkeypatch, flatten, "_points_at", lambda points, at: len(at) * math.isqrt(len(points))
    )
    work = []
    for count in (1000, 2000, 4000, 8000):
        weights.clear()
        SliderPath(bezier(count))
        work.append(sum(weights) / count)
    assert 0 < max(work) < 300
    assert work[-1] < 2 * work[0]


def test_curves_of_few_points_are_halved_by_their_length_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = counted(monkeypatch, flatten, "_halves", lambda curves: curves.size)
    for count in (10, 100):
        halves.clear()
        SliderPath(bezier(count))
        assert 0 < sum(halves) < 200 * count


def test_of_far_curves_only_what_a_length_needs_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = counted(monkeypatch, flatten, "_halves", lambda curves: curves.size)
    far = [(0.0, 0.0), (131072.0, -131072.0), (1.0, 90000.0)]
    sliders = [Slider(0, 0, 0, 2, 0, "B", "B", far, 1, 100.0) for _ in range(1000)]
    for path in SliderPath.of_many(sliders):
        assert isinstance(path, SliderPath) and path.length == 100
    assert sum(halves) < 1000 * 3 * 40
    made = counted(monkeypatch, flatten, "_halves", lambda curves: curves.size)
    splines = [(131072.0 * (number % 2), 9.0 * number) for number in range(12_000)]
    SliderPath(Slider(0, 0, 0, 2, 0, "B9", "B", splines, 1, 100.0, [Segment("B", 9, 0)]))
    assert sum(made) < 10_000


@pytest.mark.parametrize("degree", [2, 3, 9, 16])
def test_b_splines_take_linear_work(degree: int) -> None:
    for count in (500, 1000):
        points = [complex(7 * i % 512, 11 * i % 384) for i in range(count)]
        curves = list(flatten.b_spline(points, degree))
        assert (len(curves), {len(curve) for curve in curves}) == (count - degree, {degree + 1})


def test_b_splines_of_a_high_degree_are_refused() -> None:
    with pytest.raises(LimitExceeded, match="degree 17; at most 16"):
        list(flatten.b_spline([complex(i) for i in range(40)], 17))


def test_paths_of_many_sliders_are_flattened_together(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch, flatten, "beziers")
    sliders = [spline(8, 3) for _ in range(500)]
    token_ends(sliders)
    assert len(calls) < 10


def test_paths_of_many_sliders_equal_those_of_each() -> None:
    sliders = [
        bezier(5), spline(9, 3), bezier(400), Slider(1, 1, 0, 2, 0, "L", "L", [(1, 1), (9, 9)], 1, 50.0),
        bezier(30_000), Slider(1, 1, 0, 2, 0, "B", "B", [(1, 1)], 1, 50.0), spline(60, 30), bezier(7),
    ]  # fmt: skip
    together = SliderPath.of_many(sliders)
    for slider, path in zip(sliders, together, strict=True):
        try:
            alone = SliderPath(slider)
        except LimitExceeded as error:
            assert str(error) == str(path)
            continue
        assert isinstance(path, SliderPath)
        assert path.vertices.tolist() == alone.vertices.tolist()
    assert [isinstance(path, LimitExceeded) for path in together].count(True) == 2
    assert SliderPath.of_many([]) == []


@pytest.mark.parametrize("count", [101, 500, 3000])
def test_a_curve_of_many_points_is_close_to_its_polynomial(count: int) -> None:
    points = smooth(count)
    (path,) = flatten.beziers([points])
    assert (path[0], path[-1]) == (points[0], points[-1])
    for t in (0.001, 0.1, 0.37, 0.5, 0.93):
        point = points
        while len(point) > 1:  # de Casteljau
            point = point[:-1] * (1 - t) + point[1:] * t
        steps = np.diff(path)
        along = ((point[0] - path[:-1]) / np.where(steps == 0, 1, steps)).real.clip(0, 1)
        assert np.abs(path[:-1] + along * steps - point[0]).min() < 0.1


def test_timing_points_are_looked_up_by_bisection(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = counted(monkeypatch, Timing, "index_at")
    sounds = counted(monkeypatch, HitSounds, "_read")
    for count in (100, 1000):
        lookups.clear(), sounds.clear()
        points = "\n".join(f"{300 * i},300,4,2,1,60,1,0" for i in range(count))
        objects = "\n".join(f"1,1,{300 * i},1,0,0:0:0:0:" for i in range(count))
        CM3PBeatmapParser(add_snapping=False).parse_beatmap(read_beatmap(osu(points, objects)))
        assert len(lookups) <= 2 * count
        assert len(sounds) == 1


@pytest.mark.parametrize(
    "time_ms", [0.0005, 0.0015, -0.0005, 333.3333333, -200000001.0, 1e15 + 0.125, 5, 8.6e16]
)
def test_microseconds_are_those_of_timedelta(time_ms: float) -> None:
    from datetime import timedelta

    assert microseconds(time_ms) == timedelta(milliseconds=time_ms) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("time_ms", "error"), [(math.nan, ValueError), (math.inf, OverflowError), (1e17, OverflowError)]
)
def test_times_that_are_none(time_ms: float, error: type[Exception]) -> None:
    with pytest.raises(error):
        microseconds(time_ms)
