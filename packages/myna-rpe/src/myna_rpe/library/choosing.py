"""Choose tracks by a score: at most one of a group of near-duplicates, and so many of an artist and an album.

Shapes: n tracks with a vector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from myna_rpe.library.library import LibraryTrack

# A random choice is made among so many times the tracks that are asked for.
_POOL = 3


@dataclass(frozen=True)
class Limits:
    """Most tracks of one artist and of one album; ``None``: any number. Tracks without a name are not limited.

    Raises:
        UsageError: A limit is below 1.
    """

    per_artist: int | None = None
    per_album: int | None = None

    def __post_init__(self) -> None:
        for name in ("per_artist", "per_album"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"max_{name} is {value}; allowed: 1 and more")


def choose(
    worth: np.ndarray,
    tracks: Sequence[LibraryTrack],
    count: int,
    *,
    excluded: Iterable[LibraryTrack] = (),
    limits: Limits = Limits(),
    variance: int | None = None,
) -> list[int]:
    """Choose the tracks of the largest worth.

    Args:
        worth: ``(n,)``; ties go to the lower row, and those of minus infinity are not chosen.
        tracks: Of the rows.
        count: How many at most.
        excluded: Tracks that are not chosen, nor their near-duplicates; they do not count for the limits.
        limits: Most of one artist and album.
        variance: Seed: choose at random among the best, those of larger worth more often; the same for equal seeds.

    Returns:
        Rows by falling worth.

    Raises:
        UsageError: ``count`` is negative.
    """
    if count < 0:
        raise UsageError(f"count is {count}; allowed: 0 and more")
    pool = count if variance is None else _POOL * count
    chosen = _limited(worth, tracks, pool, excluded, limits)
    if variance is None or len(chosen) <= count:
        return chosen
    # The largest of logarithm plus Gumbel noise: a draw without replacement, each by its worth.
    noise = np.random.default_rng(variance).gumbel(size=len(chosen))
    drawn = np.argsort(-(np.log(np.maximum(worth[chosen], 1e-9)) + noise), kind="stable")[:count]
    return [chosen[place] for place in sorted(drawn.tolist())]


def _limited(
    worth: np.ndarray,
    tracks: Sequence[LibraryTrack],
    count: int,
    excluded: Iterable[LibraryTrack],
    limits: Limits,
) -> list[int]:
    used = {track.group or track.id for track in excluded}
    artists: Counter[str] = Counter()
    albums: Counter[tuple[str, str]] = Counter()
    chosen: list[int] = []
    for row in np.argsort(-worth, kind="stable").tolist():
        if len(chosen) == count or worth[row] == -np.inf:
            break
        track = tracks[row]
        artist, album = (track.artist or "").casefold(), (track.album or "").casefold()
        full_artist = artist and limits.per_artist is not None and artists[artist] >= limits.per_artist
        full_album = album and limits.per_album is not None and albums[artist, album] >= limits.per_album
        if (track.group or track.id) in used or full_artist or full_album:
            continue
        used.add(track.group or track.id)
        artists[artist] += 1
        albums[artist, album] += 1
        chosen.append(row)
    return chosen
