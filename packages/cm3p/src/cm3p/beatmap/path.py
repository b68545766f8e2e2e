"""The path of a slider as the game plays it: measured by arc length, cut or extended to the slider's length.

This is the true path. The tokens of the model take another end: :mod:`cm3p.beatmap.token_end`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate, pairwise

from cm3p.beatmap import flatten
from cm3p.beatmap.errors import LimitExceeded
from cm3p.beatmap.objects import Point, Segment, Slider

_FARTHEST_PLAYED = 131_072  # a slider with a coordinate or length beyond it is refused by the game
_MOST_VERTICES = 1_000_000
_FIRST_OF_LAZER = 128  # first file version of the current client


class SliderPath:
    """The path that the ball of a slider travels once.

    Args:
        slider: The slider. Where its length is 0 or negative, the curve's own length counts, as in the game.
        version: Of its file. Before 128, equal neighbours do not divide a catmull curve.

    Attributes:
        vertices: Its polyline, as complex numbers in osu! pixels.
        length: Its length: the slider's, or less where the game does not extend the curve.

    Raises:
        LimitExceeded: The curve asks for too much work, or goes where the game plays none.
    """

    def __init__(self, slider: Slider, version: int = 14) -> None:
        self.vertices = _polyline(slider, version)
        self._reached = list(accumulate((abs(b - a) for a, b in pairwise(self.vertices)), initial=0.0))
        if slider.length > 0:
            self._fit(slider.length)
        self.length = self._reached[-1]

    def point_at(self, distance: float) -> Point:
        """Return the point at a distance from the head, which is clipped to the path."""
        distance = min(max(distance, 0.0), self.length)
        index = max(1, bisect_left(self._reached, distance))
        if index >= len(self.vertices):
            return self.vertices[-1].real, self.vertices[-1].imag
        start, end = self.vertices[index - 1], self.vertices[index]
        step = self._reached[index] - self._reached[index - 1]
        at = start if step == 0 else start + (end - start) * ((distance - self._reached[index - 1]) / step)
        return at.real, at.imag

    @property
    def end(self) -> Point:
        """The end of one travel."""
        return self.vertices[-1].real, self.vertices[-1].imag

    def _fit(self, length: float) -> None:
        """Cut the polyline at a length, or extend its last piece to it."""
        whole = self._reached[-1]
        if whole == length or (whole < length and self.vertices[-1:] == self.vertices[-2:-1]):
            return  # the game does not extend a polyline whose last two points are equal
        keep = len(self.vertices) - 1  # the vertex that moves
        while keep > 1 and self._reached[keep - 1] >= length:
            keep -= 1
        if keep < 1:
            return
        del self.vertices[keep + 1 :], self._reached[keep:]
        start, step = self.vertices[keep - 1], self.vertices[keep] - self.vertices[keep - 1]
        if step:
            self.vertices[keep] = start + step / abs(step) * (length - self._reached[keep - 1])
        self._reached.append(length)


def natural_length(slider: Slider, version: int = 14) -> float:
    """Return the length of a slider's curve, neither cut nor extended.

    Raises:
        LimitExceeded: The curve asks for too much work.
    """
    return math.fsum(abs(b - a) for a, b in pairwise(_polyline(slider, version)))


def _polyline(slider: Slider, version: int) -> list[complex]:
    segments = slider.segments or [Segment(slider.curve, 0, 0)]
    points = [complex(*point) for point in slider.points]
    if max(abs(coordinate) for point in slider.points for coordinate in point) > _FARTHEST_PLAYED:
        raise LimitExceeded(f"a control point is farther than the {_FARTHEST_PLAYED} px that the game plays")
    vertices: list[complex] = []
    for index, segment in enumerate(segments):
        is_last = index == len(segments) - 1
        end = len(points) if is_last else segments[index + 1].first + 1
        for piece in _pieces(segment.kind, points[segment.first : end], is_last, version):
            part = _flattened(segment, piece)
            vertices += part[1:] if vertices and part[0] == vertices[-1] else part
            if len(vertices) > _MOST_VERTICES:
                raise LimitExceeded(f"the path of a slider needs more than {_MOST_VERTICES} vertices")
    return vertices


def _pieces(kind: str, points: list[complex], is_last: bool, version: int) -> Iterator[list[complex]]:
    """Divide the points of one segment where neighbours are equal, except at its end."""
    start = 0
    for index in range(1, len(points) - (1 if is_last else 2)):
        if points[index] == points[index - 1] and (kind != "C" or index == 1 or version >= _FIRST_OF_LAZER):
            yield points[start:index]
            start = index
    yield points[start:]


def _flattened(segment: Segment, points: list[complex]) -> list[complex]:
    if segment.kind == "C":
        return flatten.catmull(points)
    if segment.kind == "L":
        return flatten.linear(points)
    if segment.kind == "P":
        return flatten.arc(points)
    return flatten.b_spline(points, segment.degree) if segment.degree else flatten.bezier(points)
