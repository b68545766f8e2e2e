"""From a style vector to the states that the language model of AudioLDM 2 would write for it.

Shapes: B styles of width D, N states of width H, W hidden width.

The teacher is the language model itself, which has heard the clip's CLAP vector
(:mod:`rc_audioldm.adapters.teacher`). The UNet was trained on states behind the layer norm of GPT-2, so these end in a
layer norm too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from pentatonic.errors import InputError
from pentatonic.untrusted.config import Range, check_fields

_Width = Annotated[int, Range(1, 65_536)]


@dataclass(frozen=True)
class StateAdapterConfig:
    """Sizes.

    Args:
        in_width: D.
        hidden_width: W.
        states: N; 8 for the released models.
        state_width: H; 768 for the released models.
        dropout: Share of hidden values that are set to 0 in training.

    Raises:
        ConfigError: A value is out of its range.
    """

    in_width: _Width = 512
    hidden_width: _Width = 1024
    states: Annotated[int, Range(1, 1024)] = 8
    state_width: _Width = 768
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "state_adapter")


class StyleToStates(nn.Module):
    """``LN(W2 gelu(W1 x + p_n) + b_n)`` for each state n: one network, told apart by what is added.

    Args:
        config: Sizes.
    """

    def __init__(self, config: StateAdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Linear(config.in_width, config.hidden_width)
        self.positions = nn.Parameter(torch.zeros(config.states, config.hidden_width))
        self.second = nn.Linear(config.hidden_width, config.state_width, bias=False)
        self.biases = nn.Parameter(torch.zeros(config.states, config.state_width))
        self.norm = nn.LayerNorm(config.state_width)
        # Not normal numbers: without memory, as when a file is loaded, torch takes seconds to prepare for them.
        nn.init.uniform_(self.positions, -1, 1)

    def forward(self, styles: Tensor) -> Tensor:
        """Predict states.

        Args:
            styles: ``(B, D)`` unit rows.

        Returns:
            ``(B, N, H)``.

        Raises:
            InputError: The styles have another shape.
        """
        if styles.ndim != 2 or styles.shape[1] != self.config.in_width:
            raise InputError(
                f"the styles have the shape {tuple(styles.shape)}, and the adapter takes (B, {self.config.in_width})"
            )
        hidden = functional.gelu(self.first(styles)[:, None] + self.positions)
        hidden = functional.dropout(hidden, self.config.dropout, self.training)
        return self.norm(self.second(hidden) + self.biases)
