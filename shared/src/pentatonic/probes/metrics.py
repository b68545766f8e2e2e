"""Metrics of probes: float64, over all tracks of a split, from scores and never from thresholded ones.

Shape legend: T tracks, K outputs.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np

from pentatonic.errors import MissingExtra

_TONICS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
KEY_NAMES = tuple(f"{tonic} {mode}" for tonic, mode in product(_TONICS, ("major", "minor")))
"""The 24 key classes, in the order C major, C minor, Db major, …, B minor."""


def top_k_accuracy(outputs: np.ndarray, classes: np.ndarray, k: int = 1) -> float:
    """Share of tracks whose class is among the k largest outputs; of equal outputs, the lower class counts as larger.

    Args:
        outputs: (T, K) scores.
        classes: (T,) in [0, K).
        k: Guesses per track.
    """
    guesses = np.argsort(-outputs, axis=1, kind="stable")[:, :k]
    return float((guesses == classes[:, None]).any(axis=1).mean())


@cache
def key_scores() -> np.ndarray:
    """MIREX-weighted scores (24, 24) of true and predicted keys, by mir_eval; classes as in :data:`KEY_NAMES`.

    1 for the same key, 0.5 for the same mode a perfect fifth above, 0.3 for the relative and 0.2 for the parallel key,
    otherwise 0.

    Raises:
        MissingExtra: mir_eval is not installed.
    """
    try:
        from mir_eval.key import weighted_score
    except ModuleNotFoundError as error:
        raise MissingExtra("The score of keys", "pentatonic[probes]") from error
    return np.array([[weighted_score(target, predicted) for predicted in KEY_NAMES] for target in KEY_NAMES])


def weighted_key_score(outputs: np.ndarray, classes: np.ndarray) -> float:
    """Mean of :func:`key_scores` of the largest of (T, 24) outputs, with (T,) true classes."""
    return float(key_scores()[classes, outputs.argmax(axis=1)].mean())


def r_squared(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Coefficient of determination of each output; NaN where all targets are equal.

    Args:
        outputs: (T, K) predictions.
        targets: (T, K) true values.

    Returns:
        (K,): 1 is perfect, 0 is the mean of these targets, below 0 is worse than that.
    """
    spread = ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
    errors = ((targets - outputs) ** 2).sum(axis=0)
    return 1 - errors / np.where(spread > 0, spread, np.nan)


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each label, ties by the trapezoidal rule.

    Args:
        scores: (T, K) larger for more likely.
        labels: (T, K) 0 or 1.

    Returns:
        (K,); NaN where a label is always or never there.
    """
    areas = np.full(scores.shape[1], np.nan)
    for label in _mixed(labels):
        hits, misses = _counts_above_thresholds(scores[:, label], labels[:, label])
        widths, middles = np.diff(misses, prepend=0), (hits + np.concatenate([[0], hits[:-1]])) / 2
        areas[label] = (widths * middles).sum() / (hits[-1] * misses[-1])
    return areas


def average_precision(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average precision of each label: the sum of precisions weighted by the steps in recall, not interpolated.

    Args:
        scores: (T, K) larger for more likely.
        labels: (T, K) 0 or 1.

    Returns:
        (K,); NaN where a label is always or never there.
    """
    precisions = np.full(scores.shape[1], np.nan)
    for label in _mixed(labels):
        hits, misses = _counts_above_thresholds(scores[:, label], labels[:, label])
        precisions[label] = (np.diff(hits, prepend=0) * hits / (hits + misses)).sum() / hits[-1]
    return precisions


def _mixed(labels: np.ndarray) -> np.ndarray:
    """Labels that some tracks have and others lack."""
    return np.flatnonzero((labels.min(axis=0) == 0) & (labels.max(axis=0) == 1))


def _counts_above_thresholds(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tracks with and without the label that score at least each distinct score, from the largest score down."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    hits = np.cumsum(labels[order], dtype=np.float64)[last]
    return hits, last + 1 - hits
