"""Angles by which queries and keys are rotated (RoPE, arXiv 2104.09864, on a grid).

Shapes: B batch, N tokens, D head dimension. Coordinates are (time, frequency).
"""

from __future__ import annotations

import torch
from torch import Tensor

from myna_rpe.config import PositionConfig
from pentatonic.attention import Rope


def rotation_table(
    config: PositionConfig, coords: Tensor, dim_head: int, *, class_token: bool
) -> Rope | None:
    """Return the rotation of a configuration.

    Args:
        config: The positions.
        coords: ``(N, 2)`` or ``(B, N, 2)`` integer.
        dim_head: D.
        class_token: Put a token that is not rotated before the others.

    Returns:
        A table for all layers, or ``None`` without a rotation.
    """
    if config.rotation == "none":
        return None
    time, freq = coords.float().unbind(-1)
    match config.rotation:
        case "time":
            angles = _angles(time, dim_head, config.rope_base)
        case "freq":
            angles = _angles(freq, dim_head, config.rope_base)
        case "sum":
            angles = _angles(time + freq, dim_head, config.rope_base)
        case _:
            time_base = config.rope_time_base or config.rope_base
            halves = (
                _angles(freq, dim_head // 2, config.rope_base),
                _angles(time, dim_head // 2, time_base),
            )
            angles = torch.cat(halves, dim=-1)
    if class_token:
        angles = torch.nn.functional.pad(angles, (0, 0, 1, 0))
    return Rope(cos_sin=(angles.cos(), angles.sin()), style="interleaved")


def class_token_order(
    config: PositionConfig, dim_head: int, device: torch.device | None = None
) -> Tensor | None:
    """Return the order in which the class token's query and key meet the others, ``(D,)`` int64.

    The original turns the even and odd entries of a token and puts the results into halves of the rotated part. Among
    those tokens this is the interleaved style, as queries and keys are moved alike; the class token stays as it is.

    Returns:
        ``None`` where the order is the ordinary one.
    """
    if config.rotation == "none" or not config.rope_halves:
        return None
    parts = 2 if config.rotation == "axial" else 1
    width = dim_head // parts
    order = torch.arange(width, device=device).view(2, width // 2).T.flatten()
    return torch.cat([order + part * width for part in range(parts)])


def _angles(position: Tensor, dim: int, base: float) -> Tensor:
    """``(..., N, dim / 2)``."""
    half = dim // 2
    frequencies = base ** (-torch.arange(half, dtype=torch.float32, device=position.device) / half)
    return position[..., None] * frequencies
