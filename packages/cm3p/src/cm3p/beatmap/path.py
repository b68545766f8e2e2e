"""The path of a slider as the game plays it: measured by arc length, cut or extended to the slider's length.

This is the true path. The tokens of the model take another end: :mod:`cm3p.beatmap.token_end`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np

from cm3p.beatmap import flatten
from cm3p.beatmap.errors import LimitExceeded
from cm3p.beatmap.objects import Point, Segment, Slider

_FARTHEST_PLAYED = 131_072  # a slider with a coordinate or length beyond it is refused by the game
_FIRST_OF_LAZER = 128  # first file version of the current client
_POINTS_AT_ONCE = 4096  # control points of Bezier curves that are flattened together


class _Bezier(NamedTuple):
    """A Bezier curve that is still to be flattened.

    Args:
        points: Control points.
        needed: Length of it that counts.
    """

    points: list[complex]
    needed: float


Part = np.ndarray | _Bezier
"""A part of a path: a polyline, or a curve that becomes one."""


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
        (vertices,) = _polylines([_parts(slider, version, slider.length)])
        self._measure(vertices, slider.length)

    @classmethod
    def of_many(cls, sliders: Sequence[Slider], version: int = 14) -> list[Self | LimitExceeded]:
        """Return the paths of many sliders, which is faster than one by one where they are short.

        Args:
            sliders: The sliders.
            version: Of their file.

        Returns:
            The path of each slider, or the error that making it alone raises.
        """
        found: list[Self | LimitExceeded] = []
        for slider, vertices in zip(sliders, _polylines_of_many(sliders, version), strict=True):
            if isinstance(vertices, LimitExceeded):
                found.append(vertices)
            else:
                path = cls.__new__(cls)
                path._measure(vertices, slider.length)
                found.append(path)
        return found

    def _measure(self, vertices: np.ndarray, length: float) -> None:
        self.vertices, self._reached = vertices, _lengths(vertices)
        if length > 0:
            self._fit(length)
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
    if len(slider.points) == 1:
        return 0.0
    (vertices,) = _polylines([_parts(slider, version, 0)])
    return float(_lengths(vertices)[-1])


def _lengths(vertices: np.ndarray) -> np.ndarray:
    """Distances from the start to all vertices."""
    return np.concatenate([[0.0], np.cumsum(np.abs(np.diff(vertices)))])


def _point(at: complex) -> Point:
    return float(at.real), float(at.imag)


def _polylines_of_many(sliders: Sequence[Slider], version: int) -> list[np.ndarray | LimitExceeded]:
    found: list[np.ndarray | LimitExceeded] = []
    waiting: list[list[Part]] = []  # of the sliders that follow those found
    count = 0
    for number, slider in enumerate(sliders, 1):
        error: LimitExceeded | None = None
        try:
            parts = _parts(slider, version, slider.length)
        except LimitExceeded as reason:
            error = reason
        else:
            waiting.append(parts)
            count += sum(len(part.points) for part in parts if isinstance(part, _Bezier))
        if error or count > _POINTS_AT_ONCE or number == len(sliders):
            found += _polylines_or_errors(waiting)
            waiting, count = [], 0
        if error:
            found.append(error)
    return found


def _polylines_or_errors(parts: list[list[Part]]) -> list[np.ndarray | LimitExceeded]:
    try:
        return [*_polylines(parts)]
    except LimitExceeded as error:
        if len(parts) == 1:
            return [error]
    # One of them asks for too much, or all together do.
    return [found for slider in parts for found in _polylines_or_errors([slider])]


def _parts(slider: Slider, version: int, length: float) -> list[Part]:
    """Return the polylines and Bezier curves that a slider's curve consists of, as far as a length needs them.

    Args:
        slider: The slider.
        version: Of its file.
        length: Length that is needed; all of them if it is not positive.
    """
    if max(abs(coordinate) for point in slider.points for coordinate in point) > _FARTHEST_PLAYED:
        raise LimitExceeded(f"a control point is farther than the {_FARTHEST_PLAYED} px that the game plays")
    # A path that is left out must be too far by more than what sums are rounded by.
    needed = length * (1 + 1e-6) + 1 if length > 0 else math.inf
    parts: list[Part] = []
    for kind, points in _curves(slider, version):
        polyline = _flattened(kind, points)
        parts.append(_Bezier(points, needed) if polyline is None else polyline)
        needed -= abs(points[-1] - points[0])  # no curve is shorter than its chord
        if needed < 0:
            break
    return parts


def _curves(slider: Slider, version: int) -> Iterator[tuple[str, list[complex]]]:
    """Yield the kinds and control points of the curves that a slider's curve consists of."""
    points = [complex(*point) for point in slider.points]
    segments = slider.segments or [Segment(slider.curve, 0, 0)]
    for index, segment in enumerate(segments):
        is_last = index == len(segments) - 1
        end = len(points) if is_last else segments[index + 1].first + 1
        for piece in _pieces(segment.kind, points[segment.first : end], is_last, version):
            if segment.degree:
                yield from ((segment.kind, curve) for curve in flatten.b_spline(piece, segment.degree))
            else:
                yield segment.kind, piece


def _polylines(sliders: Sequence[list[Part]]) -> list[np.ndarray]:
    """Flatten the Bezier curves of all sliders together, and join the parts of each."""
    curves = [part for parts in sliders for part in parts if isinstance(part, _Bezier)]
    flattened = iter(flatten.beziers([curve.points for curve in curves], [curve.needed for curve in curves]))
    return [
        _joined([next(flattened) if isinstance(part, _Bezier) else part for part in parts])
        for parts in sliders
    ]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    if len(parts) == 1:
        return parts[0]
    if (count := sum(map(len, parts))) > flatten.MOST_VERTICES:
        raise LimitExceeded(f"the path of a slider needs {count} vertices")
    # Where one part ends, the next one starts.
    starts = [int(bool(i) and part[0] == parts[i - 1][-1]) for i, part in enumerate(parts)]
    return np.concatenate([part[start:] for part, start in zip(parts, starts, strict=True)])


def _pieces(kind: str, points: list[complex], is_last: bool, version: int) -> Iterator[list[complex]]:
    """Divide the points of one segment where neighbours are equal, except at its end."""
    start = 0
    for index in range(1, len(points) - (1 if is_last else 2)):
        if points[index] == points[index - 1] and (kind != "C" or index == 1 or version >= _FIRST_OF_LAZER):
            yield points[start:index]
            start = index
    yield points[start:]


def _flattened(kind: str, points: list[complex]) -> np.ndarray | None:
    """Return the polyline of a curve; None for one that consists of Bezier curves."""
    if kind == "C":
        return flatten.catmull(points)
    if kind == "L":
        return np.array(points)
    return flatten.arc(points) if kind == "P" else None
