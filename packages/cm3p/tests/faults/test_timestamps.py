"""Editor timestamps, combo numbers, and the snap rule."""

from __future__ import annotations

import pytest

from cm3p.beatmap import Beatmap, Circle, read_beatmap
from cm3p.beatmap.combo import combo_numbers
from cm3p.faults.snap import ALL_DIVISORS, EDITOR_DIVISORS, off_grid_ms
from cm3p.faults.timestamps import Timestamps, clock, editor_link

CIRCLE, COMBO, SPINNER, SPINNER_COMBO = 1, 5, 8, 12


def a_map(
    *objects: tuple[int, int], mode: int = 0, points: str = "0,500,4,2,0,60,1,0", x: int = 100
) -> Beatmap:
    """A map of (time, type) at beats of 500 ms."""
    lines = [
        f"{x},192,{time},{kind},0,{f'{time + 100}' if kind & SPINNER else '0:0:0:0:'}"
        for time, kind in objects
    ]
    return read_beatmap(
        f"osu file format v14\n\n[General]\nMode: {mode}\n\n[Difficulty]\nCircleSize:4\n\n"
        f"[TimingPoints]\n{points}\n\n[HitObjects]\n" + "\n".join(lines) + "\n"
    )


@pytest.mark.parametrize(
    ("kinds", "numbers"),
    [
        ([CIRCLE, CIRCLE, COMBO, CIRCLE], [1, 2, 1, 2]),
        ([COMBO, COMBO, CIRCLE], [1, 1, 2]),
        ([CIRCLE, SPINNER, CIRCLE, CIRCLE], [1, 2, 1, 2]),
        ([CIRCLE, CIRCLE, SPINNER_COMBO, CIRCLE], [1, 2, 3, 1]),
        ([SPINNER, SPINNER, CIRCLE], [1, 1, 1]),
        ([], []),
    ],
)
def test_combo_numbers(kinds: list[int], numbers: list[int]) -> None:
    assert combo_numbers(a_map(*((500 * at, kind) for at, kind in enumerate(kinds)))) == numbers


def test_combo_numbers_count_by_time_and_not_in_the_order_of_the_file() -> None:
    assert combo_numbers(a_map((1000, CIRCLE), (0, COMBO), (1500, COMBO), (500, CIRCLE))) == [3, 1, 1, 2]


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [(0, "00:00:000"), (12345, "00:12:345"), (3_723_004.9, "62:03:004"), (-1500, "-00:01:500")],
)
def test_clock(time_ms: float, text: str) -> None:
    assert clock(time_ms) == text


def test_timestamps() -> None:
    stamps = Timestamps(a_map((12000, COMBO), (12345, CIRCLE), (12500, CIRCLE)))
    assert stamps.of([1]) == "00:12:345 (2) - "
    assert stamps.of([2, 1]) == "00:12:345 (2,3) - "
    assert editor_link(stamps.of([1, 2])) == "osu://edit/00:12:345%20(2,3)"


def test_timestamps_of_mania_have_time_and_column() -> None:
    stamps = Timestamps(a_map((12345, CIRCLE), mode=3, x=320))
    assert stamps.of([0]) == "00:12:345 (12345|2) - "
    assert editor_link(stamps.of([0])) == "osu://edit/00:12:345%20(12345%7C2)"


def test_distance_from_the_grid() -> None:
    # Beats of 500 ms from 10 ms on: quarters, thirds and sixteenths are on the grid, and so is 1/11 of all divisors.
    times = [10, 135, 177, 510 + 31, 510 + 45, 510 + 40, 535 + 510]
    beatmap = a_map(*((time, CIRCLE) for time in times), points="10,500,4,2,0,60,1,0\n20,-50,4,2,0,60,0,0")
    dense = [0, 0, 177 - 10 - 500 / 3, 31 - 31.25, 45 - 500 / 11, 40 - 500 / 13, 35 - 500 / 14]
    editor = [0, 0, 177 - 10 - 500 / 3, 31 - 31.25, 45 - 500 / 12, 40 - 500 / 12, 35 - 31.25]
    assert off_grid_ms(beatmap, ALL_DIVISORS).tolist() == pytest.approx([abs(each) for each in dense])
    assert off_grid_ms(beatmap, EDITOR_DIVISORS).tolist() == pytest.approx([abs(each) for each in editor])


def test_no_grid_is_no_distance() -> None:
    assert off_grid_ms(Beatmap(hit_objects=[Circle(0, 0, 777.0, CIRCLE, 0)])).tolist() == [0]
    assert off_grid_ms(Beatmap()).tolist() == []
