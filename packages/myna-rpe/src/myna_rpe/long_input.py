"""Whole tracks in little memory: the same values, computed in parts.

A layer of ordinary code holds normalised tokens, queries, keys, values and the hidden part of the feed-forward, each as
large as all tokens or several times that. For a track of 10 minutes that is half a gigabyte. Here a block changes the
tokens in place: attention one head after the other, the feed-forward some rows at a time. Without gradients, one track.

Shapes: S tokens with the class token, D width, H heads, F mel bands, T frames.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from myna_rpe.config import PatchConfig
from myna_rpe.layers import Block, PatchEmbedding, with_class_order
from myna_rpe.patches import patchify
from pentatonic.attention import Alibi2D, Bias, Directional, attention

ROWS = 2048
"""Tokens that pass through a linear layer at a time."""


def embed_in_rows(embed: PatchEmbedding, mel: Tensor, patch: PatchConfig) -> Tensor:
    """Embed the patches of one spectrogram ``(1, F, T)``, one row of patches after the other: ``(1, N, D)``."""
    dtype = next(embed.parameters()).dtype
    return torch.cat([embed(patchify(row, patch).to(dtype)) for row in mel.split(patch.bands, dim=1)], dim=1)


def run_block_in_place(
    block: Block, x: Tensor, *, bias: Bias | None, class_order: Tensor | None, **options: Any
) -> None:
    """Apply a block to the tokens of one track ``(1, S, D)``, which are overwritten."""
    layer = block.attention
    total = torch.zeros_like(x)
    for head in range(layer.heads):
        q, k, v = (
            torch.cat([linear(layer.norm(part), weight) for part in x.split(ROWS, dim=1)], dim=1)
            for weight in _weights_of(layer.qkv, layer.heads, head)
        )
        q, k, v = (part[:, None] for part in (q, k, v))
        if class_order is not None:
            q, k = (with_class_order(part, class_order) for part in (q, k))
        o = attention(q, k, v, bias=_one_head(bias, head), **options)[:, 0]
        width = o.shape[-1]
        weight = layer.out.weight[:, head * width : (head + 1) * width]
        for part, rows in zip(total.split(ROWS, dim=1), o.split(ROWS, dim=1), strict=True):
            part.add_(rows @ weight.T)
    x.add_(total)
    del total
    for part in x.split(ROWS, dim=1):
        part.add_(block.mlp(part))


def _weights_of(qkv: nn.Linear, heads: int, head: int) -> Tensor:
    """Weights of query, key and value of one head, ``(3, head width, D)``."""
    return qkv.weight.unflatten(0, (3, heads, -1))[:, head]


def _one_head(bias: Bias | None, head: int) -> Bias | None:
    one = slice(head, head + 1)
    if isinstance(bias, Alibi2D):
        return Alibi2D(bias.coords, bias.slope_t[one], bias.slope_f[one], bias.cls_tokens)
    if isinstance(bias, Directional):
        return Directional(bias.coords, bias.left[one], bias.right[one], bias.signed, bias.cls_tokens)
    return bias
