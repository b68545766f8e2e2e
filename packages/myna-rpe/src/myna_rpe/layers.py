"""Layers of the encoder.

Shape legend: B batch, S tokens with the class token, P values per patch, D width, H heads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from myna_rpe.config import EncoderConfig, PatchConfig
from pentatonic.attention import attention


class PatchEmbedding(nn.Sequential):
    """LayerNorm, linear layer, LayerNorm: ``(..., P) -> (..., D)``. The first norm takes out the level of a patch."""

    def __init__(self, patch: PatchConfig, dim: int) -> None:
        super().__init__(nn.LayerNorm(patch.values), nn.Linear(patch.values, dim), nn.LayerNorm(dim))


class SelfAttention(nn.Module):
    """Attention with a norm before it; query, key and value come from one matrix, without biases."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        inner = config.heads * config.dim_head
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.dim)
        self.qkv = nn.Linear(config.dim, 3 * inner, bias=False)
        self.out = nn.Linear(inner, config.dim, bias=False)

    def forward(self, x: Tensor, class_order: Tensor | None, **options: Any) -> Tensor:
        """``(B, S, D) -> (B, S, D)``; arguments as :meth:`Block.forward`."""
        qkv = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        if class_order is not None:
            q, k = (with_class_order(part, class_order) for part in (q, k))
        return self.out(attention(q, k, v, **options).transpose(1, 2).flatten(2))


def with_class_order(x: Tensor, order: Tensor) -> Tensor:
    """Reorder the entries of the first token of queries or keys ``(B, H, S, head width)``."""
    return torch.cat((x[:, :, :1, order], x[:, :, 1:]), dim=2)


class FeedForward(nn.Module):
    """Norm, linear layer, GELU, linear layer."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.up = nn.Linear(config.dim, config.mlp_dim)
        self.down = nn.Linear(config.mlp_dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D) -> (..., D)``."""
        return self.down(F.gelu(self.up(self.norm(x))))


class Block(nn.Module):
    """A block with norms in its branches."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, *, class_order: Tensor | None = None, **options: Any) -> Tensor:
        """Apply the block.

        Args:
            x: ``(B, S, D)``.
            class_order: Order of the entries of the class token's queries and keys, ``(head width,)``; ``None``: as
                they are.
            options: Of :func:`pentatonic.attention.attention`.

        Returns:
            ``(B, S, D)``.
        """
        x = x + self.attention(x, class_order, **options)
        return x + self.mlp(x)
