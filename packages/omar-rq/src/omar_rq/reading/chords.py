"""Chords over time from the answers of a probe for chords, token by token or from beat to beat.

Shape legend: N tokens, B beats, K chords.
"""

from __future__ import annotations

import numpy as np

from omar_rq.annotations.events import Beats, Span
from omar_rq.probing.saved import Prediction
from omar_rq.reading.smoothing import joined_spans, likeliest_labels
from pentatonic.errors import InputError, UsageError

NO_CHORD = "N"
CHORD_S = 2.0
"""Usual seconds of a chord: a change is as unlikely as one that comes once in so long."""
_CHORD_BEATS = 2.0
_OFF_DOWNBEAT = 1.0  # price of a change that is not on the first beat of a bar


def read_chords(
    prediction: Prediction, end: float, *, beats: Beats | None = None, chord_s: float = CHORD_S
) -> tuple[Span, ...]:
    """Read the chords of a recording: the likeliest sequence of chords that seldom change.

    Args:
        prediction: Of a probe for chords, for each token.
        end: Second at which the recording ends.
        beats: Let chords change on these beats alone, on the first of a bar more readily; None, or fewer than two: at
            any token.
        chord_s: Usual seconds of a chord, where there are no beats.

    Returns:
        Chords one after the other from the first token to ``end``, ``N`` for none.

    Raises:
        InputError: The prediction is of another kind.
        UsageError: ``chord_s`` is not positive.
    """
    if prediction.rate <= 0 or not prediction.labels:
        raise InputError(
            f"the probe for {prediction.task!r} does not say which chord each token has; "
            "needed: one that was trained with task=chord"
        )
    if not 0 < chord_s < np.inf:
        raise UsageError(f"chord-seconds is {chord_s:g}; allowed: a number above 0")
    if not len(prediction.times):
        return ()
    if beats is None or len(beats.beats) < 2:
        edges = np.append(prediction.times, max(end, prediction.times[-1] + 1 / prediction.rate))
        labels = likeliest_labels(prediction.values, _price(chord_s * prediction.rate, prediction))
        return joined_spans(labels, prediction.values, edges, prediction.labels)
    edges, between, prices = _beat_steps(prediction, beats, end)
    labels = likeliest_labels(between, _price(_CHORD_BEATS, prediction), prices)
    return joined_spans(labels, between, edges, prediction.labels)


def mean_between(prediction: Prediction, edges: np.ndarray) -> np.ndarray:
    """Mean probabilities of the tokens whose centres lie between edges; of the nearest token where there is none.

    Args:
        prediction: For each token.
        edges: (B + 1,) seconds, ascending.

    Returns:
        (B, K), the geometric mean, each row adding up to 1.
    """
    centres = prediction.times + 0.5 / prediction.rate
    logs = np.log(np.maximum(prediction.values.astype(np.float64), 1e-6))
    sums = np.vstack((np.zeros(logs.shape[1]), np.cumsum(logs, axis=0)))
    first, last = np.searchsorted(centres, edges[:-1]), np.searchsorted(centres, edges[1:])
    nearest = np.clip(np.searchsorted(centres, (edges[:-1] + edges[1:]) / 2), 0, len(centres) - 1)
    empty = last <= first
    first, last = np.where(empty, nearest, first), np.where(empty, nearest + 1, last)
    means = (sums[last] - sums[first]) / (last - first)[:, None]
    means = np.exp(means - means.max(1, keepdims=True))
    return means / means.sum(1, keepdims=True)


def _beat_steps(
    prediction: Prediction, beats: Beats, end: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges, probabilities between them, and prices of a change at their starts.

    What is before the first beat is a step of its own, and so is what follows the last, up to the end.
    """
    times = [beat.time for beat in beats.beats]
    prices = [0.0 if beat.position == 1 else _OFF_DOWNBEAT for beat in beats.beats]
    first = float(prediction.times[0])
    if times[0] > first:
        times, prices = [first, *times], [0.0, *prices]
    edges = np.array([*times, max(end, times[-1] + 1e-3)])
    return edges, mean_between(prediction, edges), np.array(prices)


def _price(usual_steps: float, prediction: Prediction) -> float:
    """Of a change that comes once in so many steps, to one of the other labels."""
    return float(np.log(max(usual_steps - 1, 0.1) * max(len(prediction.labels) - 1, 1)))
