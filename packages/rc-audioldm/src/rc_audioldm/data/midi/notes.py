"""Notes as an array, and what decides how they are rendered: loudness, polyphony, repeated notes that overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NOTE = np.dtype(
    [
        ("start_s", "<f8"),
        ("duration_s", "<f8"),
        ("pitch", "<i4"),
        ("velocity", "<i4"),
        ("program", "<i4"),
        ("is_drum", "?"),
    ]
)
"""Fields of a note: MIDI pitch, velocity and program."""

SHORTEST_S = 0.010
Notes = NDArray[np.void]


def peak_polyphony(notes: Notes) -> int:
    """Return the largest number of notes that sound at once; where one ends as another begins, they do not."""
    if not len(notes):
        return 0
    times = np.concatenate([notes["start_s"], notes["start_s"] + notes["duration_s"]])
    steps = np.repeat([1, -1], len(notes))
    order = np.lexsort((steps, times))  # ends before starts
    return int(np.cumsum(steps[order]).max())


def without_overlaps(notes: Notes, gap_s: float = SHORTEST_S) -> Notes:
    """End each note a little before the next one of its pitch begins, and drop those that are then too short.

    Args:
        notes: Any order.
        gap_s: Silence before the next note of the same pitch and program, and length of the shortest note.

    Returns:
        Notes sorted by start.
    """
    voices = (notes["start_s"], notes["pitch"], notes["program"], notes["is_drum"])
    ordered = notes[np.lexsort(voices)].copy()
    same = np.ones(max(0, len(ordered) - 1), bool)
    for name in ("pitch", "program", "is_drum"):
        same &= ordered[name][1:] == ordered[name][:-1]
    most = np.full(len(ordered), np.inf)
    most[:-1][same] = (ordered["start_s"][1:] - ordered["start_s"][:-1])[same] - gap_s
    ordered["duration_s"] = np.minimum(ordered["duration_s"], most)
    kept = ordered[ordered["duration_s"] >= gap_s]
    return kept[np.argsort(kept["start_s"], kind="stable")]
