"""Packed batches: sequences of different lengths, end to end, without padding.

Shapes: ``total`` is the sum of the lengths; ``cu_seqlens`` is ``(sequences + 1,)`` int32, starts at 0 and
ends at ``total``, so that sequence s is ``x[cu_seqlens[s]:cu_seqlens[s + 1]]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from pentatonic.errors import UsageError


def pack(tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor, int]:
    """Concatenate sequences along their first axis.

    Args:
        tensors: At least one tensor ``(n_s, ...)``; all agree in dtype, device and everything but n_s >= 0.

    Returns:
        ``(x, cu_seqlens, max_seqlen)``: ``(total, ...)``, ``(sequences + 1,)`` int32 on the same device, and
        the largest n_s.

    Raises:
        UsageError: The list is empty, or trailing shapes differ.
    """
    if not tensors:
        raise UsageError("pack needs at least one sequence")
    trailing = {tuple(t.shape[1:]) for t in tensors}
    if len(trailing) > 1:
        raise UsageError(f"sequences must agree in all but the first axis, got {sorted(trailing)}")
    lengths = [t.shape[0] for t in tensors]
    cu_seqlens = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    cu_seqlens[1:] = torch.tensor(lengths).cumsum(0)
    return torch.cat(list(tensors)), cu_seqlens.to(tensors[0].device), max(lengths)


def unpack(x: Tensor, cu_seqlens: Tensor) -> list[Tensor]:
    """Undo :func:`pack`.

    Args:
        x: ``(total, ...)``.
        cu_seqlens: ``(sequences + 1,)`` integer.

    Returns:
        One view ``(n_s, ...)`` of ``x`` per sequence.

    Raises:
        UsageError: ``cu_seqlens`` does not run from 0 to ``total`` without falling.
    """
    bounds = sequence_bounds(cu_seqlens, x.shape[0])
    return list(
        x.split([stop - start for start, stop in bounds])
    )  # not slices: each would have its own backward pass


def pad_packed(x: Tensor, cu_seqlens: Tensor, *, value: float = 0.0) -> Tensor:
    """Lay packed sequences side by side, padded on the right.

    Args:
        x: ``(total, ...)``.
        cu_seqlens: ``(sequences + 1,)`` integer; ``cu_seqlens.diff()`` are the lengths of the rows.
        value: What the padding holds.

    Returns:
        ``(sequences, max_seqlen, ...)``; gradients flow to ``x``.

    Raises:
        UsageError: As :func:`unpack`.
    """
    return torch.nn.utils.rnn.pad_sequence(unpack(x, cu_seqlens), batch_first=True, padding_value=value)


def sequence_bounds(cu_seqlens: Tensor, total: int) -> list[tuple[int, int]]:
    """The (start, stop) of every packed sequence, on the host.

    Args:
        cu_seqlens: ``(sequences + 1,)`` integer.
        total: Number of packed tokens.

    Raises:
        UsageError: ``cu_seqlens`` is not a vector that runs from 0 to ``total`` without falling.
    """
    if cu_seqlens.dim() != 1 or cu_seqlens.numel() < 2 or cu_seqlens.is_floating_point():
        shape = tuple(cu_seqlens.shape)
        raise UsageError(
            f"cu_seqlens must be an integer vector of two or more, got {cu_seqlens.dtype} {shape}"
        )
    edges: list[int] = cu_seqlens.tolist()
    bounds = list(pairwise(edges))
    if edges[0] != 0 or edges[-1] != total or any(start > stop for start, stop in bounds):
        raise UsageError(f"cu_seqlens must rise from 0 to {total}, got {edges[0]} ... {edges[-1]}")
    return bounds
