"""Attention over padded batches, and over a key/value cache.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension. Queries are the last Nq of the Nk tokens.
"""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from pentatonic.attention.descriptors import Alibi1D, Bias, Causal, KeyBias, Mask, Rope, Visibility
from pentatonic.attention.dispatch import Backend, Choice, choose, compute
from pentatonic.errors import UsageError
from pentatonic.rope import apply_rope


class Options(TypedDict, total=False):
    """Keyword arguments shared by padded and packed attention; described at :func:`attention`."""

    bias: Bias | None
    mask: Mask | None
    rope: Rope | None
    scale: float | None
    backend: Backend


@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    dropout_p: float = 0.0,
    return_lse: Literal[False] = False,
    **options: Unpack[Options],
) -> Tensor: ...
@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    dropout_p: float = 0.0,
    return_lse: Literal[True],
    **options: Unpack[Options],
) -> tuple[Tensor, Tensor]: ...
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Bias | None = None,
    mask: Mask | None = None,
    rope: Rope | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    return_lse: bool = False,
    backend: Backend = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Softmax attention ``softmax(scale * q k^T + bias) v``, exact, by the fastest back end that can.

    Gradients flow to q, k, v and to the slopes and vectors of the bias. A query that sees no key gives 0,
    with lse -inf and zero gradients. Any strides are accepted: ``(B, N, H, D).transpose(1, 2)`` needs no
    copy.

    Args:
        q: ``(B, H, Nq, D)`` floating.
        k: ``(B, H, Nk, D)``, same dtype.
        v: ``(B, H, Nk, Dv)``, same dtype.
        bias: :class:`Alibi1D`, :class:`Alibi2D`, :class:`Directional`, :class:`Raw` or :class:`KeyBias`.
        mask: :class:`Causal`, :class:`SlidingWindow`, :class:`KeyLengths`, or several joined by ``&``.
        rope: Rotation of q and k.
        scale: Factor on ``q . k``; ``D ** -0.5`` by default.
        dropout_p: Probability of dropping an attention weight, 0 to 1; back ends ``sdpa`` and ``chunked``.
            The caller passes 0 in evaluation.
        return_lse: Also return the log-sum-exp of each row; differentiable.
        backend: ``"auto"``, or one of ``"sdpa"``, ``"chunked"`` (tiles, memory O(N)), ``"reference"``
            (naive).

    Returns:
        ``(B, H, Nq, Dv)`` in the dtype of q; with ``return_lse`` also ``(B, H, Nq)``, natural logarithm,
        float32 (float64 for float64 inputs).

    Raises:
        UsageError: Shapes, dtypes or options do not fit.
        BackendUnavailable: The back end asked for cannot compute this.
    """
    visibility = _check(q, k, v, bias, mask)
    if rope is not None:
        q, k = _rotate(q, k, rope)
    choice = choose(
        q, k, bias=bias, visibility=visibility, dropout_p=dropout_p, return_lse=return_lse, backend=backend
    )
    o, lse = compute(
        q, k, v, bias=bias, visibility=visibility, scale=scale, dropout_p=dropout_p, backend=choice.backend
    )
    return (o, lse) if return_lse and lse is not None else o


def explain(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Bias | None = None,
    mask: Mask | None = None,
    rope: Rope | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    return_lse: bool = False,
    backend: Backend = "auto",
) -> Choice:
    """Which back end :func:`attention` takes for the same arguments, and why; computes nothing.

    ``rope`` and ``scale`` never change the choice.

    Raises:
        UsageError: Shapes, dtypes or options do not fit.
        BackendUnavailable: The back end asked for cannot compute this.
    """
    visibility = _check(q, k, v, bias, mask)
    return choose(
        q, k, bias=bias, visibility=visibility, dropout_p=dropout_p, return_lse=return_lse, backend=backend
    )


def decode_attention(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, kv_len: int | Tensor, *, scale: float | None = None
) -> Tensor:
    """Attention of the newest tokens, causal among themselves, over a cache filled up to ``kv_len``.

    Args:
        q: ``(B, H, Nq, D)``: the last Nq of the ``kv_len`` tokens, whose keys and values are already in the
            cache.
        k_cache: ``(B, H, capacity, D)``; entries from ``kv_len`` on must be finite.
        v_cache: ``(B, H, capacity, Dv)``.
        kv_len: Tokens held, 0 to capacity: one number, or ``(B,)`` integer for one number per sample.
        scale: Factor on ``q . k``; ``D ** -0.5`` by default.

    Returns:
        ``(B, H, Nq, Dv)``.

    Raises:
        UsageError: Shapes or dtypes do not fit, or ``kv_len`` exceeds the capacity.
    """
    if isinstance(kv_len, int):
        if not 0 <= kv_len <= k_cache.shape[2]:
            raise UsageError(f"kv_len must be 0 to {k_cache.shape[2]}, got {kv_len}")
        return attention(q, k_cache[:, :, :kv_len], v_cache[:, :, :kv_len], mask=Causal(), scale=scale)
    _check(q, k_cache, v_cache, None, None)
    if kv_len.shape != q.shape[:1] or kv_len.is_floating_point():
        raise UsageError(f"kv_len must be ({q.shape[0]},) integer, got {kv_len.dtype} {tuple(kv_len.shape)}")
    n_q, capacity = q.shape[2], k_cache.shape[2]
    last_visible = kv_len[:, None] - n_q + torch.arange(n_q, device=q.device)
    visible = torch.arange(capacity, device=q.device) <= last_visible[:, None, :, None]
    return scaled_dot_product_attention(q, k_cache, v_cache, visible, scale=scale)


def _check(q: Tensor, k: Tensor, v: Tensor, bias: Bias | None, mask: Mask | None) -> Visibility:
    """Report what PyTorch would report far from its cause, and bring the mask into normal form."""
    if q.dim() != 4 or k.dim() != 4 or v.dim() != 4:
        raise UsageError(f"q, k, v must be (B, H, N, D), got {_shapes(q, k, v)}")
    if q.shape[:2] != k.shape[:2] or k.shape[:3] != v.shape[:3] or q.shape[3] != k.shape[3]:
        raise UsageError(f"q, k, v do not agree in B, H, Nk or D: {_shapes(q, k, v)}")
    if not (q.dtype == k.dtype == v.dtype and q.is_floating_point()):
        raise UsageError(f"q, k, v must share one floating dtype, got {q.dtype}, {k.dtype}, {v.dtype}")
    batch, heads, n_k = k.shape[:3]
    visibility = Visibility.of(mask, q.shape[2], n_k)
    if visibility.kv_len is not None and visibility.kv_len.shape[0] != batch:
        raise UsageError(f"kv_len has {visibility.kv_len.shape[0]} entries for a batch of {batch}")
    if bias is not None:
        _check_bias(bias, batch, heads, q.shape[2], n_k)
    return visibility


def _check_bias(bias: Bias, batch: int, heads: int, n_q: int, n_k: int) -> None:
    name = type(bias).__name__
    if not isinstance(bias, Bias):
        raise UsageError(f"{name} is not a bias; allowed: Alibi1D, Alibi2D, Directional, Raw, KeyBias")
    if n_q > n_k:
        raise UsageError(f"{name} needs at least as many keys as queries, got {n_k} and {n_q}")
    if isinstance(bias, KeyBias):
        full = (batch, heads, n_k)[-bias.vec.dim() :]
        leading_fits = all(
            have in (1, want) for have, want in zip(bias.vec.shape[:-1], full[:-1], strict=True)
        )
        if bias.vec.shape[-1] != n_k or not leading_fits:
            raise UsageError(
                f"KeyBias.vec {tuple(bias.vec.shape)} does not broadcast to {(batch, heads, n_k)}"
            )
        return
    for field in ("slope", "slope_t", "slope_f", "left", "right"):
        slope = getattr(bias, field, None)
        if slope is not None and slope.shape[0] != heads:
            raise UsageError(f"{name}.{field} has {slope.shape[0]} entries for {heads} heads")
    tokens = bias.position if isinstance(bias, Alibi1D) else bias.coords[..., 0]
    if tokens is not None and (
        tokens.shape[-1] != n_k or (tokens.dim() == 2 and tokens.shape[0] not in (1, batch))
    ):
        raise UsageError(
            f"{name} has coordinates for {tuple(tokens.shape)} tokens, but the keys are {(batch, n_k)}"
        )


def _rotate(q: Tensor, k: Tensor, rope: Rope) -> tuple[Tensor, Tensor]:
    """Apply a rope, whose rows are those of the keys."""
    n_q, n_k = q.shape[-2], k.shape[-2]
    if n_q > n_k:
        raise UsageError(f"rope needs at least as many keys as queries, got {n_k} and {n_q}")
    cos, sin = rope.table(torch.arange(n_k, device=k.device), q)
    if cos.shape[-2] != n_k or cos.shape != sin.shape:
        raise UsageError(f"rope covers {cos.shape[-2]} positions, but there are {n_k} keys")
    q = apply_rope(q, cos[..., n_k - n_q :, :], sin[..., n_k - n_q :, :], style=rope.style)
    return q, apply_rope(k, cos, sin, style=rope.style)


def _shapes(*tensors: Tensor) -> str:
    return ", ".join(str(tuple(t.shape)) for t in tensors)
