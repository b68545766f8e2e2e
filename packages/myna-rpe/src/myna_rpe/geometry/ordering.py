"""Order songs so that each is near the next: an open way through all of them.

Few songs get the shortest way (Held and Karp, 1962); more get a short one, by nearest neighbours and 2-opt.

Shapes: n songs, d dimensions.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike

from myna_rpe.geometry.hull import Array, checked_points
from pentatonic.errors import UsageError

_FEW = 8
"""Songs up to which the shortest way is searched for."""


def cosine_distances(points: ArrayLike) -> Array:
    """Return 1 minus the cosine of every pair, ``(n, n)``; rows of zeros are at distance 1 from all others."""
    rows = checked_points(points, "points")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    distances = np.clip(1 - unit @ unit.T, 0, 2)
    np.fill_diagonal(distances, 0)
    return distances


def order(points: ArrayLike, *, first: int | None = None, last: int | None = None) -> list[int]:
    """Order songs along a short way.

    Args:
        points: ``(n, d)``.
        first: Song to begin with; ``None``: any.
        last: Song to end with; ``None``: any.

    Returns:
        All n places, in order.

    Raises:
        UsageError: ``first`` or ``last`` is no song, or both are the same.
    """
    distances = cosine_distances(points)
    n = len(distances)
    for name, place in (("first", first), ("last", last)):
        if place is not None and not 0 <= place < n:
            raise UsageError(f"{name} is {place}; allowed: 0 to {n - 1}")
    if first is not None and first == last and n > 1:
        raise UsageError("first and last are the same song")
    if n < 2:
        return list(range(n))
    if n <= _FEW:
        return _shortest(distances, first, last)
    starts = range(n) if first is None else [first]
    ways = (
        _two_opt(_greedy(distances, start, last), distances, first, last) for start in starts if start != last
    )
    return min(ways, key=lambda way: _length(way, distances))


def _shortest(distances: Array, first: int | None, last: int | None) -> list[int]:
    """The shortest way, from the best ways through each set of songs to each of its ends."""
    n = len(distances)
    starts = [place for place in range(n) if place != last] if first is None else [first]
    best = {(1 << start, start): (0.0, [start]) for start in starts}
    for count in range(2, n + 1):
        longer: dict[tuple[int, int], tuple[float, list[int]]] = {}
        for (songs, end), (length, way) in best.items():
            for place in range(n):
                if songs >> place & 1 or (place == last and count < n):
                    continue
                key, total = (songs | 1 << place, place), length + float(distances[end, place])
                if key not in longer or total < longer[key][0]:
                    longer[key] = (total, [*way, place])
        best = longer
    return min(way for way in best.values() if last is None or way[1][-1] == last)[1]


def _greedy(distances: Array, start: int, last: int | None) -> list[int]:
    way, left = [start], set(range(len(distances))) - {start, last}
    while left:
        near = min(left, key=lambda place: (distances[way[-1], place], place))
        way.append(near)
        left.remove(near)
    return way if last is None else [*way, last]


def _two_opt(way: list[int], distances: Array, first: int | None, last: int | None) -> list[int]:
    """Turn stretches round while that makes the way shorter; its fixed ends stay."""
    n = len(way)
    begin, end = int(first is not None), n - int(last is not None)
    improved = True
    while improved:
        improved = False
        for i in range(begin, end - 1):
            for j in range(i + 1, end):
                before = distances[way[i - 1], way[i]] if i else 0.0
                after = distances[way[j], way[j + 1]] if j + 1 < n else 0.0
                turned_before = distances[way[i - 1], way[j]] if i else 0.0
                turned_after = distances[way[i], way[j + 1]] if j + 1 < n else 0.0
                if turned_before + turned_after < before + after - 1e-12:
                    way[i : j + 1] = reversed(way[i : j + 1])
                    improved = True
    return way


def _length(way: list[int], distances: Array) -> float:
    return float(sum(distances[a, b] for a, b in itertools.pairwise(way)))
