"""Codes of the place of a token that are added to it.

Shapes: B batch, N tokens, D width, R rows, C columns. Coordinates are (time, frequency).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from myna_rpe.config import Absolute, EncoderConfig
from pentatonic.errors import UsageError


class AbsoluteCode(nn.Module):
    """The absolute code of a configuration, and its table of rows.

    Attributes:
        row_table: ``(R, D)``, learned, or ``None``.
        time_table: ``(C, D)``, learned (``learned_xy``), or ``None``.
        freq_table: ``(R, D)``, learned (``learned_xy``), or ``None``.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.kind: Absolute = config.positions.absolute
        rows, columns, dim = config.patch.rows, config.columns(), config.dim
        self.dim = dim
        self.row_table = nn.Parameter(torch.zeros(rows, dim)) if config.positions.row_table else None
        learned = self.kind == "learned_xy"
        self.time_table = nn.Parameter(torch.zeros(columns, dim)) if learned else None
        self.freq_table = nn.Parameter(torch.zeros(rows, dim)) if learned else None

    def forward(self, coords: Tensor, columns: int) -> Tensor | None:
        """Return the codes of tokens.

        Args:
            coords: ``(N, 2)`` or ``(B, N, 2)`` integer coordinates.
            columns: C of the grid that they are taken from.

        Returns:
            ``(N, D)`` or ``(B, N, D)`` float32, or ``None`` where nothing is added.

        Raises:
            UsageError: The grid has more columns than the learned table.
        """
        time, freq = coords.long().unbind(-1)
        code = fixed_code(self.kind, time, freq, columns, self.dim)
        if self.time_table is not None and self.freq_table is not None:
            if columns > len(self.time_table):
                raise UsageError(
                    f"the input has {columns} columns of patches, and the learned positions end at "
                    f"{len(self.time_table)}; embed it in chunks"
                )
            code = self.time_table[time] + self.freq_table[freq]
        if self.row_table is not None:
            rows = self.row_table[freq]
            code = rows if code is None else code + rows
        return code


def fixed_code(kind: Absolute, time: Tensor, freq: Tensor, columns: int, dim: int) -> Tensor | None:
    """Return the code of a kind without parameters, ``(..., D)`` float32, or ``None``."""
    match kind:
        case "sincos2d":
            return sincos2d(time, freq, dim)
        case "sin_raster":
            return sinusoid(freq * columns + time, dim)
        case "sin_xy":
            return torch.cat((sinusoid(time, dim // 2), sinusoid(freq, dim // 2)), dim=-1)
        case "sin_x":
            return sinusoid(time, dim)
        case "sin_y":
            return sinusoid(freq, dim)
    return None


def sincos2d(time: Tensor, freq: Tensor, dim: int) -> Tensor:
    """Return the fixed code of Myna, ``(..., D)`` float32: sine and cosine of the time, then of the frequency."""
    quarter = dim // 4
    # The exponent ends at 1, so the division is by one less than the number of frequencies.
    steps = torch.arange(quarter, dtype=torch.float32, device=time.device) / (quarter - 1)
    frequencies = 1.0 / (10000**steps)
    angles = [axis[..., None].float() * frequencies for axis in (time, freq)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=-1)


def sinusoid(position: Tensor, dim: int) -> Tensor:
    """Return the code of the Transformer paper, ``(..., D)`` float32: sines in even places, cosines in odd ones."""
    steps = torch.arange(0, dim, 2, dtype=torch.float32, device=position.device)
    angle = position[..., None].float() * torch.exp(steps * (-math.log(10000.0) / dim))
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)
