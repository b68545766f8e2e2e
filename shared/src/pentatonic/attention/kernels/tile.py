"""Device functions shared by the attention kernels: program location, loads, rotation, bias and mask of a tile.

A *tile* is a block of query rows against a block of keys. Queries have absolute token numbers ``a`` (query i of
Nq is token ``Nk - Nq + i``), keys have token numbers ``j``. Row vectors come in as ``(rows, 1)`` and key vectors
as ``(1, keys)``, or both transposed: bias and mask only broadcast, so one function serves both orders.

Scores are in base 2 (natural scores times log2 e), so that the kernels need ``exp2`` alone. There are two ways
to a distance bias:

* ``premultiplied``: coordinates come multiplied by ``|slope| * log2 e`` per head. The bias costs two additions
  per axis and score, since the absolute value is a free modifier of an addition. A head whose bias grows with
  distance (learned slopes may) runs all its tiles as edge tiles, which know the sign.
* ``per_axis``, ``summed``, ``directional``: raw coordinates times weights, one operation more, but exact for
  large integer coordinates (float32 inputs) and with the distances at hand for gradients of the weights.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
# Running maximum before the first key: finite, so that rows without keys never compute -inf minus -inf.
FLOOR = tl.constexpr(-1.0e38)
# Rows and keys per unit of the live intervals (pentatonic.attention.intervals.GROUP).
GROUP = tl.constexpr(128)


@triton.jit
def locate(
    pid,
    n_blocks,
    heads,
    n_q,
    n_k,
    sequences,
    cu_q_ptr,
    cu_k_ptr,
    blocks_ptr,
    order_ptr,
    PACKED: tl.constexpr,
    ORDERED: tl.constexpr,
    BACKWARDS: tl.constexpr,
):
    """Batch index, head, sequence, block number, and start and length of the queries and keys of this program.

    In a packed batch the block is looked up in ``blocks_ptr``, the running number of blocks per sequence; a block
    number past the end comes back past the length. ``BACKWARDS`` starts with the last rows, which see the most
    keys under a causal bound.
    """
    bh = pid // n_blocks
    block = pid % n_blocks
    if BACKWARDS:
        block = n_blocks - 1 - block
    if ORDERED:
        bh = tl.load(order_ptr + bh)
    b = bh // heads
    h = bh % heads
    sequence = b
    start_q = b * 0
    start_k = b * 0
    if PACKED:
        low = b * 0
        high = low + sequences
        while high - low > 1:
            middle = (low + high) // 2
            here = tl.load(blocks_ptr + middle) <= block
            low = tl.where(here, middle, low)
            high = tl.where(here, high, middle)
        sequence = low
        block -= tl.load(blocks_ptr + low)
        start_q = tl.load(cu_q_ptr + low)
        start_k = tl.load(cu_k_ptr + low)
        n_q = tl.load(cu_q_ptr + low + 1) - start_q
        n_k = tl.load(cu_k_ptr + low + 1) - start_k
    return b, h, sequence, block, start_q, start_k, n_q, n_k


@triton.jit
def key_length(kv_len_ptr, sequence, n_q, n_k, LENGTHS: tl.constexpr, AXES: tl.constexpr):
    """Number of keys that may be seen: those that are not padding.

    Coordinates exist for keys only. Queries of a packed sequence that has fewer keys see none: their coordinates
    would be read from elsewhere. (Padded batches are refused before.)
    """
    valid = n_k
    if LENGTHS:
        valid = tl.minimum(tl.load(kv_len_ptr + sequence).to(tl.int32), n_k)
    if AXES > 0:
        valid = tl.where(n_q > n_k, 0, valid)
    return valid


@triton.jit
def key_tiles(
    first, last, valid, left, right, LEFT: tl.constexpr, RIGHT: tl.constexpr, CLS: tl.constexpr, BLOCK
):
    """Key tiles that tokens ``first`` to ``last`` see: all are in ``[lo, hi)``, those in ``[a, b)`` need no mask.

    A tile with the CLS row or column counts as one that needs a mask.
    """
    begin = 0
    end = valid
    full_begin = 0
    full_end = valid
    if LEFT:
        begin = tl.maximum(first - left, 0)
        full_begin = tl.maximum(last - left, 0)
    if RIGHT:
        end = tl.minimum(valid, last + right + 1)
        full_end = tl.minimum(valid, first + right + 1)
    lo = begin // BLOCK
    hi = tl.maximum((tl.maximum(end, 0) + BLOCK - 1) // BLOCK, lo)
    a = (full_begin + BLOCK - 1) // BLOCK
    b = tl.maximum(full_end, 0) // BLOCK
    if CLS:
        a = tl.where(first <= 0, hi, tl.maximum(a, 1))
    a = tl.minimum(tl.maximum(a, lo), hi)
    b = tl.minimum(tl.maximum(b, a), hi)
    return lo, a, b, hi


@triton.jit
def row_tiles(
    first, last, n_q, offset, left, right, LEFT: tl.constexpr, RIGHT: tl.constexpr, CLS: tl.constexpr, BLOCK
):
    """Row tiles that see keys ``first`` to ``last``; as :func:`key_tiles`, in rows 0 to Nq."""
    begin = 0
    end = n_q
    full_begin = 0
    full_end = n_q
    if RIGHT:
        begin = tl.maximum(first - right - offset, 0)
        full_begin = tl.maximum(last - right - offset, 0)
    if LEFT:
        end = tl.minimum(n_q, last + left + 1 - offset)
        full_end = tl.minimum(n_q, first + left + 1 - offset)
    lo = begin // BLOCK
    hi = tl.maximum((tl.maximum(end, 0) + BLOCK - 1) // BLOCK, lo)
    a = (full_begin + BLOCK - 1) // BLOCK
    b = tl.maximum(full_end, 0) // BLOCK
    if CLS:
        a = tl.where(first <= 0, hi, tl.where(offset == 0, tl.maximum(a, 1), a))
    a = tl.minimum(tl.maximum(a, lo), hi)
    b = tl.minimum(tl.maximum(b, a), hi)
    return lo, a, b, hi


@triton.jit
def load_rows(ptr, rows, stride, n_rows, d, D: tl.constexpr, BLOCK_D: tl.constexpr, EDGE: tl.constexpr):
    """``(rows, BLOCK_D)``; zero past the head dimension and, with ``EDGE``, past the last row."""
    pointers = ptr + rows[:, None] * stride + d[None, :]
    if EDGE:
        x = tl.load(pointers, mask=(rows[:, None] < n_rows) & (d[None, :] < D), other=0.0)
    elif D < BLOCK_D:
        x = tl.load(pointers, mask=d[None, :] < D, other=0.0)
    else:
        x = tl.load(pointers)
    return x


@triton.jit
def partner_of(d, R: tl.constexpr):
    """Per column of the head, for halves as pairs: the other column, the number of the pair, the sign of its sine."""
    partner = tl.where(d < R // 2, d + R // 2, d - R // 2)
    sign = tl.where(d < R // 2, -1.0, 1.0)
    return tl.where(d < R, partner, d), d % (R // 2), tl.where(d < R, sign, 0.0)


@triton.jit
def angles(cos_ptr, sin_ptr, tokens, seen, pair, rotary, R: tl.constexpr):
    """Cosine and sine per row and pair; 1 and 0 where ``rotary`` says that the rotary dimension has ended."""
    at = tokens[:, None] * (R // 2) + pair[None, :]
    # A packed sequence may have more queries than keys: its first tokens come before the table.
    mask = (seen & (tokens >= 0))[:, None] & rotary[None, :]
    return tl.load(cos_ptr + at, mask=mask, other=1.0), tl.load(sin_ptr + at, mask=mask, other=0.0)


@triton.jit
def join_pairs(a, b, INTERLEAVED: tl.constexpr):
    """First and second members of the pairs ``(rows, BLOCK_D / 2)``, put back into rows."""
    x = tl.join(a, b)
    if not INTERLEAVED:
        x = tl.permute(x, (0, 2, 1))
    return tl.reshape(x, (a.shape[0], 2 * a.shape[1]))


@triton.jit
def split_pairs(x, INTERLEAVED: tl.constexpr):
    """Rows as first and second members of their pairs."""
    if INTERLEAVED:
        x = tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2))
    else:
        x = tl.permute(tl.reshape(x, (x.shape[0], 2, x.shape[1] // 2)), (0, 2, 1))
    return tl.split(x)


@triton.jit
def load_rotated(
    ptr,
    rows,
    stride,
    n_rows,
    d,
    cos_ptr,
    sin_ptr,
    tokens,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    R: tl.constexpr,
    INTERLEAVED: tl.constexpr,
):
    """Rows turned by their angles, in float32 and rounded once."""
    seen = rows < n_rows
    row = ptr + rows[:, None] * stride
    if INTERLEAVED or R == BLOCK_D:
        pair = tl.arange(0, BLOCK_D // 2)
        if INTERLEAVED:
            a, b = split_pairs(
                tl.load(row + d[None, :], mask=seen[:, None] & (d[None, :] < D), other=0.0), True
            )
        else:
            a = tl.load(row + pair[None, :], mask=seen[:, None], other=0.0)
            b = tl.load(row + (pair + R // 2)[None, :], mask=seen[:, None], other=0.0)
        cos, sin = angles(cos_ptr, sin_ptr, tokens, seen, pair, pair < R // 2, R)
        turned_a = (a.to(tl.float32) * cos - b.to(tl.float32) * sin).to(a.dtype)
        turned_b = (b.to(tl.float32) * cos + a.to(tl.float32) * sin).to(a.dtype)
        return join_pairs(turned_a, turned_b, INTERLEAVED)
    else:
        # The halves do not fill the block: the partners are loaded again.
        partner, pair, sign = partner_of(d, R)
        mask = seen[:, None] & (d[None, :] < D)
        x = tl.load(row + d[None, :], mask=mask, other=0.0)
        other = tl.load(row + partner[None, :], mask=mask, other=0.0)
        cos, sin = angles(cos_ptr, sin_ptr, tokens, seen, pair, d < R, R)
        return (x.to(tl.float32) * cos + other.to(tl.float32) * sign[None, :] * sin).to(x.dtype)


@triton.jit
def rotate_back(x, seen, d, cos_ptr, sin_ptr, tokens, R: tl.constexpr, INTERLEAVED: tl.constexpr):
    """A float32 gradient with respect to rotated rows, turned into that of the rows before rotation."""
    if INTERLEAVED or x.shape[1] == R:
        pair = tl.arange(0, x.shape[1] // 2)
        cos, sin = angles(cos_ptr, sin_ptr, tokens, seen, pair, pair < R // 2, R)
        a, b = split_pairs(x, INTERLEAVED)
        return join_pairs(a * cos + b * sin, b * cos - a * sin, INTERLEAVED)
    else:
        partner, pair, sign = partner_of(d, R)
        other = tl.gather(x, tl.broadcast_to(partner[None, :], x.shape), 1)
        cos, sin = angles(cos_ptr, sin_ptr, tokens, seen, pair, d < R, R)
        return x * cos - other * sign[None, :] * sin


@triton.jit
def add_bias(
    s,
    a,
    j,
    x_q,
    y_q,
    x_k,
    y_k,
    w0,
    w1,
    BIAS: tl.constexpr,
    AXES: tl.constexpr,
    SIGNED: tl.constexpr,
    CLS: tl.constexpr,
    EDGE: tl.constexpr,
):
    """Scores plus bias. Only an ``EDGE`` tile may hold the row or column of the CLS token, where the bias is 0.

    Distances are subtracted, never negated first: that would cost an addition to zero per score.
    """
    if BIAS == "none":
        penalty = 0.0
    elif BIAS == "key":
        penalty = tl.broadcast_to(0.0 - x_k, s.shape)
    else:
        g = x_q - x_k
        if not SIGNED:
            g = tl.abs(g)
        if BIAS == "premultiplied" and not EDGE:
            penalty = g
            if AXES == 2:
                penalty += tl.abs(y_q - y_k)
        elif BIAS == "premultiplied":
            penalty = tl.where(w0 > 0, -1.0, 1.0) * g
            if AXES == 2:
                penalty += tl.where(w1 > 0, -1.0, 1.0) * tl.abs(y_q - y_k)
        elif BIAS == "per_axis":
            penalty = (0.0 - w0) * g
            if AXES == 2:
                penalty -= w1 * tl.abs(y_q - y_k)
        else:
            if AXES == 2:
                g += tl.abs(y_q - y_k)
            if BIAS == "directional":
                penalty = tl.where(j <= a, 0.0 - w0, 0.0 - w1) * g
            else:
                penalty = (0.0 - w0) * g
    if BIAS != "none":
        if CLS and EDGE:
            penalty = tl.where((a > 0) & (j > 0), penalty, 0.0)
        s = s - penalty
    return s


@triton.jit
def all_edges(w0, w1, BIAS: tl.constexpr):
    """Whether the bias grows with distance, for which only ``EDGE`` tiles have the formula."""
    grows = (w0 > 0) | (w1 > 0)
    return grows if BIAS == "premultiplied" else False


@triton.jit
def hide(s, a, j, valid, left, right, LEFT: tl.constexpr, RIGHT: tl.constexpr):
    """Scores with -inf where the mask hides the key."""
    seen = j < valid
    if LEFT:
        seen = seen & (j >= a - left)
    if RIGHT:
        seen = seen & (j <= a + right)
    return tl.where(seen, s, float("-inf"))


@triton.jit
def bias_weights(weight_ptr, h, heads, BIAS: tl.constexpr, AXES: tl.constexpr):
    """The weights of a head, to base 2; 0 where the bias has none."""
    w0 = 0.0
    w1 = 0.0
    if AXES > 0:
        w0 = tl.load(weight_ptr + h) * LOG2E
    if AXES == 2 or BIAS == "directional":
        w1 = tl.load(weight_ptr + heads + h) * LOG2E
    return w0, w1


@triton.jit
def live_tiles(lo, full_lo, full_hi, hi, interval_ptr, BLOCK: tl.constexpr):
    """Key tiles as of :func:`key_tiles`, but only those in the live interval at ``interval_ptr``."""
    lo = tl.minimum(tl.maximum(lo, tl.load(interval_ptr) * (GROUP // BLOCK)), hi)
    hi = tl.maximum(tl.minimum(hi, tl.load(interval_ptr + 1) * (GROUP // BLOCK)), lo)
    full_lo = tl.minimum(tl.maximum(full_lo, lo), hi)
    full_hi = tl.minimum(tl.maximum(full_hi, full_lo), hi)
    return lo, full_lo, full_hi, hi


@triton.jit
def edge_tile(n, lo, full_lo, full_hi, hi):
    """Number of the n-th tile that needs a mask: those before the full ones, those after them, then 0 and on."""
    n_left = full_lo - lo
    n_edges = n_left + hi - full_hi
    return tl.where(n < n_left, lo + n, tl.where(n < n_edges, full_hi + n - n_left, n - n_edges))


@triton.jit
def visits(interval_ptr, row_group, key_group, CLS: tl.constexpr):
    """Whether the live interval of a row group holds a key group; the group of the CLS key is in all of them."""
    first = tl.load(interval_ptr + row_group * 2)
    end = tl.load(interval_ptr + row_group * 2 + 1)
    visited = (first <= key_group) & (key_group < end)
    if CLS:
        visited = visited | (key_group == 0)
    return visited


@triton.jit
def to_half(ds, ds_scale, dtype: tl.constexpr, SCALE_DS: tl.constexpr):
    """The gradient of the scores as an operand of a product.

    float16 ends at 65,504, which the scaled losses of mixed-precision training exceed: ``ds_scale`` is the power of two
    that keeps all of a head's values below, and the sum is divided by it afterwards.
    """
    if SCALE_DS:
        ds *= ds_scale
    return ds.to(dtype)


@triton.jit
def product(a, b, acc, UPCAST: tl.constexpr):
    """``a @ b + acc``, in full float32 for float32 operands.

    ``UPCAST`` is for Triton's interpreter, which multiplies bfloat16 as if it were integers.
    """
    if UPCAST:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision="ieee")
