"""Ends of sliders for the tokens."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from cm3p.beatmap import Segment, Slider, SliderPath, read_beatmap, token_end, token_ends


def slider(kind: str, points: list, length: float) -> Slider:
    return Slider(*points[0], 0, 2, 0, kind, kind, [tuple(map(float, p)) for p in points], 1, length)


@pytest.mark.parametrize("golden", ["parser_malformed", "reader_edge", "parser_snippets"])
def test_ends_are_those_of_the_golden_groups(golden: str, golden_cases) -> None:
    compared = 0
    for case in golden_cases(golden):
        groups = case["result"].get("groups", [])
        wanted = Counter((x, y) for kind, _, _, _, _, x, y, *_ in groups if kind == "repeat_end")
        if not wanted or (None, None) in wanted:
            continue
        beatmap = read_beatmap(case["osu_text"], strict=True)
        sliders = [s for s in beatmap.hit_objects if isinstance(s, Slider) and len(s.points) < 100]
        assert Counter((int(x), int(y)) for x, y in token_ends(sliders)) == wanted, case["name"]
        compared += len(sliders)
    assert compared >= 15


def test_real_sliders(real_maps: Path) -> None:
    cases = json.loads((real_maps / "goldens/slider_ends/cases.json").read_text())["cases"]
    ends = token_ends([slider(case["kind"], case["points"], case["length"]) for case in cases])
    for case, end in zip(cases, ends, strict=True):
        allowed = [case["end"], case.get("end_no_avx512", case["end"])]
        assert [int(end[0]), int(end[1])] in [[int(x), int(y)] for x, y in allowed], case
        assert end == pytest.approx(case["end"], abs=1e-9)


def test_one_end_equals_the_same_among_many() -> None:
    sliders = [
        slider("B", [(0, 0), (50, 90), (100, 0), (100, 0), (140, 30)], 170.25),
        slider("L", [(0, 0), (30, 40), (90, 40)], 97),
        slider("P", [(0, 0), (50, 50), (100, 0)], 120),
        slider("C", [(0, 0), (50, 50), (100, 0)], 10),
        slider("B", [(7, 7)], 10),
    ]
    assert token_ends(sliders) == [token_end(one) for one in sliders]
    assert token_end(sliders[3]) == (100, 0)
    assert token_end(sliders[4]) == (7, 7)


def test_a_bezier_curve_is_extrapolated_and_an_arc_is_not() -> None:
    assert token_end(slider("L", [(0, 0), (10, 0)], 25)) == pytest.approx((25, 0))
    assert token_end(slider("P", [(0, 0), (10, 10), (20, 0)], 1000)) == pytest.approx((20, 0))


def test_fractions_of_control_points_are_cut_off() -> None:
    assert token_end(slider("C", [(0.9, 0.9), (10.7, -3.7)], 25)) == (10, -3)


def test_typed_segments_end_at_the_true_end() -> None:
    typed = slider("L", [(0, 0), (10, 0), (10, 10)], 15)
    typed.segments = [Segment("L", 0, 0), Segment("B", 0, 1)]
    assert token_end(typed) == SliderPath(typed).end == pytest.approx((10, 5))


@pytest.mark.parametrize(
    "hostile",
    [
        slider("B", [(i, i) for i in range(5000)], 10),
        slider("B", [(0, 0), *[(1, 0)] * 1, *[(i % 7, 3) for i in range(990)]], 1e59),
        slider("P", [(0, 0), (1e59, 1e59), (-1e59, 3)], 5),
        slider("L", [(0, 0), (0, 0)], 50),
        Slider(
            0,
            0,
            0,
            2,
            0,
            "L",
            "L",
            [(0, 0), (1e9, 0), (5, 5)],
            1,
            9,
            [Segment("L", 0, 0), Segment("B", 0, 1)],
        ),
    ],
)
def test_hostile_sliders_end_somewhere_finite(hostile: Slider) -> None:
    x, y = token_end(hostile)
    assert abs(int(x)) <= 10**60
    assert abs(int(y)) <= 10**60
