"""The gradient of the queries, and of the weights of the bias.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension. Like the forward kernel this one walks along the keys
of its rows, recomputing the weights from the stored log-sum-exp. Nothing in either gradient kernel is added by atomics:
the same inputs give the same bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

from pentatonic.attention.kernels.tile import (
    GROUP,
    LOG2E,
    add_bias,
    all_edges,
    bias_weights,
    edge_tile,
    hide,
    key_length,
    key_tiles,
    live_tiles,
    load_rotated,
    load_rows,
    locate,
    product,
    rotate_back,
    to_half,
)


@triton.jit
def _query_gradient(
    dq,
    dw0,
    dw1,
    mean0,
    mean1,
    p_sum,
    ds_sum,
    q,
    do,
    lse2,
    delta,
    tile,
    k_ptr,
    v_ptr,
    k_n,
    v_n,
    n_k,
    valid,
    a,
    x_q,
    y_q,
    x_ptr,
    y_ptr,
    w0,
    w1,
    cos_ptr,
    sin_ptr,
    left,
    right,
    scale,
    ds_scale,
    d,
    EDGE: tl.constexpr,
    BIAS: tl.constexpr,
    AXES: tl.constexpr,
    SIGNED: tl.constexpr,
    CLS: tl.constexpr,
    WEIGHT_GRADIENT: tl.constexpr,
    LEFT: tl.constexpr,
    RIGHT: tl.constexpr,
    ROTATE: tl.constexpr,
    R: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    SCALE_DS: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """What one key tile adds to the gradient of the rows and, per row, to what :func:`_weight_gradient` takes."""
    keys = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    if ROTATE:
        k = load_rotated(k_ptr, keys, k_n, n_k, d, cos_ptr, sin_ptr, keys, D, BLOCK_D, R, INTERLEAVED)
    else:
        k = load_rows(k_ptr, keys, k_n, n_k, d, D, BLOCK_D, EDGE)
    v = load_rows(v_ptr, keys, v_n, n_k, d, D, BLOCK_D, EDGE)
    j = keys[None, :]
    x_k = j
    y_k = j
    if BIAS != "none":
        x_k = tl.load(x_ptr + keys)[None, :]
    if AXES == 2:
        y_k = tl.load(y_ptr + keys)[None, :]
    s = product(q, tl.trans(k), None, UPCAST) * scale
    s = add_bias(s, a, j, x_q, y_q, x_k, y_k, w0, w1, BIAS, AXES, SIGNED, CLS, EDGE)
    if EDGE:
        s = hide(s, a, j, valid, left, right, LEFT, RIGHT)
    p = tl.exp2(s - lse2[:, None])
    ds = p * (product(do, tl.trans(v), None, UPCAST) - delta[:, None])
    dq = product(to_half(ds, ds_scale, k.dtype, SCALE_DS), k, dq, UPCAST)
    if WEIGHT_GRADIENT:
        p_sum += tl.sum(p, 1)
        ds_sum += tl.sum(ds, 1)
        g = x_q - x_k
        if not SIGNED:
            g = tl.abs(g)
        if BIAS != "per_axis" and AXES == 2:
            g += tl.abs(y_q - y_k)
        if CLS and EDGE:
            g = tl.where((a > 0) & (j > 0), g, 0.0)
        if BIAS == "directional":
            dw0, mean0 = _add_moments(dw0, mean0, ds, p, tl.where(j <= a, g, 0.0))
            dw1, mean1 = _add_moments(dw1, mean1, ds, p, tl.where(j <= a, 0.0, g))
        else:
            dw0, mean0 = _add_moments(dw0, mean0, ds, p, g)
        if BIAS == "per_axis" and AXES == 2:
            g = tl.abs(y_q - y_k)
            if CLS and EDGE:
                g = tl.where((a > 0) & (j > 0), g, 0.0)
            dw1, mean1 = _add_moments(dw1, mean1, ds, p, g)
    return dq, dw0, dw1, mean0, mean1, p_sum, ds_sum


@triton.jit
def _add_moments(dw, mean, ds, p, g):
    """Add ``ds * g`` and ``p * g`` of a tile to their sums per row."""
    return dw + tl.sum(ds * g, 1), mean + tl.sum(p * g, 1)


@triton.jit
def _weight_gradient(dw, mean, p_sum, ds_sum, dlse):
    """The gradient of one weight, from sums over the keys of each row.

    Args:
        dw: Sum of ``ds * g``, g being what the weight multiplies.
        mean: Sum of ``p * g``.
        p_sum: Sum of the weights p; 1, but for what was rounded in the log-sum-exp.
        ds_sum: Sum of ds; the gradient of the log-sum-exp, but for what was rounded in ``delta`` and in dP.
        dlse: Gradient of the log-sum-exp.

    An error of ``delta`` or of the log-sum-exp is the same for all keys of a row. Summed with distances, which all
    have one sign, it does not average out: it would outweigh the gradient where that is small because its terms cancel.
    What the two sums should be tells how large these errors were.
    """
    inverse = tl.where(p_sum > 0.0, 1.0 / p_sum, 0.0)
    excess = ds_sum - dlse * p_sum
    return tl.sum((dw - excess * mean * inverse) * inverse, 0)


# Values that change per call, and strides on which no wide load depends: specialising on them would recompile.
@triton.jit(
    do_not_specialize=[
        "heads", "n_q", "n_k", "n_blocks", "sequences", "left", "right", "row_groups", "table_b",
        "lse_b", "lse_h", "dlse_b", "dlse_h", "dlse_n",
    ]
)  # fmt: skip
def query_gradient_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    o_ptr,
    do_ptr,
    dq_ptr,
    lse_ptr,
    dlse_ptr,
    row_stats_ptr,
    ds_scale_ptr,
    dw_ptr,
    x_ptr,
    y_ptr,
    weight_ptr,
    cu_q_ptr,
    cu_k_ptr,
    blocks_ptr,
    kv_len_ptr,
    order_ptr,
    interval_ptr,
    cos_ptr,
    sin_ptr,
    q_b,
    q_h,
    q_n,
    k_b,
    k_h,
    k_n,
    v_b,
    v_h,
    v_n,
    o_b,
    o_h,
    o_n,
    do_b,
    do_h,
    do_n,
    dq_b,
    dq_h,
    dq_n,
    lse_b,
    lse_h,
    dlse_b,
    dlse_h,
    dlse_n,
    x_b,
    x_h,
    table_b,
    heads,
    n_q,
    n_k,
    n_blocks,
    sequences,
    row_groups,
    left,
    right,
    scale,
    natural_scale,
    BIAS: tl.constexpr,
    AXES: tl.constexpr,
    SIGNED: tl.constexpr,
    CLS: tl.constexpr,
    WEIGHT_GRADIENT: tl.constexpr,
    PREMULTIPLY: tl.constexpr,
    LEFT: tl.constexpr,
    RIGHT: tl.constexpr,
    LENGTHS: tl.constexpr,
    PACKED: tl.constexpr,
    INTERVALS: tl.constexpr,
    ORDERED: tl.constexpr,
    ROTATE: tl.constexpr,
    ROTATE_BACK: tl.constexpr,
    R: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    SCALE_DS: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Gradient of q, and of the weights of the bias as one float32 per program, head and weight.

    Also leaves for :func:`key_gradient_kernel` four numbers per row, ``row_stats (B, H, Nq, 4)``: both coordinates
    (with ``PREMULTIPLY`` as a premultiplied bias has them), the log-sum-exp in base 2 (+inf where no key was seen, so
    that all weights come out 0) and ``delta``, the sum of dO * O less the gradient of the log-sum-exp.
    """
    b, h, sequence, block, start_q, start_k, n_q, n_k = locate(
        tl.program_id(0), n_blocks, heads, n_q, n_k, sequences, cu_q_ptr, cu_k_ptr, blocks_ptr, order_ptr, PACKED,
        ORDERED, RIGHT and not PACKED,
    )  # fmt: skip
    valid = key_length(kv_len_ptr, sequence, n_q, n_k, LENGTHS, AXES)
    row_0 = block * BLOCK_M
    if row_0 >= n_q:
        return
    batch = b.to(tl.int64)
    offset = n_k - n_q
    rows = row_0 + tl.arange(0, BLOCK_M)
    here = rows < n_q
    tokens = rows + offset
    d = tl.arange(0, BLOCK_D)
    first_q = start_q.to(tl.int64)
    q_ptr += batch * q_b + h * q_h + first_q * q_n
    k_ptr += batch * k_b + h * k_h + start_k.to(tl.int64) * k_n
    v_ptr += batch * v_b + h * v_h + start_k.to(tl.int64) * v_n
    if ROTATE or ROTATE_BACK:
        cos_ptr += batch * table_b + start_k.to(tl.int64) * (R // 2)
        sin_ptr += batch * table_b + start_k.to(tl.int64) * (R // 2)
    if ROTATE:
        q = load_rotated(q_ptr, rows, q_n, n_q, d, cos_ptr, sin_ptr, tokens, D, BLOCK_D, R, INTERLEAVED)
    else:
        q = load_rows(q_ptr, rows, q_n, n_q, d, D, BLOCK_D, True)
    o = load_rows(o_ptr + batch * o_b + h * o_h + first_q * o_n, rows, o_n, n_q, d, D, BLOCK_D, True)
    do = load_rows(do_ptr + batch * do_b + h * do_h + first_q * do_n, rows, do_n, n_q, d, D, BLOCK_D, True)
    at = batch * lse_b + h * lse_h + start_q + rows
    lse = tl.load(lse_ptr + at, mask=here, other=float("-inf"))
    lse2 = tl.where(lse == float("-inf"), float("inf"), lse * LOG2E)
    delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    dlse = tl.zeros([BLOCK_M], tl.float32)
    if dlse_ptr is not None:
        dlse_at = batch * dlse_b + h * dlse_h + (first_q + rows) * dlse_n
        dlse = tl.load(dlse_ptr + dlse_at, mask=here, other=0.0)
        delta -= dlse
    delta = tl.where(lse == float("-inf"), 0.0, delta)
    row_stats_ptr += at * 4
    tl.store(row_stats_ptr + 2, lse2, mask=here)
    tl.store(row_stats_ptr + 3, delta, mask=here)

    a = tokens[:, None]
    x_q = a
    y_q = a
    w0, w1 = bias_weights(weight_ptr, h, heads, BIAS, AXES)
    if BIAS != "none":
        x_ptr += batch * x_b + h * x_h + start_k
    if AXES > 0:
        x = tl.load(x_ptr + tokens, mask=tokens >= 0, other=0.0)
        x_q = x[:, None]
        tl.store(row_stats_ptr, x * tl.abs(w0) if PREMULTIPLY else x, mask=here)
    if AXES == 2:
        y_ptr += batch * x_b + h * x_h + start_k
        y = tl.load(y_ptr + tokens, mask=tokens >= 0, other=0.0)
        y_q = y[:, None]
        tl.store(row_stats_ptr + 1, y * tl.abs(w1) if PREMULTIPLY else y, mask=here)

    last = tl.minimum(row_0 + BLOCK_M, n_q) - 1 + offset
    lo, full_lo, full_hi, hi = key_tiles(row_0 + offset, last, valid, left, right, LEFT, RIGHT, CLS, BLOCK_N)
    extra = 0
    if INTERVALS:
        interval_ptr += ((batch * heads + h) * row_groups + row_0 // GROUP) * 2
        lo, full_lo, full_hi, hi = live_tiles(lo, full_lo, full_hi, hi, interval_ptr, BLOCK_N)
        if CLS:
            extra = tl.minimum(lo, GROUP // BLOCK_N)
    if all_edges(w0, w1, BIAS):
        full_hi = full_lo

    ds_scale = 1.0
    if SCALE_DS:
        ds_scale = tl.load(ds_scale_ptr + b * heads + h)
    dq = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    dw0 = tl.zeros([BLOCK_M], tl.float32)
    dw1 = tl.zeros([BLOCK_M], tl.float32)
    mean0 = tl.zeros([BLOCK_M], tl.float32)
    mean1 = tl.zeros([BLOCK_M], tl.float32)
    p_sum = tl.zeros([BLOCK_M], tl.float32)
    ds_sum = tl.zeros([BLOCK_M], tl.float32)
    for tile in range(full_lo, full_hi):
        dq, dw0, dw1, mean0, mean1, p_sum, ds_sum = _query_gradient(
            dq, dw0, dw1, mean0, mean1, p_sum, ds_sum, q, do, lse2, delta, tile, k_ptr, v_ptr, k_n, v_n, n_k, valid, a,
            x_q, y_q, x_ptr, y_ptr, w0, w1, cos_ptr, sin_ptr, left, right, scale, ds_scale, d, False, BIAS, AXES,
            SIGNED, CLS, WEIGHT_GRADIENT, LEFT, RIGHT, ROTATE, R, INTERLEAVED, SCALE_DS, D, BLOCK_D, BLOCK_N, UPCAST,
        )  # fmt: skip
    for n in range(0, full_lo - lo + hi - full_hi + extra):
        tile = edge_tile(n, lo, full_lo, full_hi, hi)
        dq, dw0, dw1, mean0, mean1, p_sum, ds_sum = _query_gradient(
            dq, dw0, dw1, mean0, mean1, p_sum, ds_sum, q, do, lse2, delta, tile, k_ptr, v_ptr, k_n, v_n, n_k, valid, a,
            x_q, y_q, x_ptr, y_ptr, w0, w1, cos_ptr, sin_ptr, left, right, scale, ds_scale, d, True, BIAS, AXES,
            SIGNED, CLS, WEIGHT_GRADIENT, LEFT, RIGHT, ROTATE, R, INTERLEAVED, SCALE_DS, D, BLOCK_D, BLOCK_N, UPCAST,
        )  # fmt: skip

    dq *= natural_scale / ds_scale
    if ROTATE_BACK:
        dq = rotate_back(dq, here, d, cos_ptr, sin_ptr, tokens, R, INTERLEAVED)
    dq_ptr += batch * dq_b + h * dq_h + first_q * dq_n
    mask = here[:, None] & (d[None, :] < D)
    tl.store(dq_ptr + rows[:, None] * dq_n + d[None, :], dq.to(dq_ptr.dtype.element_ty), mask=mask)
    if WEIGHT_GRADIENT:
        # Packed blocks are numbered through all sequences.
        slot = tl.program_id(0) if PACKED else (b * heads + h) * n_blocks + block
        tl.store(dw_ptr + slot, _weight_gradient(dw0, mean0, p_sum, ds_sum, dlse))
        if BIAS == "directional" or (BIAS == "per_axis" and AXES == 2):
            second = _weight_gradient(dw1, mean1, p_sum, ds_sum, dlse)
            tl.store(dw_ptr + tl.num_programs(0) + slot, second)
