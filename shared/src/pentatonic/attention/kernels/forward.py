"""The forward kernel, which also decodes, and the kernels around it.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension; blocks of BLOCK_M rows and BLOCK_N keys. One
program computes BLOCK_M rows of one head (Dao et al., FlashAttention, arXiv 2205.14135), or with SPLITS > 1 the
share of one range of the keys (flash-decoding), which :func:`combine_kernel` puts together.
"""

from __future__ import annotations

import triton
import triton.language as tl

from pentatonic.attention.kernels.tile import (
    FLOOR,
    GROUP,
    LN2,
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
)


@triton.jit
def _attend(
    acc,
    m,
    total,
    q,
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
    LEFT: tl.constexpr,
    RIGHT: tl.constexpr,
    ROTATE: tl.constexpr,
    R: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    POSITIVE_SCALE: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Take one key tile into the running softmax."""
    keys = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    if ROTATE:
        k = load_rotated(k_ptr, keys, k_n, n_k, d, cos_ptr, sin_ptr, keys, D, BLOCK_D, R, INTERLEAVED)
    else:
        k = load_rows(k_ptr, keys, k_n, n_k, d, D, BLOCK_D, EDGE)
    j = keys[None, :]
    x_k = j
    y_k = j
    if BIAS != "none":
        x_k = tl.load(x_ptr + keys)[None, :]
    if AXES == 2:
        y_k = tl.load(y_ptr + keys)[None, :]
    s = product(q, tl.trans(k), None, UPCAST)
    if BIAS == "none" and POSITIVE_SCALE and not EDGE:
        # Scaling the row maximum instead of the scores leaves one fused multiply-add per score.
        top = tl.max(s, 1) * scale
        s = s * scale
    else:
        s = s * scale
        s = add_bias(s, a, j, x_q, y_q, x_k, y_k, w0, w1, BIAS, AXES, SIGNED, CLS, EDGE)
        if EDGE:
            s = hide(s, a, j, valid, left, right, LEFT, RIGHT)
        top = tl.max(s, 1)
    m_new = tl.maximum(m, top)
    p = tl.exp2(s - m_new[:, None])
    rescale = tl.exp2(m - m_new)
    total = total * rescale + tl.sum(p, 1)
    v = load_rows(v_ptr, keys, v_n, n_k, d, D, BLOCK_D, EDGE)
    acc = product(p.to(v.dtype), v, acc * rescale[:, None], UPCAST)
    return acc, m_new, total


# Values that change per call, and strides on which no wide load depends: specialising on them would recompile.
@triton.jit(
    do_not_specialize=[
        "heads", "n_q", "n_k", "n_blocks", "sequences", "left", "right", "row_groups", "table_b",
        "lse_b", "lse_h", "lse_s",
    ]
)  # fmt: skip
def forward_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    o_ptr,
    lse_ptr,
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
    o_s,
    lse_b,
    lse_h,
    lse_s,
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
    BIAS: tl.constexpr,
    AXES: tl.constexpr,
    SIGNED: tl.constexpr,
    CLS: tl.constexpr,
    LEFT: tl.constexpr,
    RIGHT: tl.constexpr,
    LENGTHS: tl.constexpr,
    ALIGNED: tl.constexpr,
    PACKED: tl.constexpr,
    INTERVALS: tl.constexpr,
    ORDERED: tl.constexpr,
    ROTATE_Q: tl.constexpr,
    ROTATE_K: tl.constexpr,
    R: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    SPLITS: tl.constexpr,
    POSITIVE_SCALE: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    EDGE_STAGES: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Rows of o and their natural log-sum-exp; a row that sees no key gets 0 and -inf.

    ``ALIGNED`` lets the keys end at ``kv_len``: queries are the last tokens of what a cache holds.
    """
    b, h, sequence, block, start_q, start_k, n_q, n_k = locate(
        tl.program_id(0), n_blocks, heads, n_q, n_k, sequences, cu_q_ptr, cu_k_ptr, blocks_ptr, order_ptr, PACKED,
        ORDERED, RIGHT and not PACKED,
    )  # fmt: skip
    valid = key_length(kv_len_ptr, sequence, n_q, n_k, LENGTHS, AXES)
    if ALIGNED:
        n_k = valid
    row_0 = block * BLOCK_M
    if row_0 >= n_q:
        return
    batch = b.to(tl.int64)
    offset = n_k - n_q
    rows = row_0 + tl.arange(0, BLOCK_M)
    tokens = rows + offset
    d = tl.arange(0, BLOCK_D)
    q_ptr += batch * q_b + h * q_h + start_q.to(tl.int64) * q_n
    k_ptr += batch * k_b + h * k_h + start_k.to(tl.int64) * k_n
    v_ptr += batch * v_b + h * v_h + start_k.to(tl.int64) * v_n
    if ROTATE_Q or ROTATE_K:
        cos_ptr += batch * table_b + start_k.to(tl.int64) * (R // 2)
        sin_ptr += batch * table_b + start_k.to(tl.int64) * (R // 2)
    if ROTATE_Q:
        q = load_rotated(q_ptr, rows, q_n, n_q, d, cos_ptr, sin_ptr, tokens, D, BLOCK_D, R, INTERLEAVED)
    else:
        q = load_rows(q_ptr, rows, q_n, n_q, d, D, BLOCK_D, True)

    a = tokens[:, None]
    x_q = a
    y_q = a
    w0, w1 = bias_weights(weight_ptr, h, heads, BIAS, AXES)
    if BIAS != "none":
        x_ptr += batch * x_b + h * x_h + start_k
    if AXES > 0:
        x_q = tl.load(x_ptr + tokens, mask=tokens >= 0, other=0.0)[:, None]
    if AXES == 2:
        y_ptr += batch * x_b + h * x_h + start_k
        y_q = tl.load(y_ptr + tokens, mask=tokens >= 0, other=0.0)[:, None]

    last = tl.minimum(row_0 + BLOCK_M, n_q) - 1 + offset
    lo, full_lo, full_hi, hi = key_tiles(row_0 + offset, last, valid, left, right, LEFT, RIGHT, CLS, BLOCK_N)
    extra = 0
    if INTERVALS:
        interval_ptr += ((batch * heads + h) * row_groups + row_0 // GROUP) * 2
        lo, full_lo, full_hi, hi = live_tiles(lo, full_lo, full_hi, hi, interval_ptr, BLOCK_N)
        if CLS:
            # The first group holds the CLS key, which is never out of reach.
            extra = tl.where(tl.program_id(1) == 0, tl.minimum(lo, GROUP // BLOCK_N), 0)
    if SPLITS > 1:
        share = (hi - lo + SPLITS - 1) // SPLITS
        lo = tl.minimum(lo + tl.program_id(1) * share, hi)
        hi = tl.minimum(lo + share, hi)
        full_lo = tl.minimum(tl.maximum(full_lo, lo), hi)
        full_hi = tl.minimum(tl.maximum(full_hi, full_lo), hi)
    if all_edges(w0, w1, BIAS):
        full_hi = full_lo

    m = tl.full([BLOCK_M], FLOOR, tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for tile in range(full_lo, full_hi):
        acc, m, total = _attend(
            acc, m, total, q, tile, k_ptr, v_ptr, k_n, v_n, n_k, valid, a, x_q, y_q, x_ptr, y_ptr, w0, w1,
            cos_ptr, sin_ptr, left, right, scale, d, False, BIAS, AXES, SIGNED, CLS, LEFT, RIGHT, ROTATE_K, R,
            INTERLEAVED, D, BLOCK_D, BLOCK_N, POSITIVE_SCALE, UPCAST,
        )  # fmt: skip
    for n in tl.range(0, full_lo - lo + hi - full_hi + extra, num_stages=EDGE_STAGES):
        tile = edge_tile(n, lo, full_lo, full_hi, hi)
        acc, m, total = _attend(
            acc, m, total, q, tile, k_ptr, v_ptr, k_n, v_n, n_k, valid, a, x_q, y_q, x_ptr, y_ptr, w0, w1,
            cos_ptr, sin_ptr, left, right, scale, d, True, BIAS, AXES, SIGNED, CLS, LEFT, RIGHT, ROTATE_K, R,
            INTERLEAVED, D, BLOCK_D, BLOCK_N, POSITIVE_SCALE, UPCAST,
        )  # fmt: skip

    dead = total == 0.0
    o = acc / tl.where(dead, 1.0, total)[:, None]
    lse = tl.where(dead, float("-inf"), (m + tl.log2(tl.where(dead, 1.0, total))) * LN2)
    o_ptr += batch * o_b + h * o_h + start_q.to(tl.int64) * o_n
    lse_ptr += batch * lse_b + h * lse_h + start_q
    if SPLITS > 1:
        o_ptr += tl.program_id(1).to(tl.int64) * o_s
        lse_ptr += tl.program_id(1) * lse_s
    mask = (rows[:, None] < n_q) & (d[None, :] < D)
    tl.store(o_ptr + rows[:, None] * o_n + d[None, :], o.to(o_ptr.dtype.element_ty), mask=mask)
    tl.store(lse_ptr + rows, lse, mask=rows < n_q)


@triton.jit
def combine_kernel(
    part_ptr,
    part_lse_ptr,
    o_ptr,
    lse_ptr,
    o_b,
    o_h,
    o_n,
    heads,
    n_q,
    SPLITS: tl.constexpr,
    BLOCK_S: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """``o = sum_s 2^(L_s - L) o_s``: one row from its shares, ``(B, H, SPLITS, Nq, D)`` and their lse."""
    row = tl.program_id(0) % n_q
    bh = (tl.program_id(0) // n_q).to(tl.int64)
    s = tl.arange(0, BLOCK_S)
    d = tl.arange(0, BLOCK_D)
    at = (bh * SPLITS + s) * n_q + row
    lse = tl.load(part_lse_ptr + at, mask=s < SPLITS, other=float("-inf"))
    m = tl.max(lse, 0)
    m = tl.where(m == float("-inf"), 0.0, m)
    weight = tl.exp2((lse - m) * LOG2E)
    total = tl.sum(weight, 0)
    dead = total == 0.0
    mask = (s[:, None] < SPLITS) & (d[None, :] < D)
    part = tl.load(part_ptr + at[:, None] * D + d[None, :], mask=mask, other=0.0)
    o = tl.sum(part * weight[:, None], 0) / tl.where(dead, 1.0, total)
    o_ptr += (bh // heads) * o_b + (bh % heads) * o_h + row * o_n
    tl.store(o_ptr + d, o.to(o_ptr.dtype.element_ty), mask=d < D)
    safe = tl.where(dead, 1.0, total)
    tl.store(lse_ptr + bh * n_q + row, tl.where(dead, float("-inf"), m + tl.log2(safe) * LN2))


@triton.jit
def rotate_kernel(
    x_ptr,
    out_ptr,
    cos_ptr,
    sin_ptr,
    x_b,
    x_h,
    x_n,
    out_b,
    out_h,
    out_n,
    table_b,
    heads,
    n,
    n_blocks,
    R: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Rotate rows ``(B, H, N, D)`` by the angles of their token, once for all that will read them."""
    bh = tl.program_id(0) // n_blocks
    batch = (bh // heads).to(tl.int64)
    h = bh % heads
    rows = (tl.program_id(0) % n_blocks) * BLOCK + tl.arange(0, BLOCK)
    d = tl.arange(0, BLOCK_D)
    x_ptr += batch * x_b + h * x_h
    cos_ptr += batch * table_b
    sin_ptr += batch * table_b
    x = load_rotated(x_ptr, rows, x_n, n, d, cos_ptr, sin_ptr, rows, D, BLOCK_D, R, INTERLEAVED)
    out_ptr += batch * out_b + h * out_h
    mask = (rows[:, None] < n) & (d[None, :] < D)
    tl.store(out_ptr + rows[:, None] * out_n + d[None, :], x, mask=mask)


@triton.jit
def plan_kernel(cu_ptr, blocks_ptr, sequences, BLOCK: tl.constexpr, CHUNK: tl.constexpr):
    """Running number of blocks of BLOCK tokens before each packed sequence, and in all; one program."""
    carry = tl.program_id(0) * 0
    tl.store(blocks_ptr, carry)
    start = carry
    while start < sequences:
        s = start + tl.arange(0, CHUNK)
        here = s < sequences
        length = tl.load(cu_ptr + s + 1, mask=here, other=0) - tl.load(cu_ptr + s, mask=here, other=0)
        n = (length + BLOCK - 1) // BLOCK
        tl.store(blocks_ptr + s + 1, carry + tl.cumsum(n, 0), mask=here)
        carry += tl.sum(n, 0)
        start += CHUNK
