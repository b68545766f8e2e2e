"""The live intervals of :mod:`pentatonic.attention.intervals` on the GPU, in three launches.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension; groups of GROUP tokens.
"""

from __future__ import annotations

import triton
import triton.language as tl

from pentatonic.attention.kernels.tile import FLOOR, GROUP, LN2, LOG2E, hide, load_rows, product

# What float32 may lose in a norm, a score or a distance, relative to it; bounds are widened by it.
ROUNDING = tl.constexpr(1e-6)
# Numbers per group: largest norm, least and largest first and second coordinate, and the least log-sum-exp.
STATS = tl.constexpr(8)


@triton.jit
def _largest(squares, member):
    """The largest norm of the members of a group."""
    return tl.sqrt(tl.max(tl.where(member, squares, 0.0), 0))


@triton.jit
def _store_span(stats_ptr, ptr, tokens, member):
    """Least and largest coordinate of the members of a group."""
    x = tl.load(ptr + tokens, mask=member, other=0.0)
    tl.store(stats_ptr, tl.min(tl.where(member, x, float("inf")), 0))
    tl.store(stats_ptr + 1, tl.max(tl.where(member, x, float("-inf")), 0))


@triton.jit(do_not_specialize=["n_k", "key_groups"])
def key_group_kernel(
    k_ptr,
    key_stats_ptr,
    x_ptr,
    y_ptr,
    k_b,
    k_h,
    k_n,
    x_b,
    heads,
    n_k,
    key_groups,
    AXES: tl.constexpr,
    CLS: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The largest norm of a group of keys, and the ranges of its coordinates; a CLS token bounds neither."""
    bh = tl.program_id(0)
    group = tl.program_id(1)
    batch = (bh // heads).to(tl.int64)
    k_ptr += batch * k_b + (bh % heads) * k_h
    keys = group * GROUP + tl.arange(0, GROUP)
    member = keys < n_k
    if CLS:
        member = member & (keys > 0)
    k = load_rows(k_ptr, keys, k_n, n_k, tl.arange(0, BLOCK_D), D, BLOCK_D, True).to(tl.float32)
    stats_ptr = key_stats_ptr + (bh.to(tl.int64) * key_groups + group) * STATS
    tl.store(stats_ptr, _largest(tl.sum(k * k, 1), member))
    _store_span(stats_ptr + 1, x_ptr + batch * x_b, keys, member)
    if AXES == 2:
        _store_span(stats_ptr + 3, y_ptr + batch * x_b, keys, member)


@triton.jit(do_not_specialize=["n_q", "n_k", "row_groups", "left", "right"])
def row_group_kernel(
    q_ptr,
    k_ptr,
    row_stats_ptr,
    x_ptr,
    y_ptr,
    weight_ptr,
    kv_len_ptr,
    q_b,
    q_h,
    q_n,
    k_b,
    k_h,
    k_n,
    x_b,
    heads,
    n_q,
    n_k,
    row_groups,
    left,
    right,
    scale,
    AXES: tl.constexpr,
    CLS: tl.constexpr,
    LEFT: tl.constexpr,
    RIGHT: tl.constexpr,
    LENGTHS: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNK_D: tl.constexpr,
    KEYS: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Statistics of a group of queries, and the least log-sum-exp of its rows over the group's own tokens.

    A CLS token counts in the log-sum-exp only. Heads are taken CHUNK_D columns at a time: products in full float32
    hold both operands in registers.
    """
    bh = tl.program_id(0)
    group = tl.program_id(1)
    batch = (bh // heads).to(tl.int64)
    h = bh % heads
    q_ptr += batch * q_b + h * q_h
    k_ptr += batch * k_b + h * k_h
    x_ptr += batch * x_b
    offset = n_k - n_q
    rows = group * GROUP + tl.arange(0, GROUP)
    tokens = rows + offset
    here = rows < n_q
    member = here
    if CLS:
        member = member & (tokens > 0)
    stats_ptr = row_stats_ptr + (bh.to(tl.int64) * row_groups + group) * STATS
    squares = tl.zeros([GROUP], tl.float32)
    for d_0 in range(0, BLOCK_D, CHUNK_D):
        d = d_0 + tl.arange(0, CHUNK_D)
        q = load_rows(q_ptr, rows, q_n, n_q, d, D, BLOCK_D, True).to(tl.float32)
        squares += tl.sum(q * q, 1)
    tl.store(stats_ptr, _largest(squares, member))
    _store_span(stats_ptr + 1, x_ptr, tokens, member)
    x_q = tl.load(x_ptr + tokens, mask=here, other=0.0)[:, None]
    y_q = x_q
    w0 = tl.load(weight_ptr + h) * LOG2E
    w1 = w0
    if AXES == 2:
        y_ptr += batch * x_b
        _store_span(stats_ptr + 3, y_ptr, tokens, member)
        y_q = tl.load(y_ptr + tokens, mask=here, other=0.0)[:, None]
        w1 = tl.load(weight_ptr + heads + h) * LOG2E
    valid = n_k
    if LENGTHS:
        valid = tl.minimum(tl.load(kv_len_ptr + batch).to(tl.int32), n_k)
    a = tokens[:, None]
    m = tl.full([GROUP], FLOOR, tl.float32)
    total = tl.zeros([GROUP], tl.float32)
    for start in range(0, GROUP // KEYS):
        keys = group * GROUP + offset + start * KEYS + tl.arange(0, KEYS)
        s = tl.zeros([GROUP, KEYS], tl.float32)
        for d_0 in range(0, BLOCK_D, CHUNK_D):
            d = d_0 + tl.arange(0, CHUNK_D)
            q = load_rows(q_ptr, rows, q_n, n_q, d, D, BLOCK_D, True)
            k = load_rows(k_ptr, keys, k_n, n_k, d, D, BLOCK_D, True)
            s = product(q, tl.trans(k), s, UPCAST)
        j = keys[None, :]
        bias = w0 * tl.abs(x_q - tl.load(x_ptr + keys, mask=keys < n_k, other=0.0)[None, :])
        if AXES == 2:
            bias += w1 * tl.abs(y_q - tl.load(y_ptr + keys, mask=keys < n_k, other=0.0)[None, :])
        if CLS:
            bias = tl.where((a > 0) & (j > 0), bias, 0.0)
        s = hide(s * (scale * LOG2E) + bias, a, j, valid, left, right, LEFT, RIGHT)
        m_new = tl.maximum(m, tl.max(s, 1))
        total = total * tl.exp2(m - m_new) + tl.sum(tl.exp2(s - m_new[:, None]), 1)
        m = m_new
    lse = tl.where(total > 0.0, (m + tl.log2(tl.where(total > 0.0, total, 1.0))) * LN2, float("-inf"))
    tl.store(stats_ptr + 5, tl.min(tl.where(here, lse, float("inf")), 0))


@triton.jit
def _lost(
    key_stats_ptr,
    j,
    key_groups,
    valid,
    norm,
    x_least,
    x_most,
    y_least,
    y_most,
    w0,
    w1,
    lowest,
    AXES: tl.constexpr,
):
    """Bound on the probability, times the row's sum, that key groups ``j`` hold for a group of queries."""
    here = (j >= 0) & (j < key_groups)
    stats_ptr = key_stats_ptr + j * STATS
    upper = norm * tl.load(stats_ptr, mask=here, other=0.0)
    upper += _reach(stats_ptr + 1, here, x_least, x_most, w0)
    if AXES == 2:
        upper += _reach(stats_ptr + 3, here, y_least, y_most, w1)
    visible = tl.minimum(tl.maximum(valid - j * GROUP, 0), GROUP).to(tl.float32)
    largest = tl.exp2(tl.where(here & (visible > 0), (upper - lowest) * LOG2E, float("-inf")))
    return tl.where(largest > 0.0, visible, 1.0) * largest


@triton.jit
def _reach(span_ptr, here, least, most, weight):
    """The largest bias between two groups: at the smallest gap if it falls with distance, else at the largest."""
    k_least = tl.load(span_ptr, mask=here, other=0.0)
    k_most = tl.load(span_ptr + 1, mask=here, other=0.0)
    nearest = tl.maximum(tl.maximum(k_least - most, least - k_most), 0.0) * (1.0 - ROUNDING)
    farthest = tl.maximum(k_most - least, most - k_least) * (1.0 + ROUNDING)
    return weight * tl.where(weight > 0, farthest, nearest)


@triton.jit(do_not_specialize=["n_k", "row_groups", "key_groups"])
def interval_kernel(
    row_stats_ptr,
    key_stats_ptr,
    interval_ptr,
    weight_ptr,
    kv_len_ptr,
    heads,
    n_k,
    row_groups,
    key_groups,
    scale,
    half_tolerance,
    AXES: tl.constexpr,
    CLS_ROW: tl.constexpr,
    LENGTHS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Drop the longest prefix and the longest suffix of key groups that the tolerance allows."""
    bh = tl.program_id(0)
    group = tl.program_id(1)
    h = bh % heads
    at = (bh * row_groups + group).to(tl.int64)
    stats_ptr = row_stats_ptr + at * STATS
    key_stats_ptr += bh.to(tl.int64) * key_groups * STATS
    norm = tl.load(stats_ptr) * tl.abs(scale) * (1.0 + ROUNDING)
    lowest = tl.load(stats_ptr + 5)
    lowest -= ROUNDING * tl.abs(lowest)
    x_least = tl.load(stats_ptr + 1)
    x_most = tl.load(stats_ptr + 2)
    y_least = x_least
    y_most = x_most
    w0 = tl.load(weight_ptr + h)
    w1 = w0
    if AXES == 2:
        y_least = tl.load(stats_ptr + 3)
        y_most = tl.load(stats_ptr + 4)
        w1 = tl.load(weight_ptr + heads + h)
    valid = n_k
    if LENGTHS:
        valid = tl.minimum(tl.load(kv_len_ptr + bh // heads).to(tl.int32), n_k)

    first = bh * 0
    last = bh * 0
    before = norm * 0.0
    behind = norm * 0.0
    for start in range(0, key_groups, CHUNK):
        j = start + tl.arange(0, CHUNK)
        inside = j < key_groups
        lost = _lost(
            key_stats_ptr, j, key_groups, valid, norm, x_least, x_most, y_least, y_most, w0, w1, lowest, AXES
        )
        dropped = before + tl.cumsum(lost, 0) <= half_tolerance
        first += tl.sum((dropped & inside).to(tl.int32), 0)
        before += tl.sum(lost, 0)
        j = key_groups - 1 - j
        lost = _lost(
            key_stats_ptr, j, key_groups, valid, norm, x_least, x_most, y_least, y_most, w0, w1, lowest, AXES
        )
        dropped = behind + tl.cumsum(lost, 0) <= half_tolerance
        last += tl.sum((dropped & inside).to(tl.int32), 0)
        behind += tl.sum(lost, 0)
    end = tl.maximum(first, key_groups - last)
    if CLS_ROW:
        first = tl.where(group == 0, 0, first)
        end = tl.where(group == 0, key_groups, end)
    tl.store(interval_ptr + at * 2, first)
    tl.store(interval_ptr + at * 2 + 1, end)


@triton.jit
def live_rows_kernel(
    interval_ptr, live_rows_ptr, row_groups, key_groups, CLS: tl.constexpr, CHUNK: tl.constexpr
):
    """The intervals seen from the keys: per key group, the first row group that visits it and the one after the last.

    With a CLS token row group 0, whose CLS row sees all, is left out: it would make every range begin at 0.
    """
    key_group = tl.program_id(0) % key_groups
    bh = (tl.program_id(0) // key_groups).to(tl.int64)
    interval_ptr += bh * row_groups * 2
    first = tl.program_id(0) * 0 + row_groups
    end = tl.program_id(0) * 0
    for start in range(0, row_groups, CHUNK):
        rows = start + tl.arange(0, CHUNK)
        here = rows < row_groups
        if CLS:
            here = here & (rows > 0)
        lo = tl.load(interval_ptr + rows * 2, mask=here, other=0)
        hi = tl.load(interval_ptr + rows * 2 + 1, mask=here, other=0)
        live = (lo <= key_group) & (key_group < hi)
        if CLS:
            live = live | (key_group == 0)
        live = live & here
        first = tl.minimum(first, tl.min(tl.where(live, rows, row_groups), 0))
        end = tl.maximum(end, tl.max(tl.where(live, rows + 1, 0), 0))
    live_rows_ptr += tl.program_id(0).to(tl.int64) * 2
    tl.store(live_rows_ptr, tl.minimum(first, end))
    tl.store(live_rows_ptr + 1, end)
