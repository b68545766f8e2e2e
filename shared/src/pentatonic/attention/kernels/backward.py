"""The backward kernels: no atomics, so that the same inputs give the same bits.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension. :func:`query_gradient_kernel` walks along the keys
of its rows as the forward kernel does; :func:`key_gradient_kernel` walks along the rows of its keys, in transposed
tiles ``(keys, rows)``. Both recompute the weights from the stored log-sum-exp.
"""

from __future__ import annotations

import triton
import triton.language as tl

from pentatonic.attention.kernels.tile import (
    GROUP,
    LOG2E,
    add_bias,
    all_edges,
    hide,
    key_length,
    key_tiles,
    load_rotated,
    load_rows,
    locate,
    product,
    rotate_back,
    row_tiles,
)


@triton.jit
def _query_gradient(
    dq,
    dw0,
    dw1,
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
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """What one key tile adds to the gradient of the rows and, per row, to those of the weights of the bias."""
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
    dq = product(ds.to(k.dtype), k, dq, UPCAST)
    if WEIGHT_GRADIENT:
        biased = ds
        if CLS and EDGE:
            biased = tl.where((a > 0) & (j > 0), ds, 0.0)
        g = x_q - x_k
        if not SIGNED:
            g = tl.abs(g)
        if BIAS == "per_axis":
            dw0 += tl.sum(biased * g, 1)
            if AXES == 2:
                dw1 += tl.sum(biased * tl.abs(y_q - y_k), 1)
        else:
            if AXES == 2:
                g += tl.abs(y_q - y_k)
            if BIAS == "directional":
                dw0 += tl.sum(tl.where(j <= a, biased * g, 0.0), 1)
                dw1 += tl.sum(tl.where(j <= a, 0.0, biased * g), 1)
            else:
                dw0 += tl.sum(biased * g, 1)
    return dq, dw0, dw1


# Numbers that change from call to call, and strides no wide load depends on, do not make another binary.
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
    fact_ptr,
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
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Gradient of q, and of the weights of the bias as one float32 per program, head and weight.

    Also leaves for :func:`key_gradient_kernel` four facts per row, ``(B, H, Nq, 4)``: both coordinates (with
    ``PREMULTIPLY`` as a premultiplied bias has them), the log-sum-exp in base 2 (+inf where no key was seen, so
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
    if dlse_ptr is not None:
        dlse_at = batch * dlse_b + h * dlse_h + (first_q + rows) * dlse_n
        delta -= tl.load(dlse_ptr + dlse_at, mask=here, other=0.0)
    delta = tl.where(lse == float("-inf"), 0.0, delta)
    fact_ptr += at * 4
    tl.store(fact_ptr + 2, lse2, mask=here)
    tl.store(fact_ptr + 3, delta, mask=here)

    a = tokens[:, None]
    x_q = a
    y_q = a
    w0 = 0.0
    w1 = 0.0
    if BIAS != "none":
        x_ptr += batch * x_b + h * x_h + start_k
    if AXES > 0:
        x = tl.load(x_ptr + tokens, mask=tokens >= 0, other=0.0)
        x_q = x[:, None]
        w0 = tl.load(weight_ptr + h) * LOG2E
        tl.store(fact_ptr, x * tl.abs(w0) if PREMULTIPLY else x, mask=here)
    if AXES == 2 or BIAS == "directional":
        w1 = tl.load(weight_ptr + heads + h) * LOG2E
    if AXES == 2:
        y_ptr += batch * x_b + h * x_h + start_k
        y = tl.load(y_ptr + tokens, mask=tokens >= 0, other=0.0)
        y_q = y[:, None]
        tl.store(fact_ptr + 1, y * tl.abs(w1) if PREMULTIPLY else y, mask=here)

    last = tl.minimum(row_0 + BLOCK_M, n_q) - 1 + offset
    lo, full_lo, full_hi, hi = key_tiles(row_0 + offset, last, valid, left, right, LEFT, RIGHT, CLS, BLOCK_N)
    extra = 0
    if INTERVALS:
        live = interval_ptr + ((batch * heads + h) * row_groups + row_0 // GROUP) * 2
        lo = tl.minimum(tl.maximum(lo, tl.load(live) * (GROUP // BLOCK_N)), hi)
        hi = tl.maximum(tl.minimum(hi, tl.load(live + 1) * (GROUP // BLOCK_N)), lo)
        full_lo = tl.minimum(tl.maximum(full_lo, lo), hi)
        full_hi = tl.minimum(tl.maximum(full_hi, full_lo), hi)
        if CLS:
            extra = tl.minimum(lo, GROUP // BLOCK_N)
    if all_edges(w0, w1, BIAS):
        full_hi = full_lo

    dq = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    dw0 = tl.zeros([BLOCK_M], tl.float32)
    dw1 = tl.zeros([BLOCK_M], tl.float32)
    for tile in range(full_lo, full_hi):
        dq, dw0, dw1 = _query_gradient(
            dq, dw0, dw1, q, do, lse2, delta, tile, k_ptr, v_ptr, k_n, v_n, n_k, valid, a, x_q, y_q, x_ptr, y_ptr,
            w0, w1, cos_ptr, sin_ptr, left, right, scale, d, False, BIAS, AXES, SIGNED, CLS, WEIGHT_GRADIENT, LEFT,
            RIGHT, ROTATE, R, INTERLEAVED, D, BLOCK_D, BLOCK_N, UPCAST,
        )  # fmt: skip
    n_left = full_lo - lo
    n_edges = n_left + hi - full_hi
    for n in range(0, n_edges + extra):
        tile = tl.where(n < n_left, lo + n, tl.where(n < n_edges, full_hi + n - n_left, n - n_edges))
        dq, dw0, dw1 = _query_gradient(
            dq, dw0, dw1, q, do, lse2, delta, tile, k_ptr, v_ptr, k_n, v_n, n_k, valid, a, x_q, y_q, x_ptr, y_ptr,
            w0, w1, cos_ptr, sin_ptr, left, right, scale, d, True, BIAS, AXES, SIGNED, CLS, WEIGHT_GRADIENT, LEFT,
            RIGHT, ROTATE, R, INTERLEAVED, D, BLOCK_D, BLOCK_N, UPCAST,
        )  # fmt: skip

    dq *= natural_scale
    if ROTATE_BACK:
        dq = rotate_back(dq, here, d, cos_ptr, sin_ptr, tokens, R, INTERLEAVED)
    dq_ptr += batch * dq_b + h * dq_h + first_q * dq_n
    mask = here[:, None] & (d[None, :] < D)
    tl.store(dq_ptr + rows[:, None] * dq_n + d[None, :], dq.to(dq_ptr.dtype.element_ty), mask=mask)
    if WEIGHT_GRADIENT:
        # Packed blocks are numbered through all sequences.
        slot = tl.program_id(0) if PACKED else (b * heads + h) * n_blocks + block
        tl.store(dw_ptr + slot, tl.sum(dw0, 0))
        if BIAS == "directional" or (BIAS == "per_axis" and AXES == 2):
            tl.store(dw_ptr + tl.num_programs(0) + slot, tl.sum(dw1, 0))


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
    fact_ptr,
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
    # One load for all facts of a row: loads of one number per row would be repeated in every warp.
    facts = fact_ptr + rows[:, None] * 4 + tl.arange(0, 4)[None, :]
    facts = tl.load(facts, mask=rows[:, None] < n_q, other=0.0) if EDGE else tl.load(facts)
    x_lse2, y_delta = tl.split(tl.reshape(facts, (BLOCK_M, 2, 2)))
    x_q, lse2 = tl.split(x_lse2)
    y_q, delta = tl.split(y_delta)
    if EDGE:
        lse2 = tl.where(rows < n_q, lse2, float("inf"))
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
    dk = product(ds.to(q.dtype), q, dk, UPCAST)
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
    fact_ptr,
    dkey_ptr,
    x_ptr,
    y_ptr,
    weight_ptr,
    cu_q_ptr,
    cu_k_ptr,
    blocks_ptr,
    kv_len_ptr,
    order_ptr,
    live_ptr,
    live_count_ptr,
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
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Gradients of BLOCK_N keys and values, and of the key bias; hidden keys get 0.

    With ``INTERVALS`` the rows come from ``live_ptr (B, H, key groups, row groups)``, the numbers of the row groups
    that visited this key group in the forward pass, of which ``live_count_ptr`` says how many there are.
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
    fact_ptr += (batch * lse_b + h * lse_h + start_q) * 4
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
    w0 = 0.0
    w1 = 0.0
    if BIAS != "none":
        x_ptr += batch * x_b + h * x_h + start_k
        x_k = tl.load(x_ptr + keys)[:, None]
    if AXES > 0:
        w0 = tl.load(weight_ptr + h) * LOG2E
    if AXES == 2:
        y_ptr += batch * x_b + h * x_h + start_k
        y_k = tl.load(y_ptr + keys)[:, None]
    if AXES == 2 or BIAS == "directional":
        w1 = tl.load(weight_ptr + heads + h) * LOG2E

    last = tl.minimum(key_0 + BLOCK_N, valid) - 1
    lo, full_lo, full_hi, hi = row_tiles(key_0, last, n_q, offset, left, right, LEFT, RIGHT, CLS, BLOCK_M)
    if key_0 >= valid:
        hi = lo
        full_lo = lo
        full_hi = lo
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dkey = tl.zeros([BLOCK_N], tl.float32)
    if INTERVALS:
        per_group: tl.constexpr = GROUP // BLOCK_M
        at = (batch * heads + h) * ((n_k + GROUP - 1) // GROUP) + key_0 // GROUP
        live_ptr += at * row_groups
        n_live = tl.load(live_count_ptr + at) * per_group
        # With a CLS row the tiles of its group come first, and they need the mask, as do all of the CLS key, and
        # those of a window wherever they are; the last group may end past the last row.
        n_first = n_live * 0
        if CLS:
            n_first = tl.where(offset == 0, tl.minimum(per_group, n_live), 0)
            n_first = tl.where(key_0 == 0, n_live, n_first)
        if LEFT or RIGHT:
            n_first = n_live
        if all_edges(w0, w1, BIAS):
            n_first = n_live
        n_last = tl.maximum(n_live - per_group, n_first)
        for n in range(0, n_last - n_first):
            at_n = n_first + n
            tile = tl.load(live_ptr + at_n // per_group) * per_group + at_n % per_group
            dk, dv, dkey = _key_gradient(
                dk, dv, dkey, k, v, tile, q_ptr, do_ptr, q_n, do_n, fact_ptr, n_q, offset, valid, j, x_k,
                y_k, w0, w1, cos_ptr, sin_ptr, left, right, scale, d, False, BIAS, AXES, SIGNED, CLS,
                LEFT, RIGHT, ROTATE, R, INTERLEAVED, D, BLOCK_D, BLOCK_M, UPCAST,
            )  # fmt: skip
        for n in range(0, n_first + n_live - n_last):
            at_n = tl.where(n < n_first, n, n - n_first + n_last)
            tile = tl.load(live_ptr + at_n // per_group) * per_group + at_n % per_group
            dk, dv, dkey = _key_gradient(
                dk, dv, dkey, k, v, tile, q_ptr, do_ptr, q_n, do_n, fact_ptr, n_q, offset, valid, j, x_k,
                y_k, w0, w1, cos_ptr, sin_ptr, left, right, scale, d, True, BIAS, AXES, SIGNED, CLS,
                LEFT, RIGHT, ROTATE, R, INTERLEAVED, D, BLOCK_D, BLOCK_M, UPCAST,
            )  # fmt: skip
    else:
        if all_edges(w0, w1, BIAS):
            full_hi = full_lo
        for tile in range(full_lo, full_hi):
            dk, dv, dkey = _key_gradient(
                dk, dv, dkey, k, v, tile, q_ptr, do_ptr, q_n, do_n, fact_ptr, n_q, offset, valid, j, x_k,
                y_k, w0, w1, cos_ptr, sin_ptr, left, right, scale, d, False, BIAS, AXES, SIGNED, CLS,
                LEFT, RIGHT, ROTATE, R, INTERLEAVED, D, BLOCK_D, BLOCK_M, UPCAST,
            )  # fmt: skip
        n_left = full_lo - lo
        for n in range(0, n_left + hi - full_hi):
            tile = tl.where(n < n_left, lo + n, full_hi + n - n_left)
            dk, dv, dkey = _key_gradient(
                dk, dv, dkey, k, v, tile, q_ptr, do_ptr, q_n, do_n, fact_ptr, n_q, offset, valid, j, x_k,
                y_k, w0, w1, cos_ptr, sin_ptr, left, right, scale, d, True, BIAS, AXES, SIGNED, CLS,
                LEFT, RIGHT, ROTATE, R, INTERLEAVED, D, BLOCK_D, BLOCK_M, UPCAST,
            )  # fmt: skip

    # Columns of hidden keys have been computed like the others, but nothing depends on them.
    seen = keys < valid
    dk = tl.where(seen[:, None], dk * natural_scale, 0.0)
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


@triton.jit
def live_rows_kernel(
    interval_ptr, live_ptr, live_count_ptr, row_groups, key_groups, CLS: tl.constexpr, CHUNK: tl.constexpr
):
    """The intervals seen from the keys: per key group, the row groups whose interval holds it, in order."""
    key_group = tl.program_id(0) % key_groups
    bh = (tl.program_id(0) // key_groups).to(tl.int64)
    interval_ptr += bh * row_groups * 2
    live_ptr += tl.program_id(0).to(tl.int64) * row_groups
    count = tl.program_id(0) * 0
    start = count
    while start < row_groups:
        rows = start + tl.arange(0, CHUNK)
        here = rows < row_groups
        lo = tl.load(interval_ptr + rows * 2, mask=here, other=0)
        hi = tl.load(interval_ptr + rows * 2 + 1, mask=here, other=0)
        live = (lo <= key_group) & (key_group < hi)
        if CLS:
            live = live | (key_group == 0)
        live = (live & here).to(tl.int32)
        at = count + tl.cumsum(live, 0) - 1
        tl.store(live_ptr + at, rows, mask=live == 1)
        count += tl.sum(live, 0)
        start += CHUNK
    tl.store(live_count_ptr + tl.program_id(0), count)
