"""The projector: a network with one hidden layer from CLAP vectors to CLAP vectors.

Shapes: ``(..., D)`` vectors of width D, H hidden width, O output width.

One class stands for all four projectors of the original, which differ in their flags; their files are in
:mod:`rc_audioldm.adapters.projector_layouts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pentatonic.errors import ConfigError, InputError
from pentatonic.untrusted.config import Range, check_fields

Activation = Literal["silu", "gelu"]
_Width = Annotated[int, Range(1, 65_536)]


@dataclass(frozen=True)
class ProjectorConfig:
    """What a projector computes.

    Args:
        in_width: D.
        hidden_width: H.
        out_width: O.
        activation: After the first layer: ``silu``, or ``gelu`` in its exact form.
        residual: Add the input to the second layer's output; O is D then.
        layer_norm: Normalise mean and variance of the sum, with learned scale and shift.
        normalise: Divide the output by its norm.
        dropout: Share of hidden values that are set to 0 in training.

    Raises:
        ConfigError: A value is out of its range, or ``residual`` is on and the widths differ.
    """

    in_width: _Width = 512
    hidden_width: _Width = 1024
    out_width: _Width = 512
    activation: Activation = "silu"
    residual: bool = True
    layer_norm: bool = False
    normalise: bool = True
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "projector")
        if self.residual and self.in_width != self.out_width:
            raise ConfigError(
                f"projector.residual needs equal widths; in_width is {self.in_width} and out_width {self.out_width}"
            )


class Projector(nn.Module):
    """``normalise(layer_norm(W2 activation(W1 x + b1) + b2 + x))``, each part as the configuration says.

    A residual projector without layer norm begins as the identity, so training starts from the result that CLAP has
    without an adapter.

    Args:
        config: What it computes.
    """

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Linear(config.in_width, config.hidden_width)
        self.second = nn.Linear(config.hidden_width, config.out_width)
        self.norm = nn.LayerNorm(config.out_width) if config.layer_norm else nn.Identity()
        nn.init.zeros_(self.first.bias)
        nn.init.zeros_(self.second.bias)
        if config.residual:
            nn.init.zeros_(self.second.weight)
        else:
            nn.init.xavier_uniform_(self.second.weight)

    def forward(self, vectors: Tensor) -> Tensor:
        """Project vectors.

        Args:
            vectors: ``(..., D)``.

        Returns:
            ``(..., O)``, of norm 1 if the configuration says ``normalise``.

        Raises:
            InputError: The vectors have another width.
        """
        config = self.config
        if vectors.shape[-1:] != (config.in_width,):
            raise InputError(
                f"the vectors have the shape {tuple(vectors.shape)}, and the projector takes (..., {config.in_width})"
            )
        hidden = self.first(vectors)
        hidden = functional.silu(hidden) if config.activation == "silu" else functional.gelu(hidden)
        output = self.second(functional.dropout(hidden, config.dropout, self.training))
        if config.residual:
            output = output + vectors
        output = self.norm(output)
        return functional.normalize(output, dim=-1) if config.normalise else output


def untrained_projector(config: ProjectorConfig, seed: int = 0) -> Projector:
    """Return a projector with fresh weights that depend on the seed alone, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Projector(config).eval()
