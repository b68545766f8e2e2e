"""A way from one track to another through a library.

Shapes: n tracks, O width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from myna_rpe.geometry import transition

if TYPE_CHECKING:
    from myna_rpe.library.library import LibraryTrack

# Tracks near each place of the way that are considered, besides those of the places before.
_CANDIDATES = 8


def find_path(
    vectors: np.ndarray, tracks: Sequence[LibraryTrack], start: int, end: int, count: int
) -> list[int]:
    """Return rows from ``start`` to ``end``, at most ``count`` with both; fewer where the library has no more.

    No two of them are near-duplicates, unless start and end are.

    Args:
        vectors: ``(n, O)`` of norm 1.
        tracks: Of the rows.
        start: A row.
        end: A row.
        count: 2 and more, or 1 where start and end are the same.
    """
    if start == end:
        return [start]
    between = count - 2
    candidates = _candidates(vectors, tracks, start, end, between)
    if not candidates or between == 0:
        return [start, end]
    way = transition(
        vectors[start : start + 1], vectors[end : end + 1], vectors[candidates], min(between, len(candidates))
    )
    return [start, *(candidates[place] for place in way.songs), end]


def _candidates(
    vectors: np.ndarray, tracks: Sequence[LibraryTrack], start: int, end: int, between: int
) -> list[int]:
    """Rows that lie near the places of the way, one of each group of near-duplicates."""
    used = {tracks[row].group or tracks[row].id for row in (start, end)}
    chosen: list[int] = []
    for step in range(between):
        t = (step + 1) / (between + 1)
        target = (1 - t) * vectors[start] + t * vectors[end]
        taken = 0
        for row in np.argsort(((vectors - target) ** 2).sum(axis=1), kind="stable").tolist():
            name = tracks[row].group or tracks[row].id
            if name in used:
                continue
            used.add(name)
            chosen.append(row)
            taken += 1
            if taken == _CANDIDATES:
                break
    return sorted(chosen)
