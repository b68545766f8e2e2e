"""The factor matrix: how much each factor of the clips decides each layer of a model.

Two views of the mean over the tokens of a clip, every value of it standardised over the clips. **Share of variance**:
main effects of a balanced analysis of variance; what is left is due to interactions. **Retrieval**: of the clips that
differ in both other factors, the most similar one (by cosine) has the same level of this factor; so nothing but the
factor can help.

Shapes: L layers, X clips, H width, F factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from omar_rq.layers.factors import FACTORS, Design
from omar_rq.marble import MarbleEncoder, pool_time
from omar_rq.model import OmarRQ
from pentatonic.cli import progress
from pentatonic.statistics.intervals import Estimate, mean_interval

_BATCH = 8


@dataclass(frozen=True)
class LayerFactors:
    """What decides one layer.

    Attributes:
        layer: ``input`` (embedded patches) or the index of a block, as text.
        shares: Factor -> share of the variance, 0 to 1.
        interactions: The share that no factor alone explains.
        accuracy: Factor -> retrieval accuracy, with its 95 % interval (motifs are drawn).
    """

    layer: str
    shares: dict[str, float]
    interactions: float
    accuracy: dict[str, Estimate]

    @property
    def ruled_by(self) -> str:
        """The factor with the largest share of the variance."""
        return max(self.shares, key=lambda name: self.shares[name])

    def row(self) -> dict[str, Any]:
        """Return a row of a table, with numbers."""
        shares = {f"variance: {name}": share for name, share in self.shares.items()}
        found = {f"retrieval: {name}": str(estimate) for name, estimate in self.accuracy.items()}
        return {
            "layer": self.layer,
            **shares,
            "variance: together": self.interactions,
            **found,
            "ruled by": self.ruled_by,
        }

    def document(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "layer": self.layer,
            "variance": {**self.shares, "interactions": self.interactions},
            "retrieval": {
                name: {"value": found.value, "low": found.low, "high": found.high}
                for name, found in self.accuracy.items()
            },
            "ruled_by": self.ruled_by,
        }


def chance(design: Design) -> dict[str, float]:
    """Return the retrieval accuracy of guessing, for each factor."""
    return {name: 1 / levels for name, levels in zip(FACTORS, design.shape, strict=True)}


def factor_matrix(model: OmarRQ, design: Design) -> list[LayerFactors]:
    """Render the clips, embed them, and measure every layer.

    Args:
        model: The model, in evaluation mode.
        design: The clips.

    Returns:
        The input of the trunk, and each of its blocks.
    """
    features = clip_features(model, design)
    levels = design.levels()
    return [
        LayerFactors(
            layer=str(index - 1) if index else "input",
            shares=dict(zip(FACTORS, (shares := variance_shares(layer, design)), strict=True)),
            interactions=1 - sum(shares),
            accuracy={
                name: mean_interval(retrieval_hits(layer, levels, factor), levels[:, 0])
                for factor, name in enumerate(FACTORS)
            },
        )
        for index, layer in enumerate(features)
    ]


def clip_features(model: OmarRQ, design: Design) -> np.ndarray:
    """Return the mean over tokens of all clips, standardised over the clips: ``(L, X, H)`` float64."""
    encoder, pooled, waiting = MarbleEncoder(model), [], []
    count = len(design.levels())
    with progress(count, "embedding") as bar:
        for number, clip in enumerate(design.clips(model.sample_rate), 1):
            waiting.append(clip)
            if len(waiting) == _BATCH or number == count:
                pooled.append(pool_time(encoder(np.stack(waiting), model.sample_rate).double()).cpu())
                bar.advance(len(waiting))
                waiting = []
    return standardised(torch.cat(pooled).transpose(0, 1).numpy())


def standardised(features: np.ndarray) -> np.ndarray:
    """Return ``(..., X, H)`` with mean 0 and deviation 1 over the clips; what does not vary becomes 0."""
    centred = features - features.mean(-2, keepdims=True)
    deviation = centred.std(-2, keepdims=True)
    constant = deviation < 1e-9 * (1 + np.abs(features).max(-2, keepdims=True))
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, deviation))


def variance_shares(features: np.ndarray, design: Design) -> list[float]:
    """Return the share of the variance that the main effect of each factor has.

    Args:
        features: ``(X, H)``, centred, in the order of the design.
        design: The clips.
    """
    grid = features.reshape(*design.shape, -1)
    total = np.square(features).mean(0).sum()
    if total == 0:
        return [0.0] * len(FACTORS)
    means = [grid.mean(tuple(axis for axis in range(3) if axis != factor)) for factor in range(3)]
    return [float(np.square(mean).mean(0).sum() / total) for mean in means]


def retrieval_hits(features: np.ndarray, levels: np.ndarray, factor: int) -> np.ndarray:
    """Return for each clip whether its most similar one shares its level of a factor, 0 or 1.

    Args:
        features: ``(X, H)``.
        levels: ``(X, F)``.
        factor: Which one; candidates differ from the query in all others.
    """
    rows = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    likeness = rows @ rows.T
    others = np.delete(levels, factor, axis=1)
    allowed = (others[:, None] != others[None]).all(-1)
    nearest = np.where(allowed, likeness, -np.inf).argmax(1)
    return (levels[nearest, factor] == levels[:, factor]).astype(np.float64)
