"""Attention within a narrow window, block by block, in one fused call for all blocks and all packed sequences.

A block of R queries meets the R + left + right keys around it (Beltagy et al., Longformer, arXiv 2004.05150), so
work and memory grow with N. Off the kernels this is several times faster than tiles, visited one after the other.

Shapes: B batch, H heads, N tokens, D head dimension, n blocks of R queries with S keys each.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    lengths: Sequence[int] | None = None,
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
        lengths: Of the packed sequences, which fill N and do not see each other. Each begins with a block of its own,
            so that its numbers do not depend on the others, to the bit. ``None``: each sample is one sequence.
        scale: Factor on ``q . k``; ``D ** -0.5`` by default.
        dropout_p: Probability of dropping an attention weight.

    Returns:
        ``(B, H, N, Dv)`` in the dtype of ``q``.
    """
    rows = max(_ROWS, -(-(left + right) // (2 * _ROWS)) * _ROWS)
    if lengths is not None:
        place, sequences = _places(lengths, rows, q.device)
        total = -(-int(place[-1] + 1) // rows) * rows
        q, k, v = (x.new_zeros(*x.shape[:2], total, x.shape[3]).index_copy(2, place, x) for x in (q, k, v))
        owners = sequences.new_full((total,), -1).index_copy(0, place, sequences)
        o = _by_blocks(q, k, v, owners, rows, left, right, scale, dropout_p)
        return o.index_select(2, place)
    owners = torch.zeros(q.shape[2], dtype=torch.int64, device=q.device)
    return _by_blocks(q, k, v, owners, rows, left, right, scale, dropout_p)


def _places(lengths: Sequence[int], rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """``(N,)`` where each token goes so that sequences begin with a block, and ``(N,)`` the number of its sequence."""
    counts = torch.tensor(lengths, device=device)
    filled = (counts + rows - 1) // rows * rows
    skipped = (filled - counts).cumsum(0) - (filled - counts)
    sequences = torch.repeat_interleave(counts, output_size=sum(lengths))
    return torch.arange(len(sequences), device=device) + skipped[sequences], sequences


def _by_blocks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    owners: Tensor,
    rows: int,
    left: int,
    right: int,
    scale: float | None,
    dropout_p: float,
) -> Tensor:
    """Attention to tokens of the same owner ``(N,)`` within the window, in blocks of so many rows."""
    batch, _, length, _ = q.shape
    blocks = -(-length // rows)
    filled = blocks * rows - length
    span = rows + left + right

    def around(x: Tensor) -> Tensor:  # (B n, H, S, D)
        windows = pad(x, (0, 0, left, filled + right)).unfold(2, span, rows)
        return windows.permute(0, 2, 1, 4, 3).flatten(0, 1)

    queries = pad(q, (0, 0, 0, filled)).unflatten(2, (blocks, rows)).transpose(1, 2).flatten(0, 1)
    visible = _visible(owners, blocks, rows, left, right)
    visible = visible.expand(batch, -1, -1, -1).flatten(0, 1)[:, None]
    o = scaled_dot_product_attention(queries, around(k), around(v), visible, dropout_p, scale=scale)
    return o.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :length]


def _visible(owners: Tensor, blocks: int, rows: int, left: int, right: int) -> Tensor:
    """``(n, R, S)`` true where a query sees a key.

    Each query sees itself, and those that fill up blocks see their like: rows without any key have no gradient.
    """
    span, filled = rows + left + right, blocks * rows - len(owners)
    owners = pad(owners, (left, filled + right), value=-1)
    of_keys = owners.unfold(0, span, rows)
    of_queries = owners[left : left + blocks * rows].unflatten(0, (blocks, rows))
    ahead = torch.arange(-left, span - left, device=owners.device)
    ahead = ahead - torch.arange(rows, device=owners.device)[:, None]
    return (of_queries[..., None] == of_keys[:, None]) & (ahead >= -left) & (ahead <= right)
