"""Make, fill, extend and join playlists, and say where the tracks of a library lie.

Distances are between vectors of norm 1: 0 for the same sound, up to 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from myna_rpe.geometry import (
    Place,
    choose_at_the_edge,
    choose_inside,
    choose_like,
    hull_scale,
    order,
    places,
    transition,
)
from myna_rpe.library.choosing import Limits, choose
from myna_rpe.library.library import Library, LibraryTrack
from myna_rpe.playlists.songs import vectors_of
from pentatonic.errors import InputError, UsageError

Where = Literal["inside", "edge", "like"]
"""Where new songs lie: nearest to the hull of the playlist, just beyond it, or spread as its songs are."""

# Songs that a random choice and the limits of artists choose from.
_POOL = 4
# Tracks near each place of a way between playlists that are considered.
_NEAR_WAY = 12


@dataclass(frozen=True)
class WayStep:
    """A song on the way between two playlists.

    Attributes:
        track: The track.
        length: Distance from the song before; of the first, from the nearest song of the first playlist.
        offset: How far it lies from what lies between the playlists.
    """

    track: LibraryTrack
    length: float
    offset: float


@dataclass(frozen=True)
class Way:
    """Songs between two playlists.

    Attributes:
        steps: The songs.
        arrival: Distance from the last one to the nearest song of the second playlist.
    """

    steps: list[WayStep]
    arrival: float

    @property
    def lengths(self) -> list[float]:
        """Lengths of all steps, with the arrival."""
        return [*(step.length for step in self.steps), self.arrival]

    @property
    def worst(self) -> int:
        """Number of the longest step, from 0 on; the last one is the arrival."""
        return int(np.argmax(self.lengths))


def more_songs(
    library: Library,
    songs: Sequence[LibraryTrack],
    count: int,
    *,
    where: Where = "inside",
    limits: Limits = Limits(),  # noqa: B008 - frozen
    variance: int | None = None,
    excluded: Iterable[LibraryTrack] = (),
) -> list[LibraryTrack]:
    """Choose tracks of a library that go with some songs; never these, nor near-duplicates.

    Args:
        library: The library.
        songs: One and more, which can be compared.
        count: How many at most.
        where: Where they lie.
        limits: Most of one artist and album.
        variance: Seed of a random choice among the best.
        excluded: Further tracks that are not chosen.

    Raises:
        InputError: There are no songs.
        UsageError: A number is out of its range.
    """
    if not songs:
        raise InputError("there are no songs to go by")
    if count < 0:
        raise UsageError(f"count is {count}; allowed: 0 and more")
    kept = [*songs, *excluded]
    rows = _one_of_each_group(library, kept)
    points, others = vectors_of(library, songs), library.vectors[rows]
    pool = min(len(rows), _POOL * count)
    if where == "like":
        chosen = choose_like(points, others, pool)
    elif where == "edge":
        chosen = choose_at_the_edge(points, others, pool)
    else:
        chosen = choose_inside(points, others, pool)
    worth = np.full(len(library.vectors), -np.inf)
    worth[[rows[place] for place in chosen]] = 1 / np.arange(1, len(chosen) + 1)
    found = choose(worth, library.tracks, count, excluded=kept, limits=limits, variance=variance)
    return [library.tracks[row] for row in found]


def way_between(
    library: Library, first: Sequence[LibraryTrack], second: Sequence[LibraryTrack], count: int
) -> Way:
    """Find songs that lead from one playlist to another; there always is a way, if only the step itself.

    Args:
        library: The library.
        first: Songs of the first playlist.
        second: Songs of the second.
        count: Songs on the way, fewer where the library has no more.

    Raises:
        InputError: A playlist has no songs.
        UsageError: ``count`` is negative.
    """
    if not first or not second:
        raise InputError("a way needs songs at both ends")
    if count < 0:
        raise UsageError(f"steps is {count}; allowed: 0 and more")
    a, b = vectors_of(library, first), vectors_of(library, second)
    rows = _rows_near_way(library, a, b, _one_of_each_group(library, [*first, *second]), count)
    if not rows or not count:
        return Way([], _nearest_distance(a, b))
    found = transition(a, b, library.vectors[rows], min(count, len(rows)))
    tracks = [library.tracks[rows[place]] for place in found.songs]
    vectors = vectors_of(library, tracks)
    lengths = [_nearest_distance(a, vectors[:1]), *found.step_lengths]
    steps = [WayStep(*each) for each in zip(tracks, lengths, found.offsets, strict=True)]
    return Way(steps, _nearest_distance(vectors[-1:], b))


def ordered(library: Library, tracks: Sequence[LibraryTrack], *, first: int | None = None) -> list[int]:
    """Return the places of songs in an order in which each is near the next; see :func:`myna_rpe.geometry.order`."""
    return order(vectors_of(library, tracks), first=first)


def places_of(
    library: Library, songs: Sequence[LibraryTrack], tracks: Sequence[LibraryTrack] | None = None
) -> list[tuple[LibraryTrack, Place]]:
    """Say of tracks whether they lie inside, near or outside a playlist; the nearest first.

    Args:
        library: The library.
        songs: The playlist: one song and more.
        tracks: Which; ``None``: all of the library that can be compared, without the songs and their near-duplicates.

    Raises:
        InputError: There are no songs.
    """
    if not songs:
        raise InputError("the hull of no songs has no places")
    if tracks is None:
        tracks = [library.tracks[row] for row in _one_of_each_group(library, songs)]
    points = vectors_of(library, songs)
    found, _ = places(points, vectors_of(library, tracks), scale=hull_scale(points))
    return sorted(zip(tracks, found, strict=True), key=lambda each: (each[1].distance, each[0].id))


def _one_of_each_group(library: Library, excluded: Iterable[LibraryTrack]) -> list[int]:
    """Rows of the library without some tracks, and with one of each group of near-duplicates."""
    used = {track.group or track.id for track in excluded}
    rows = []
    for row, track in enumerate(library.tracks[: len(library.vectors)]):
        if (name := track.group or track.id) not in used:
            used.add(name)
            rows.append(row)
    return rows


def _rows_near_way(library: Library, a: np.ndarray, b: np.ndarray, rows: list[int], count: int) -> list[int]:
    """The rows nearest to the places of the way from the middle of one playlist to that of the other."""
    chosen: list[int] = []
    left = np.array(rows, dtype=int)
    for step in range(count):
        t = (step + 1) / (count + 1)
        target = (1 - t) * a.mean(axis=0) + t * b.mean(axis=0)
        best = np.argsort(((library.vectors[left] - target) ** 2).sum(axis=1), kind="stable")[:_NEAR_WAY]
        chosen += left[best].tolist()
        left = np.delete(left, best)
    return sorted(chosen)


def _nearest_distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a[:, None] - b[None], axis=2).min())
