"""Exact attention in tiles: memory O(N) in the forward and in the backward pass, on any device.

The forward pass keeps a running maximum and sum per row (online softmax); the backward pass recomputes each
tile from the stored log-sum-exp, so nothing of size N x N ever exists (Dao et al., FlashAttention, arXiv
2205.14135). Tiles that window, causal bound and intervals rule out are never visited.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension; tiles as in
:mod:`pentatonic.attention.tiles`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import e, log2

import torch
from torch import Tensor

from pentatonic.attention.descriptors import Visibility
from pentatonic.attention.intervals import covers_all
from pentatonic.attention.problem import Distances, take
from pentatonic.attention.tiles import RowBlock, Tiling

# Scores are to base 2: exp2 is several times faster than exp on a CPU, also where it underflows, as it does for most
# keys of a steep head.
LOG2_E = log2(e)


def chunked_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor | None,
    key_bias: Tensor | None,
    *,
    distances: Distances,
    visibility: Visibility,
    scale: float,
    dropout_p: float,
    seed: int,
    intervals: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Softmax attention, computed in float64 for float64 inputs and in float32 otherwise.

    The bias comes in the form that :func:`pentatonic.attention.problem.lower_bias` gives it.

    Args:
        q: ``(B, H, Nq, D)``, any strides, rotated already.
        k: ``(B, H, Nk, D)``.
        v: ``(B, H, Nk, Dv)``.
        weights: ``(M, H)`` in the computing dtype, one row per distance.
        key_bias: ``(B, H, Nk)`` in the computing dtype.
        distances: What the weights multiply.
        visibility: Which keys a query sees.
        scale: Factor on ``q . k``.
        dropout_p: Probability in [0, 1] that a weight is zeroed, the others being scaled by
            ``1 / (1 - dropout_p)``.
        seed: Of the dropout masks; ignored without dropout.
        intervals: ``(B, H, groups, 2)`` from :func:`pentatonic.attention.intervals.key_intervals`, which keys
            to visit; ``None`` for all.

    Returns:
        ``(o, lse)``: ``(B, H, Nq, Dv)`` in the dtype of ``q``, and ``(B, H, Nq)`` natural logarithm in the
        computing dtype. A row that sees no key has o = 0 and lse = -inf.
    """
    dtype = torch.promote_types(q.dtype, torch.float32)
    tiles = _Tiles(q, k, weights, key_bias, distances, visibility, dropout_p, seed, intervals)
    # In the memory order of q, often token-major, so that joining the heads afterwards needs no copy.
    o = torch.empty_like(q) if v.shape[-1] == q.shape[-1] else q.new_empty(*q.shape[:-1], v.shape[-1])
    lse = q.new_empty(q.shape[:-1], dtype=dtype)
    with torch.autocast(q.device.type, enabled=False):
        for block in tiles.tiling.row_blocks():
            scaled_q = q[block].to(dtype) * (scale * LOG2_E)
            # A finite floor: for rows without a key so far, -inf minus -inf would be NaN.
            m = scaled_q.new_full((*scaled_q.shape[:-1], 1), torch.finfo(dtype).min)
            total = torch.zeros_like(m)
            acc = scaled_q.new_zeros(*scaled_q.shape[:-1], v.shape[-1])
            for keys in tiles.tiling.key_blocks(block):
                columns = (block.samples, block.heads, keys)
                s = tiles.scores(scaled_q, k[columns].to(dtype), block, keys)
                m_new = torch.maximum(m, s.amax(dim=-1, keepdim=True))
                p = s.sub_(m_new).exp2_()
                rescale = (m - m_new).exp2_()
                total = total * rescale + p.sum(dim=-1, keepdim=True)
                dropout = tiles.dropout(p)
                acc = acc * rescale + (p if dropout is None else p * dropout) @ v[columns].to(dtype)
                m = m_new
            o[block] = (acc / total.masked_fill(total == 0, 1.0)).to(o.dtype)
            lse[block] = (m + total.log2())[..., 0] / LOG2_E
    return o, lse


def chunked_backward(
    grad_o: Tensor,
    grad_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    lse: Tensor,
    weights: Tensor | None,
    key_bias: Tensor | None,
    *,
    distances: Distances,
    visibility: Visibility,
    scale: float,
    dropout_p: float,
    seed: int,
    intervals: Tensor | None,
    needs_weights: bool,
    needs_key_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """The gradients of :func:`chunked_forward`, called with the same options.

    Args:
        grad_o: ``(B, H, Nq, Dv)``.
        grad_lse: ``(B, H, Nq)``, or ``None`` for zeros.
        q: As in the forward pass, like ``k``, ``v``, ``weights`` and ``key_bias``.
        k: ``(B, H, Nk, D)``.
        v: ``(B, H, Nk, Dv)``.
        o: Output of the forward pass.
        lse: Output of the forward pass.
        weights: ``(M, H)``.
        key_bias: ``(B, H, Nk)``.
        distances: As in the forward pass, like all options up to ``intervals``.
        visibility: Which keys a query sees.
        scale: Factor on ``q . k``.
        dropout_p: Probability that a weight is zeroed.
        seed: Of the dropout masks.
        intervals: Which keys were visited.
        needs_weights: Whether to compute the gradient of ``weights``.
        needs_key_bias: Whether to compute the gradient of ``key_bias``.

    Returns:
        ``(dq, dk, dv, d_weights, d_key_bias)``, each like its input, the last two ``None`` if not needed.
        Rows that see no key add nothing.
    """
    dtype = lse.dtype
    tiles = _Tiles(q, k, weights, key_bias, distances, visibility, dropout_p, seed, intervals)
    dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
    # (B, H, D, Nk): sums over rows are faster as (D, r) @ (r, c) than as (c, r) @ (r, D).
    dk_t, dv_t = (x.new_zeros(x.transpose(-1, -2).shape, dtype=dtype) for x in (k, v))
    d_weights = torch.zeros_like(weights) if weights is not None and needs_weights else None
    d_key_bias = torch.zeros_like(key_bias) if key_bias is not None and needs_key_bias else None
    with torch.autocast(q.device.type, enabled=False):
        for block in tiles.tiling.row_blocks():
            scaled_q, do = q[block].to(dtype) * (scale * LOG2_E), grad_o[block].to(dtype)
            row_lse, delta = _row_terms(block, do, grad_lse, o, lse)
            dq_rows = torch.zeros_like(scaled_q)
            for keys in tiles.tiling.key_blocks(block):
                columns = (block.samples, block.heads, keys)
                columns_t = (block.samples, block.heads, slice(None), keys)
                k_tile, v_tile = k[columns].to(dtype), v[columns].to(dtype)
                p = tiles.scores(scaled_q, k_tile, block, keys).sub_(row_lse).exp2_()
                dp = tiles.products(do, v_tile)
                dropout = tiles.dropout(p)
                if dropout is not None:
                    dp *= dropout
                dv_t[columns_t] += do.transpose(-1, -2) @ (p if dropout is None else p * dropout)
                ds = dp.sub_(delta).mul_(p)
                dq_rows += ds @ k_tile
                dk_t[columns_t] += scaled_q.transpose(-1, -2) @ ds
                if d_weights is not None:
                    tiles.add_to_weights(d_weights, ds, block, keys, p)  # p is not needed any more
                if d_key_bias is not None:
                    d_key_bias[columns] += ds[..., tiles.first_biased_row(block) :, :].sum(dim=-2)
            dq[block] = (dq_rows * scale).to(q.dtype)
    dk.copy_(dk_t.div_(LOG2_E).transpose(-1, -2))
    dv.copy_(dv_t.transpose(-1, -2))
    return dq, dk, dv, d_weights, d_key_bias


def _row_terms(
    block: RowBlock, do: Tensor, grad_lse: Tensor | None, o: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor]:
    """Per row, what is subtracted from scores (base 2) and from dP; finite and 0 for dead rows."""
    row_lse = lse[block][..., None]
    dead = row_lse == float("-inf")
    delta = (do * o[block].to(lse.dtype)).sum(dim=-1, keepdim=True)
    if grad_lse is not None:
        delta = delta - grad_lse[block][..., None]
    return row_lse.masked_fill(dead, 0.0) * LOG2_E, delta.masked_fill(dead, 0.0)


class _Tiles:
    """Scores and dropout of one pass, tile by tile, the same in both passes.

    All tiles share one buffer, because allocating per tile can cost more than the elementwise work. What a method
    returns is overwritten by its next call.
    """

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        weights: Tensor | None,
        key_bias: Tensor | None,
        distances: Distances,
        visibility: Visibility,
        dropout_p: float,
        seed: int,
        intervals: Tensor | None,
    ) -> None:
        batch, heads, n_q, _ = q.shape
        live = None if intervals is None or covers_all(intervals, k.shape[2]) else intervals.tolist()
        self.tiling = Tiling(batch, heads, n_q, k.shape[2], visibility, live, distances.cls_tokens)
        self._distances = distances
        # Rows of a table are read by entry: heads first, entries one after the other.
        self._table = self._weights = None
        if weights is not None and distances.table:
            self._table = (weights * LOG2_E).T.contiguous()
        elif weights is not None:
            self._weights = weights[..., None, None] * LOG2_E
        self._key_bias = None if key_bias is None else key_bias * LOG2_E
        dtype = torch.promote_types(q.dtype, torch.float32)
        # Scores, their gradients, and distances along two axes.
        self._memory = q.new_empty(4, self.tiling.largest, dtype=dtype)
        self._dropout_p = dropout_p
        self._generator = torch.Generator(q.device).manual_seed(seed) if dropout_p else None

    def scores(self, scaled_q: Tensor, k_tile: Tensor, block: RowBlock, keys: slice) -> Tensor:
        """Biased scores ``(b, h, r, c)`` to base 2, -inf where hidden."""
        s = _outer(scaled_q, k_tile, self._memory[0])
        if self._weights is not None:
            for m, distance in self.distances(block, keys):
                s.addcmul_(self._weights[m, block.heads], distance)
        if self._table is not None:
            entries = self._entries(block, keys)
            table = self._table[block.heads]
            added = table.gather(1, entries.flatten().expand(len(table), -1))  # faster than indexing
            s += added.unflatten(1, entries.shape).transpose(0, 1)
        if self._key_bias is not None:
            added = self._key_bias[block.samples, block.heads, None, keys]
            s[..., self.first_biased_row(block) :, :] += added
        hidden = self.tiling.hidden(block.samples, block.rows, keys, s.device)
        return s if hidden is None else s.masked_fill_(hidden, float("-inf"))

    def distances(self, block: RowBlock, keys: slice) -> Iterator[tuple[int, Tensor]]:
        """The distances of a tile, one by one."""
        return self._distances.each(
            block.samples, self.tiling.tokens(block.rows), keys, self._memory[2:].flatten()
        )

    def add_to_weights(
        self, d_weights: Tensor, ds: Tensor, block: RowBlock, keys: slice, memory: Tensor
    ) -> None:
        """Add the gradient of a tile's scores ``(b, h, r, c)`` to that of the weights; ``memory`` is overwritten."""
        if self._table is None:
            for m, distance in self.distances(block, keys):
                d_weights[m, block.heads] += torch.mul(ds, distance, out=memory).sum(dim=(0, 2, 3))
            return
        entries = self._entries(block, keys)
        ds = ds.sum(dim=0, keepdim=True) if len(entries) == 1 else ds
        by_head = ds.transpose(0, 1).flatten(1)
        d_weights.T[block.heads].scatter_add_(1, entries.flatten().expand(len(by_head), -1), by_head)

    def _entries(self, block: RowBlock, keys: slice) -> Tensor:
        return self._distances.entries(
            block.samples, self.tiling.tokens(block.rows), keys, self._memory[2:].flatten()
        )

    def products(self, rows: Tensor, columns: Tensor) -> Tensor:
        """``rows @ columns^T`` beside the scores."""
        return _outer(rows, columns, self._memory[1])

    def first_biased_row(self, block: RowBlock) -> int:
        """1 where the block begins with a CLS query, else 0."""
        return int(self._distances.cls_tokens and self.tiling.tokens(block.rows).start == 0)

    def dropout(self, like: Tensor) -> Tensor | None:
        """Factors 0 or 1 / (1 - dropout_p) for the next tile, or ``None`` without dropout."""
        if self._generator is None:
            return None
        keep = torch.empty_like(like).bernoulli_(1.0 - self._dropout_p, generator=self._generator)
        return keep if self._dropout_p == 1.0 else keep.div_(1.0 - self._dropout_p)


def _outer(rows: Tensor, columns: Tensor, memory: Tensor) -> Tensor:
    s = take(memory, (*rows.shape[:-1], columns.shape[-2]))
    torch.bmm(rows.flatten(0, 1), columns.flatten(0, 1).transpose(1, 2), out=s.flatten(0, 1))
    return s
