"""Where a slider ends for the tokens.

This is not where the game ends it: Bezier curves are evaluated at a ratio of their parameter, arcs are never extended,
and catmull curves end at their last control point. The order of arithmetic matters, because the result is truncated to
integers and most ends lie on one. For the game's path see :mod:`cm3p.beatmap.path`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np

from cm3p.beatmap.errors import LimitExceeded
from cm3p.beatmap.objects import FARTHEST, Point, Slider
from cm3p.beatmap.path import SliderPath

_SAMPLES = 50
_MOST_POINTS = (
    1000  # binomials of more do not fit in a float; the tokens leave out sliders of 100 points anyway
)
_PIECES_AT_ONCE = 4096
_COLLINEAR = 1e-8

Pieces = list[list[Point]]


def truncated(points: Iterable[Point]) -> list[Point]:
    """Return points with their fractions cut off, as the tokens see them."""
    return [(float(int(x)), float(int(y))) for x, y in points]


def token_end(slider: Slider) -> Point:
    """Return the end of one slider; see :func:`token_ends`."""
    return token_ends([slider])[0]


def token_ends(sliders: Sequence[Slider]) -> list[Point]:
    """Return the ends of many sliders, of which the groups of tokens take the integer part.

    Args:
        sliders: Sliders; one call for all those of a map is much faster than one for each.

    Returns:
        One end for each slider. A slider of several typed segments, or with a B-spline, ends where its true path
        ends. One of more than 1000 control points, for which the arithmetic has no finite numbers, ends at the last
        of them, and so does one that goes too far.
    """
    ends: list[Point] = [(0.0, 0.0)] * len(sliders)
    pieces: dict[int, Pieces] = {}
    for index, end in _true_ends(sliders):
        ends[index] = end
    for index, slider in enumerate(sliders):
        if slider.segments:
            continue
        points = truncated(slider.points)
        if len(points) > _MOST_POINTS or slider.kind == "C":
            ends[index] = points[-1]
        elif slider.kind == "P":
            ends[index] = _arc_end(points, slider.length)
        elif slider.kind == "L":
            pieces[index] = [points[i : i + 2] for i in range(max(1, len(points) - 1))]
        else:
            pieces[index] = split_at_repeats(points)
    lengths = _piece_lengths(pieces)
    for index, parts in pieces.items():
        ends[index] = _end_of_pieces(parts, lengths[index], sliders[index].length)
    return ends


def _true_ends(sliders: Sequence[Slider]) -> Iterator[tuple[int, Point]]:
    """Yield the ends of the sliders that have several typed segments or a B-spline, with their indices."""
    indices = [index for index, slider in enumerate(sliders) if slider.segments]
    paths = SliderPath.of_many([sliders[index] for index in indices])
    for index, path in zip(indices, paths, strict=True):
        yield index, sliders[index].points[-1] if isinstance(path, LimitExceeded) else path.end


def is_arc(points: Sequence[Point]) -> bool:
    """Tell whether points define an arc: there are three, and they are not on a line."""
    if len(points) != 3:
        return False
    weights = _circle_weights(points)
    return weights is not None


def split_at_repeats(points: Sequence[Point]) -> Pieces:
    """Split control points between equal neighbours."""
    pieces, start = [], 0
    for index in range(1, len(points)):
        if points[index] == points[index - 1]:
            pieces.append(list(points[start:index]))
            start = index
    return [*pieces, list(points[start:])]


def _circle_weights(points: Sequence[Point]) -> tuple[float, float, float] | None:
    """Weights of three points in the centre of their circle; None for points on a line."""
    (ax, ay), (bx, by), (cx, cy) = points
    a2 = (bx - cx) * (bx - cx) + (by - cy) * (by - cy)
    b2 = (ax - cx) * (ax - cx) + (ay - cy) * (ay - cy)
    c2 = (ax - bx) * (ax - bx) + (ay - by) * (ay - by)
    if min(a2, b2, c2) <= _COLLINEAR:
        return None
    s, t, u = a2 * (b2 + c2 - a2), b2 * (a2 + c2 - b2), c2 * (a2 + b2 - c2)
    return None if abs(s + t + u) <= _COLLINEAR else (s, t, u)


def _arc_end(points: Sequence[Point], length: float) -> Point:
    weights = _circle_weights(points)
    if weights is None:  # a slider that was not read but made, with a wrong kind
        return points[-1]
    (ax, ay), (bx, by), (cx, cy) = points
    s, t, u = weights
    total = s + t + u
    centre_x, centre_y = (s * ax + t * bx + u * cx) / total, (s * ay + t * by + u * cy) / total
    dx, dy = ax - centre_x, ay - centre_y
    radius = math.sqrt(dx * dx + dy * dy)
    start, end = float(np.arctan2(dy, dx)), float(np.arctan2(cy - centre_y, cx - centre_x))
    if end < start:
        end += 2 * math.pi
    angle = end - start
    if (cy - ay) * (bx - ax) - (cx - ax) * (by - ay) < 0:
        angle = -(2 * math.pi - angle)
    arc = abs(angle * radius)
    if arc > length:
        angle *= length / arc
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * dx - sin * dy + centre_x, sin * dx + cos * dy + centre_y


@cache
def _bernstein(count: int) -> np.ndarray:
    """Bernstein polynomials of ``count`` points at the samples, (count, 50)."""
    t = np.linspace(0, 1, _SAMPLES)
    degree = count - 1
    return np.stack([math.comb(degree, i) * t**i * (1 - t) ** (degree - i) for i in range(count)])


def _piece_lengths(pieces: dict[int, Pieces]) -> dict[int, list[float]]:
    """Approximate lengths of all pieces, those of equally many points together."""
    lengths = {index: [0.0] * len(parts) for index, parts in pieces.items()}
    by_count: defaultdict[int, list[tuple[int, int, list[Point]]]] = defaultdict(list)
    for index, parts in pieces.items():
        for number, piece in enumerate(parts):
            if len(piece) > 1:
                by_count[len(piece)].append((index, number, piece))
    for count, group in by_count.items():
        for start in range(0, len(group), _PIECES_AT_ONCE):
            block = group[start : start + _PIECES_AT_ONCE]
            sums = _sampled_lengths(np.array([piece for _, _, piece in block]), _bernstein(count))
            for (index, number, _), length in zip(block, sums, strict=True):
                lengths[index][number] = length
    return lengths


def _sampled_lengths(points: np.ndarray, basis: np.ndarray) -> list[float]:
    """Lengths of pieces (pieces, count, 2) of equally many points, by 49 chords."""
    samples = np.zeros((len(points), 2, _SAMPLES))
    for i in range(points.shape[1]):
        samples += points[:, i, :, None] * basis[i]
    steps = np.diff(samples)
    # Summed by numpy along the last axis: in pairs, which the goldens need.
    return np.sum(np.sqrt(steps[:, 0] * steps[:, 0] + steps[:, 1] * steps[:, 1]), axis=-1).tolist()


def _end_of_pieces(pieces: Pieces, lengths: list[float], length: float) -> Point:
    last = len(pieces) - 1
    total = 0.0
    sums = [total := total + piece for piece in lengths]
    required = max(0.0, lengths[last] - (total - length))
    at = last
    if last and total > 0:
        # The first piece that completes the path; pieces of no length may follow it.
        at = next((i for i, reached in enumerate(sums[:-1]) if reached / total >= 1), last)
    if at != last:
        required = lengths[at]
    piece = pieces[at]
    if len(piece) == 1 or lengths[at] == 0:
        return piece[-1]
    try:
        x, y = _bezier_point(piece, required / lengths[at])
    except OverflowError:
        return piece[-1]
    return (x, y) if abs(x) + abs(y) < FARTHEST else piece[-1]


def _bezier_point(points: Sequence[Point], t: float) -> Point:
    degree, rest = len(points) - 1, 1 - t
    x = y = 0.0
    for i, (px, py) in enumerate(points):
        weight = math.comb(degree, i) * t**i * rest ** (degree - i)
        x += weight * px
        y += weight * py
    return x, y
