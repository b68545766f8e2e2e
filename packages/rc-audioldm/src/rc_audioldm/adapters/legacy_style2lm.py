"""The original's ``Style2LMAdapter``, for its checkpoints; nothing in the original ever reads one.

Shapes: B styles of width D, S positions of width H.

It was trained to predict a random matrix times the states of T5, so its output means nothing to a model. Use
:class:`rc_audioldm.adapters.style_to_states.StyleToStates`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from pentatonic.checkpoint import read_legacy
from pentatonic.errors import WeightsError
from rc_audioldm.adapters.strict_loading import with_weights


class LegacyStyle2LM(nn.Module):
    """One vector for all positions, plus a vector of each, and two convolutions over the positions.

    Args:
        width: D.
        hidden: H.
        seq_len: S.
        conv_kernel: Positions that the first convolution sees; odd.
        dropout: Share of values that are set to 0 in training.
    """

    def __init__(
        self,
        width: int = 512,
        hidden: int = 768,
        seq_len: int = 512,
        conv_kernel: int = 3,
        dropout: float = 0.05,
    ) -> None:
        super().__init__()
        self.pos = nn.Parameter(torch.empty(1, seq_len, hidden))
        nn.init.uniform_(self.pos, -0.03, 0.03)
        self.inp = nn.Linear(width, hidden)
        self.drop = nn.Dropout(dropout)
        self.dw = nn.Conv1d(hidden, hidden, conv_kernel, padding=conv_kernel // 2, groups=hidden)
        self.pw = nn.Conv1d(hidden, hidden, 1)
        self.ln = nn.LayerNorm(hidden)

    def forward(self, styles: Tensor) -> Tensor:
        """Map ``(B, D)`` to ``(B, S, H)``."""
        states = self.drop(self.inp(styles)[:, None] + self.pos)
        return self.ln(self.pw(self.dw(states.transpose(1, 2))).transpose(1, 2))


def load_legacy_style2lm(path: str | Path) -> LegacyStyle2LM:
    """Load ``style2lm_adapter.pt`` of the original, in evaluation mode; its sizes are those of its tensors.

    Raises:
        CheckpointError: It cannot be read, or holds anything but tensors and plain values.
        WeightsError: It is no such adapter.
    """
    tensors = read_legacy(path, max_bytes=1 << 30)
    try:
        (_, seq_len, hidden), (_, width) = tensors["pos"].shape, tensors["inp.weight"].shape
        kernel = tensors["dw.weight"].shape[2]
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError(f"{path}: is no Style2LMAdapter, which has pos, inp, dw, pw and ln") from error
    if min(seq_len, hidden, width) < 1 or kernel % 2 == 0:
        raise WeightsError(f"{path}: a size is 0, or the convolution is even ({kernel})")
    try:
        return with_weights(lambda: LegacyStyle2LM(width, hidden, seq_len, kernel), tensors)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
