"""What is added to the scores for the distance between two tokens.

Shapes: B batch, N tokens, H heads. Coordinates are (time, frequency). The class token has no bias.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from myna_rpe.config import EncoderConfig
from pentatonic.attention import Alibi2D, Bias, Directional, Raw, alibi_slopes

# Learned factors of the original start here.
_FIRST_FACTOR = 0.5


class PositionBias(nn.Module):
    """The bias of a configuration; the same in all layers.

    Attributes:
        time_slopes: ``(H,)`` of ``alibi``, learned or fixed; ``None`` for other kinds.
        freq_slopes: As ``time_slopes``.
        before: ``(H,)`` learned factor for keys that are not after the query in the sequence, or ``None``.
        after: ``(H,)`` for the others, or ``None``.
    """

    time_slopes: Tensor | None
    freq_slopes: Tensor | None

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        positions = config.positions
        self.kind, self.axes = positions.bias, positions.bias_axes
        self.class_tokens = int(config.class_token)
        alibi = self.kind.startswith("alibi")
        self._learned = positions.learned_slopes
        for name, slopes in zip(("time_slopes", "freq_slopes"), _slopes(config), strict=True):
            if not alibi:
                setattr(self, name, None)
            elif self._learned:
                setattr(self, name, nn.Parameter(slopes))
            else:  # a formula gives them: no checkpoint holds them
                self.register_buffer(name, slopes, persistent=False)
        factors = self._learned and not alibi
        self.before = nn.Parameter(torch.full((config.heads,), _FIRST_FACTOR)) if factors else None
        self.after = nn.Parameter(torch.full((config.heads,), _FIRST_FACTOR)) if factors else None

    def forward(self, coords: Tensor) -> Bias | None:
        """Return the descriptor for the attention of all layers.

        Args:
            coords: ``(N, 2)`` or ``(B, N, 2)`` integer coordinates of the tokens without the class token.

        Returns:
            A descriptor over the class token, where there is one, and the tokens; ``None`` without a bias.
        """
        if self.kind == "none":
            return None
        kept = {"both": (1, 1), "time": (1, 0), "freq": (0, 1)}[self.axes]
        coords = coords * torch.tensor(kept, dtype=coords.dtype, device=coords.device)
        if self.class_tokens:
            coords = torch.cat((torch.zeros_like(coords[..., :1, :]), coords), dim=-2)
        if self.time_slopes is not None and self.freq_slopes is not None:
            return Alibi2D(coords, self.time_slopes.float(), self.freq_slopes.float(), self.class_tokens)
        signed = self.kind == "signed"
        # The original subtracts the row and the column of the key from those of the query.
        if self.before is not None and self.after is not None:
            return Directional(coords, self.before.float(), self.after.float(), signed, self.class_tokens)
        return Raw(coords, signed, self.class_tokens)


def _slopes(config: EncoderConfig) -> tuple[Tensor, Tensor]:
    """Slopes for time and frequency, ``(H,)`` each."""
    positions, heads = config.positions, config.heads
    if positions.bias == "alibi_split":  # each half of the heads has a whole series of its own
        n_time = (heads + 1) // 2
        time, freq = torch.zeros(heads), torch.zeros(heads)
        time[:n_time] = alibi_slopes(n_time, positions.slope_rule)
        if heads > n_time:
            freq[n_time:] = alibi_slopes(heads - n_time, positions.slope_rule)
    else:
        time = freq = alibi_slopes(heads, positions.slope_rule)
    return time * positions.time_scale, freq * positions.freq_scale
