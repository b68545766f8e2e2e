"""The gradients of the keys, of the values and of the key bias.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension. This kernel walks along the rows of its keys, in
transposed tiles ``(keys, rows)``, recomputing the weights from what :mod:`query_gradient` has left per row.
"""

from __future__ import annotations

import triton
import triton.language as tl

from pentatonic.attention.kernels.tile import (
    GROUP,
    add_bias,
    all_edges,
    bias_weights,
    edge_tile,
    hide,
    key_length,
    load_rotated,
    load_rows,
    locate,
    product,
    rotate_back,
    row_tiles,
    to_half,
    visits,
)


@triton.jit
def _key_gradient(
    dk,
    dv,
    dkey,
    k,
    v,
    tile,
    q_ptr,
    do_ptr,
    q_n,
    do_n,
    row_stats_ptr,
    visited,
    n_q,
    offset,
    valid,
    j,
    x_k,
    y_k,
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
    LEFT: tl.constexpr,
    RIGHT: tl.constexpr,
    ROTATE: tl.constexpr,
    R: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    INTERVALS: tl.constexpr,
    SCALE_DS: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """What one row tile adds to the gradients of the keys, of their values, and of the key bias."""
    rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    tokens = rows + offset
    if ROTATE:
        q = load_rotated(q_ptr, rows, q_n, n_q, d, cos_ptr, sin_ptr, tokens, D, BLOCK_D, R, INTERLEAVED)
    else:
        q = load_rows(q_ptr, rows, q_n, n_q, d, D, BLOCK_D, EDGE)
    do = load_rows(do_ptr, rows, do_n, n_q, d, D, BLOCK_D, EDGE)
    # One load for the four numbers of a row: loads of one number per row would be repeated in every warp.
    row_stats = row_stats_ptr + rows[:, None] * 4 + tl.arange(0, 4)[None, :]
    row_stats = tl.load(row_stats, mask=rows[:, None] < n_q, other=0.0) if EDGE else tl.load(row_stats)
    x_lse2, y_delta = tl.split(tl.reshape(row_stats, (BLOCK_M, 2, 2)))
    x_q, lse2 = tl.split(x_lse2)
    y_q, delta = tl.split(y_delta)
    if EDGE:
        lse2 = tl.where(rows < n_q, lse2, float("inf"))
    if INTERVALS:
        # Rows that skipped these keys in the forward pass: all weights come out 0.
        lse2 = tl.where(visited, lse2, float("inf"))
    a = tokens[None, :]
    x_q = x_q[None, :]
    y_q = y_q[None, :]
    s = product(k, tl.trans(q), None, UPCAST) * scale
    s = add_bias(s, a, j, x_q, y_q, x_k, y_k, w0, w1, BIAS, AXES, SIGNED, CLS, EDGE)
    if EDGE:
        s = hide(s, a, j, valid, left, right, LEFT, RIGHT)
    p = tl.exp2(s - lse2[None, :])
    dv = product(p.to(do.dtype), do, dv, UPCAST)
    ds = p * (product(v, tl.trans(do), None, UPCAST) - delta[None, :])
    dk = product(to_half(ds, ds_scale, q.dtype, SCALE_DS), q, dk, UPCAST)
    if BIAS == "key":
        if CLS and EDGE:
            ds = tl.where((a > 0) & (j > 0), ds, 0.0)
        dkey += tl.sum(ds, 1)
    return dk, dv, dkey


@triton.jit(
    do_not_specialize=[
        "heads", "n_q", "n_k", "n_blocks", "sequences", "left", "right", "row_groups", "table_b",
        "lse_b", "lse_h",
    ]
)  # fmt: skip
def key_gradient_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    do_ptr,
    dk_ptr,
    dv_ptr,
    row_stats_ptr,
    ds_scale_ptr,
    dkey_ptr,
    x_ptr,
    y_ptr,
    weight_ptr,
    cu_q_ptr,
    cu_k_ptr,
    blocks_ptr,
    kv_len_ptr,
    order_ptr,
    interval_ptr,
    live_rows_ptr,
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
    do_b,
    do_h,
    do_n,
    dk_b,
    dk_h,
    dk_n,
    dv_b,
    dv_h,
    dv_n,
    lse_b,
    lse_h,
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
    """Gradients of BLOCK_N keys and values, and of the key bias; hidden keys get 0.

    With ``INTERVALS``, ``live_rows_ptr (B, H, key groups, 2)`` bounds the row groups that visited these keys in the
    forward pass; those in between that did not (``interval_ptr``) get weight 0.
    """
    b, h, sequence, block, start_k, start_q, n_k, n_q = locate(
        tl.program_id(0), n_blocks, heads, n_k, n_q, sequences, cu_k_ptr, cu_q_ptr, blocks_ptr, order_ptr, PACKED,
        ORDERED, False,
    )  # fmt: skip
    key_0 = block * BLOCK_N
    if key_0 >= n_k:
        return
    valid = key_length(kv_len_ptr, sequence, n_q, n_k, LENGTHS, AXES)
    batch = b.to(tl.int64)
    offset = n_k - n_q
    keys = key_0 + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    first_q = start_q.to(tl.int64)
    first_k = start_k.to(tl.int64)
    q_ptr += batch * q_b + h * q_h + first_q * q_n
    k_ptr += batch * k_b + h * k_h + first_k * k_n
    v_ptr += batch * v_b + h * v_h + first_k * v_n
    do_ptr += batch * do_b + h * do_h + first_q * do_n
    row_stats_ptr += (batch * lse_b + h * lse_h + start_q) * 4
    if ROTATE or ROTATE_BACK:
        cos_ptr += batch * table_b + first_k * (R // 2)
        sin_ptr += batch * table_b + first_k * (R // 2)
    if ROTATE:
        k = load_rotated(k_ptr, keys, k_n, n_k, d, cos_ptr, sin_ptr, keys, D, BLOCK_D, R, INTERLEAVED)
    else:
        k = load_rows(k_ptr, keys, k_n, n_k, d, D, BLOCK_D, True)
    v = load_rows(v_ptr, keys, v_n, n_k, d, D, BLOCK_D, True)

    j = keys[:, None]
    x_k = j
    y_k = j
    w0, w1 = bias_weights(weight_ptr, h, heads, BIAS, AXES)
    if BIAS != "none":
        x_ptr += batch * x_b + h * x_h + start_k
        x_k = tl.load(x_ptr + keys)[:, None]
    if AXES == 2:
        y_ptr += batch * x_b + h * x_h + start_k
        y_k = tl.load(y_ptr + keys)[:, None]

    last = tl.minimum(key_0 + BLOCK_N, valid) - 1
    lo, full_lo, full_hi, hi = row_tiles(key_0, last, n_q, offset, left, right, LEFT, RIGHT, CLS, BLOCK_M)
    if key_0 >= valid:
        hi = lo
        full_lo = lo
        full_hi = lo
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dkey = tl.zeros([BLOCK_N], tl.float32)
    ds_scale = 1.0
    if SCALE_DS:
        ds_scale = tl.load(ds_scale_ptr + b * heads + h)
    n_extra = 0
    if INTERVALS:
        per_group: tl.constexpr = GROUP // BLOCK_M
        key_group = key_0 // GROUP
        interval_ptr += (batch * heads + h) * row_groups * 2
        live_rows_ptr += ((batch * heads + h) * ((n_k + GROUP - 1) // GROUP) + key_group) * 2
        lo = tl.load(live_rows_ptr) * per_group
        hi = tl.load(live_rows_ptr + 1) * per_group
        # The last group may end past the last row.
        full_lo = lo
        full_hi = tl.maximum(tl.minimum(hi, n_q // GROUP * per_group), lo)
        if CLS:
            # The tiles of the CLS row's group come on their own, and all rows need the mask of the CLS key.
            n_extra = per_group
            full_hi = tl.where(key_0 == 0, lo, full_hi)
        if LEFT or RIGHT:
            full_hi = lo
    if all_edges(w0, w1, BIAS):
        full_hi = full_lo
    visited = True
    for tile in range(full_lo, full_hi):
        if INTERVALS:
            visited = visits(interval_ptr, tile // per_group, key_group, CLS)
        dk, dv, dkey = _key_gradient(
            dk, dv, dkey, k, v, tile, q_ptr, do_ptr, q_n, do_n, row_stats_ptr, visited, n_q, offset, valid, j, x_k,
            y_k, w0, w1, cos_ptr, sin_ptr, left, right, scale, ds_scale, d, False, BIAS, AXES, SIGNED, CLS,
            LEFT, RIGHT, ROTATE, R, INTERLEAVED, INTERVALS, SCALE_DS, D, BLOCK_D, BLOCK_M, UPCAST,
        )  # fmt: skip
    for n in range(0, full_lo - lo + hi - full_hi + n_extra):
        tile = edge_tile(n, lo, full_lo, full_hi, hi)
        if INTERVALS:
            visited = visits(interval_ptr, tile // per_group, key_group, CLS)
        dk, dv, dkey = _key_gradient(
            dk, dv, dkey, k, v, tile, q_ptr, do_ptr, q_n, do_n, row_stats_ptr, visited, n_q, offset, valid, j, x_k,
            y_k, w0, w1, cos_ptr, sin_ptr, left, right, scale, ds_scale, d, True, BIAS, AXES, SIGNED, CLS,
            LEFT, RIGHT, ROTATE, R, INTERLEAVED, INTERVALS, SCALE_DS, D, BLOCK_D, BLOCK_M, UPCAST,
        )  # fmt: skip

    # Columns of hidden keys have been computed like the others, but nothing depends on them.
    seen = keys < valid
    dk = tl.where(seen[:, None], dk * (natural_scale / ds_scale), 0.0)
    dv = tl.where(seen[:, None], dv, 0.0)
    if ROTATE_BACK:
        dk = rotate_back(dk, seen, d, cos_ptr, sin_ptr, keys, R, INTERLEAVED)
    mask = (keys[:, None] < n_k) & (d[None, :] < D)
    dk_ptr += batch * dk_b + h * dk_h + first_k * dk_n
    dv_ptr += batch * dv_b + h * dv_h + first_k * dv_n
    tl.store(dk_ptr + keys[:, None] * dk_n + d[None, :], dk.to(dk_ptr.dtype.element_ty), mask=mask)
    tl.store(dv_ptr + keys[:, None] * dv_n + d[None, :], dv.to(dv_ptr.dtype.element_ty), mask=mask)
    if BIAS == "key":
        dkey = tl.where(seen, dkey, 0.0)
        tl.store(dkey_ptr + batch * x_b + h * x_h + start_k + keys, dkey, mask=keys < n_k)
