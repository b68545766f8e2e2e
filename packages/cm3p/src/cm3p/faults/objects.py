"""Doubtful objects of a map, from the scores of their tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cm3p.beatmap import Beatmap, Circle, Hold, Slider
from cm3p.faults.surprisal import ASPECTS, TokenScores
from cm3p.faults.timestamps import Timestamps
from cm3p.faults.words import expectation, wording
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer

_NEVER = float("-inf")


@dataclass(frozen=True)
class AspectScore:
    """The most surprising token about one aspect of an object.

    Args:
        aspect: Such as ``time`` or ``position``.
        excess: Surprisal beyond what the model expected, in bits.
        bits: Surprisal.
        found: The token, in words.
        expected: The most probable token, in words.
        probability: Of the expected token, 0 to 1.
    """

    aspect: str
    excess: float
    bits: float
    found: str
    expected: str
    probability: float


@dataclass(frozen=True)
class DoubtfulObject:
    """An object, and what is surprising about it.

    Args:
        index: Among the hit objects of the map, from 0.
        timestamp: ``00:12:345 (1) - `` for the editor.
        time_ms: Start.
        kind: ``circle``, ``slider``, ``spinner`` or ``hold note``.
        score: Excess of its most surprising token, in bits.
        total_bits: Surprisal of all its tokens.
        off_grid_ms: Distance from the timing grid.
        aspects: The most surprising one first.
    """

    index: int
    timestamp: str
    time_ms: float
    kind: str
    score: float
    total_bits: float
    off_grid_ms: float
    aspects: list[AspectScore]


def object_scores(scores: TokenScores, count: int, *, of: str = "excess") -> np.ndarray:
    """Return the score of each object of a map: that of its most surprising token.

    Args:
        scores: Of its tokens.
        count: Objects of the map.
        of: ``excess`` or ``bits``.

    Returns:
        (count,) float64; minus infinity for objects that the model does not see, such as sliders of a hundred points.
    """
    found = np.full(count, _NEVER)
    np.maximum.at(found, scores.objects, getattr(scores, of).astype(np.float64))
    return found


def doubtful_objects(
    beatmap: Beatmap, scores: TokenScores, off_grid: np.ndarray, tokenizer: CM3PBeatmapTokenizer, count: int
) -> list[DoubtfulObject]:
    """Return the most surprising objects of a map, the worst first; of equal ones the earlier.

    Args:
        beatmap: The map.
        scores: Of its tokens.
        off_grid: (objects,) as :func:`cm3p.faults.snap.off_grid_ms`.
        tokenizer: Names the tokens.
        count: At most so many.
    """
    of_object = object_scores(scores, len(beatmap.hit_objects))
    order = np.argsort(-of_object, kind="stable")[:count]
    stamps = Timestamps(beatmap)
    return [
        _doubtful(beatmap, scores, int(index), float(off_grid[index]), tokenizer, stamps)
        for index in order
        if of_object[index] > _NEVER
    ]


def _doubtful(
    beatmap: Beatmap,
    scores: TokenScores,
    index: int,
    off_grid: float,
    tokenizer: CM3PBeatmapTokenizer,
    stamps: Timestamps,
) -> DoubtfulObject:
    rows = np.flatnonzero(scores.objects == index)
    best: dict[int, int] = {}
    for row in rows[np.argsort(-scores.excess[rows], kind="stable")]:
        best.setdefault(int(scores.aspects[row]), int(row))
    item = beatmap.hit_objects[index]
    return DoubtfulObject(
        index=index,
        timestamp=stamps.of([index]),
        time_ms=item.time_ms,
        kind=_kind(item),
        score=float(scores.excess[rows].max()),
        total_bits=float(scores.bits[rows].sum()),
        off_grid_ms=off_grid,
        aspects=[_aspect(scores, row, tokenizer) for row in best.values()],
    )


def _aspect(scores: TokenScores, row: int, tokenizer: CM3PBeatmapTokenizer) -> AspectScore:
    aspect = ASPECTS[scores.aspects[row]]
    found, expected = (
        tokenizer.convert_ids_to_tokens(int(each)) for each in (scores.ids[row], scores.expected[row])
    )
    return AspectScore(
        aspect=str(aspect),
        excess=float(scores.excess[row]),
        bits=float(scores.bits[row]),
        found=wording(found, aspect),
        expected=expectation(found, expected, aspect),
        probability=float(scores.probability[row]),
    )


def _kind(item: Any) -> str:
    if isinstance(item, Circle):
        return "circle"
    if isinstance(item, Slider):
        return "slider"
    return "hold note" if isinstance(item, Hold) else "spinner"
