"""A GPT-2 decoder written plainly, and the sizes of the released small model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from notagen.model import NotaGenConfig, Trunk

SMALL = NotaGenConfig(patch_layers=12, char_layers=3, width=768, heads=12, patch_length=2048)


def plain_trunk(trunk: Trunk, x: Tensor) -> Tensor:
    """A GPT-2 decoder by nothing but PyTorch's own functions."""
    n, width = x.shape[1:]
    hidden = torch.full((n, n), -torch.inf).triu(1)
    x = x + trunk.positions.weight[:n]
    for block in trunk.blocks:
        normed = F.layer_norm(x, (width,), block.norm_attention.weight, block.norm_attention.bias)
        q, k, v = (
            part.unflatten(-1, (trunk.heads, -1)).transpose(1, 2)
            for part in block.attention.qkv(normed).chunk(3, -1)
        )
        weights = (q @ k.transpose(-1, -2) / (width // trunk.heads) ** 0.5 + hidden).softmax(-1)
        x = x + block.attention.out((weights @ v).transpose(1, 2).flatten(2))
        normed = F.layer_norm(x, (width,), block.norm_mlp.weight, block.norm_mlp.bias)
        x = x + block.mlp.down(F.gelu(block.mlp.up(normed), approximate="tanh"))
    return F.layer_norm(x, (width,), trunk.norm.weight, trunk.norm.bias)
