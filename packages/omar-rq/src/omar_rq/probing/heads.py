"""Heads on frozen embeddings: learned weights of layers, pooling over time, and a linear layer or an MLP.

    features (B, L, N, D) -> standardised -> weighted over layers (B, N, D) -> pooled (B, D), or not -> logits

Mean and deviation of the features come from the training data alone and are stored with the head. The weights of the
layers are a softmax of learned numbers, so they are positive and add up to 1; with one layer there is nothing to learn.

Shape legend: B recordings, L layers, N tokens (1 of features that were pooled before), D width of a layer's features,
K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pentatonic.untrusted.config import Length, Range, check_fields

Granularity = Literal["recording", "frame"]
Pooling = Literal["mean", "mean+std", "attention", "none"]
Outputs = Literal["multilabel", "classes", "regression", "boundary+classes"]

MAX_WIDTH = 65536
MAX_OUTPUTS = 10_000


@dataclass(frozen=True)
class HeadConfig:
    """How a head is built.

    Args:
        width: D, values of each layer; with the pooling ``mean+std`` twice those of a token.
        outputs: K.
        layers: Blocks of the encoder that the features come from, ascending.
        granularity: One answer for a recording, or one for each token.
        pooling: Over time. ``mean`` and ``mean+std`` are taken before the head, which then sees one token;
            ``attention`` is learned; ``none`` for one answer for each token.
        model: A linear layer, or one hidden layer with ReLU.
        hidden: Units of the hidden layer.
        dropout: Before each layer of an MLP, as in the original's probe.
        context: Tokens on each side that the first layer sees besides its own; for one answer for each token.

    Raises:
        ConfigError: A value is out of its range.
    """

    width: Annotated[int, Range(1, MAX_WIDTH)]
    outputs: Annotated[int, Range(1, MAX_OUTPUTS)]
    layers: Annotated[tuple[Annotated[int, Range(0, 999)], ...], Length(1, 1000)]
    granularity: Granularity = "recording"
    pooling: Pooling = "mean"
    model: Literal["linear", "mlp"] = "linear"
    hidden: Annotated[int, Range(1, 8192)] = 512
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.2
    context: Annotated[int, Range(0, 128)] = 0

    def __post_init__(self) -> None:
        check_fields(self, "head")


class ProbeHead(nn.Module):
    """A head; see the top of this module.

    Args:
        config: How it is built.

    Attributes:
        mean: (L, D) of the training features.
        deviation: (L, D) likewise.
        shift: (K,) added to the outputs: of a regression the mean of the training targets, otherwise 0.
        scale: (K,) that outputs are multiplied with: of a regression their deviation, otherwise 1.
    """

    mean: Tensor
    deviation: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        layers, width, outputs = len(config.layers), config.width, config.outputs
        self.register_buffer("mean", torch.zeros(layers, width))
        self.register_buffer("deviation", torch.ones(layers, width))
        self.register_buffer("shift", torch.zeros(outputs))
        self.register_buffer("scale", torch.ones(outputs))
        self.layer_logits = nn.Parameter(torch.zeros(layers))
        self.attention = nn.Linear(width, 1) if config.pooling == "attention" else None
        first = outputs if config.model == "linear" else config.hidden
        self.first = nn.Conv1d(width, first, 2 * config.context + 1, padding=config.context)
        self.dropout = nn.Dropout(config.dropout if config.model == "mlp" else 0.0)
        self.last = nn.Linear(config.hidden, outputs) if config.model == "mlp" else None

    @property
    def layer_weights(self) -> Tensor:
        """(L,) positive, adding up to 1."""
        return self.layer_logits.softmax(0)

    def mix(self, features: Tensor) -> Tensor:
        """Standardise features (B, L, N, D) and add the layers up, weighted: (B, N, D)."""
        standard = (features - self.mean[:, None]) / self.deviation[:, None]
        return torch.einsum("l,blnd->bnd", self.layer_weights, standard)

    def classify(self, mixed: Tensor, real: Tensor | None = None) -> Tensor:
        """Logits of mixed features.

        Args:
            mixed: (B, N, D) from :meth:`mix`.
            real: (B, N) bool, where tokens are and not padding; None: everywhere.

        Returns:
            (B, K) for recordings, (B, N, K) for tokens; numbers of a regression in the unit of their targets.
        """
        if real is not None:
            mixed = mixed * real[..., None]
        if self.attention is not None:
            scores = self.attention(mixed)[..., 0]
            if real is not None:
                scores = scores.masked_fill(~real, -torch.inf)
            mixed = torch.einsum("bn,bnd->bd", scores.softmax(1), mixed)[:, None]
        logits = self.first(self.dropout(mixed).transpose(1, 2)).transpose(1, 2)
        if self.last is not None:
            logits = self.last(self.dropout(F.relu(logits)))
        logits = logits * self.scale + self.shift
        return logits if self.config.granularity == "frame" else logits[:, 0]

    def forward(self, features: Tensor, real: Tensor | None = None) -> Tensor:
        """Logits of features (B, L, N, D), see :meth:`mix` and :meth:`classify`."""
        return self.classify(self.mix(features), real)


def answers(logits: Tensor, outputs: Outputs) -> Tensor:
    """Turn logits into what a probe says.

    Args:
        logits: (..., K) of a head.
        outputs: ``multilabel``: the sigmoid; ``classes``: the softmax; ``regression``: the numbers as they are;
            ``boundary+classes``: the sigmoid of the first and the softmax of the others.
    """
    if outputs == "multilabel":
        return logits.sigmoid()
    if outputs == "classes":
        return logits.softmax(-1)
    if outputs == "boundary+classes":
        return torch.cat((logits[..., :1].sigmoid(), logits[..., 1:].softmax(-1)), dim=-1)
    return logits
