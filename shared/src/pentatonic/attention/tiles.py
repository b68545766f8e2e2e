"""How attention is cut into tiles, and what the bias and the mask are inside one tile.

A *tile* is a range of query rows against a range of keys, for a range of samples and heads. Rows are given by
token number (query i of Nq has ``Nk - Nq + i``), so they compare with keys directly.

Shapes: B batch, H heads, Nq queries, Nk keys; b, h, r, c are the samples, heads, rows and columns of one tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from pentatonic.attention.descriptors import (
    BIASES,
    Alibi1D,
    Alibi2D,
    Bias,
    Directional,
    Raw,
    Visibility,
)
from pentatonic.attention.intervals import GROUP
from pentatonic.errors import UsageError

# One tile of scores and one of distances fit into a processor's second-level cache; longer rows would stream
# through memory once for every elementwise operation.
BLOCK_QUERIES, BLOCK_KEYS = 256, 1024
# Scores held at once; short heads and samples share a tile up to this size.
TILE_SCORES = 1 << 18


class RowBlock(NamedTuple):
    """Query rows that are computed together; rows count from 0 to Nq."""

    samples: slice
    heads: slice
    rows: slice


@dataclass(frozen=True, eq=False)
class Tiling:
    """The tiles that hold at least one visible score, in a fixed order.

    Attributes:
        batch: B.
        heads: H.
        n_q: Nq.
        n_k: Nk.
        visibility: The mask.
        intervals: Live key groups ``[b][h][query group] -> (first, end)`` as of
            :func:`pentatonic.attention.intervals.key_intervals`; ``None`` if all keys are live.
        cls_tokens: With 1, the first key group is live besides the interval.
    """

    batch: int
    heads: int
    n_q: int
    n_k: int
    visibility: Visibility
    intervals: list[list[list[list[int]]]] | None = None
    cls_tokens: int = 0

    def row_blocks(self) -> Iterator[RowBlock]:
        """Yield the blocks of rows; with intervals each is one group of one head of one sample."""
        if self.intervals is not None:
            height, samples, heads = GROUP, 1, 1
        else:
            height = BLOCK_QUERIES
            area = max(1, min(self.n_q, BLOCK_QUERIES) * min(self.n_k, BLOCK_KEYS))
            heads = min(self.heads, max(1, TILE_SCORES // area))
            samples = max(1, TILE_SCORES // (area * heads)) if heads == self.heads else 1
        for b in _ranges(0, self.batch, samples):
            for h in _ranges(0, self.heads, heads):
                for rows in _ranges(0, self.n_q, height):
                    yield RowBlock(b, h, rows)

    @property
    def largest(self) -> int:
        """Upper bound of the number of scores in a tile."""
        area = min(self.n_q, max(GROUP, BLOCK_QUERIES)) * min(self.n_k, BLOCK_KEYS)
        return min(max(area, TILE_SCORES), area * self.batch * self.heads)

    def tokens(self, rows: slice) -> slice:
        """Token numbers of query rows; negative ones come before the first key."""
        return slice(rows.start + self.n_k - self.n_q, rows.stop + self.n_k - self.n_q)

    def key_blocks(self, block: RowBlock) -> Iterator[slice]:
        """Yield the key ranges that window, causal bound and interval leave to these rows."""
        tokens, left, right = self.tokens(block.rows), self.visibility.left, self.visibility.right
        start = 0 if left is None else max(0, tokens.start - left)
        stop = self.n_k if right is None else min(self.n_k, tokens.stop + right)
        for first, end in self._live(block):
            yield from _ranges(max(start, first), min(stop, end), BLOCK_KEYS)

    def _live(self, block: RowBlock) -> list[tuple[int, int]]:
        """Ranges of keys that may not be neglected."""
        if self.intervals is None:
            return [(0, self.n_k)]
        first, end = self.intervals[block.samples.start][block.heads.start][block.rows.start // GROUP]
        interval = (first * GROUP, end * GROUP)
        return [(0, GROUP), interval] if self.cls_tokens and first > 0 else [interval]

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


def _ranges(start: int, stop: int, size: int) -> Iterator[slice]:
    for begin in range(start, stop, size):
        yield slice(begin, min(begin + size, stop))


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

    def each(
        self, samples: slice, tokens: slice, keys: slice, memory: Tensor
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield ``(m, distance)`` in a tile: the distance ``(1 or b, 1, r, c)`` that weight m multiplies.

        Distances that are 0 in all of the tile are left out. Each stays valid until the next one is asked for:
        they may share ``memory``, a vector that must hold a tile for every axis.
        """
        if self.axes is None:
            return
        axes = self.axes[:, samples] if self.axes.shape[1] > 1 else self.axes
        shape = (axes.shape[1], 1, tokens.stop - tokens.start, keys.stop - keys.start)
        total = None
        for m, axis in enumerate(axes):
            distance = take(memory, shape, 0 if self.per_axis else m)
            torch.sub(axis[:, None, tokens, None], axis[:, None, None, keys], out=distance)
            if not self.signed:
                distance.abs_()
            if self.cls_tokens and tokens.start == 0:
                distance[..., 0, :] = 0.0
            if self.cls_tokens and keys.start == 0:
                distance[..., :, 0] = 0.0
            if self.per_axis:
                yield m, distance
            else:
                total = distance if total is None else total.add_(distance)
        if total is not None:
            yield from self._split(total, tokens, keys) if self.directional else [(0, total)]

    @staticmethod
    def _split(distance: Tensor, tokens: slice, keys: slice) -> Iterator[tuple[int, Tensor]]:
        """Weight 0 for keys up to the query, weight 1 for those after it."""
        if keys.stop - 1 <= tokens.start:
            yield 0, distance
        elif keys.start > tokens.stop - 1:
            yield 1, distance
        else:
            # Key <= query: a lower triangle, shifted by where the tile begins.
            left = distance.tril(tokens.start - keys.start)
            yield 0, left
            yield 1, distance - left


def take(memory: Tensor, shape: tuple[int, ...], number: int = 0) -> Tensor:
    """Use a part of a vector, from ``number`` times its own size on, as a tensor of that shape."""
    size = prod(shape)
    return memory[number * size : (number + 1) * size].view(shape)


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
    # No match statement: torch.compile of PyTorch 2.9 does not follow patterns of classes.
    if bias is None:
        return Distances(), None, None
    if not isinstance(bias, BIASES):
        raise UsageError(f"{type(bias).__name__} is not a bias descriptor")
    cls_tokens = bias.cls_tokens
    if isinstance(bias, Alibi1D):
        device = bias.slope.device
        position = torch.arange(n_k, device=device) if bias.position is None else bias.position
        axes = position.to(dtype).expand(position.shape if position.dim() > 1 else (1, -1))[None]
        return Distances(axes, per_axis=True, cls_tokens=cls_tokens), -bias.slope.to(dtype)[None], None
    if isinstance(bias, Alibi2D):
        weights = -torch.stack((bias.slope_t, bias.slope_f)).to(dtype)
        return Distances(_axes(bias.coords, dtype), per_axis=True, cls_tokens=cls_tokens), weights, None
    if isinstance(bias, Directional):
        axes = _axes(bias.coords, dtype, summed=bias.signed)
        weights = torch.stack((bias.left, bias.right)).to(dtype)
        distances = Distances(axes, signed=bias.signed, directional=True, cls_tokens=cls_tokens)
        return distances, weights, None
    if isinstance(bias, Raw):
        axes = _axes(bias.coords, dtype, summed=bias.signed)
        return Distances(axes, signed=bias.signed, cls_tokens=cls_tokens), axes.new_ones(1, heads), None
    vec = bias.vec.to(dtype).expand(batch, heads, n_k)
    if cls_tokens:
        vec = torch.cat((torch.zeros_like(vec[..., :1]), vec[..., 1:]), dim=-1)
    return Distances(cls_tokens=cls_tokens), None, vec


def _axes(coords: Tensor, dtype: torch.dtype, *, summed: bool = False) -> Tensor:
    """``(N, 2)`` or ``(B, N, 2)`` -> ``(2, 1 or B, N)``, or the sum of both axes ``(1, 1 or B, N)``."""
    axes = coords.to(dtype).movedim(-1, 0)
    axes = axes if axes.dim() == 3 else axes[:, None]
    return axes.sum(dim=0, keepdim=True) if summed else axes.contiguous()
