"""Heads on the towers: logits of masked tokens."""

from __future__ import annotations

from torch import Tensor, nn

from cm3p.configuration import CM3PBeatmapConfig
from cm3p.network.encoder import ACTIVATIONS, norm
from cm3p.network.initialization import drawn


class PredictionHead(nn.Module):
    """Dense layer, activation and norm before the decoder."""

    def __init__(self, config: CM3PBeatmapConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.dense = drawn(nn.Linear(width, width, bias=config.classifier_bias), config.initializer_range)
        self.activation = ACTIVATIONS[config.classifier_activation]
        self.norm = norm(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform tokens ``(…, h)``."""
        return self.norm(self.activation(self.dense(tokens)))


def decoder(config: CM3PBeatmapConfig) -> nn.Linear:
    """Build the matrix from tokens ``(…, h)`` to logits ``(…, vocab_size)``."""
    matrix = nn.Linear(config.hidden_size, config.vocab_size, bias=config.decoder_bias)
    return drawn(matrix, config.initializer_range)
