"""What is measured of the pieces of an iteration, beside the same figures of the references that were held out."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from notagen.clamp2.scores import clamp2_scores, cosines
from notagen.dpo.config import FloorsConfig
from notagen.dpo.rules import sounding_bars
from notagen.evaluation.measures import measure, pooled
from notagen.evaluation.novelty import KnownMusic
from notagen.notation.validation import validate
from notagen.vocabulary import ANYTHING
from pentatonic.errors import FormatError
from pentatonic.statistics import mean_interval

Features = NDArray[np.float64]


def scores_of(features: Features, references: Features, nearest: int | None = None) -> dict[str, float]:
    """Return the mean score of pieces with its 95 % interval, as ``value``, ``low`` and ``high``.

    Args:
        features: Of the pieces.
        references: Of the references.
        nearest: As for :func:`notagen.clamp2.scores.clamp2_scores`.
    """
    scores = clamp2_scores(features, references, nearest=nearest)
    estimate = mean_interval(scores, np.arange(len(scores)))
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def pairwise_cosine(features: Features) -> float:
    """Return the mean cosine of two different pieces; 1 where there is only one."""
    count = len(features)
    return float((cosines(features, features).sum() - count) / (count * (count - 1))) if count > 1 else 1.0


def measure_pieces(
    texts: Sequence[str], finished: Sequence[bool], known: KnownMusic | None
) -> dict[str, Any]:
    """Measure the texts of pieces.

    Args:
        texts: Interleaved pieces, at least one.
        finished: Whether each was ended by its model and not by a limit.
        known: Music to compare with; None: novelty is not measured.

    Returns:
        ``pieces``, ``valid`` and ``finished`` (shares), mean ``length`` in characters and ``bars``, ``repeated_bars``
        and ``different_bars`` (shares), ``duplicates`` (share of pieces whose bars another piece has too); and with
        known music ``known_notes``, the share of runs of notes that are known, and ``copies`` (share of pieces).
    """
    bars = [tuple(sounding_bars(text)) for text in texts]
    total = max(1, sum(map(len, bars)))
    row: dict[str, Any] = {
        "pieces": len(texts),
        "valid": float(np.mean([validate(text).valid for text in texts])),
        "finished": float(np.mean(finished)),
        "length": float(np.mean([len(text) for text in texts])),
        "bars": float(np.mean([len(each) for each in bars])),
        "repeated_bars": pooled([measure(text, ANYTHING) for text in texts]).repeated_bars.value,
        "different_bars": sum(len(set(each)) for each in bars) / total,
        "duplicates": float(np.mean([bars.count(each) > 1 for each in bars])),
    }
    if known is not None:
        found = []
        for text in texts:
            with contextlib.suppress(FormatError):  # nothing is known of a text that is not a tune
                found.append(known.novelty(text))
        runs = max(1, sum(each.ngrams for each in found))
        row["known_notes"] = sum(each.known for each in found) / runs
        row["copies"] = sum(each.copy for each in found) / len(texts)
    return row


def broken_floors(row: Mapping[str, Any], first: Mapping[str, Any], floors: FloorsConfig) -> list[str]:
    """Return what has gone astray since the first iteration, in sentences.

    Args:
        row: Measures of an iteration, with ``pairwise_cosine_judge``.
        first: Those of iteration 0.
        floors: Limits.
    """
    problems = []

    def check(name: str, value: float, least: float | None, most: float | None = None) -> None:
        if least is not None and value < least:
            problems.append(f"{name} is {value:.4g}, below its floor of {least:.4g}")
        if most is not None and value > most:
            problems.append(f"{name} is {value:.4g}, above its limit of {most:.4g}")

    diversity, before = 1 - row["pairwise_cosine_judge"], 1 - first["pairwise_cosine_judge"]
    check("diversity (1 - mean cosine of two pieces)", diversity, floors.diversity * before)
    check("mean length", row["length"], floors.shortest * first["length"], floors.longest * first["length"])
    check("share of valid pieces", row["valid"], floors.validity * first["valid"])
    repeated = first["repeated_bars"] or 0.0
    check("share of repeated bars", row["repeated_bars"] or 0.0, None, repeated + floors.repeated_bars)
    return problems
