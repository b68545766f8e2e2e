"""Attention within a narrow window, block by block, in one fused call for all blocks and all packed sequences.

A block of R queries meets the R + left + right keys around it (Beltagy et al., Longformer, arXiv 2004.05150), so
work and memory grow with N. Off the kernels this is several times faster than tiles, visited one after the other.

Shapes: B batch, H heads, N tokens, D head dimension, n blocks of R queries with S keys each.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

# Wider windows were not measured; of their mask, N x S, tiles never hold more than a part.
WIDEST = 1024
# Rows of a block: about half the window, measured on two cores for windows of 17 to 1,025 tokens.
_ROWS = 32


def banded_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    left: int,
    right: int,
    sequences: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Softmax attention of each token to those from ``left`` before to ``right`` after it.

    Args:
        q: ``(B, H, N, D)`` floating, rotated already.
        k: ``(B, H, N, D)``.
        v: ``(B, H, N, Dv)``.
        left: Keys visible before the query, at least 0.
        right: Keys visible after it, at least 0.
        sequences: ``(N,)`` number of the packed sequence, from 0, that each token belongs to; tokens of others are
            not seen. ``None``: each sample is one sequence.
        scale: Factor on ``q . k``; ``D ** -0.5`` by default.
        dropout_p: Probability of dropping an attention weight.

    Returns:
        ``(B, H, N, Dv)`` in the dtype of ``q``.
    """
    batch, _, length, _ = q.shape
    rows = max(_ROWS, -(-(left + right) // (2 * _ROWS)) * _ROWS)
    blocks = -(-length // rows)
    filled = blocks * rows - length
    span = rows + left + right

    def around(x: Tensor) -> Tensor:  # (B n, H, S, D)
        windows = pad(x, (0, 0, left, filled + right)).unfold(2, span, rows)
        return windows.permute(0, 2, 1, 4, 3).flatten(0, 1)

    queries = pad(q, (0, 0, 0, filled)).unflatten(2, (blocks, rows)).transpose(1, 2).flatten(0, 1)
    visible = _visible(blocks, rows, length, left, right, sequences, q.device)
    visible = visible.expand(batch, -1, -1, -1).flatten(0, 1)[:, None]
    o = scaled_dot_product_attention(queries, around(k), around(v), visible, dropout_p, scale=scale)
    return o.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :length]


def _visible(
    blocks: int,
    rows: int,
    length: int,
    left: int,
    right: int,
    sequences: Tensor | None,
    device: torch.device,
) -> Tensor:
    """``(n, R, S)`` true where a query sees a key.

    Each query sees itself, and those that fill up the last block see their like: rows without any key have no gradient.
    """
    if sequences is None:
        sequences = torch.zeros(length, dtype=torch.int64, device=device)
    span, filled = rows + left + right, blocks * rows - length
    owners = pad(sequences, (left, filled + right), value=-1)
    of_keys = owners.unfold(0, span, rows)
    of_queries = owners[left : left + blocks * rows].unflatten(0, (blocks, rows))
    ahead = torch.arange(-left, span - left, device=device) - torch.arange(rows, device=device)[:, None]
    return (of_queries[..., None] == of_keys[:, None]) & (ahead >= -left) & (ahead <= right)
