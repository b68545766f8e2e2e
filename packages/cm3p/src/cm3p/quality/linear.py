"""Linear models of maps' vectors: what can be learnt from bags of event tokens, or from embeddings, with labels.

Shapes: m training maps, n maps, F features, C values.
"""

from __future__ import annotations

import numpy as np
import torch

from cm3p.quality.facts import MapFacts
from cm3p.quality.labels import Labels

_STRENGTH = 10.0  # weight of the data against that of the penalty
_STEPS = 100
_PENALTIES = np.logspace(-4, 2, 13)


def inverse_frequencies(bags: np.ndarray) -> np.ndarray:
    """Return (F,) float32: for each token 1 plus the log of one over the share of maps that have it, smoothed."""
    maps = (bags > 0).sum(0)
    return (np.log((1 + len(bags)) / (1 + maps)) + 1).astype(np.float32)


def weighted_bags(bags: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (n, F) float32 of norm 1: counts of tokens, weighted (tf-idf)."""
    weighted = bags * weights
    norms = np.linalg.norm(weighted, axis=1, keepdims=True)
    return (weighted / np.maximum(norms, 1e-12)).astype(np.float32)


def label_scores(
    features: np.ndarray, facts: MapFacts, wanted: np.ndarray, labels: Labels
) -> np.ndarray | None:
    """Learn a field by logistic regression, and return the scores of its candidates.

    Args:
        features: (m, F) of the training maps, of norm 1.
        facts: Of the training maps.
        wanted: (N, F) of the maps that are judged.
        labels: Of the field among them.

    Returns:
        (n, C); None if the training maps have fewer than two of the values. Values that they lack get the lowest score.
    """
    places = {value: place for place, value in enumerate(labels.candidates)}
    of_maps = facts.tags if labels.field == "tags" else [(each,) for each in getattr(facts, labels.field)]
    truth = np.zeros((len(facts), len(places)), np.float32)
    for number, values in enumerate(of_maps):
        truth[number, [places[value] for value in values if value in places]] = 1
    rows, seen = truth.any(1), truth.any(0)
    if seen.sum() < 2:
        return None
    weights, offsets = _logistic(features[rows], truth[rows][:, seen], exclusive=labels.field != "tags")
    scores = np.full((len(labels.maps), len(places)), -np.inf)
    scores[:, seen] = wanted[labels.maps] @ weights + offsets
    return np.where(np.isfinite(scores), scores, scores[np.isfinite(scores)].min() - 1)


def _logistic(features: np.ndarray, truth: np.ndarray, *, exclusive: bool) -> tuple[np.ndarray, np.ndarray]:
    """(F, C) weights and (C,) offsets of least penalised cross entropy, in float64."""
    x, y = torch.from_numpy(features).double(), torch.from_numpy(truth).double()
    weights = torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64, requires_grad=True)
    offsets = torch.zeros(y.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, offsets], max_iter=_STEPS, line_search_fn="strong_wolfe")
    target = y / y.sum(1, keepdim=True) if exclusive else y

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = x @ weights + offsets
        if exclusive:
            data = torch.nn.functional.cross_entropy(logits, target, reduction="sum")
        else:
            data = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        loss = _STRENGTH * data + 0.5 * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach().numpy(), offsets.detach().numpy()


def predicted_stars(features: np.ndarray, stars: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """Learn star ratings by ridge regression, with the penalty of least leave-one-out error, and predict them.

    Args:
        features: (m, F) of the training maps.
        stars: (m,) NaN where not known.
        wanted: (n, F) of the maps that are judged.

    Returns:
        (n,) stars; None if fewer than three training maps have a star rating.
    """
    known = ~np.isnan(stars)
    if known.sum() < 3:
        return None
    x, y = features[known].astype(np.float64), stars[known]
    mean, centre = y.mean(), x.mean(0)
    x = x - centre
    values, basis = np.linalg.eigh(x @ x.T)
    turned = basis.T @ (y - mean)
    best: tuple[float, np.ndarray] | None = None
    for penalty in _PENALTIES:
        shrunk = np.maximum(values, 0) / (np.maximum(values, 0) + penalty)
        residuals = (y - mean) - basis @ (shrunk * turned)
        left_out = residuals / (1 - np.square(basis) @ shrunk)
        error = float((left_out**2).mean())
        if best is None or error < best[0]:
            best = error, basis @ (turned / (np.maximum(values, 0) + penalty))
    assert best is not None
    return mean + (wanted.astype(np.float64) - centre) @ (x.T @ best[1])
