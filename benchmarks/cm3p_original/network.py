"""The network as the original computes it without flash attention: padded, and every layer with the full matrix.

The weights are those of our models. Local layers, too, compute all pairs of positions; a mask hides those outside their
window, and another hides padding. Shapes: B windows, L padded length, H heads, d head dimension, h width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cm3p.model import CM3PModel
from cm3p.network.audio import AudioTower
from cm3p.network.encoder import Encoder


def beatmap_vectors(model: CM3PModel, ids: Tensor, mask: Tensor, features: Tensor | None = None) -> Tensor:
    """Return ``(B, D)`` vectors of norm 1 of windows.

    Args:
        model: A full model, whose pooled position is the first.
        ids: ``(B, L)``.
        mask: ``(B, L)`` 1 at valid tokens.
        features: ``(B, n_mels, T)`` spectrograms.
    """
    tower = model.beatmap_model
    embeds = tower.encoder.embeddings.tok_embeddings(ids)
    if features is not None:
        places = ids == tower.audio_token_id
        embeds = embeds.masked_scatter(places[..., None], audio_tokens(tower.audio_encoder, features))
    return F.normalize(model.beatmap_projection(encoded(tower.encoder, embeds, mask)[:, 0]), dim=-1)


def metadata_vectors(model: CM3PModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Return ``(M, V, D)`` vectors of norm 1 of metadata ``(M, V, L)``, each sequence encoded."""
    encoder = model.metadata_model.encoder
    embeds = encoder.embeddings.tok_embeddings(ids.flatten(0, 1))
    pooled = encoded(encoder, embeds, mask.flatten(0, 1))[:, 0]
    return F.normalize(model.metadata_projection(pooled), dim=-1).unflatten(0, ids.shape[:2])


def audio_tokens(tower: AudioTower, features: Tensor) -> Tensor:
    """Return the audio tokens of all windows, one after the other."""
    x = F.gelu(tower.conv2(F.gelu(tower.conv1(features)))).transpose(1, 2)
    x = encoded(tower.encoder, x, torch.ones(x.shape[:2], dtype=torch.long))
    return tower.multi_modal_projector(x.reshape(-1, tower.merged_width))


def encoded(encoder: Encoder, embeds: Tensor, mask: Tensor) -> Tensor:
    """Return ``(B, L, h)`` tokens after the final norm."""
    length = embeds.shape[1]
    positions = torch.arange(length)
    hidden = torch.finfo(embeds.dtype).min
    padding = torch.zeros(len(mask), 1, length, length).masked_fill(~mask.bool()[:, None, None], hidden)
    masks: dict[int | None, Tensor] = {None: padding}
    x = encoder.embeddings(embeds)
    layers: Any = encoder.layers
    for layer in layers:
        attention = layer.attn
        if attention.side not in masks:
            outside = (positions - positions[:, None]).abs() > attention.side
            masks[attention.side] = padding.masked_fill(outside, hidden)
        heads = attention.Wqkv(layer.attn_norm(x)).unflatten(-1, (3, attention.heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        cos, sin = _rotations(positions, q.shape[-1], attention.theta)
        q, k = (t * cos + _half_rotated(t) * sin for t in (q, k))
        o = F.scaled_dot_product_attention(q, k, v, attn_mask=masks[attention.side])
        x = x + attention.Wo(o.transpose(1, 2).flatten(-2))
        x = x + layer.mlp(layer.mlp_norm(x))
    return encoder.final_norm(x)


def _rotations(positions: Tensor, width: int, theta: float) -> tuple[Tensor, Tensor]:
    frequencies = theta ** (-torch.arange(0, width, 2) / width)
    angles = (positions[:, None] * frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def _half_rotated(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)
