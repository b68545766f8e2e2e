"""Attention straight from the formulas, with N x N matrices: the reference for every other back end.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension. Query i has token number ``Nk - Nq + i``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pentatonic.attention.descriptors import (
    Alibi1D,
    Alibi2D,
    Bias,
    Directional,
    DistanceTable,
    KeyBias,
    Raw,
    Visibility,
)
from pentatonic.errors import UsageError


def reference_attention(
    q: Tensor, k: Tensor, v: Tensor, *, bias: Bias | None, visibility: Visibility, scale: float
) -> tuple[Tensor, Tensor]:
    """Softmax attention, computed in float64 for float64 inputs and in float32 otherwise.

    Args:
        q: ``(B, H, Nq, D)``.
        k: ``(B, H, Nk, D)``.
        v: ``(B, H, Nk, Dv)``.
        bias: Added to the scaled scores.
        visibility: Which keys a query sees.
        scale: Factor on ``q . k``.

    Returns:
        ``(o, lse)``: ``(B, H, Nq, Dv)`` in the dtype of ``q``, and ``(B, H, Nq)`` natural logarithm in the
        computing dtype. A row that sees no key has o = 0, lse = -inf and no gradient.
    """
    dtype = torch.promote_types(q.dtype, torch.float32)
    n_q, n_k = q.shape[-2], k.shape[-2]
    with torch.autocast(q.device.type, enabled=False):
        scores = scale * (q.to(dtype) @ k.to(dtype).transpose(-1, -2))
        if bias is not None:
            scores = scores + dense_bias(bias, n_q, n_k, dtype)
        hidden = ~dense_visible(visibility, n_q, n_k, q.device)
        dead = hidden.all(dim=-1, keepdim=True)
        # Dead rows take part with finite scores and are cleared afterwards: -inf minus -inf would spread NaN.
        scores = scores.masked_fill(hidden & ~dead, float("-inf"))
        p = scores.softmax(dim=-1).masked_fill(dead, 0.0)
        lse = scores.logsumexp(dim=-1).masked_fill(dead[..., 0], float("-inf"))
        return (p @ v.to(dtype)).to(q.dtype), lse


def dense_visible(visibility: Visibility, n_q: int, n_k: int, device: torch.device) -> Tensor:
    """The mask as a matrix.

    Returns:
        ``(1 or B, 1, Nq, Nk)`` bool, true where the query sees the key.
    """
    keys = torch.arange(n_k, device=device)
    ahead = keys - torch.arange(n_k - n_q, n_k, device=device)[:, None]
    visible = torch.ones_like(ahead, dtype=torch.bool)
    if visibility.left is not None:
        visible = visible & (ahead >= -visibility.left)
    if visibility.right is not None:
        visible = visible & (ahead <= visibility.right)
    if visibility.kv_len is None:
        return visible[None, None]
    return visible & (keys < visibility.kv_len[:, None, None, None])


def dense_bias(bias: Bias, n_q: int, n_k: int, dtype: torch.dtype) -> Tensor:
    """The bias as a matrix, differentiable in slopes and vectors.

    Returns:
        ``(1 or B, 1 or H, Nq, Nk)`` of the given dtype.

    Raises:
        UsageError: ``bias`` is not a bias descriptor.
    """
    # No match statement: torch.compile of PyTorch 2.9 does not follow patterns of classes.
    if isinstance(bias, Alibi1D):
        position = bias.position
        position = torch.arange(n_k, device=bias.slope.device) if position is None else position
        matrix = -_per_head(bias.slope, dtype) * _distance(position.to(dtype), n_q)
    elif isinstance(bias, Alibi2D):
        t, f = bias.coords.to(dtype).unbind(-1)
        matrix = -_per_head(bias.slope_t, dtype) * _distance(t, n_q)
        matrix = matrix - _per_head(bias.slope_f, dtype) * _distance(f, n_q)
    elif isinstance(bias, Raw):
        matrix = _sum_of_axes(bias.coords.to(dtype), bias.signed, n_q)
    elif isinstance(bias, Directional):
        keys = torch.arange(n_k, device=bias.coords.device)
        before = keys <= keys[n_k - n_q :, None]
        weight = torch.where(before, _per_head(bias.left, dtype), _per_head(bias.right, dtype))
        matrix = weight * _sum_of_axes(bias.coords.to(dtype), bias.signed, n_q)
    elif isinstance(bias, DistanceTable):
        matrix = _from_table(bias, n_q, n_k, dtype)
    elif isinstance(bias, KeyBias):
        vec = bias.vec.to(dtype).unsqueeze(-2)
        matrix = vec[(None,) * (4 - vec.dim())].expand(-1, -1, n_q, -1)
    else:
        raise UsageError(f"{type(bias).__name__} is not a bias descriptor")
    return _without_cls(matrix) if bias.cls_tokens else matrix


def _per_head(slope: Tensor, dtype: torch.dtype) -> Tensor:
    return slope.to(dtype)[None, :, None, None]


def _difference(axis: Tensor, n_q: int) -> Tensor:
    """``(N,)`` or ``(B, N)`` -> ``(1 or B, 1, Nq, N)``: coordinate of the query minus that of the key."""
    difference = axis[..., axis.shape[-1] - n_q :, None] - axis[..., None, :]
    return difference[None, None] if axis.dim() == 1 else difference[:, None]


def _distance(axis: Tensor, n_q: int) -> Tensor:
    return _difference(axis, n_q).abs()


def _sum_of_axes(coords: Tensor, signed: bool, n_q: int) -> Tensor:
    measure = _difference if signed else _distance
    t, f = coords.unbind(-1)
    return measure(t, n_q) + measure(f, n_q)


def _from_table(bias: DistanceTable, n_q: int, n_k: int, dtype: torch.dtype) -> Tensor:
    length = bias.values.shape[-1]
    entry = _sum_of_axes(bias.coords, bias.signed, n_q).long() + (length // 2 if bias.signed else 0)
    entry = entry.clamp(0, length - 1)[:, 0]
    matrices = bias.values.to(dtype)[..., entry].movedim(-3, -4)
    if bias.values.dim() == 2:
        return matrices
    keys = torch.arange(n_k, device=bias.coords.device)
    return torch.where(keys <= keys[n_k - n_q :, None], matrices[0], matrices[1])


def _without_cls(matrix: Tensor) -> Tensor:
    """Zero the row and the column of token 0; the row is only there when all tokens are queries."""
    n_q, n_k = matrix.shape[-2:]
    keys = torch.arange(n_k, device=matrix.device)
    patches = (keys > 0) & (keys[n_k - n_q :, None] > 0)
    return matrix.masked_fill(~patches, 0.0)
