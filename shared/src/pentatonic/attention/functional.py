"""Attention over padded batches, and over a key/value cache.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension. Queries are the last Nq of the Nk tokens.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from pentatonic.attention.descriptors import (
    BIASES,
    Alibi1D,
    Bias,
    Causal,
    DistanceTable,
    KeyBias,
    Mask,
    Rope,
    Visibility,
)
from pentatonic.attention.dispatch import Backend, Choice, choose, choose_decode, compute
from pentatonic.attention.intervals import key_intervals
from pentatonic.attention.intervals import live_fraction as visited_fraction
from pentatonic.attention.ops import lowered_attention
from pentatonic.attention.prepared import PreparedBias, descriptor_of
from pentatonic.attention.problem import lower_bias
from pentatonic.errors import UsageError
from pentatonic.rope import apply_rope

# Below this many keys finding out what may be skipped takes longer than it saves (on a CPU 1.4 times at 1,024).
SKIPPING_KEYS = 2048


class Options(TypedDict, total=False):
    """Keyword arguments shared by padded and packed attention; described at :func:`attention`."""

    bias: Bias | PreparedBias | None
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
    tolerance: float | None = None,
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
    tolerance: float | None = None,
    return_lse: Literal[True],
    **options: Unpack[Options],
) -> tuple[Tensor, Tensor]: ...
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Bias | PreparedBias | None = None,
    mask: Mask | None = None,
    rope: Rope | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    tolerance: float | None = None,
    return_lse: bool = False,
    backend: Backend = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Softmax attention ``softmax(scale * q k^T + bias) v`` by the fastest back end that can.

    Exact, unless ``tolerance`` allows otherwise.

    Gradients flow to q, k, v and to the slopes and vectors of the bias. A query that sees no key gives 0,
    with lse -inf and zero gradients. Any strides are accepted: ``(B, N, H, D).transpose(1, 2)`` needs no
    copy.

    Args:
        q: ``(B, H, Nq, D)`` floating.
        k: ``(B, H, Nk, D)``, same dtype.
        v: ``(B, H, Nk, Dv)``, same dtype.
        bias: :class:`Alibi1D`, :class:`Alibi2D`, :class:`Directional`, :class:`Raw`, :class:`KeyBias` or
            :class:`DistanceTable`, or what :func:`prepare_bias` made of one for all layers.
        mask: :class:`Causal`, :class:`SlidingWindow`, :class:`KeyLengths`, or several joined by ``&``.
        rope: Rotation of q and k.
        scale: Factor on ``q . k``; ``D ** -0.5`` by default.
        dropout_p: Probability of dropping an attention weight, 0 to 1; back ends ``sdpa`` and ``chunked``.
            The caller passes 0 in evaluation.
        tolerance: Probability, above 0, that each row may lose to keys so far away that an ALiBi bias leaves
            nothing of them; ``None`` visits all keys. Forward and backward pass skip the same blocks. What is
            skipped depends on q, k and the coordinates: sort tokens by time (:func:`sort_by_time`) to gain
            most. Other biases and the back ends ``sdpa`` and ``reference`` skip nothing, nor does ``"auto"``
            below 2,048 keys, where finding out takes longer than it saves.
        return_lse: Also return the log-sum-exp of each row; differentiable.
        backend: ``"auto"``, or one of ``"triton"`` (kernels for CUDA, memory O(N)), ``"sdpa"``, ``"chunked"``
            (tiles, memory O(N)), ``"banded"`` (narrow windows, blocks side by side), ``"reference"`` (naive), or
            one of them after a minus sign, which any other may replace: ``"-triton"``. The environment variable
            ``PENTATONIC_ATTENTION`` takes the same words.

    Returns:
        ``(B, H, Nq, Dv)`` in the dtype of q; with ``return_lse`` also ``(B, H, Nq)``, natural logarithm,
        float32 (float64 for float64 inputs).

    Raises:
        UsageError: Shapes, dtypes or options do not fit.
        BackendUnavailable: The back end asked for cannot compute this.
    """
    options: dict[str, Any] = {"rope": rope, "scale": scale, "dropout_p": dropout_p, "return_lse": return_lse}
    visibility, tolerance, choice = _choose(q, k, v, bias, mask, tolerance, backend, options)
    table = None
    if rope is not None:
        table = _rope_table(rope, torch.arange(k.shape[2], device=k.device), q, k)
        # Norms of rotated queries and keys decide what a tolerance may skip.
        if choice.backend != "triton" or tolerance is not None:
            q, k, table = *rotate(q, k, table), None
    o, lse = compute(
        q,
        k,
        v,
        bias=bias,
        visibility=visibility,
        rope=table,
        scale=scale,
        dropout_p=dropout_p,
        tolerance=tolerance,
        backend=choice.backend,
    )
    return (o, lse) if return_lse and lse is not None else o


def explain(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Bias | PreparedBias | None = None,
    mask: Mask | None = None,
    rope: Rope | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    tolerance: float | None = None,
    return_lse: bool = False,
    backend: Backend = "auto",
) -> Choice:
    """Which back end :func:`attention` takes for the same arguments, and why.

    Computes nothing, except that a kernel variant that has not been used on this GPU yet is checked, as it would be at
    its first use.

    Raises:
        UsageError: Shapes, dtypes or options do not fit.
        BackendUnavailable: The back end asked for cannot compute this.
    """
    options: dict[str, Any] = {"rope": rope, "scale": scale, "dropout_p": dropout_p, "return_lse": return_lse}
    return _choose(q, k, v, bias, mask, tolerance, backend, options)[2]


def _choose(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias | PreparedBias | None,
    mask: Mask | None,
    tolerance: float | None,
    backend: Backend,
    options: dict[str, Any],
) -> tuple[Visibility, float | None, Choice]:
    """Check a call, and pick its back end; with the mask in normal form, and the tolerance if it is worth its cost."""
    visibility = _check(q, k, v, bias, mask, tolerance)
    # A comparison of a length would tie an exported graph to it, so it comes last.
    if tolerance is not None and (backend == "auto" or backend[0] == "-") and k.shape[2] < SKIPPING_KEYS:
        tolerance = None
    descriptor = descriptor_of(bias)
    choice = choose(
        q, k, v, bias=descriptor, visibility=visibility, tolerance=tolerance, backend=backend, **options
    )
    return visibility, tolerance, choice


@torch.no_grad()
def live_fraction(
    q: Tensor,
    k: Tensor,
    *,
    bias: Bias | PreparedBias,
    tolerance: float,
    mask: Mask | None = None,
    rope: Rope | None = None,
    scale: float | None = None,
) -> Tensor:
    """How much of the work :func:`attention` keeps under a tolerance.

    Args:
        q: ``(B, H, Nq, D)``.
        k: ``(B, H, Nk, D)``.
        bias: As in ``attention``.
        tolerance: As in ``attention``.
        mask: As in ``attention``; what windows and causal bounds leave out besides is not counted.
        rope: As in ``attention``.
        scale: As in ``attention``.

    Returns:
        ``(B, H)`` float32 in [0, 1]: visited pairs of groups of 128 queries and 128 keys, of all pairs.

    Raises:
        UsageError: Shapes, dtypes or options do not fit.
    """
    visibility = _check(q, k, k, bias, mask, tolerance)
    if rope is not None:
        q, k = rotate(q, k, _rope_table(rope, torch.arange(k.shape[2], device=k.device), q, k))
    batch, heads, n_q, head_dim = q.shape
    dtype = torch.promote_types(q.dtype, torch.float32)
    distances, weights, _ = lower_bias(descriptor_of(bias), batch, heads, k.shape[2], dtype)
    intervals = key_intervals(
        q,
        k,
        distances=distances,
        weights=weights,
        visibility=visibility,
        scale=head_dim**-0.5 if scale is None else scale,
        tolerance=tolerance,
    )
    return visited_fraction(intervals, n_q, k.shape[2], distances.cls_tokens)


def decode_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    kv_len: int | Tensor,
    *,
    scale: float | None = None,
    num_splits: int | None = None,
    append: tuple[Tensor, Tensor] | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Attention of the newest tokens, causal among themselves, over a cache filled up to ``kv_len``.

    For inference: gradients are not guaranteed.

    Args:
        q: ``(B, H, Nq, D)``: the last Nq of the ``kv_len`` tokens.
        k_cache: ``(B, H, capacity, D)``; entries from ``kv_len`` on must be finite.
        v_cache: ``(B, H, capacity, Dv)``.
        kv_len: Tokens held, 0 to capacity: one number, or ``(B,)`` integer for one number per sample.
        scale: Factor on ``q . k``; ``D ** -0.5`` by default.
        num_splits: Ranges of keys that ``"triton"`` computes side by side; chosen by default.
        append: Keys and values ``(B, H, Nq, D)`` of the queries, written into the caches first, where every
            sample must have room for all Nq; without, they are there already.
        backend: ``"auto"``, ``"sdpa"`` or ``"triton"`` (keys split between programs: Flash-Decoding, Dao et
            al. 2023), or one of these after a minus sign.

    Returns:
        ``(B, H, Nq, Dv)``.

    Raises:
        UsageError: Shapes or dtypes do not fit, or ``kv_len`` exceeds the capacity.
        BackendUnavailable: The back end asked for cannot compute this.
    """
    n_q, capacity = q.shape[2], k_cache.shape[2]
    if isinstance(kv_len, int) and not 0 <= kv_len <= capacity:
        raise UsageError(f"kv_len must be 0 to {capacity}, got {kv_len}")
    if isinstance(kv_len, Tensor) and (kv_len.shape != q.shape[:1] or kv_len.is_floating_point()):
        raise UsageError(f"kv_len must be ({q.shape[0]},) integer, got {kv_len.dtype} {tuple(kv_len.shape)}")
    if append is not None:
        _append(k_cache, v_cache, append, kv_len, n_q)
    if isinstance(kv_len, int) and kv_len < capacity:
        k_cache, v_cache = k_cache[:, :, :kv_len], v_cache[:, :, :kv_len]
    _check(q, k_cache, v_cache, None, None)
    lengths = kv_len if isinstance(kv_len, Tensor) else None
    if choose_decode(q, k_cache, v_cache, backend, kv_len=lengths) == "triton":
        o, _ = lowered_attention(
            q,
            k_cache,
            v_cache,
            bias=None,
            visibility=Visibility(right=0, kv_len=lengths),
            scale=q.shape[-1] ** -0.5 if scale is None else scale,
            backend="triton",
            aligned=lengths is not None,
            splits=num_splits,
        )
        return o
    if isinstance(kv_len, int):
        # One query attends to every key: no mask, skip dispatch.
        if n_q == 1 and kv_len:
            return scaled_dot_product_attention(q, k_cache, v_cache, scale=scale)
        return attention(q, k_cache, v_cache, mask=Causal(), scale=scale)
    last_visible = kv_len[:, None] - n_q + torch.arange(n_q, device=q.device)
    visible = torch.arange(capacity, device=q.device) <= last_visible[:, None, :, None]
    return scaled_dot_product_attention(q, k_cache, v_cache, visible, scale=scale)


def _append(
    k_cache: Tensor, v_cache: Tensor, new: tuple[Tensor, Tensor], kv_len: int | Tensor, n_q: int
) -> None:
    """Write the keys and values of the newest tokens where ``kv_len`` says that they end."""
    batch, heads = k_cache.shape[:2]
    for cache, x in zip((k_cache, v_cache), new, strict=True):
        if x.shape != (batch, heads, n_q, cache.shape[-1]):
            raise UsageError(
                f"append takes ({batch}, {heads}, {n_q}, {cache.shape[-1]}), got {tuple(x.shape)}"
            )
        if isinstance(kv_len, int):
            if kv_len < n_q:
                raise UsageError(f"{n_q} appended tokens cannot end at token {kv_len}")
            cache[:, :, kv_len - n_q : kv_len] = x
        else:
            tokens = kv_len[:, None] - n_q + torch.arange(n_q, device=x.device)
            index = tokens.to(torch.int64)[:, None, :, None].expand_as(x)
            cache.scatter_(2, index, x.to(cache.dtype))


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias | PreparedBias | None,
    mask: Mask | None,
    tolerance: float | None = None,
) -> Visibility:
    """Refuse what PyTorch would refuse with a message that does not name the cause; the mask in normal form."""
    if tolerance is not None and not 0.0 < tolerance < 1.0:
        raise UsageError(f"tolerance must be between 0 and 1, or None, got {tolerance}")
    if q.dim() != 4 or k.dim() != 4 or v.dim() != 4:
        raise UsageError(f"q, k, v must be (B, H, N, D), got {_shapes(q, k, v)}")
    # Each shape is read once: a step of a decoder waits for this.
    (batch, heads, n_q, dim), (batch_k, heads_k, n_k, dim_k) = q.shape, k.shape
    batch_v, heads_v, n_v, _ = v.shape
    if not (batch == batch_k == batch_v and heads == heads_k == heads_v and n_k == n_v and dim == dim_k):
        raise UsageError(f"q, k, v do not agree in B, H, Nk or D: {_shapes(q, k, v)}")
    if not (q.dtype == k.dtype == v.dtype and q.is_floating_point()):
        raise UsageError(f"q, k, v must share one floating dtype, got {q.dtype}, {k.dtype}, {v.dtype}")
    visibility = Visibility.of(mask, n_q, n_k)
    if visibility.kv_len is not None and visibility.kv_len.shape[0] != batch:
        raise UsageError(f"kv_len has {visibility.kv_len.shape[0]} entries for a batch of {batch}")
    if isinstance(bias, PreparedBias):
        bias.check(k)
        bias = bias.descriptor
    if bias is not None:
        _check_bias(bias, batch, heads, n_q, n_k)
    return visibility


def _check_bias(bias: Bias, batch: int, heads: int, n_q: int, n_k: int) -> None:
    name = type(bias).__name__
    if not isinstance(bias, BIASES):
        allowed = ", ".join(each.__name__ for each in BIASES)
        raise UsageError(f"{name} is not a bias; allowed: {allowed}")
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
    if isinstance(bias, DistanceTable) and bias.values.shape[-2] != heads:
        raise UsageError(f"{name}.values has {bias.values.shape[-2]} rows for {heads} heads")
    tokens = bias.position if isinstance(bias, Alibi1D) else bias.coords[..., 0]
    if tokens is not None and (
        tokens.shape[-1] != n_k or (tokens.dim() == 2 and tokens.shape[0] not in (1, batch))
    ):
        raise UsageError(
            f"{name} has coordinates for {tuple(tokens.shape)} tokens, but the keys are {(batch, n_k)}"
        )


def _rope_table(rope: Rope, positions: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Cosines and sines of the keys, and whether pairs are interleaved."""
    n_q, n_k, head_dim = q.shape[-2], k.shape[-2], q.shape[-1]
    if n_q > n_k:
        raise UsageError(f"rope needs at least as many keys as queries, got {n_k} and {n_q}")
    cos, sin = rope.table(positions, q)
    if cos.shape[-2] != n_k or cos.shape != sin.shape:
        raise UsageError(f"rope covers {cos.shape[-2]} positions, but there are {n_k} keys")
    if 2 * cos.shape[-1] > head_dim:
        raise UsageError(f"rope turns {2 * cos.shape[-1]} entries of a head that has {head_dim}")
    return cos, sin, rope.style == "interleaved"


def rotate(q: Tensor, k: Tensor, table: tuple[Tensor, Tensor, bool]) -> tuple[Tensor, Tensor]:
    """Apply a rope, whose rows are those of the keys."""
    cos, sin, interleaved = table
    skip = k.shape[-2] - q.shape[-2]
    style = "interleaved" if interleaved else "half"
    q = apply_rope(q, cos[..., skip:, :], sin[..., skip:, :], style=style)
    return q, apply_rope(k, cos, sin, style=style)


def _shapes(*tensors: Tensor) -> str:
    return ", ".join(str(tuple(t.shape)) for t in tensors)
