"""An attention call in lowered form: tensors and flags instead of descriptors.

Shapes: B batch, H heads, Nq queries, Nk keys, M weights of the bias. A packed batch has B = 1 and running lengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from pentatonic.attention.descriptors import (
    BIASES,
    Alibi1D,
    Alibi2D,
    Bias,
    Directional,
    DistanceTable,
    Raw,
    Visibility,
)
from pentatonic.errors import UsageError


@dataclass(frozen=True, eq=False)
class Distances:
    """The part of a bias that carries no gradient: distances, each to be multiplied by one weight per head.

    Attributes:
        axes: ``(A, 1 or B, Nk)`` coordinates in the computing dtype; ``None`` if the bias needs no distance.
        per_axis: One distance for each axis, instead of their sum.
        signed: Query minus key instead of its absolute value.
        directional: Two distances, zero after and up to the query respectively.
        cls_tokens: 0 or 1.
        table: 0, or the length of a table: weight m then stands for the distance m, instead of multiplying one.
            ``directional`` has two tables one after the other; a 0 for the CLS token follows. See :meth:`entries`.
    """

    axes: Tensor | None = None
    per_axis: bool = False
    signed: bool = False
    directional: bool = False
    cls_tokens: int = 0
    table: int = 0

    def each(
        self, samples: slice, tokens: slice, keys: slice, memory: Tensor
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield ``(m, distance)`` in a tile: the distance ``(1 or b, 1, r, c)`` that weight m multiplies.

        Distances that are 0 in all of the tile are left out. Each stays valid until the next one is asked for:
        they may share ``memory``, a vector that must hold a tile for every axis.
        """
        assert not self.table, "a table has entries"
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

    def entries(self, samples: slice, tokens: slice, keys: slice, memory: Tensor) -> Tensor:
        """The entry of the table for each pair in a tile, ``(1 or b, r, c)`` int64; ``memory`` as in :meth:`each`."""
        plain = replace(self, table=0, directional=False, cls_tokens=0)
        [(_, distance)] = plain.each(samples, tokens, keys, memory)
        entry = distance[:, 0].long()
        if self.signed:
            entry += self.table // 2
        entry.clamp_(0, self.table - 1)
        if self.directional:
            numbers = torch.arange(max(tokens.stop, keys.stop), device=entry.device)
            entry += self.table * (numbers[keys] > numbers[tokens, None])
        if self.cls_tokens:
            unbiased = self.table * (1 + self.directional)
            if tokens.start == 0:
                entry[..., 0, :] = unbiased
            if keys.start == 0:
                entry[..., :, 0] = unbiased
        return entry

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


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything about a call but q, k, v and the tensors that carry gradients.

    Attributes:
        distances: The part of the bias without gradients.
        scale: Factor on ``q . k``.
        left: Keys visible before the query's own position, or ``None`` for all.
        right: Keys visible after it, or ``None`` for all.
        kv_len: ``(B,)`` number of valid keys (one per sequence if packed), or ``None`` for all.
        aligned: Queries are the last of the ``kv_len`` tokens, not of all Nk.
        cu_q: ``(S + 1,)`` int32 running lengths of packed queries.
        cu_k: The same for the keys.
        rope: ``(cos, sin, interleaved)``: tables ``(1 or B, Nk, d/2)`` or ``(Nk, d/2)`` float32, and the pairing.
        intervals: ``(B, H, row groups, 2)`` int32, live ranges of key groups, or ``None`` for all.
        laid_out: The bias as the kernels read it (:mod:`pentatonic.attention.kernels.coordinates`), if computed
            beforehand.
    """

    distances: Distances
    scale: float
    left: int | None = None
    right: int | None = None
    kv_len: Tensor | None = None
    aligned: bool = False
    cu_q: Tensor | None = None
    cu_k: Tensor | None = None
    rope: tuple[Tensor, Tensor, bool] | None = None
    intervals: Tensor | None = None
    laid_out: Tensor | None = None

    @property
    def visibility(self) -> Visibility:
        """The mask in normal form."""
        return Visibility(self.left, self.right, self.kv_len)

    def within(self, intervals: Tensor) -> Problem:
        """The same problem over live intervals only."""
        return replace(self, intervals=intervals)


def take(memory: Tensor, shape: tuple[int, ...], number: int = 0) -> Tensor:
    """Use a part of a vector, from ``number`` times its own size on, as a tensor of that shape."""
    size = prod(shape)
    return memory[number * size : (number + 1) * size].view(shape)


def lower_bias(
    bias: Bias | None, batch: int, heads: int, n_k: int, dtype: torch.dtype
) -> tuple[Distances, Tensor | None, Tensor | None]:
    """Bring a bias into the form ``sum_m weights[m, h] * distance_m(i, j) + key_bias[b, h, j]``.

    A table has one weight for each distance, of which a pair takes the one of its own.

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
    if isinstance(bias, DistanceTable):
        axes = _axes(bias.coords, dtype, summed=bias.signed)
        table, sides = bias.values.shape[-1], bias.values.dim() == 3
        values = bias.values.to(dtype)
        weights = values.transpose(0, 1).flatten(1) if sides else values
        weights = torch.nn.functional.pad(weights, (0, 1)).T.contiguous()
        distances = Distances(axes, signed=bias.signed, directional=sides, cls_tokens=cls_tokens, table=table)
        return distances, weights, None
    vec = bias.vec.to(dtype).expand(batch, heads, n_k)
    if cls_tokens:
        vec = torch.cat((torch.zeros_like(vec[..., :1]), vec[..., 1:]), dim=-1)
    return Distances(cls_tokens=cls_tokens), None, vec


def _axes(coords: Tensor, dtype: torch.dtype, *, summed: bool = False) -> Tensor:
    """``(N, 2)`` or ``(B, N, 2)`` -> ``(2, 1 or B, N)``, or the sum of both axes ``(1, 1 or B, N)``."""
    axes = coords.to(dtype).movedim(-1, 0)
    axes = axes if axes.dim() == 3 else axes[:, None]
    return axes.sum(dim=0, keepdim=True) if summed else axes.contiguous()
