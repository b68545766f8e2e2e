"""Exact search of an index of melodies, by scans of whole arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from notagen.clamp2.melody.index import NO_RATIO, MelodyIndex, Tune
from notagen.clamp2.melody.lines import pitch_name
from notagen.clamp2.melody.query import MelodyQuery
from pentatonic.errors import UsageError

# More candidates than one in so many notes are sifted by comparing whole arrays, fewer one by one.
_SPARSE = 16


@dataclass(frozen=True)
class MelodyHit:
    """One place where the melody is.

    Args:
        tune: The tune.
        voice: The voice or track.
        bar: Number of the bar in which it starts, from 1.
        notes: The notes found, such as ``("G4", "A4")``; middle C is ``C4``.
        semitones: How much higher its first note is than that of the query; negative: lower.
    """

    tune: Tune
    voice: str
    bar: int
    notes: tuple[str, ...]
    semitones: int


@dataclass(frozen=True)
class MelodyHits:
    """Result of :func:`search`.

    Args:
        count: Number of places where the melody is.
        tune_count: Number of tunes that have it.
        hits: The first of the places, in the order of the index.
    """

    count: int
    tune_count: int
    hits: tuple[MelodyHit, ...]


@dataclass(frozen=True)
class _Condition:
    """That ``values`` has ``wanted`` at ``offset`` notes after the start of the melody."""

    values: NDArray[Any]
    offset: int
    wanted: int


def search(
    index: MelodyIndex, query: MelodyQuery, *, limit: int = 100, each_tune_once: bool = False
) -> MelodyHits:
    """Find all places of a melody.

    Args:
        index: The melodies.
        query: What to look for.
        limit: Most hits that are returned, at least 0; all are counted.
        each_tune_once: Return the first hit of each tune only.

    Returns:
        Counts, and hits in the order of the index. Hits may overlap each other.

    Raises:
        UsageError: ``limit`` is negative.
    """
    if limit < 0:
        raise UsageError(f"limit must be at least 0, got {limit}")
    starts = _places(index, query)
    lines = np.searchsorted(index.line_starts, starts, side="right") - 1
    tunes = index.line_tune[lines]
    different, first = np.unique(tunes, return_index=True)
    shown = np.sort(first) if each_tune_once else np.arange(len(starts))
    hits = tuple(_hit(index, query, int(starts[i]), int(lines[i])) for i in shown[:limit])
    return MelodyHits(len(starts), len(different), hits)


def _places(index: MelodyIndex, query: MelodyQuery) -> NDArray[np.int64]:
    """Return the first notes of all places."""
    room = len(index.pitch) - len(query.notes) + 1
    conditions = _conditions(index, query)
    if room < 1 or conditions is None:
        return np.empty(0, np.int64)
    if query.starts:
        places = index.line_starts[:-1][~index.overlay]
        places = places[places < room]
    else:
        places = _dense(conditions, room)
    for condition in conditions:
        places = places[condition.values[places + condition.offset] == condition.wanted]
    if query.same_key:
        places = places[(index.pitch[places].astype(np.int16) - query.notes[0].pitch) % 12 == 0]
    return places


def _conditions(index: MelodyIndex, query: MelodyQuery) -> list[_Condition] | None:
    """Return the conditions, those that hold most rarely first; None where one cannot be met."""
    notes, spans = query.notes, query.line.spans
    found: list[_Condition] = []
    steps = [after.pitch - before.pitch for before, after in pairwise(notes)]
    if "interval" in query.by:
        found += [_Condition(index.interval, i, step) for i, step in enumerate(steps)]
    elif "contour" in query.by:
        found += [_Condition(index.contour, i, (step > 0) - (step < 0)) for i, step in enumerate(steps)]
    if "rhythm" in query.by:
        last = len(notes) - 2
        for i in range(last + 1):
            values, time = (
                (index.end_ratio, notes[i + 1].length) if i == last else (index.span_ratio, spans[i + 1])
            )
            number = index.ratio_numbers.get(time / spans[i], NO_RATIO)
            if number == NO_RATIO:
                return None
            found.append(_Condition(values, i, number))
    # A sample tells which ones are rare; the result does not depend on it.
    step = max(len(index.pitch) // 50_000, 1)
    return sorted(found, key=lambda each: np.count_nonzero(each.values[::step] == each.wanted))


def _dense(conditions: Sequence[_Condition], room: int) -> NDArray[np.int64]:
    """Return the places at which the first few conditions hold."""
    mask = np.ones(room, np.bool_)
    for condition in conditions:
        mask &= condition.values[condition.offset : condition.offset + room] == condition.wanted
        if np.count_nonzero(mask) * _SPARSE < room:
            break
    return np.flatnonzero(mask)


def _hit(index: MelodyIndex, query: MelodyQuery, start: int, line: int) -> MelodyHit:
    span = slice(start, start + len(query.notes))
    names = map(pitch_name, index.pitch[span].tolist(), index.fifths[span].tolist())
    return MelodyHit(
        index.tunes[index.line_tune[line]],
        index.voices[line],
        int(index.bar[start]),
        tuple(names),
        int(index.pitch[start]) - query.notes[0].pitch,
    )
