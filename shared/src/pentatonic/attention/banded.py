"""Attention within a narrow window, block by block, in one fused call for all blocks and all packed sequences.

A block of R queries meets the R + left + right keys around it (Beltagy et al., Longformer, arXiv 2004.05150), so
work and memory grow with N. Off the kernels this is several times faster than tiles, visited one after the other.

Shapes: B batch, H heads, N tokens, D head dimension, n blocks of R queries with S keys each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention

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
        lengths: Of the packed sequences, which fill the N of a single sample and do not see each other; ``None``:
            each sample is one sequence. Each begins with a block of its own, so that its numbers do not depend on
            the others, to the bit.
        scale: Factor on ``q . k``; ``D ** -0.5`` by default.
        dropout_p: Probability of dropping an attention weight.

    Returns:
        ``(B, H, N, Dv)`` in the dtype of ``q``.
    """
    batch, _, length, _ = q.shape
    lengths = [length] * batch if lengths is None else lengths
    if not sum(lengths):
        return v.new_zeros(v.shape)
    rows = max(_ROWS, -(-(left + right) // (2 * _ROWS)) * _ROWS)
    sources, owners = _blocks(lengths, rows, q.device)
    span, around = rows + left + right, _extended(sources, left, right)
    # The heads of a token lie beside each other, so that one pass over long rows brings all tokens to their blocks.
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
    queries = _take(q, sources).unflatten(0, (-1, rows)).transpose(1, 2)  # (n, H, R, D)
    keys, values = (_take(x, around).unfold(0, span, rows).transpose(2, 3) for x in (k, v))  # (n, H, S, D)
    visible = _visible(owners, rows, left, right)[:, None]
    o = scaled_dot_product_attention(queries, keys, values, visible, dropout_p, scale=scale)
    o = _take(o.transpose(1, 2).flatten(0, 1), (owners >= 0).nonzero().flatten())
    return o.unflatten(0, (batch, length)).transpose(1, 2)


def _blocks(lengths: Sequence[int], rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each row of all blocks: the token that it holds, and its sequence; -1 in rows that fill up a block.

    Those hold the last token of the sequence, as what nobody sees must be finite, too.
    """
    counts = torch.tensor(lengths, device=device)
    filled = (counts + rows - 1) // rows * rows
    owners = torch.repeat_interleave(filled)
    first_rows, first_tokens = filled.cumsum(0) - filled, counts.cumsum(0) - counts
    offsets = torch.arange(len(owners), device=device) - first_rows[owners]
    sources = first_tokens[owners] + torch.minimum(offsets, counts[owners] - 1)
    return sources, owners.where(offsets < counts[owners], -1)


def _extended(rows: Tensor, left: int, right: int) -> Tensor:
    """Repeat the first and the last entry so many times."""
    return torch.cat((rows[:1].expand(left), rows, rows[-1:].expand(right)))


def _take(x: Tensor, rows: Tensor) -> Tensor:
    """The rows of ``(N, H, D)``; look-up in a table is the form of indexing whose gradient is fast on a CPU."""
    return embedding(rows, x.flatten(1)).unflatten(1, x.shape[1:])


def _visible(owners: Tensor, rows: int, left: int, right: int) -> Tensor:
    """``(n, R, S)`` true where a query sees a key.

    Each query sees itself, and those that fill up blocks see their like: rows without any key have no gradient.
    """
    span = rows + left + right
    of_keys = torch.nn.functional.pad(owners, (left, right), value=-1).unfold(0, span, rows)
    of_queries = owners.unflatten(0, (-1, rows))
    ahead = torch.arange(-left, span - left, device=owners.device)
    ahead = ahead - torch.arange(rows, device=owners.device)[:, None]
    return (of_queries[..., None] == of_keys[:, None]) & (ahead >= -left) & (ahead <= right)
