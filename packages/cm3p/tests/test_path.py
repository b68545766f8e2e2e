"""The true path of sliders: shape, length, cuts and extensions."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterable
from itertools import pairwise

import pytest

from cm3p.beatmap import LimitExceeded, Segment, Slider, SliderPath, flatten, natural_length


def slider(curve: str, points: list, length: float, segments: list[Segment] | None = None) -> Slider:
    return Slider(
        *points[0], 0, 2, 0, curve, curve, [tuple(map(float, p)) for p in points], 1, length, segments or []
    )


def bernstein(points: list[complex], t: float) -> complex:
    n = len(points) - 1
    return sum(math.comb(n, i) * t**i * (1 - t) ** (n - i) * p for i, p in enumerate(points))


def flat_spline(points: list[complex], degree: int) -> list[complex]:
    parts = flatten.beziers([*flatten.b_spline(points, degree)])
    return [vertex for part in parts for vertex in part]


def distance_to(polyline: Iterable[complex], point: complex) -> float:
    """Distance of a point to a polyline."""
    best = math.inf
    for a, b in pairwise(polyline):
        step = b - a
        t = 0.0 if step == 0 else min(1.0, max(0.0, ((point - a) * step.conjugate()).real / abs(step) ** 2))
        best = min(best, abs(point - a - t * step))
    return best


@pytest.mark.parametrize(
    ("length", "end"), [(5, (3, 4)), (10, (6, 8)), (16, (12, 8)), (30, (26, 8)), (0, (16, 8)), (-3, (16, 8))]
)
def test_lines_are_cut_and_extended(length: float, end: tuple[float, float]) -> None:
    path = SliderPath(slider("L", [(0, 0), (6, 8), (16, 8)], length))
    assert path.end == pytest.approx(end)
    assert path.length == (length if length > 0 else 20)


def test_points_on_a_path() -> None:
    path = SliderPath(slider("L", [(0, 0), (10, 0), (10, 10)], 15))
    distances = [
        (-1, (0, 0)),
        (0, (0, 0)),
        (4, (4, 0)),
        (10, (10, 0)),
        (12, (10, 2)),
        (15, (10, 5)),
        (99, (10, 5)),
    ]
    for distance, point in distances:
        assert path.point_at(distance) == pytest.approx(point)


def test_a_path_with_equal_last_points_is_not_extended() -> None:
    path = SliderPath(slider("L", [(0, 0), (10, 0), (10, 0)], 15))
    assert (path.length, path.end) == (10, (10, 0))
    # A Bezier curve with a doubled last point still has a direction at its end.
    assert SliderPath(slider("B", [(0, 0), (10, 0), (10, 0)], 15)).end == pytest.approx((15, 0))


def test_a_point_alone() -> None:
    path = SliderPath(slider("L", [(3, 4)], 50))
    assert (path.end, path.length, path.point_at(7)) == ((3, 4), 0, (3, 4))
    same = SliderPath(slider("B", [(3, 4), (3, 4)], 50))
    assert same.point_at(25) == (3, 4)


@pytest.mark.parametrize("turn", [1, -1])
def test_an_arc(turn: int) -> None:
    quarter = slider("P", [(100, 0), (100 * math.sqrt(0.5), turn * 100 * math.sqrt(0.5)), (0, turn * 100)], 0)
    path = SliderPath(quarter)
    assert path.length == pytest.approx(50 * math.pi, rel=1e-3)
    assert path.end == pytest.approx((0, turn * 100))
    assert all(abs(abs(vertex) - 100) < 1e-9 for vertex in path.vertices)
    x, y = path.point_at(path.length / 2)
    assert math.hypot(x, y) == pytest.approx(100, abs=0.11)
    assert y == pytest.approx(turn * x)


def test_an_arc_of_more_than_half_a_circle() -> None:
    path = SliderPath(slider("P", [(1000, 0), (-1000, 0), (0, -1000)], 0))
    assert path.length == pytest.approx(1500 * math.pi, rel=1e-3)
    assert path.point_at(path.length / 3) == pytest.approx((0, 1000), abs=2)


def test_three_points_on_a_line_are_a_line_and_four_a_bezier_curve() -> None:
    assert SliderPath(slider("P", [(0, 0), (10, 0), (30, 0)], 0)).vertices.tolist() == [0, 10, 30]
    four = [(0, 0), (30, 60), (70, 60), (100, 0)]
    assert (
        SliderPath(slider("P", four, 0)).vertices.tolist()
        == SliderPath(slider("B", four, 0)).vertices.tolist()
    )


@pytest.mark.parametrize("count", [3, 4, 7])
def test_a_bezier_curve_is_close_to_its_polynomial(count: int) -> None:
    points = [complex(50 * i, 120 * (i % 2) + 7 * i * i % 90) for i in range(count)]
    (path,) = flatten.beziers([points])
    assert (path[0], path[-1]) == (points[0], points[-1])
    assert max(distance_to(path, bernstein(points, t / 100)) for t in range(101)) < 0.3
    assert len(path) < 200


def test_repeated_points_divide_a_bezier_curve() -> None:
    divided = SliderPath(slider("B", [(0, 0), (50, 0), (50, 0), (50, 50)], 0))
    assert divided.length == pytest.approx(100)
    assert divided.point_at(50) == (50, 0)


def test_a_catmull_curve_passes_through_its_points() -> None:
    points = [(0, 0), (30, 40), (80, 10), (120, 60)]
    path = SliderPath(slider("C", points, 0))
    for point in points:
        assert distance_to(path.vertices, complex(*point)) < 1e-9
    # Between two points: the cubic with half the difference of their neighbours as tangents.
    p0, p1, p2, p3 = (complex(*point) for point in points)
    m1, m2 = (p2 - p0) / 2, (p3 - p1) / 2
    for t in (0.24, 0.5, 0.82):
        h = (2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t, 3 * t**2 - 2 * t**3, t**3 - t**2)
        assert distance_to(path.vertices, h[0] * p1 + h[1] * m1 + h[2] * p2 + h[3] * m2) < 1e-9


def de_boor(points: list[complex], degree: int, t: float) -> complex:
    """A clamped uniform B-spline by its definition: basis functions of Cox and de Boor."""
    spans = len(points) - degree
    knots = [0] * degree + list(range(spans + 1)) + [spans] * degree

    def basis(i: int, p: int) -> float:
        if p == 0:
            return float(knots[i] <= t < knots[i + 1])
        total = 0.0
        if knots[i + p] > knots[i]:
            total += (t - knots[i]) / (knots[i + p] - knots[i]) * basis(i, p - 1)
        if knots[i + p + 1] > knots[i + 1]:
            total += (knots[i + p + 1] - t) / (knots[i + p + 1] - knots[i + 1]) * basis(i + 1, p - 1)
        return total

    return sum(basis(i, degree) * point for i, point in enumerate(points))


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_a_b_spline_is_close_to_its_definition(degree: int) -> None:
    points = [complex(40 * i, 150 * (i % 3)) for i in range(9)]
    path = flat_spline(points, degree)
    spans = len(points) - degree
    assert (path[0], path[-1]) == (points[0], points[-1])
    assert max(distance_to(path, de_boor(points, degree, spans * k / 200)) for k in range(200)) < 0.3


def test_a_b_spline_of_few_points_is_a_bezier_curve() -> None:
    points = [0j, 30 + 60j, 100 + 0j]
    assert [*flatten.b_spline(points, 5)] == [points]
    assert [*flatten.b_spline(points, 1)] == [points[:2], points[1:]]
    assert flat_spline(points, 2) == flatten.beziers([points])[0].tolist()


def test_curves_flattened_together_equal_those_flattened_alone() -> None:
    curves = [[complex(i * j % 37 * 9, i * 50 % 91) for i in range(2 + j % 4)] for j in range(1, 30)]
    for together, curve in zip(flatten.beziers(curves), curves, strict=True):
        (alone,) = flatten.beziers([curve])
        assert together.tolist() == alone.tolist()


def test_segments_of_different_kinds() -> None:
    points = [(0, 0), (50, 0), (100, 0), (100, 50), (100, 100)]
    mixed = slider("B", points, 0, [Segment("B", 0, 0), Segment("L", 0, 2)])
    path = SliderPath(mixed)
    assert path.length == pytest.approx(200) == natural_length(mixed)
    assert path.point_at(150) == pytest.approx((100, 50))


def test_catmull_curves_are_divided_in_files_of_the_current_client() -> None:
    points = [(0, 0), (60, 60), (120, 0), (120, 0), (180, 60), (240, 0)]
    old, new = (SliderPath(slider("C", points, 0), version) for version in (14, 128))
    assert old.length != pytest.approx(new.length)


@pytest.mark.parametrize(
    ("curve", "points"),
    [
        ("B", [(i % 97 * 1000, i % 89 * 1000) for i in range(3000)]),
        ("B", [(i % 97, i % 89) for i in range(500_000)]),
        ("C", [(i % 97, i % 89) for i in range(30_000)]),
        ("L", [(0, 0), (200_000, 0)]),
    ],
)
def test_paths_that_ask_for_too_much(curve: str, points: list) -> None:
    with pytest.raises(LimitExceeded):
        SliderPath(slider(curve, points, 100))


def test_a_b_spline_that_asks_for_too_much() -> None:
    points = [(i % 97, i % 89) for i in range(500)]
    with pytest.raises(LimitExceeded, match="B-spline"):
        SliderPath(slider("B", points, 100, [Segment("B", 200, 0)]))


@pytest.mark.parametrize(("size", "count"), [(60, 40), (2000, 10), (50_000, 3)])
def test_a_path_that_is_made_for_its_length_equals_the_whole_one_that_is_cut(size: int, count: int) -> None:
    rng = random.Random(size)
    for _ in range(count):
        points, segments = [], []
        for kind, degree in rng.sample([("B", 0), ("B", 3), ("B", 9), ("P", 0), ("L", 0), ("C", 0)], 3):
            segments.append(Segment(kind, degree, max(0, len(points) - 1)))
            for _ in range(3 if kind == "P" else rng.choice((2, 3, 5, 9))):
                points.append((rng.randint(-size, size), rng.randint(-size, size)))
            points.append(points[rng.randrange(len(points))])  # loops, and doubled points
        natural = SliderPath(slider("B", points, 0, segments))
        for share in (0.001, 0.01, 0.3, 0.999, 1.0, 1.001):
            cut, length = copy.deepcopy(natural), share * natural.length
            cut._fit(length)
            path = SliderPath(slider("B", points, length, segments))
            assert path.vertices.tobytes() == cut.vertices.tobytes()
            assert path._reached.tobytes() == cut._reached.tobytes()
