"""How attention is cut into tiles, and what the bias and the mask are inside one tile.

A *tile* is a range of query rows against a range of keys, for a range of samples and all heads. Rows are
given by token number (query i of Nq has ``Nk - Nq + i``), so they compare with keys directly.

Shapes: B batch, H heads, Nq queries, Nk keys; b, r, c are the samples, rows and columns of one tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pentatonic.attention.descriptors import Alibi1D, Alibi2D, Bias, Directional, KeyBias, Raw, Visibility
from pentatonic.errors import UsageError

BLOCK_QUERIES, BLOCK_KEYS = 128, 512
# Scores held at once; many short samples share a tile up to this size.
TILE_SCORES = 1 << 20


@dataclass(frozen=True, eq=False)
class Tiling:
    """The tiles that hold at least one visible score, in a fixed order.

    Attributes:
        batch: B.
        heads: H.
        n_q: Nq.
        n_k: Nk.
        visibility: The mask.
    """

    batch: int
    heads: int
    n_q: int
    n_k: int
    visibility: Visibility

    def row_blocks(self) -> Iterator[tuple[slice, slice]]:
        """Yield (samples, rows); rows count from 0 to Nq."""
        area = min(self.n_q, BLOCK_QUERIES) * min(self.n_k, BLOCK_KEYS) * self.heads
        samples = max(1, TILE_SCORES // max(1, area))
        for b in range(0, self.batch, samples):
            for r in range(0, self.n_q, BLOCK_QUERIES):
                yield slice(b, min(b + samples, self.batch)), slice(r, min(r + BLOCK_QUERIES, self.n_q))

    def tokens(self, rows: slice) -> slice:
        """Token numbers of query rows; negative ones come before the first key."""
        return slice(rows.start + self.n_k - self.n_q, rows.stop + self.n_k - self.n_q)

    def key_blocks(self, rows: slice) -> Iterator[slice]:
        """Yield the key ranges that window and causal bound leave to these rows."""
        tokens, left, right = self.tokens(rows), self.visibility.left, self.visibility.right
        start = 0 if left is None else max(0, tokens.start - left)
        stop = self.n_k if right is None else min(self.n_k, tokens.stop + right)
        for c in range(start, stop, BLOCK_KEYS):
            yield slice(c, min(c + BLOCK_KEYS, stop))

    def hidden(self, samples: slice, rows: slice, keys: slice, device: torch.device) -> Tensor | None:
        """``(1 or b, 1, r, c)`` bool, true where the mask hides the key; ``None`` if it hides nothing."""
        tokens, left, right = self.tokens(rows), self.visibility.left, self.visibility.right
        cut_left = left is not None and keys.start < tokens.stop - 1 - left
        cut_right = right is not None and keys.stop - 1 > tokens.start + right
        hidden = None
        columns = torch.arange(keys.start, keys.stop, device=device)
        if cut_left or cut_right:
            ahead = columns - torch.arange(tokens.start, tokens.stop, device=device)[:, None]
            hidden = torch.zeros_like(ahead, dtype=torch.bool)
            if left is not None:
                hidden |= ahead < -left
            if right is not None:
                hidden |= ahead > right
            hidden = hidden[None, None]
        if self.visibility.kv_len is not None:
            padding = columns >= self.visibility.kv_len[samples, None, None, None]
            hidden = padding if hidden is None else hidden | padding
        return hidden


@dataclass(frozen=True, eq=False)
class Distances:
    """The part of a bias that carries no gradient: distances, each to be multiplied by one weight per head.

    Attributes:
        axes: ``(A, 1 or B, Nk)`` coordinates in the computing dtype; ``None`` if the bias needs no distance.
        per_axis: One distance for each axis, instead of their sum.
        signed: Query minus key instead of its absolute value.
        directional: Two distances, zero after and up to the query respectively.
        cls_tokens: 0 or 1.
    """

    axes: Tensor | None = None
    per_axis: bool = False
    signed: bool = False
    directional: bool = False
    cls_tokens: int = 0

    def tile(self, samples: slice, tokens: slice, keys: slice) -> list[Tensor | None]:
        """The distances in a tile, one ``(1 or b, 1, r, c)`` per weight, ``None`` where all are 0."""
        if self.axes is None:
            return []
        axes = self.axes[:, samples] if self.axes.shape[1] > 1 else self.axes
        distances = [axis[:, None, tokens, None] - axis[:, None, None, keys] for axis in axes]
        for distance in distances:
            if not self.signed:
                distance.abs_()
            if self.cls_tokens and tokens.start == 0:
                distance[..., 0, :] = 0.0
            if self.cls_tokens and keys.start == 0:
                distance[..., :, 0] = 0.0
        if self.per_axis:
            return list(distances)
        distance = distances[0] if len(distances) == 1 else torch.stack(distances).sum(dim=0)
        return self._split(distance, tokens, keys) if self.directional else [distance]

    @staticmethod
    def _split(distance: Tensor, tokens: slice, keys: slice) -> list[Tensor | None]:
        if keys.stop - 1 <= tokens.start:
            return [distance, None]
        if keys.start > tokens.stop - 1:
            return [None, distance]
        # Key <= query: a lower triangle, shifted by where the tile begins.
        left = distance.tril(tokens.start - keys.start)
        return [left, distance - left]


def lower_bias(
    bias: Bias | None, batch: int, heads: int, n_k: int, dtype: torch.dtype
) -> tuple[Distances, Tensor | None, Tensor | None]:
    """Bring a bias into the form ``sum_m weights[m, h] * distance_m(i, j) + key_bias[b, h, j]``.

    Returns:
        ``(distances, weights, key_bias)``: weights ``(M, H)`` and key_bias ``(B, H, Nk)``, both in ``dtype``
        and connected to the tensors of the descriptor by autograd, or ``None``.

    Raises:
        UsageError: ``bias`` is not a bias descriptor.
    """
    match bias:
        case None:
            return Distances(), None, None
        case Alibi1D(slope, position, cls_tokens):
            position = torch.arange(n_k, device=slope.device) if position is None else position
            axes = position.to(dtype).expand(position.shape if position.dim() > 1 else (1, -1))[None]
            return Distances(axes, per_axis=True, cls_tokens=cls_tokens), -slope.to(dtype)[None], None
        case Alibi2D(coords, slope_t, slope_f, cls_tokens):
            weights = -torch.stack((slope_t, slope_f)).to(dtype)
            return Distances(_axes(coords, dtype), per_axis=True, cls_tokens=cls_tokens), weights, None
        case Directional(coords, left, right, signed, cls_tokens):
            axes = _axes(coords, dtype, summed=signed)
            weights = torch.stack((left, right)).to(dtype)
            return Distances(axes, signed=signed, directional=True, cls_tokens=cls_tokens), weights, None
        case Raw(coords, signed, cls_tokens):
            axes = _axes(coords, dtype, summed=signed)
            return Distances(axes, signed=signed, cls_tokens=cls_tokens), axes.new_ones(1, heads), None
        case KeyBias(vec, cls_tokens):
            vec = vec.to(dtype).expand(batch, heads, n_k)
            if cls_tokens:
                vec = torch.cat((torch.zeros_like(vec[..., :1]), vec[..., 1:]), dim=-1)
            return Distances(cls_tokens=cls_tokens), None, vec
        case _:
            raise UsageError(f"{type(bias).__name__} is not a bias descriptor")


def _axes(coords: Tensor, dtype: torch.dtype, *, summed: bool = False) -> Tensor:
    """``(N, 2)`` or ``(B, N, 2)`` -> ``(2, 1 or B, N)``, or the sum of both axes ``(1, 1 or B, N)``."""
    axes = coords.to(dtype).movedim(-1, 0)
    axes = axes if axes.dim() == 3 else axes[:, None]
    return axes.sum(dim=0, keepdim=True) if summed else axes.contiguous()
