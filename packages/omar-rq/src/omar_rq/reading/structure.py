"""Sections by a probe that was trained on them: its boundaries, and its names where it has any.

Shape legend: N tokens, F names of functions.
"""

from __future__ import annotations

import numpy as np

from omar_rq.annotations.events import Span
from omar_rq.probing.saved import Prediction
from omar_rq.reading.smoothing import joined_spans, likeliest_labels
from pentatonic.errors import InputError

_SECTION_S = 15.0  # usual seconds of a section
_SHORTEST_S = 4.0
_LEAST = 0.5  # probability of a boundary


def read_structure(
    prediction: Prediction, end: float, *, count: int | None = None
) -> tuple[tuple[Span, ...], tuple[str, ...]]:
    """Read sections.

    Args:
        prediction: Of a probe with the label ``boundary``, and after it any names of functions, for each token.
        end: Second at which the recording ends.
        count: How many sections there shall be; None: one for each likely boundary, or, with names, for each change.

    Returns:
        The sections, with empty labels where the probe knows no names; and those names.

    Raises:
        InputError: The prediction is of another kind, or there is no room for so many sections.
    """
    if prediction.rate <= 0 or prediction.labels[:1] != ("boundary",):
        raise InputError(
            f"the probe for {prediction.task!r} does not say for each token whether a section begins; "
            "needed: one that was trained with task=structure"
        )
    names = prediction.labels[1:]
    boundary = prediction.values[:, 0].astype(np.float64)
    n_tokens = len(boundary)
    if count is not None and not 1 <= count <= n_tokens:
        raise InputError(f"{count} segments; allowed for this recording: 1 to {n_tokens}")
    edges = np.append(prediction.times, max(end, float(prediction.times[-1]) + 1e-3))
    if count is None and names:
        chances = prediction.values[:, 1:].astype(np.float64)
        # A change is cheap where the probe hears a boundary.
        usual = np.log(_SECTION_S * prediction.rate * max(len(names) - 1, 1))
        labels = likeliest_labels(chances, usual, -np.log(np.clip(boundary / _LEAST, 0.05, 20.0)))
        return joined_spans(labels, chances, edges, names), names
    firsts = _peaks(boundary, count, max(1, round(_SHORTEST_S * prediction.rate)))
    spans = []
    for first, until in zip(firsts, [*firsts[1:], n_tokens], strict=True):
        label, sure = "", None
        if names:
            mean = prediction.values[first:until, 1:].mean(0)
            label, sure = names[int(mean.argmax())], float(mean.max())
        spans.append(Span(float(edges[first]), float(edges[until]), label, sure))
    return tuple(spans), names


def _peaks(boundary: np.ndarray, count: int | None, gap: int) -> list[int]:
    """The likeliest tokens at a distance from each other and from the ends, and the first token."""
    least = _LEAST if count is None else -np.inf
    most = len(boundary) if count is None else count
    while True:
        found = [0]
        for token in np.argsort(-boundary, kind="stable"):
            if len(found) == most or boundary[token] < least:
                break
            if token and min(abs(int(token) - other) for other in [*found, len(boundary)]) >= gap:
                found.append(int(token))
        if count is None or len(found) == count or gap <= 1:
            return sorted(found)
        gap //= 2
