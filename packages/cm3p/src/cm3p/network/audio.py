"""The audio tower: a log-mel spectrogram becomes tokens of the beatmap tower.

Shapes: B windows, T frames of the spectrogram, h width of the audio encoder, L = T / 2 frames of the encoder.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cm3p.configuration import CM3PAudioConfig
from cm3p.network.encoder import ACTIVATIONS, Encoded, Encoder
from cm3p.network.initialization import drawn
from pentatonic.errors import UsageError


class Projector(nn.Module):
    """From several frames of the encoder, end to end, to one audio token."""

    def __init__(self, config: CM3PAudioConfig) -> None:
        super().__init__()
        inner, out = config.projector_intermediate_size, config.projector_dim
        self.activation = ACTIVATIONS[config.projector_hidden_act]
        self.linear_1 = drawn(nn.Linear(inner, out, bias=False), config.initializer_range)
        self.linear_2 = drawn(nn.Linear(out, out, bias=False), config.initializer_range)

    def forward(self, x: Tensor) -> Tensor:
        """Project ``(n, inner)`` to ``(n, out)``."""
        return self.linear_2(self.activation(self.linear_1(x)))


class AudioTower(nn.Module):
    """Two convolutions, of which the second halves the frames, an encoder over all frames, and a projector."""

    def __init__(self, config: CM3PAudioConfig) -> None:
        super().__init__()
        width, std = config.hidden_size, config.initializer_range
        self.merged_width = config.projector_intermediate_size
        self.n_mels = config.n_mels
        self.conv1 = drawn(nn.Conv1d(config.n_mels, width, 3, padding=1), std)
        self.conv2 = drawn(nn.Conv1d(width, width, 3, stride=2, padding=1), std)
        self.encoder = Encoder(config)
        # A part of the checkpoints that is never used. Data parallel training would wait for its gradient.
        self.encoder.embeddings.tok_embeddings.requires_grad_(False)
        self.multi_modal_projector = Projector(config)

    def forward(
        self, features: Tensor, *, hidden_states: bool = False, attentions: bool = False
    ) -> tuple[Tensor, Encoded]:
        """Encode spectrograms.

        Args:
            features: ``(B, n_mels, T)``.
            hidden_states: Also return the input of each layer.
            attentions: Also return the attention weights.

        Returns:
            ``(n, projector_dim)`` audio tokens of all windows, one after the other, and the encoder's output.

        Raises:
            UsageError: The shape does not fit, or the frames of a window do not divide into audio tokens.
        """
        if features.dim() != 3 or features.shape[1] != self.n_mels:
            raise UsageError(
                f"input_features is {tuple(features.shape)}; allowed: (windows, {self.n_mels}, frames), as the "
                "configuration says n_mels"
            )
        x = F.gelu(self.conv1(features.to(self.conv1.weight.dtype)))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        if x.shape[1] * x.shape[2] % self.merged_width:
            raise UsageError(
                f"input_features has {features.shape[2]} frames, which give {x.shape[1]} of width {x.shape[2]}; "
                f"allowed: numbers that fill whole audio tokens of width {self.merged_width}"
            )
        layout = self.encoder.layout(x, None)
        encoded = self.encoder(x, layout, hidden_states=hidden_states, attentions=attentions)
        return self.multi_modal_projector(encoded.tokens.reshape(-1, self.merged_width)), encoded
