"""Look-ups in timing points."""

from __future__ import annotations

import math
import random
from datetime import timedelta

import pytest

from cm3p.beatmap import Slider, Timing, TimingPoint
from cm3p.beatmap.timing import microseconds


def linear_scan(points: list[TimingPoint], time_ms: float) -> TimingPoint:
    """The rule itself: the last point in file order that has started, else the first."""
    started = [p for p in points if timedelta(milliseconds=p.time_ms) <= timedelta(milliseconds=time_ms)]
    return started[-1] if started else points[0]


@pytest.mark.parametrize("is_sorted", [True, False])
def test_bisection_equals_a_scan(is_sorted: bool) -> None:
    rng = random.Random(0)
    for _ in range(50):
        times = [rng.choice((rng.randint(-50, 50), rng.uniform(-50, 50))) for _ in range(rng.randint(1, 12))]
        points = [TimingPoint(time, 500.0) for time in (sorted(times) if is_sorted else times)]
        timing = Timing(points)
        for time_ms in [*times, -100.0, 100.0, *(rng.uniform(-60, 60) for _ in range(10))]:
            assert timing.point_at(time_ms) is linear_scan(points, time_ms)


def test_parents() -> None:
    points = [
        TimingPoint(0, -50, uninherited=False),  # before any other: counts as uninherited
        TimingPoint(1, -200, uninherited=False),
        TimingPoint(2, 400, uninherited=True),
        TimingPoint(3, -25, uninherited=False),
    ]
    timing = Timing(points)
    assert [timing.parent_of(point) for point in points] == [None, points[0], None, points[2]]
    assert [timing.parent_index(index) for index in range(4)] == [None, 0, None, 2]
    assert [timing.beat_length_at(index) for index in range(4)] == [-50, -50, 400, 400]
    assert [timing.velocity_at(index) for index in range(4)] == [1, 0.5, 1, 4]


@pytest.mark.parametrize(
    ("beat_length_ms", "velocity"),
    [(-1, 10), (-1e9, 0.1), (-math.inf, 0.1), (math.nan, 1), (50, 1), (-80, 1.25)],
)
def test_velocity_is_clipped(beat_length_ms: float, velocity: float) -> None:
    assert (
        Timing([TimingPoint(0, 500), TimingPoint(0, beat_length_ms, uninherited=False)]).velocity_at(1)
        == velocity
    )


@pytest.mark.parametrize(
    ("time_ms", "expected"),
    [(1.0005, 1000), (1.0015, 1002), (-1.0005, -1000), (0.1, 100), (8e15 + 1, 8 * 10**18 + 1000)],
)
def test_whole_microseconds(time_ms: float, expected: int) -> None:
    assert microseconds(time_ms) == expected


def test_slider_durations() -> None:
    timing = Timing([TimingPoint(0, 500), TimingPoint(1000, -50, uninherited=False)])
    slider = Slider(0, 0, 500, 2, 0, repeat=3, length=70)
    assert timing.slider_duration_ms(slider, 1.4) == 750
    slider.time_ms = 1000
    assert timing.slider_duration_ms(slider, 1.4) == 375
    slider.length = 139.9999999999  # the guard against truncation
    assert timing.slider_duration_ms(slider, 1.4) == 750
    slider.repeat = -1
    assert timing.slider_duration_ms(slider, 1.4) == -249


def test_no_points() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Timing([])
