"""The order of tokens that makes far keys easy to leave out.

Shapes: B batch, N tokens, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pentatonic.errors import UsageError


def sort_by_time(x: Tensor, coords: Tensor, *, cls_tokens: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Sort tokens by time, those of one time staying in order.

    Attention with :class:`pentatonic.attention.Alibi2D` takes tokens in any order; sorted by time, each group
    of them lies close together, and ``tolerance`` leaves out the most. It is enough to sort once, before the
    first layer. Not for :class:`pentatonic.attention.Directional`, where the order of the tokens has a meaning.

    Args:
        x: ``(N, C)`` or ``(B, N, C)``.
        coords: ``(N, 2)``, or ``(B, N, 2)`` with an ``x`` of three axes; last axis (time, frequency).
        cls_tokens: 1 if the first token is a CLS token, which stays first; its coordinates are ignored.

    Returns:
        ``(x, coords, inverse)``: both sorted, in their shapes, and the int64 permutation ``(N,)`` or
        ``(B, N)``, the leading shape of ``coords``, with ``x_sorted[inverse] = x`` in each sample.

    Raises:
        UsageError: The shapes do not fit, or ``cls_tokens`` is neither 0 nor 1.
    """
    if cls_tokens not in (0, 1):
        raise UsageError(f"cls_tokens must be 0 or 1, got {cls_tokens}")
    lead = coords.shape[:-1]
    fits = x.dim() in (2, 3) and len(lead) in (1, x.dim() - 1) and x.shape[:-1][-len(lead) :] == lead
    if coords.shape[-1:] != (2,) or not fits:
        raise UsageError(
            f"x must be (N, C) or (B, N, C) and coords (N, 2) or (B, N, 2), "
            f"got {tuple(x.shape)} and {tuple(coords.shape)}"
        )
    later = coords[..., cls_tokens:, 0].argsort(dim=-1, stable=True) + cls_tokens
    first = later.new_zeros(*lead[:-1], min(cls_tokens, lead[-1]))
    order = torch.cat((first, later), dim=-1)
    return _take(x, order), _take(coords, order), order.argsort(dim=-1)


def _take(x: Tensor, order: Tensor) -> Tensor:
    """Tokens in another order, one for all samples or one for each."""
    return x[..., order, :] if order.dim() == 1 else x.take_along_dim(order[..., None], dim=-2)
