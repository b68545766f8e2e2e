"""Whole tracks in little memory: the same values, computed in parts.

A layer of ordinary code holds normalised tokens, queries, keys, values and the hidden part of the feed-forward, each as
large as all tokens or several times that. For a track of 10 minutes that is half a gigabyte. Here a block changes the
tokens in place: attention one head after the other, the feed-forward some rows at a time. Without gradients, one track.

Shapes: S tokens with the class token, D width, H heads, F mel bands, T frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from myna_rpe.config import PatchConfig
from myna_rpe.layers import Block, PatchEmbedding, with_class_order
from myna_rpe.patches import patchify
from pentatonic.attention import Alibi2D, Bias, Directional, DistanceTable, attention

ROWS = 512
"""Tokens that pass through a linear layer at a time."""


def embed_in_rows(
    embed: PatchEmbedding, mel: Tensor, patch: PatchConfig, class_token: Tensor | None
) -> Tensor:
    """Embed the patches of one spectrogram ``(1, F, T)``, one row of patches after the other.

    Returns:
        ``(1, S, D)``; the class token comes first, where there is one.
    """
    projection = embed[1]
    assert isinstance(projection, nn.Linear)
    weight = projection.weight
    columns, first = mel.shape[2] // patch.frames, int(class_token is not None)
    x = weight.new_empty(1, first + patch.rows * columns, len(weight))
    if class_token is not None:
        x[:, 0] = class_token
    for number, row in enumerate(mel.split(patch.bands, dim=1)):
        start = first + number * columns
        x[:, start : start + columns] = embed(patchify(row, patch).to(weight.dtype))
    return x


def run_blocks_in_place(
    blocks: Iterable[nn.Module], x: Tensor, *, bias: Bias | None, class_order: Tensor | None, **options: Any
) -> None:
    """Apply blocks, all of the same shapes, to the tokens of one track ``(1, S, D)``, which are overwritten."""
    total = torch.empty_like(x)  # with the next, the same memory for all blocks
    qkv: Tensor | None = None
    for block in blocks:
        assert isinstance(block, Block)
        layer = block.attention
        total.zero_()
        for head in range(layer.heads):
            weights = _weights_of(layer.qkv, layer.heads, head)
            if qkv is None:
                qkv = x.new_empty(3, 1, 1, x.shape[1], weights.shape[1])
            for part, rows in zip(x.split(ROWS, dim=1), qkv.split(ROWS, dim=3), strict=True):
                found = linear(layer.norm(part), weights.flatten(0, 1)).unflatten(-1, (3, -1))
                rows.copy_(found.movedim(2, 0)[:, :, None])
            q, k, v = qkv
            if class_order is not None:
                q, k = (with_class_order(part, class_order) for part in (q, k))
            o = attention(q, k, v, bias=_one_head(bias, head), **options)[:, 0]
            width = o.shape[-1]
            weight = layer.out.weight[:, head * width : (head + 1) * width]
            for part, rows in zip(total.split(ROWS, dim=1), o.split(ROWS, dim=1), strict=True):
                part.add_(rows @ weight.T)
        for part, added in zip(x.split(ROWS, dim=1), total.split(ROWS, dim=1), strict=True):
            part.add_(added)
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
    if isinstance(bias, DistanceTable):
        return DistanceTable(bias.coords, bias.values[..., one, :], bias.signed, bias.cls_tokens)
    return bias
