"""Exact attention in tiles: memory O(N) in the forward and in the backward pass, on any device.

The forward pass keeps a running maximum and sum per row (online softmax); the backward pass recomputes each
tile from the stored log-sum-exp, so nothing of size N x N ever exists (Dao et al., FlashAttention, arXiv
2205.14135). Tiles that window and causal bound rule out are never visited.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension; tiles as in
:mod:`pentatonic.attention.tiles`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pentatonic.attention.descriptors import Bias, Visibility
from pentatonic.attention.tiles import Distances, Tiling, lower_bias


def chunked_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Bias | None,
    visibility: Visibility,
    scale: float,
    dropout_p: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Softmax attention, computed in float64 for float64 inputs and in float32 otherwise.

    Args:
        q: ``(B, H, Nq, D)``, any strides.
        k: ``(B, H, Nk, D)``.
        v: ``(B, H, Nk, Dv)``.
        bias: Added to the scaled scores.
        visibility: Which keys a query sees.
        scale: Factor on ``q . k``.
        dropout_p: Probability that a weight is zeroed, the others being scaled by ``1 / (1 - dropout_p)``.
            The masks come from one number drawn from the global CPU generator.

    Returns:
        ``(o, lse)``: ``(B, H, Nq, Dv)`` in the dtype of ``q``, and ``(B, H, Nq)`` natural logarithm in the
        computing dtype; both differentiable once. A row that sees no key has o = 0, lse = -inf and no
        gradient.
    """
    batch, heads, n_q, _ = q.shape
    dtype = torch.promote_types(q.dtype, torch.float32)
    distances, weights, key_bias = lower_bias(bias, batch, heads, k.shape[2], dtype)
    tiling = Tiling(batch, heads, n_q, k.shape[2], visibility)
    return _Chunked.apply(_Tiles(tiling, distances, scale, dropout_p), q, k, v, weights, key_bias)


class _Tiles:
    """Scores and dropout of one call, tile by tile, the same in both passes."""

    def __init__(self, tiling: Tiling, distances: Distances, scale: float, dropout_p: float) -> None:
        self.tiling, self.distances, self.scale, self.dropout_p = tiling, distances, scale, dropout_p
        self._seed = int(torch.randint(2**62, ())) if dropout_p else 0

    def scores(
        self,
        scaled_q: Tensor,
        k: Tensor,
        weights: Tensor | None,
        key_bias: Tensor | None,
        at: tuple[slice, slice, slice],
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Biased scores ``(b, H, r, c)``, -inf where hidden, and the distances that went into them."""
        samples, rows, keys = at
        tokens = self.tiling.tokens(rows)
        s = scaled_q @ k.transpose(-1, -2)
        distances = self.distances.tile(samples, tokens, keys)
        if weights is not None:
            for weight, distance in zip(weights, distances, strict=True):
                if distance is not None:
                    s.addcmul_(weight[:, None, None], distance)
        if key_bias is not None:
            s[..., self.first_biased_row(rows) :, :] += key_bias[samples, :, None, keys]
        hidden = self.tiling.hidden(samples, rows, keys, s.device)
        return (s if hidden is None else s.masked_fill_(hidden, float("-inf"))), distances

    def first_biased_row(self, rows: slice) -> int:
        """1 where the tile begins with a CLS query, else 0."""
        return int(self.distances.cls_tokens and self.tiling.tokens(rows).start == 0)

    def generator(self, device: torch.device) -> torch.Generator | None:
        """The source of the dropout masks, at its start."""
        return torch.Generator(device).manual_seed(self._seed) if self.dropout_p else None

    def dropout(self, like: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """Factors 0 or 1 / (1 - dropout_p) for the next tile, or ``None`` without dropout."""
        if generator is None:
            return None
        keep = torch.empty_like(like).bernoulli_(1.0 - self.dropout_p, generator=generator)
        return keep if self.dropout_p == 1.0 else keep.div_(1.0 - self.dropout_p)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tiles: _Tiles, *inputs: Tensor | None) -> tuple[Tensor, Tensor]:
        q, k, v, weights, key_bias = inputs
        assert q is not None and k is not None and v is not None
        dtype = torch.promote_types(q.dtype, torch.float32)
        o = q.new_empty(*q.shape[:-1], v.shape[-1])
        lse = q.new_empty(q.shape[:-1], dtype=dtype)
        generator = tiles.generator(q.device)
        with torch.autocast(q.device.type, enabled=False):
            for samples, rows in tiles.tiling.row_blocks():
                scaled_q = q[samples, :, rows].to(dtype) * tiles.scale
                # A finite floor: rows that have seen no key yet must not compute -inf minus -inf.
                m = scaled_q.new_full((*scaled_q.shape[:-1], 1), torch.finfo(dtype).min)
                total = torch.zeros_like(m)
                acc = scaled_q.new_zeros(*scaled_q.shape[:-1], v.shape[-1])
                for keys in tiles.tiling.key_blocks(rows):
                    k_tile, v_tile = k[samples, :, keys].to(dtype), v[samples, :, keys].to(dtype)
                    s, _ = tiles.scores(scaled_q, k_tile, weights, key_bias, (samples, rows, keys))
                    m_new = torch.maximum(m, s.amax(dim=-1, keepdim=True))
                    p = s.sub_(m_new).exp_()
                    rescale = (m - m_new).exp_()
                    total = total * rescale + p.sum(dim=-1, keepdim=True)
                    dropout = tiles.dropout(p, generator)
                    acc = acc * rescale + (p if dropout is None else p * dropout) @ v_tile
                    m = m_new
                o[samples, :, rows] = (acc / total.masked_fill(total == 0, 1.0)).to(o.dtype)
                lse[samples, :, rows] = (m + total.log())[..., 0]
        ctx.save_for_backward(q, k, v, weights, key_bias, o, lse)
        ctx.tiles = tiles
        ctx.set_materialize_grads(False)
        return o, lse

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        grad_o, grad_lse = grads
        q, k, v, weights, key_bias, o, lse = ctx.saved_tensors
        tiles: _Tiles = ctx.tiles
        grad_o = torch.zeros_like(o) if grad_o is None else grad_o
        dq = torch.empty_like(q)
        dk, dv = torch.zeros_like(k, dtype=lse.dtype), torch.zeros_like(v, dtype=lse.dtype)
        d_weights = torch.zeros_like(weights) if weights is not None and ctx.needs_input_grad[4] else None
        d_key_bias = torch.zeros_like(key_bias) if key_bias is not None and ctx.needs_input_grad[5] else None
        generator = tiles.generator(q.device)
        with torch.autocast(q.device.type, enabled=False):
            for samples, rows in tiles.tiling.row_blocks():
                scaled_q = q[samples, :, rows].to(lse.dtype) * tiles.scale
                do = grad_o[samples, :, rows].to(lse.dtype)
                row_lse = lse[samples, :, rows, None]
                dead = row_lse == float("-inf")
                row_lse = row_lse.masked_fill(dead, 0.0)
                delta = (do * o[samples, :, rows].to(lse.dtype)).sum(dim=-1, keepdim=True)
                if grad_lse is not None:
                    delta = delta - grad_lse[samples, :, rows, None]
                delta = delta.masked_fill(dead, 0.0)
                dq_rows = torch.zeros_like(scaled_q)
                for keys in tiles.tiling.key_blocks(rows):
                    at = (samples, rows, keys)
                    k_tile, v_tile = k[samples, :, keys].to(lse.dtype), v[samples, :, keys].to(lse.dtype)
                    s, distances = tiles.scores(scaled_q, k_tile, weights, key_bias, at)
                    p = s.sub_(row_lse).exp_()
                    dp = do @ v_tile.transpose(-1, -2)
                    dropout = tiles.dropout(p, generator)
                    if dropout is not None:
                        dp *= dropout
                    dv[samples, :, keys] += (p if dropout is None else p * dropout).transpose(-1, -2) @ do
                    ds = dp.sub_(delta).mul_(p)
                    dq_rows += ds @ k_tile
                    dk[samples, :, keys] += ds.transpose(-1, -2) @ scaled_q
                    if d_weights is not None:
                        for m, distance in enumerate(distances):
                            if distance is not None:
                                d_weights[m] += torch.mul(ds, distance).sum(dim=(0, 2, 3))
                    if d_key_bias is not None:
                        first = tiles.first_biased_row(rows)
                        d_key_bias[samples, :, keys] += ds[..., first:, :].sum(dim=-2)
                dq[samples, :, rows] = (dq_rows * tiles.scale).to(q.dtype)
        return None, dq, dk.to(k.dtype), dv.to(v.dtype), d_weights, d_key_bias
