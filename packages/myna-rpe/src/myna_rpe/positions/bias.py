"""What is added to the scores for the distance between two tokens.

Shapes: B batch, N tokens, H heads. Coordinates are (time, frequency). The class token has no bias.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from myna_rpe.config import EncoderConfig
from myna_rpe.positions.clamp import Clamp, mean_of_positive
from pentatonic.attention import Alibi2D, Bias, Directional, DistanceTable, Raw, alibi_slopes

# Learned factors of the original start here.
_FIRST_FACTOR = 0.5


class PositionBias(nn.Module):
    """The bias of a configuration; the same in all layers.

    Attributes:
        time_slopes: ``(H,)`` of ``alibi``, learned or fixed; ``None`` for other kinds.
        freq_slopes: As ``time_slopes``.
        before: ``(H,)`` learned factor for keys that are not after the query in the sequence, or ``None``.
        after: ``(H,)`` for the others, or ``None``.
        clamp: How far distances count, or ``None``.
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
        self.heads = config.heads
        self.normalize = positions.clamp is not None and positions.clamp.kind == "normalize"
        self.clamp = Clamp(positions.clamp) if positions.clamp is not None and not self.normalize else None

    def forward(self, coords: Tensor, rows: int, columns: int) -> Bias | None:
        """Return the descriptor for the attention of all layers.

        Args:
            coords: ``(N, 2)`` or ``(B, N, 2)`` integer coordinates of the tokens without the class token.
            rows: Rows of the grid that they are taken from.
            columns: Its columns.

        Returns:
            A descriptor over the class token, where there is one, and the tokens; ``None`` without a bias.

        Raises:
            UsageError: The clamp of signed differences has no value for a grid of this size.
        """
        if self.kind == "none":
            return None
        kept = {"both": (1, 1), "time": (1, 0), "freq": (0, 1)}[self.axes]
        coords = coords * torch.tensor(kept, dtype=coords.dtype, device=coords.device)
        factors = self._factors()
        if self.normalize:
            mean = mean_of_positive(coords, signed=self.kind == "signed")
            factors = torch.ones(2, self.heads, device=mean.device) if factors is None else factors
            factors = factors / mean
        values = None
        if self.clamp is not None:
            columns, rows = (n if used else 1 for n, used in zip((columns, rows), kept, strict=True))
            values = self._table(self.clamp, rows, columns)
            if self.time_slopes is not None:  # a function of both distances
                coords = coords * torch.tensor((rows, 1), dtype=coords.dtype, device=coords.device)
        if self.class_tokens:
            coords = torch.cat((torch.zeros_like(coords[..., :1, :]), coords), dim=-2)
        # The original subtracts the row and the column of the key from those of the query.
        signed = self.kind == "signed"
        if values is not None:
            return DistanceTable(coords, values, signed, self.class_tokens)
        if self.time_slopes is not None and self.freq_slopes is not None:
            return Alibi2D(coords, self.time_slopes.float(), self.freq_slopes.float(), self.class_tokens)
        if factors is not None:
            before, after = factors
            return Directional(coords, before, after, signed, self.class_tokens)
        return Raw(coords, signed, self.class_tokens)

    def _factors(self) -> Tensor | None:
        """Learned factors, ``(2, H)``: before, and after the query."""
        if self.before is None or self.after is None:
            return None
        return torch.stack((self.before.float(), self.after.float()))

    def _table(self, clamp: Clamp, rows: int, columns: int) -> Tensor:
        """The bias for each distance in a grid, as :class:`pentatonic.attention.DistanceTable` reads it."""
        device = clamp.softness.device
        if self.time_slopes is not None and self.freq_slopes is not None:
            time, freq = (clamp(torch.arange(n, device=device)) for n in (columns, rows))
            steep = [slopes.float()[:, None, None] for slopes in (self.time_slopes, self.freq_slopes)]
            return -(steep[0] * time[:, None] + steep[1] * freq).flatten(1)
        farthest = rows + columns - 2
        lowest = -farthest if self.kind == "signed" else 0
        if lowest < 0:
            clamp.check_signed(lowest)
        values = clamp(torch.arange(lowest, farthest + 1, device=device))
        factors = self._factors()
        return values.expand(self.heads, -1) if factors is None else factors[..., None] * values


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
