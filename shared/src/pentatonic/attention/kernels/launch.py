"""From tensors to kernel launches: no host synchronisation, and only O(N) memory beside the results.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension. Packed batches come as ``(1, H, total, D)`` views
with running lengths.
"""

from __future__ import annotations

from math import inf
from typing import Any

import torch
import triton
from torch import Tensor

from pentatonic.attention.kernels import fits_31_bits
from pentatonic.attention.kernels import forward as forward_kernels
from pentatonic.attention.kernels import intervals as interval_kernels
from pentatonic.attention.kernels import key_gradient as key_gradient_kernels
from pentatonic.attention.kernels import query_gradient as query_gradient_kernels
from pentatonic.attention.kernels.configs import Config, Kind, config_for
from pentatonic.attention.kernels.coordinates import LOG2E, Coordinates, coordinates, padded
from pentatonic.attention.kernels.tile import GROUP as _GROUP
from pentatonic.attention.problem import Problem

# Launched by subscript, which the types of Triton do not describe.
_forward: Any = forward_kernels
_query_gradient: Any = query_gradient_kernels
_key_gradient: Any = key_gradient_kernels
_intervals: Any = interval_kernels
GROUP = int(_GROUP.value)  # pyright: ignore[reportAttributeAccessIssue]
MAX_SPLITS = 64
INTERPRETED = not isinstance(forward_kernels.forward_kernel, triton.JITFunction)


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor | None,
    key_bias: Tensor | None,
    problem: Problem,
    *,
    splits: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of queries ``(B, H, Nq, D)`` to keys ``(B, H, Nk, D)``.

    Args:
        q: float16, bfloat16 or float32, any strides.
        k: Same dtype.
        v: Same dtype.
        weights: ``(M, H)``.
        key_bias: ``(B, H, Nk)``.
        problem: Everything else.
        splits: Ranges of keys computed apart; ``None`` chooses.

    Returns:
        ``(o, lse)``: as q, and ``(B, H, Nq)`` float32.
    """
    q, k, v = (_unit_stride(x) for x in (q, k, v))
    batch, heads, n_q, head_dim = q.shape
    exact = q.dtype == torch.float32
    o = torch.empty_like(q)
    lse = torch.empty(batch, heads, n_q, dtype=torch.float32, device=q.device)
    if not o.numel():
        return o, lse
    bias = coordinates(problem.distances, weights, key_bias, exact=exact, ready=problem.laid_out)
    small = n_q <= 16 and problem.cu_q is None
    if not small:
        splits = 1
    elif splits is None:
        splits = _splits(q, k)
    rope = problem.rope
    rotate_k = rope is not None and (_windowed(problem) or small)
    kind = _kind(problem, bias, rotate=rotate_k)
    config = config_for("decode" if small else "forward", q, kind)
    # Without a window few tiles need a mask: pipelining their loop would cost the kernel registers for nothing. float32
    # keeps the pipeline with which its tiles were chosen.
    pipelined = small or problem.left is not None or exact
    arguments = _common(q, k, v, problem, bias, config)
    grid = (arguments["n_blocks"] * batch * heads, splits)
    if rope is not None and not rotate_k:
        k = rotated(k, problem)
        arguments |= _strides("k", k) | {"k_ptr": k}
    part, part_lse = o, lse
    if splits > 1:
        part = q.new_empty(batch, heads, splits, n_q, head_dim, dtype=torch.float32)
        part_lse = q.new_empty(batch, heads, splits, n_q, dtype=torch.float32)
    out = part[:, :, 0] if splits > 1 else part
    out_lse = part_lse[:, :, 0] if splits > 1 else part_lse
    _forward.forward_kernel[grid](
        **arguments,
        **_strides("o", out),
        o_ptr=out,
        o_s=part.stride(2) if splits > 1 else 0,
        lse_ptr=out_lse,
        lse_b=out_lse.stride(0),
        lse_h=out_lse.stride(1),
        lse_s=part_lse.stride(2) if splits > 1 else 0,
        interval_ptr=problem.intervals,
        INTERVALS=problem.intervals is not None,
        ALIGNED=problem.aligned,
        ROTATE_Q=rope is not None,
        ROTATE_K=rotate_k,
        SPLITS=splits,
        POSITIVE_SCALE=problem.scale > 0,
        EDGE_STAGES=config.stages if pipelined else 1,
    )
    if splits > 1:
        _forward.combine_kernel[(batch * heads * n_q,)](
            part, part_lse, o, lse, o.stride(0), o.stride(1), o.stride(2), heads, n_q,
            SPLITS=splits, BLOCK_S=_power_of_2(splits), D=head_dim, BLOCK_D=arguments["BLOCK_D"],
        )  # fmt: skip
    return o, lse


def backward(
    grad_o: Tensor,
    grad_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    lse: Tensor,
    weights: Tensor | None,
    key_bias: Tensor | None,
    problem: Problem,
    *,
    needs_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of q, k, v, of the weights ``(M, H)`` if needed, and of the key bias ``(B, H, Nk)``, if any."""
    q, k, v, o = (_unit_stride(x) for x in (q, k, v, o))
    # Gradients come from anywhere: a copy in the layout of o can be addressed as o can.
    if grad_o.stride(-1) != 1 or not fits_31_bits(grad_o):
        grad_o = torch.empty_like(o).copy_(grad_o)
    if grad_lse is not None and not fits_31_bits(grad_lse[..., None]):
        grad_lse = grad_lse.contiguous()
    batch, heads, n_q, _ = q.shape
    n_k = k.shape[2]
    dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
    dkey = None if key_bias is None else padded(torch.zeros_like(key_bias, dtype=torch.float32))
    if not n_q or not n_k:
        dq, dk, dv = dq.zero_(), dk.zero_(), dv.zero_()
        dw = torch.zeros_like(weights) if weights is not None and needs_weights else None
        return dq, dk, dv, dw, None if dkey is None else dkey[..., :n_k]
    rope = problem.rope
    # Rotating beforehand needs one table row per token, which packed queries have only if they are the keys' tokens.
    rotate = rope is not None and (_windowed(problem) or problem.cu_q is not problem.cu_k)
    if rope is not None and not rotate:
        q, k = rotated(q, problem), rotated(k, problem)
    lse = lse.contiguous()
    row_stats = lse.new_empty(*lse.shape, 4)
    ds_scale = _ds_scale(grad_o, grad_lse, v)

    exact = q.dtype == torch.float32
    # What was laid out beforehand suits the forward pass; gradients of the weights need raw coordinates.
    ready = problem.laid_out if exact or not needs_weights else None
    bias = coordinates(problem.distances, weights, key_bias, exact=exact or needs_weights, ready=ready)
    config = config_for("query_gradient", q, _kind(problem, bias, rotate=rotate))
    arguments = _common(q, k, v, problem, bias, config)
    n_programs = arguments["n_blocks"] * batch * heads
    dw = q.new_zeros(2, n_programs, dtype=torch.float32) if needs_weights else None
    shared = {"ROTATE": rotate, "ROTATE_BACK": rope is not None, "INTERVALS": problem.intervals is not None}
    shared |= {"do_ptr": grad_o, "row_stats_ptr": row_stats, "natural_scale": problem.scale}
    shared |= {"ds_scale_ptr": ds_scale, "SCALE_DS": ds_scale is not None, "interval_ptr": problem.intervals}
    shared |= {"lse_b": lse.stride(0), "lse_h": lse.stride(1), **_strides("do", grad_o)}
    grad_lse_strides = (0, 0, 0) if grad_lse is None else grad_lse.stride()
    _query_gradient.query_gradient_kernel[(n_programs,)](
        **arguments,
        **shared,
        **_strides("o", o),
        **_strides("dq", dq),
        o_ptr=o,
        dq_ptr=dq,
        lse_ptr=lse,
        dlse_ptr=grad_lse,
        dlse_b=grad_lse_strides[0],
        dlse_h=grad_lse_strides[1],
        dlse_n=grad_lse_strides[2],
        dw_ptr=dw,
        WEIGHT_GRADIENT=needs_weights,
        PREMULTIPLY=bias.form == "per_axis" and not exact,
    )
    d_weights = None
    if dw is not None and weights is not None:
        d_weights = dw.view(2, batch, heads, -1).sum(dim=(1, 3))[: weights.shape[0]].to(weights.dtype)

    bias = coordinates(problem.distances, weights, key_bias, exact=exact, ready=problem.laid_out)
    config = config_for("key_gradient", q, _kind(problem, bias, rotate=rotate))
    arguments = _common(q, k, v, problem, bias, config, along_keys=True)
    _key_gradient.key_gradient_kernel[(arguments["n_blocks"] * batch * heads,)](
        **arguments,
        **shared,
        **_strides("dk", dk),
        **_strides("dv", dv),
        dk_ptr=dk,
        dv_ptr=dv,
        dkey_ptr=dkey,
        live_rows_ptr=_live_rows(problem, n_k),
    )
    return dq, dk, dv, d_weights, None if dkey is None else dkey[..., :n_k]


def key_intervals(q: Tensor, k: Tensor, weights: Tensor, problem: Problem, tolerance: float) -> Tensor:
    """As :func:`pentatonic.attention.intervals.key_intervals`, for distances that are taken per axis.

    Args:
        q: ``(B, H, Nq, D)``.
        k: ``(B, H, Nk, D)``.
        weights: ``(M, H)``.
        problem: Its distances, mask and scale are read.
        tolerance: Largest probability that a row may lose.

    Returns:
        ``(B, H, row groups, 2)`` int32.
    """
    q, k = _unit_stride(q), _unit_stride(k)
    batch, heads, n_q, head_dim = q.shape
    n_k = k.shape[2]
    row_groups, key_groups = _ceil_div(n_q, GROUP), _ceil_div(n_k, GROUP)
    intervals = torch.empty(batch, heads, row_groups, 2, dtype=torch.int32, device=q.device)
    if not intervals.numel():
        return intervals
    bias = coordinates(problem.distances, weights, None, exact=True)
    row_stats = q.new_empty(batch, heads, row_groups, 8, dtype=torch.float32)
    key_stats = q.new_empty(batch, heads, key_groups, 8, dtype=torch.float32)
    cls_tokens, block_d = bool(problem.distances.cls_tokens), _block_d(head_dim)
    shared = {"heads": heads, "n_k": n_k, "AXES": bias.axes}
    inputs = {"x_ptr": bias.x, "y_ptr": bias.y, "x_b": bias.arguments(cls_tokens)["x_b"], "CLS": cls_tokens}
    inputs |= {"k_ptr": k, **_strides("k", k), "D": head_dim, "BLOCK_D": block_d, "num_warps": 8}
    rule = {"weight_ptr": bias.weights, "kv_len_ptr": problem.kv_len, "LENGTHS": problem.kv_len is not None}
    rule |= {"row_stats_ptr": row_stats, "row_groups": row_groups, "scale": problem.scale}
    _intervals.key_group_kernel[(batch * heads, key_groups)](
        **shared, **inputs, key_stats_ptr=key_stats, key_groups=key_groups
    )
    _intervals.row_group_kernel[(batch * heads, row_groups)](
        **shared,
        **inputs,
        **rule,
        **_strides("q", q),
        q_ptr=q,
        n_q=n_q,
        left=problem.left or 0,
        right=problem.right or 0,
        LEFT=problem.left is not None,
        RIGHT=problem.right is not None,
        CHUNK_D=min(32, block_d),
        KEYS=16,
        UPCAST=INTERPRETED and q.dtype == torch.bfloat16,
        num_stages=1,
        # Without this cap ptxas spills registers to raise occupancy.
        maxnreg=255,
    )
    _intervals.interval_kernel[(batch * heads, row_groups)](
        **shared,
        **rule,
        key_stats_ptr=key_stats,
        interval_ptr=intervals,
        key_groups=key_groups,
        half_tolerance=tolerance / 2,
        CLS_ROW=cls_tokens and n_q == n_k,
        CHUNK=128,
        num_warps=1,
    )
    return intervals


def rotated(x: Tensor, problem: Problem) -> Tensor:
    """``(B, H, N, D)`` turned by the angles of the last N tokens, in a new tensor of the same layout."""
    assert problem.rope is not None
    cos, sin, interleaved = problem.rope
    batch, heads, n, head_dim = x.shape
    skip = cos.shape[-2] - n if problem.cu_q is None else 0
    cos, sin = cos[..., skip:, :], sin[..., skip:, :]
    out = torch.empty_like(x)
    n_blocks = _ceil_div(n, 64)
    _forward.rotate_kernel[(batch * heads * n_blocks,)](
        x, out, cos, sin, *x.stride()[:3], *out.stride()[:3], _table_stride(cos), heads, n, n_blocks,
        R=2 * cos.shape[-1], INTERLEAVED=interleaved, D=head_dim, BLOCK_D=_block_d(head_dim), BLOCK=64,
    )  # fmt: skip
    return out


def _common(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    problem: Problem,
    bias: Coordinates,
    config: Config,
    *,
    along_keys: bool = False,
) -> dict[str, Any]:
    """The arguments that forward and backward kernels share."""
    _, heads, n_q, head_dim = q.shape
    n_k = k.shape[2]
    walked, block = (n_k, config.block_n) if along_keys else (n_q, config.block_m)
    cu_q, cu_k = problem.cu_q, problem.cu_k
    sequences = 0 if cu_q is None else cu_q.shape[0] - 1
    blocks = None
    n_blocks = _ceil_div(walked, block)
    if cu_q is not None:
        # Upper bound: each sequence may end in a partial block.
        n_blocks = walked // block + sequences
        blocks = torch.empty(sequences + 1, dtype=torch.int32, device=q.device)
        _forward.plan_kernel[(1,)](cu_k if along_keys else cu_q, blocks, sequences, BLOCK=block, CHUNK=256)
    order = None if problem.intervals is None else _heaviest_first(problem.intervals)
    rope = problem.rope
    cos, sin, interleaved = (None, None, False) if rope is None else rope
    return {
        "q_ptr": q,
        "k_ptr": k,
        "v_ptr": v,
        **_strides("q", q),
        **_strides("k", k),
        **_strides("v", v),
        **bias.arguments(problem.distances.cls_tokens),
        "cu_q_ptr": cu_q,
        "cu_k_ptr": cu_k,
        "blocks_ptr": blocks,
        "kv_len_ptr": problem.kv_len,
        "order_ptr": order,
        "cos_ptr": cos,
        "sin_ptr": sin,
        "table_b": 0 if cos is None else _table_stride(cos),
        "R": 2 if cos is None else 2 * cos.shape[-1],
        "INTERLEAVED": interleaved,
        "heads": heads,
        "n_q": n_q,
        "n_k": n_k,
        "n_blocks": n_blocks,
        "sequences": sequences,
        "row_groups": _ceil_div(n_q, GROUP),
        "left": problem.left or 0,
        "right": problem.right or 0,
        "scale": problem.scale * LOG2E,
        "LEFT": problem.left is not None,
        "RIGHT": problem.right is not None,
        "LENGTHS": problem.kv_len is not None,
        "PACKED": cu_q is not None,
        "ORDERED": order is not None,
        "D": head_dim,
        "BLOCK_D": _block_d(head_dim),
        "BLOCK_M": config.block_m,
        "BLOCK_N": config.block_n,
        # The interpreter would multiply the bit patterns of bfloat16.
        "UPCAST": INTERPRETED and q.dtype == torch.bfloat16,
        "num_warps": config.warps,
        "num_stages": config.stages,
    }


def _live_rows(problem: Problem, n_k: int) -> Tensor | None:
    """Per key group the first row group that visits it and the one after the last: ``(B, H, key groups, 2)`` int32."""
    if problem.intervals is None:
        return None
    batch, heads, row_groups, _ = problem.intervals.shape
    key_groups = _ceil_div(n_k, GROUP)
    live_rows = problem.intervals.new_empty(batch, heads, key_groups, 2)
    _intervals.live_rows_kernel[(batch * heads * key_groups,)](
        problem.intervals,
        live_rows,
        row_groups,
        key_groups,
        CLS=bool(problem.distances.cls_tokens),
        CHUNK=128,
    )
    return live_rows


def _ds_scale(grad_o: Tensor, grad_lse: Tensor | None, v: Tensor) -> Tensor | None:
    """Per head the power of two, at most 1, that keeps the gradient of the scores within float16: ``(B, H)`` float32.

    ``None`` for other dtypes. That gradient is ``p (dP - delta)`` with p at most 1, where neither dP nor delta exceeds
    D times the largest entries of ``grad_o`` and v (o is an average of v).
    """
    if v.dtype != torch.float16:
        return None
    largest_do, largest_v = (
        torch.linalg.vector_norm(x, inf, dim=(-2, -1), dtype=torch.float32) for x in (grad_o, v)
    )
    bound = 2 * v.shape[-1] * largest_do * largest_v
    if grad_lse is not None:
        bound = bound + grad_lse.abs().amax(dim=-1)
    # Infinite gradients, which loss scaling looks for, stay infinite: their scale is 1.
    exponent = torch.nan_to_num((bound / 2**15).log2().ceil(), nan=0.0, posinf=0.0).clamp(min=0.0)
    return torch.exp2(-exponent)


def _heaviest_first(intervals: Tensor) -> Tensor:
    """(sample, head) pairs by falling number of live tiles, so that short programs run last and balance the load."""
    work = (intervals[..., 1] - intervals[..., 0]).sum(dim=-1).flatten()
    return work.argsort(descending=True).to(torch.int32)


def _splits(q: Tensor, k: Tensor) -> int:
    """Ranges of keys, so that few rows still fill the GPU; each range has at least 256 keys."""
    if q.device.type != "cuda":
        return 1
    processors = torch.cuda.get_device_properties(q.device).multi_processor_count
    wanted = 2 * processors // max(1, q.shape[0] * q.shape[1])
    return max(1, min(wanted, k.shape[2] // 256, MAX_SPLITS))


def _kind(problem: Problem, bias: Coordinates, *, rotate: bool) -> Kind:
    """Which entries of the table serve a launch."""
    if rotate or _windowed(problem):
        return "window"
    if bias.form == "none":
        return "none"
    return "distance" if bias.form == "premultiplied" else "weighted"


def _windowed(problem: Problem) -> bool:
    """Whether each row sees a band of keys, so that each key is loaded only a few times."""
    return problem.left is not None and problem.right is not None


def _unit_stride(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _strides(name: str, x: Tensor) -> dict[str, int]:
    return {f"{name}_b": x.stride(0), f"{name}_h": x.stride(1), f"{name}_n": x.stride(2)}


def _table_stride(table: Tensor) -> int:
    return table.stride(0) if table.dim() == 3 and table.shape[0] > 1 else 0


def _block_d(head_dim: int) -> int:
    return max(16, _power_of_2(head_dim))


def _ceil_div(n: int, block: int) -> int:
    return -(-n // block)


def _power_of_2(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()
