"""A way through a library from one playlist to another.

Shapes: n songs of A, k songs of B, m songs of the library, d dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from myna_rpe.geometry.between import distances_between
from myna_rpe.geometry.hull import Array, checked_points
from pentatonic.errors import InputError, UsageError

_BEAM = 32


@dataclass(frozen=True)
class Transition:
    """A way from one playlist to another.

    Attributes:
        songs: Places in the library, in order.
        step_lengths: Euclidean length of each step between songs that follow each other.
        offsets: How far each song lies from what lies between the playlists at its place on the way.
    """

    songs: list[int]
    step_lengths: list[float]
    offsets: list[float]

    @property
    def worst_step(self) -> int | None:
        """Number of the longest step, from 0 on; ``None`` with fewer than two songs."""
        return int(np.argmax(self.step_lengths)) if self.step_lengths else None


def transition(
    a: ArrayLike, b: ArrayLike, library: ArrayLike, count: int, *, smoothness: float = 0.5
) -> Transition:
    """Find songs that lead from one playlist to another; there always is such a way.

    The place of song i of ``count`` is ``t = (i + 1) / (count + 1)``; there it should lie near to
    ``(1 - t) conv A + t conv B``, and near to the song before. A beam search over the songs of the library minimises
    the sum of squared offsets plus ``smoothness`` times that of squared steps.

    Args:
        a: ``(n, d)``, n >= 1.
        b: ``(k, d)``, k >= 1.
        library: ``(m, d)``.
        count: Songs on the way, at most m.
        smoothness: Weight of the steps, 0 and more.

    Raises:
        UsageError: ``count`` or ``smoothness`` is out of its range.
        InputError: There are fewer songs than asked for.
    """
    songs = checked_points(library, "library")
    if count < 1 or not smoothness >= 0:
        raise UsageError(f"count must be 1 or more and smoothness 0 or more; got {count} and {smoothness}")
    if count > len(songs):
        raise InputError(f"{count} songs are asked for, and the library has {len(songs)}")
    offsets = np.stack([distances_between(a, b, (i + 1) / (count + 1), songs)[0] for i in range(count)])
    way = _beam_search(offsets, songs, smoothness)
    steps = np.linalg.norm(np.diff(songs[way], axis=0), axis=1)
    return Transition(way, steps.tolist(), [float(offsets[i, place]) for i, place in enumerate(way)])


def _beam_search(offsets: Array, songs: Array, smoothness: float) -> list[int]:
    beam: list[tuple[float, list[int]]] = [(0.0, [])]
    for row in offsets:
        longer = []
        for cost, way in beam:
            total = cost + row**2
            if way:
                total = total + smoothness * ((songs - songs[way[-1]]) ** 2).sum(axis=1)
                total[way] = np.inf
            best = np.argsort(total, kind="stable")[:_BEAM]
            longer += [
                (float(total[place]), [*way, int(place)]) for place in best if np.isfinite(total[place])
            ]
        beam = sorted(longer)[:_BEAM]
    return beam[0][1]
