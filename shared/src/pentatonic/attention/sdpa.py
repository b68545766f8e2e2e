"""PyTorch's fused attention, behind the interface of the other back ends.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from pentatonic.attention.descriptors import Bias, Visibility
from pentatonic.attention.reference import dense_bias, dense_visible


def sdpa_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Bias | None,
    visibility: Visibility,
    scale: float | None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Softmax attention by ``scaled_dot_product_attention``, with explicit matrices where needed.

    Nothing is built for full and square causal attention, a ``(B, 1, 1, Nk)`` mask for key lengths alone, and
    an Nq x Nk matrix for everything else.

    Returns:
        ``(B, H, Nq, Dv)`` in the dtype of ``q``.
    """
    n_q, n_k = q.shape[-2], k.shape[-2]
    if (
        bias is None
        and visibility.kv_len is None
        and (visibility.unlimited or is_square_causal(visibility, n_q, n_k))
    ):
        return scaled_dot_product_attention(
            q, k, v, dropout_p=dropout_p, is_causal=not visibility.unlimited, scale=scale
        )
    if bias is None and visibility.kv_len is not None and visibility.unlimited:
        matrix = torch.arange(n_k, device=q.device) < visibility.kv_len[:, None, None, None]
    else:
        matrix = dense_visible(visibility, n_q, n_k, q.device)
        if bias is not None:
            added = dense_bias(bias, n_q, n_k, torch.promote_types(q.dtype, torch.float32))
            matrix = added.to(q.dtype).masked_fill(~matrix, float("-inf"))
    return scaled_dot_product_attention(q, k, v, matrix, dropout_p, scale=scale)


def is_square_causal(visibility: Visibility, n_q: int, n_k: int) -> bool:
    """Whether ``is_causal=True`` expresses the mask; the flag aligns top-left, so Nq must equal Nk."""
    return n_q == n_k and visibility.right == 0 and visibility.left is None and visibility.kv_len is None
