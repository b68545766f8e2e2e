"""Rotary position embeddings, in half-split and interleaved form.

Shapes: N tokens, D head dimension, d <= D rotary dimension (the first d entries of each head are rotated).
Pair p of d/2 at position n is turned by the angle ``n * theta ** (-2p/d)``: (a, b) -> (a cos - b sin, a sin +
b cos).

Source: RoFormer (Su et al., arXiv 2104.09864).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pentatonic.errors import UsageError

RopeStyle = Literal["half", "interleaved"]


def rope_frequencies(
    dim: int,
    theta: float = 10000.0,
    device: torch.device | str | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Angular frequencies ``theta ** (-2p/dim)`` in radians per position.

    Args:
        dim: Rotary dimension d, even and positive.
        theta: Base of the geometric series, positive.
        device: Where the result lives.
        dtype: float32, or float64 for reference computations.

    Returns:
        ``(dim/2,)``, falling from 1.

    Raises:
        UsageError: ``dim`` is odd or not positive, or ``theta`` is not positive.
    """
    if dim <= 0 or dim % 2:
        raise UsageError(f"the rotary dimension must be even and positive, got {dim}")
    if theta <= 0:
        raise UsageError(f"theta must be positive, got {theta}")
    exponents = torch.arange(0, dim, 2, device=device, dtype=dtype) / dim
    return 1.0 / theta**exponents


def rope_table(
    positions: Tensor, dim: int, theta: float = 10000.0, *, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Cosines and sines for :func:`apply_rope`; build them once and share them between layers.

    Args:
        positions: ``(N,)`` or ``(B, N)``, integer or floating. Positions are taken as they are, so half
            precision ones are only exact up to 256 (bfloat16) or 2048 (float16).
        dim: Rotary dimension d, even and positive.
        theta: Base of the frequencies.
        dtype: float32, or float64 for reference computations.

    Returns:
        ``(cos, sin)``, each ``(..., N, dim/2)``.

    Raises:
        UsageError: ``dim`` is odd or not positive, or ``theta`` is not positive.
    """
    frequencies = rope_frequencies(dim, theta, positions.device, dtype=dtype)
    angles = positions.to(dtype)[..., None] * frequencies
    return angles.cos(), angles.sin()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor, *, style: RopeStyle = "half") -> Tensor:
    """Rotate queries or keys; differentiable in ``x``.

    Args:
        x: ``(..., N, D)``, floating. The rotation runs in float32, or in float64 when ``x`` or the table is
            float64.
        cos: ``(N, d/2)``, or ``(B, N, d/2)``, which gets a head axis when ``x`` is ``(B, H, N, D)``.
        sin: As ``cos``.
        style: ``"half"`` pairs (p, p + d/2) as in GPT-NeoX and ModernBERT; ``"interleaved"`` pairs (2p, 2p +
            1) as in RoFormer.

    Returns:
        Tensor of the shape and dtype of ``x``.

    Raises:
        UsageError: An unknown style, or d > D.
    """
    d = 2 * cos.shape[-1]
    if d > x.shape[-1]:
        raise UsageError(f"the table rotates {d} dimensions, but x has only {x.shape[-1]}")
    if cos.dim() > 2 and cos.dim() == x.dim() - 1:
        cos, sin = cos.unsqueeze(-3), sin.unsqueeze(-3)
    rotated = x[..., :d].to(torch.promote_types(torch.promote_types(x.dtype, cos.dtype), torch.float32))
    if style == "half":
        # Few passes over long rows: faster on a CPU than the four products of half rows, with the same bits.
        swapped = torch.cat((rotated[..., d // 2 :], rotated[..., : d // 2]), dim=-1)
        rotated = (rotated * torch.cat((cos, cos), dim=-1)).add_(swapped.mul_(torch.cat((-sin, sin), dim=-1)))
    elif style == "interleaved":
        a, b = rotated[..., 0::2], rotated[..., 1::2]
        rotated = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
    else:
        raise UsageError(f"unknown rope style {style!r}; allowed: 'half', 'interleaved'")
    rotated = rotated.to(x.dtype)
    return rotated if d == x.shape[-1] else torch.cat((rotated, x[..., d:]), dim=-1)
