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
_LEAST_DEVIATION = 1.0  # bits: where nothing surprises, small differences mean nothing


@dataclass(frozen=True)
class AspectScore:
    """The most surprising token about one aspect of an object.

    Args:
        aspect: Such as ``time`` or ``position``.
        deviation: Excess as :func:`standardised`.
        excess: Surprisal beyond what the model expected, in bits.
        bits: Surprisal.
        found: The token, in words.
        expected: The most probable token, in words.
        probability: Of the expected token, 0 to 1.
    """

    aspect: str
    deviation: float
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
        score: Deviation of its most surprising aspect.
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


def aspect_scores(scores: TokenScores, count: int, *, of: str = "excess") -> np.ndarray:
    """Return how surprising each aspect of each object of a map is: by its most surprising token.

    Args:
        scores: Of the map's tokens.
        count: Objects of the map.
        of: ``excess`` or ``bits``.

    Returns:
        (count, aspects) float64 in bits, aspects as in :data:`~cm3p.faults.surprisal.ASPECTS`; minus infinity where the
        model sees no token, such as sliders of a hundred points, or positions in taiko.
    """
    found = np.full((count, len(ASPECTS)), _NEVER)
    np.maximum.at(found, (scores.objects, scores.aspects), getattr(scores, of).astype(np.float64))
    return found


def standardised(excess: np.ndarray) -> np.ndarray:
    """Return excesses as deviations from those of the same aspect in the same map.

    Some aspects surprise often: nothing says where a mapper starts a combo. A deviation tells how unusual a surprise is
    for its aspect, so that those of different aspects compare.

    Args:
        excess: (objects, aspects) of one map.

    Returns:
        The same shape: distance from the mean in standard deviations, of at least one bit each; minus infinity stays.
    """
    seen = np.isfinite(excess)
    counts = np.maximum(seen.sum(0), 1)
    values = np.where(seen, excess, 0)
    mean = values.sum(0) / counts
    deviation = np.sqrt((np.where(seen, values - mean, 0) ** 2).sum(0) / counts)
    return np.where(seen, (values - mean) / np.maximum(deviation, _LEAST_DEVIATION), _NEVER)


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
    deviations = standardised(aspect_scores(scores, len(beatmap.hit_objects)))
    of_object = deviations.max(1)
    stamps = Timestamps(beatmap)
    found = []
    for index in np.argsort(-of_object, kind="stable")[:count].tolist():
        if of_object[index] == _NEVER:
            break
        rows = np.flatnonzero(scores.objects == index)
        item = beatmap.hit_objects[index]
        found.append(
            DoubtfulObject(
                index=index,
                timestamp=stamps.of([index]),
                time_ms=item.time_ms,
                kind=_kind(item),
                score=float(of_object[index]),
                total_bits=float(scores.bits[rows].sum()),
                off_grid_ms=float(off_grid[index]),
                aspects=_aspects(scores, rows, deviations[index], tokenizer),
            )
        )
    return found


def _aspects(
    scores: TokenScores, rows: np.ndarray, deviations: np.ndarray, tokenizer: CM3PBeatmapTokenizer
) -> list[AspectScore]:
    """The aspects of an object, the most surprising first."""
    found = []
    for place in np.argsort(-deviations, kind="stable"):
        of_aspect = rows[scores.aspects[rows] == place]
        if not len(of_aspect):
            continue
        row = int(of_aspect[scores.excess[of_aspect].argmax()])
        token, expected = (
            tokenizer.convert_ids_to_tokens(int(each)) for each in (scores.ids[row], scores.expected[row])
        )
        found.append(
            AspectScore(
                aspect=str(ASPECTS[place]),
                deviation=float(deviations[place]),
                excess=float(scores.excess[row]),
                bits=float(scores.bits[row]),
                found=wording(token, ASPECTS[place]),
                expected=expectation(token, expected, ASPECTS[place]),
                probability=float(scores.probability[row]),
            )
        )
    return found


def _kind(item: Any) -> str:
    if isinstance(item, Circle):
        return "circle"
    if isinstance(item, Slider):
        return "slider"
    return "hold note" if isinstance(item, Hold) else "spinner"
