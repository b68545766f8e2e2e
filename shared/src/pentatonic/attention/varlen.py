"""Attention within each sequence of a packed batch.

Shapes: total_q, total_k tokens of all sequences, S sequences, H heads, D head dimension. Where the kernels run,
all sequences are one launch, and under a narrow window they are one call elsewhere; else those of the same length go
together, through the back end that suits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack, overload

import torch
from torch import Tensor

from pentatonic.attention.banded import banded_attention
from pentatonic.attention.descriptors import Alibi1D, AllOf, Bias, KeyBias, KeyLengths, Mask, Rope, Visibility
from pentatonic.attention.dispatch import PackedBackend, choose_packed, is_narrow
from pentatonic.attention.functional import Options, attention, rotate
from pentatonic.attention.ops import lowered_attention
from pentatonic.attention.packing import sequence_bounds
from pentatonic.attention.prepared import PreparedBias, descriptor_of
from pentatonic.attention.trust.variant import Variant, variant_of
from pentatonic.errors import UsageError

Bounds = list[tuple[int, int]]


@overload
def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None = None,
    *,
    max_seqlen_q: int,
    max_seqlen_k: int | None = None,
    return_lse: Literal[False] = False,
    **options: Unpack[Options],
) -> Tensor: ...
@overload
def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None = None,
    *,
    max_seqlen_q: int,
    max_seqlen_k: int | None = None,
    return_lse: Literal[True],
    **options: Unpack[Options],
) -> tuple[Tensor, Tensor]: ...
def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None = None,
    *,
    max_seqlen_q: int,
    max_seqlen_k: int | None = None,
    bias: Bias | PreparedBias | None = None,
    mask: Mask | None = None,
    rope: Rope | None = None,
    scale: float | None = None,
    return_lse: bool = False,
    backend: PackedBackend = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention within each sequence of a packed batch; sequences may be empty.

    As :func:`pentatonic.attention.attention`, where token numbers, and with them windows, causal bounds, rope
    positions and ALiBi distances, restart in each sequence.

    Args:
        q: ``(total_q, H, D)`` floating, token-major.
        k: ``(total_k, H, D)``, same dtype.
        v: ``(total_k, H, Dv)``, same dtype.
        cu_seqlens_q: ``(S + 1,)`` integer: sequence s is ``q[cu_seqlens_q[s]:cu_seqlens_q[s + 1]]``.
        cu_seqlens_k: The same for k and v; that of q by default.
        max_seqlen_q: At least the length of the longest sequence of q.
        max_seqlen_k: At least that of k; ``max_seqlen_q`` by default.
        bias: With packed tensors: ``coords (total_k, 2)``, ``position (total_k,)``, ``vec (total_k,)`` or
            ``(H, total_k)``; or prepared by :func:`prepare_bias`.
        mask: With one length per sequence in :class:`KeyLengths`.
        rope: With packed ``positions (total_k,)`` or ``cos_sin (total_k, d/2)``, if any.
        scale: Factor on ``q . k``; ``D ** -0.5`` by default.
        return_lse: Also return the log-sum-exp of each row.
        backend: As in ``attention``, for every sequence, where ``"banded"`` is one call for all; or ``"flash"``,
            PyTorch's own kernel for packed batches without bias, or ``"-flash"``. ``"triton"`` and ``"flash"``
            leave the lengths on the device, unchecked: a sequence with more queries than keys gives 0 under a
            bias that knows coordinates.

    Returns:
        ``(total_q, H, Dv)``; with ``return_lse`` also ``(total_q, H)``.

    Raises:
        UsageError: Shapes, dtypes or options do not fit.
        BackendUnavailable: The back end asked for cannot compute this.
    """
    if q.dim() != 3 or k.dim() != 3 or v.dim() != 3:
        raise UsageError(f"packed q, k, v must be (total, H, D), got {q.dim()}, {k.dim()} and {v.dim()} axes")
    descriptor = descriptor_of(bias)
    if isinstance(bias, PreparedBias):
        bias.check(k.transpose(0, 1)[None])
    cu_seqlens_k = cu_seqlens_q if cu_seqlens_k is None else cu_seqlens_k
    max_seqlen_k = max_seqlen_q if max_seqlen_k is None else max_seqlen_k
    same_tokens = rope is None or cu_seqlens_k is cu_seqlens_q
    plain = bias is None and not return_lse and _lengths_of(mask) is None and same_tokens
    # Bounds that hide nothing are dropped by length, but these lengths are not known here.
    visibility = Visibility.of(mask, q.shape[0] + 1, k.shape[0] + 1)

    def variant() -> Variant:
        packed = "same" if cu_seqlens_k is cu_seqlens_q else "apart"
        options: dict[str, Any] = {"rope": rope, "scale": scale, "return_lse": return_lse, "packed": packed}
        return variant_of(q, k, v, bias=descriptor, visibility=visibility, **options)

    narrow = cu_seqlens_k is cu_seqlens_q and is_narrow(visibility, q.shape[0], k.shape[0])
    options: dict[str, Any] = {"plain": plain, "narrow": narrow, "longest": max_seqlen_q}
    chosen = choose_packed(
        q, k, v, bias=descriptor, visibility=visibility, backend=backend, variant=variant, **options
    )
    if chosen in ("triton", "flash"):
        _check_on_device(q, k, v, cu_seqlens_q, cu_seqlens_k, descriptor, mask)
        table = None
        if rope is not None:
            cos, sin = _packed_table(rope, cu_seqlens_k, q, k)
            table = (cos, sin, rope.style == "interleaved")
        lengths_q = cu_seqlens_q.to(torch.int32)
        lengths_k = lengths_q if cu_seqlens_k is cu_seqlens_q else cu_seqlens_k.to(torch.int32)
        if chosen == "flash":
            longest = (max_seqlen_q, max_seqlen_k)
            return _by_flash(q, k, v, (lengths_q, lengths_k), longest, visibility, table, scale)
        if isinstance(bias, Alibi1D) and bias.position is None:
            bias = replace(bias, position=_positions(cu_seqlens_k, k.shape[0]))
        o, lse = lowered_attention(
            *(x.transpose(0, 1)[None] for x in (q, k, v)),
            bias=bias,
            visibility=visibility,
            scale=q.shape[-1] ** -0.5 if scale is None else scale,
            backend="triton",
            rope=table,
            packed=(lengths_q, lengths_k),
        )
        o = o[0].transpose(0, 1)
        return (o, lse[0].transpose(0, 1)) if return_lse else o
    assert backend != "flash"
    backend = "auto" if backend == "-flash" else backend
    bounds_q, bounds_k = sequence_bounds(cu_seqlens_q, q.shape[0]), sequence_bounds(cu_seqlens_k, k.shape[0])
    _check_bounds("q", bounds_q, len(bounds_q), max_seqlen_q)
    _check_bounds("k", bounds_k, len(bounds_q), max_seqlen_k)
    _check_packed(descriptor, mask, k.shape[0], len(bounds_q))
    table = None if rope is None else _packed_table(rope, cu_seqlens_k, q, k)
    if chosen == "banded":
        q_heads, k_heads, v_heads = (x.transpose(0, 1)[None] for x in (q, k, v))
        if rope is not None and table is not None:
            q_heads, k_heads = rotate(q_heads, k_heads, (*table, rope.style == "interleaved"))
        assert visibility.left is not None and visibility.right is not None
        o = banded_attention(
            q_heads,
            k_heads,
            v_heads,
            left=visibility.left,
            right=visibility.right,
            lengths=[stop - start for start, stop in bounds_q],
            scale=scale,
        )
        return o[0].transpose(0, 1)

    # Splitting has one backward pass over the packed tensor, where slicing would have one for each sequence.
    parts = tuple(_split(x, bounds) for x, bounds in ((q, bounds_q), (k, bounds_k), (v, bounds_k)))
    outputs: list[Tensor] = [q] * len(bounds_q)
    lses: list[Tensor] = [q] * len(bounds_q)
    alone = descriptor is not None or _lengths_of(mask) is not None
    for members in _batches(bounds_q, bounds_k, alone=alone):
        first = members[0]
        local = Options(
            bias=_slice_bias(descriptor, slice(*bounds_k[first])),
            mask=_slice_mask(mask, first),
            scale=scale,
            backend=backend,
        )
        if rope is not None and table is not None:
            cos, sin = (_stacked([x[slice(*bounds_k[s])] for s in members]) for x in table)
            local["rope"] = Rope(cos_sin=(cos, sin), style=rope.style)
        heads_first = [_stacked([each[s] for s in members]).transpose(1, 2) for each in parts]
        if return_lse:
            o, lse = attention(*heads_first, return_lse=True, **local)
            for s, rows in zip(members, lse.transpose(1, 2), strict=True):
                lses[s] = rows
        else:
            o = attention(*heads_first, **local)
        for s, rows in zip(members, o.transpose(1, 2), strict=True):
            outputs[s] = rows
    packed = torch.cat(outputs)
    return (packed, torch.cat(lses)) if return_lse else packed


def _split(x: Tensor, bounds: Bounds) -> tuple[Tensor, ...]:
    return x.split([stop - start for start, stop in bounds])


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """``torch.stack``, without a copy of a single part."""
    return torch.stack(list(parts)) if len(parts) > 1 else parts[0][None]


def _batches(bounds_q: Bounds, bounds_k: Bounds, *, alone: bool) -> list[list[int]]:
    """The numbers of the sequences by call: those of the same lengths go together, unless each goes alone."""
    if alone:
        return [[s] for s in range(len(bounds_q))]
    alike: dict[tuple[int, int], list[int]] = {}
    for s, (rows, keys) in enumerate(zip(bounds_q, bounds_k, strict=True)):
        alike.setdefault((rows[1] - rows[0], keys[1] - keys[0]), []).append(s)
    return list(alike.values())


def _by_flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: tuple[Tensor, Tensor],
    longest: tuple[int, int],
    visibility: Visibility,
    table: tuple[Tensor, Tensor, bool] | None,
    scale: float | None,
) -> Tensor:
    """PyTorch's own packed attention; it aligns bounds bottom-right, as we do."""
    from torch.nn.attention.varlen import varlen_attn

    if table is not None:
        rotated = rotate(q.transpose(0, 1)[None], k.transpose(0, 1)[None], table)
        q, k = (x[0].transpose(0, 1) for x in rotated)
    left, right = (-1 if side is None else side for side in (visibility.left, visibility.right))
    o = varlen_attn(q, k, v, *lengths, *longest, scale=scale, window_size=(left, right))
    assert isinstance(o, Tensor)
    return o


def _check_on_device(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    bias: Bias | None,
    mask: Mask | None,
) -> None:
    """What can be known without waiting for the device: shapes and dtypes."""
    for name, cu in (("q", cu_seqlens_q), ("k", cu_seqlens_k)):
        if cu.dim() != 1 or cu.shape[0] < 2 or cu.is_floating_point() or cu.shape != cu_seqlens_q.shape:
            raise UsageError(
                f"cu_seqlens_{name} must be an integer vector of two or more, as long as that of q, "
                f"got {cu.dtype} {tuple(cu.shape)}"
            )
    if q.shape[1:] != k.shape[1:] or k.shape[:2] != v.shape[:2] or not (q.dtype == k.dtype == v.dtype):
        raise UsageError(
            f"packed q, k, v do not agree in H, D, dtype or total_k: {tuple(q.shape)}, {tuple(k.shape)}, "
            f"{tuple(v.shape)}, {q.dtype}, {k.dtype}, {v.dtype}"
        )
    _check_packed(bias, mask, k.shape[0], cu_seqlens_q.shape[0] - 1)


def _lengths_of(mask: Mask | None) -> KeyLengths | None:
    parts = mask.parts if isinstance(mask, AllOf) else (mask,)
    return next((part for part in parts if isinstance(part, KeyLengths)), None)


def _check_bounds(name: str, bounds: Bounds, sequences: int, max_seqlen: int) -> None:
    if len(bounds) != sequences:
        raise UsageError(f"cu_seqlens_{name} names {len(bounds)} sequences, cu_seqlens_q {sequences}")
    longest = max(stop - start for start, stop in bounds)
    if longest > max_seqlen:
        raise UsageError(f"max_seqlen_{name} is {max_seqlen}, but a sequence has {longest} tokens")


def _check_packed(bias: Bias | None, mask: Mask | None, total_k: int, sequences: int) -> None:
    """Slicing would silently accept tensors of another length."""
    if bias is not None:
        if isinstance(bias, KeyBias):
            tokens = bias.vec.shape[-1:]
        elif isinstance(bias, Alibi1D):
            tokens = (total_k,) if bias.position is None else bias.position.shape
        else:
            tokens = bias.coords.shape[:-1]
        if tuple(tokens) != (total_k,):
            raise UsageError(
                f"{type(bias).__name__} holds {tuple(tokens)} tokens, packed keys are ({total_k},)"
            )
    for part in mask.parts if isinstance(mask, AllOf) else (mask,):
        if isinstance(part, KeyLengths) and part.kv_len.shape[0] != sequences:
            raise UsageError(f"kv_len has {part.kv_len.shape[0]} entries for {sequences} sequences")


def _positions(cu_seqlens: Tensor, total: int) -> Tensor:
    """``(total,)``: the number of each packed token in its sequence."""
    tokens = torch.arange(total, device=cu_seqlens.device)
    sequence = torch.searchsorted(cu_seqlens.to(torch.int64), tokens, right=True) - 1
    return tokens - cu_seqlens.to(torch.int64)[sequence]


def _packed_table(rope: Rope, cu_seqlens_k: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = rope.table(_positions(cu_seqlens_k, k.shape[0]), q)
    if cos.dim() != 2 or cos.shape[0] != k.shape[0]:
        raise UsageError(f"packed rope must cover ({k.shape[0]},) tokens, got {tuple(cos.shape[:-1])}")
    return cos, sin


def _slice_bias(bias: Bias | None, keys: slice) -> Bias | None:
    if isinstance(bias, KeyBias):
        return replace(bias, vec=bias.vec[..., keys])
    if isinstance(bias, Alibi1D):
        return bias if bias.position is None else replace(bias, position=bias.position[keys])
    return None if bias is None else replace(bias, coords=bias.coords[keys])


def _slice_mask(mask: Mask | None, sequence: int) -> Mask | None:
    if isinstance(mask, AllOf):
        return AllOf(tuple(_slice_part(part, sequence) for part in mask.parts))
    return None if mask is None else _slice_part(mask, sequence)


def _slice_part(part: Mask, sequence: int) -> Mask:
    return KeyLengths(part.kv_len[sequence : sequence + 1]) if isinstance(part, KeyLengths) else part
