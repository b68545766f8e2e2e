"""The path of a slider as the game plays it: measured by arc length, cut or extended to the slider's length.

This is the true path. The tokens of the model take another end: :mod:`cm3p.beatmap.token_end`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cm3p.beatmap import flatten
from cm3p.beatmap.errors import LimitExceeded
from cm3p.beatmap.objects import Point, Segment, Slider

_FARTHEST_PLAYED = 131_072  # a slider with a coordinate or length beyond it is refused by the game
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
        self._reached = _lengths(self.vertices)
        if slider.length > 0:
            self._fit(slider.length)
        self.length = float(self._reached[-1])

    def point_at(self, distance: float) -> Point:
        """Return the point at a distance from the head, which is clipped to the path."""
        distance = min(max(distance, 0.0), self.length)
        index = max(1, int(np.searchsorted(self._reached, distance)))
        if index >= len(self.vertices):
            return self.end
        start, end = self.vertices[index - 1 : index + 1]
        reached, step = self._reached[index - 1], self._reached[index] - self._reached[index - 1]
        return _point(start if step == 0 else start + (end - start) * ((distance - reached) / step))

    @property
    def end(self) -> Point:
        """The end of one travel."""
        return _point(self.vertices[-1])

    def _fit(self, length: float) -> None:
        """Cut the polyline at a length, or extend its last piece to it."""
        whole = self._reached[-1]
        is_stuck = len(self.vertices) > 1 and self.vertices[-1] == self.vertices[-2]
        if len(self.vertices) < 2 or whole == length or (whole < length and is_stuck):
            return  # the game does not extend a polyline whose last two points are equal
        # The vertex that moves: the first that is at or beyond the length, else the last one.
        keep = min(max(1, int(np.searchsorted(self._reached, length))), len(self.vertices) - 1)
        self.vertices, self._reached = self.vertices[: keep + 1], self._reached[: keep + 1]
        start, step = self.vertices[keep - 1], self.vertices[keep] - self.vertices[keep - 1]
        if step:
            self.vertices[keep] = start + step / abs(step) * (length - self._reached[keep - 1])
        self._reached[keep] = length


def natural_length(slider: Slider, version: int = 14) -> float:
    """Return the length of a slider's curve, neither cut nor extended.

    Raises:
        LimitExceeded: The curve asks for too much work.
    """
    return float(_lengths(_polyline(slider, version))[-1])


def _lengths(vertices: np.ndarray) -> np.ndarray:
    """Distances from the start to all vertices."""
    return np.concatenate([[0.0], np.cumsum(np.abs(np.diff(vertices)))])


def _point(at: complex) -> Point:
    return float(at.real), float(at.imag)


def _polyline(slider: Slider, version: int) -> np.ndarray:
    if max(abs(coordinate) for point in slider.points for coordinate in point) > _FARTHEST_PLAYED:
        raise LimitExceeded(f"a control point is farther than the {_FARTHEST_PLAYED} px that the game plays")
    points = [complex(*point) for point in slider.points]
    segments = slider.segments or [Segment(slider.curve, 0, 0)]
    curves: list[flatten.Curve] = []  # Bezier curves, to be flattened together
    parts: list[np.ndarray | None] = []  # None for the next one of those
    for index, segment in enumerate(segments):
        is_last = index == len(segments) - 1
        end = len(points) if is_last else segments[index + 1].first + 1
        for piece in _pieces(segment.kind, points[segment.first : end], is_last, version):
            part = _flattened(segment.kind, piece)
            found = [] if part is not None else _bezier_curves(segment, piece)
            curves += found
            parts += [part] if part is not None else [None] * len(found)
    flattened = iter(flatten.beziers(curves))
    joined = [next(flattened) if part is None else part for part in parts]
    if (count := sum(map(len, joined))) > flatten.MOST_VERTICES:
        raise LimitExceeded(f"the path of a slider needs {count} vertices")
    # Where one part ends, the next one starts.
    starts = [int(bool(i) and part[0] == joined[i - 1][-1]) for i, part in enumerate(joined)]
    return np.concatenate([part[start:] for part, start in zip(joined, starts, strict=True)])


def _pieces(kind: str, points: list[complex], is_last: bool, version: int) -> Iterator[list[complex]]:
    """Divide the points of one segment where neighbours are equal, except at its end."""
    start = 0
    for index in range(1, len(points) - (1 if is_last else 2)):
        if points[index] == points[index - 1] and (kind != "C" or index == 1 or version >= _FIRST_OF_LAZER):
            yield points[start:index]
            start = index
    yield points[start:]


def _bezier_curves(segment: Segment, points: list[complex]) -> list[flatten.Curve]:
    return flatten.b_spline(points, segment.degree) if segment.degree else [points]


def _flattened(kind: str, points: list[complex]) -> np.ndarray | None:
    """Return the polyline of a curve; None for one that consists of Bezier curves."""
    if kind == "C":
        return flatten.catmull(points)
    if kind == "L":
        return np.array(points)
    return flatten.arc(points) if kind == "P" else None
