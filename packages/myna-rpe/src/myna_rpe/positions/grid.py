"""Coordinates of patches.

Shapes: R rows (frequency, 0 the lowest), C columns (time), N = R * C tokens in raster order: token ``row * C + col``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def grid_coordinates(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Return the coordinates (time, frequency) of all patches in raster order, ``(N, 2)`` int32."""
    freq, time = torch.meshgrid(
        torch.arange(rows, dtype=torch.int32, device=device),
        torch.arange(columns, dtype=torch.int32, device=device),
        indexing="ij",
    )
    return torch.stack((time.flatten(), freq.flatten()), dim=-1)
