"""The likeliest sequence of labels that seldom change (Viterbi), and the stretches that it makes.

Shape legend: N steps, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omar_rq.annotations.events import Span

_SMALLEST = 1e-6


def likeliest_labels(
    probabilities: np.ndarray, change_price: float, first_price: np.ndarray | None = None
) -> np.ndarray:
    """Find the labels with the highest product of probabilities, when each change has a price.

    Args:
        probabilities: (N, K), each row adding up to 1.
        change_price: Natural logarithm by which a change is less likely than staying; 0: each step on its own.
        first_price: (N,) further price of a change to each step; None: 0.

    Returns:
        (N,) indices.
    """
    gains = np.log(np.maximum(probabilities, _SMALLEST))
    came = np.zeros(gains.shape, np.int32)
    score = np.zeros(gains.shape[1])
    stay = np.arange(gains.shape[1])
    for step, gain in enumerate(gains):
        price = change_price + (0.0 if first_price is None else float(first_price[step]))
        best = int(score.argmax())
        moved = score[best] - price
        came[step] = np.where(score >= moved, stay, best)
        score = np.maximum(score, moved) + gain
    labels = np.zeros(len(gains), np.int32)
    if len(gains):
        labels[-1] = score.argmax()
        for step in range(len(gains) - 1, 0, -1):
            labels[step - 1] = came[step, labels[step]]
    return labels


def joined_spans(
    labels: np.ndarray, probabilities: np.ndarray, edges: np.ndarray, names: Sequence[str]
) -> tuple[Span, ...]:
    """Join steps of one label.

    Args:
        labels: (N,) indices.
        probabilities: (N, K), of which the mean for its label is the confidence of a stretch.
        edges: (N + 1,) seconds, where steps begin and end.
        names: K names.
    """
    starts = np.flatnonzero(np.diff(labels, prepend=-1)).tolist()
    spans = []
    for start, end in zip(starts, [*starts[1:], len(labels)], strict=True):
        label = int(labels[start])
        sure = float(probabilities[start:end, label].mean())
        spans.append(Span(float(edges[start]), float(edges[end]), names[label], sure))
    return tuple(spans)
