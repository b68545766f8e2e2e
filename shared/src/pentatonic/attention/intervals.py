"""Which keys matter to a group of queries: a data-dependent sliding window for distance biases.

Where the bias falls with distance, keys far away keep next to no probability. Their share is bounded from norms
and coordinate ranges before any score is computed, so that whole ranges of keys need not be visited (in the
spirit of Adaptive Computation Pruning, arXiv 2504.06949, for a bias that is known in advance).

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension, A axes of the coordinates; Gq and Gk groups of
:data:`GROUP` queries and keys; g groups and n = GROUP tokens in each, in one step of a loop.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from pentatonic.attention.descriptors import Visibility
from pentatonic.attention.problem import Distances
from pentatonic.errors import UsageError

GROUP = 128
"""Tokens in a group of queries or keys."""

# Scores of diagonal blocks held at once.
DIAGONAL_SCORES = 1 << 19
# What float32 may lose in a norm, a score or a distance, relative to it; bounds are widened by it.
ROUNDING = 1e-6


@torch.no_grad()
def key_intervals(
    q: Tensor,
    k: Tensor,
    *,
    distances: Distances,
    weights: Tensor | None,
    visibility: Visibility,
    scale: float,
    tolerance: float,
) -> Tensor:
    """For each group of queries the range of key groups outside of which little probability lies.

    No score of query group I with key group J exceeds ``U_IJ = |scale| max|q_i| max|k_j| + the largest bias
    between their coordinate ranges``, and the log-sum-exp of no row of I lies below ``Lo_I``, the smallest one
    over the group's own tokens alone. The longest prefix and the longest suffix of key groups are dropped
    whose sums of ``|J| exp(U_IJ - Lo_I)`` stay within half the tolerance each. So no row loses more than
    ``tolerance`` of its probability, and no output moves by more than ``2 tolerance max|v|``.

    Summing the bounds of the groups as they lie takes the place of a closed form for evenly spaced, sorted
    times: every group counts with its own norm, both axes count, and neither order nor spacing is assumed.
    Unsorted tokens give right but wide ranges; see :func:`pentatonic.attention.ordering.sort_by_time`.

    With a CLS token its group, key group 0, is live besides the interval, which need not contain it, and the
    CLS query's group sees all. Biases that do not fall with a distance, and rows that see nothing of their
    own group, see all as well. The decision is made in float32, without gradient or host synchronization.

    Args:
        q: ``(B, H, Nq, D)`` floating, any strides; the last Nq of the Nk tokens.
        k: ``(B, H, Nk, D)``.
        distances: Of the lowered bias.
        weights: ``(M, H)`` of the lowered bias.
        visibility: Which keys a query sees. Only key lengths shorten the intervals; whoever walks them
            intersects them with windows and causal bounds.
        scale: Factor on ``q . k``.
        tolerance: Largest probability that a row may lose, in [0, 1).

    Returns:
        ``(B, H, Gq, 2)`` int32: first live key group, and the one after the last.

    Raises:
        UsageError: ``tolerance`` is not in [0, 1).
    """
    if not 0.0 <= tolerance < 1.0:
        raise UsageError(f"tolerance must be in [0, 1), got {tolerance}")
    batch, heads, n_q, _ = q.shape
    n_k = k.shape[2]
    groups_q, groups_k = _groups(n_q), _groups(n_k)
    everything = torch.tensor((0, groups_k), dtype=torch.int32, device=q.device)
    everything = everything.repeat(batch, heads, groups_q, 1)
    falls = distances.axes is not None and distances.per_axis and not distances.signed
    if not falls or weights is None or n_q == 0:
        return everything

    upper = _largest_scores(q, k, distances, weights.float(), scale)
    ends = torch.full((1,), n_k, device=q.device) if visibility.kv_len is None else visibility.kv_len
    ends = ends.clamp(max=n_k)
    lower = _smallest_lse(q, k, distances, weights.float(), visibility, ends, scale)
    lower = lower - ROUNDING * lower.abs()
    starts = GROUP * torch.arange(groups_k, device=q.device)
    visible = (ends[:, None] - starts).clamp(0, GROUP)[:, None, None]
    # A group that holds no visible key can go even where nothing is known about the row (lower = -inf).
    lost = torch.where(visible > 0, visible * (upper - lower[..., None]).exp(), 0.0)
    first = (lost.cumsum(dim=-1) <= tolerance / 2).sum(dim=-1)
    end = groups_k - (lost.flip(-1).cumsum(dim=-1) <= tolerance / 2).sum(dim=-1)
    intervals = torch.stack((first, torch.maximum(first, end)), dim=-1).int()
    if distances.cls_tokens and n_q == n_k:
        intervals[:, :, 0] = everything[:, :, 0]
    return intervals


def live_fraction(intervals: Tensor, n_q: int, n_k: int, cls_tokens: int) -> Tensor:
    """The share of all pairs of a query group and a key group that is visited.

    Args:
        intervals: ``(B, H, Gq, 2)`` from :func:`key_intervals`.
        n_q: Nq.
        n_k: Nk.
        cls_tokens: 0 or 1, that of the bias.

    Returns:
        ``(B, H)`` float32 in [0, 1]; 0 where there are no pairs.
    """
    first, end = intervals.unbind(-1)
    visited = (end - first).sum(dim=-1)
    if cls_tokens:
        visited = visited + (first > 0).sum(dim=-1)
    return visited.float() / max(1, _groups(n_q) * _groups(n_k))


def covers_all(intervals: Tensor, n_k: int) -> bool:
    """Whether nothing is left out, so that rows of several groups, heads and samples may be computed together."""
    first, end = intervals.unbind(-1)
    return not bool(first.any()) and bool((end == _groups(n_k)).all())


def _groups(tokens: int) -> int:
    return -(-tokens // GROUP)


def _largest_scores(q: Tensor, k: Tensor, distances: Distances, weights: Tensor, scale: float) -> Tensor:
    """``(B, H, Gq, Gk)``: no score between two groups is larger, those with a CLS token apart."""
    n_q, n_k, cls_tokens = q.shape[2], k.shape[2], distances.cls_tokens
    assert distances.axes is not None
    # The CLS token has neither coordinates nor a bound that counts: its neighbour stands in for it.
    keys = _members(0, n_k, cls_tokens, k.device)
    queries = _members(n_k - n_q, n_k, cls_tokens, q.device)
    norms_q = q.float().norm(dim=-1)[..., queries - (n_k - n_q)].amax(dim=-1)
    norms_k = k.float().norm(dim=-1)[..., keys].amax(dim=-1)
    upper = abs(scale) * (1 + ROUNDING) * norms_q[..., :, None] * norms_k[..., None, :]
    for axis, weight in zip(distances.axes, weights[..., None, None], strict=True):
        q_min, q_max = (x[:, :, None] for x in axis[:, queries].aminmax(dim=-1))
        k_min, k_max = (x[:, None, :] for x in axis[:, keys].aminmax(dim=-1))
        nearest = torch.maximum(k_min - q_max, q_min - k_max).float().clamp(min=0) * (1 - ROUNDING)
        farthest = torch.maximum(k_max - q_min, q_max - k_min).float() * (1 + ROUNDING)
        upper += weight * torch.where(weight > 0, farthest[:, None], nearest[:, None])
    return upper


def _members(start: int, stop: int, first: int, device: torch.device) -> Tensor:
    """``(groups, GROUP)``: the tokens in [start, stop), none before ``first``, the last one repeated."""
    count = _groups(stop - start) * GROUP
    return torch.arange(start, start + count, device=device).clamp(first, stop - 1).view(-1, GROUP)


def _smallest_lse(
    q: Tensor,
    k: Tensor,
    distances: Distances,
    weights: Tensor,
    visibility: Visibility,
    ends: Tensor,
    scale: float,
) -> Tensor:
    """``(B, H, Gq)``: the smallest log-sum-exp of a group's rows over the tokens of the rows alone."""
    batch, heads, n_q, _ = q.shape
    n_k = k.shape[2]
    number = torch.arange(GROUP, device=q.device)
    ahead = number - number[:, None]
    near = torch.ones_like(ahead, dtype=torch.bool)
    if visibility.left is not None:
        near &= ahead >= -visibility.left
    if visibility.right is not None:
        near &= ahead <= visibility.right
    step = GROUP * max(1, DIAGONAL_SCORES // (batch * heads * GROUP * GROUP))
    smallest = []
    for start in range(0, n_q, step):
        rows = slice(start, min(start + step, n_q))
        tokens = slice(rows.start + n_k - n_q, rows.stop + n_k - n_q)
        with torch.autocast(q.device.type, enabled=False):
            s = _grouped(q[:, :, rows].float()) @ _grouped(k[:, :, tokens].float()).transpose(-1, -2)
        s = s.mul_(scale) + _diagonal_bias(distances, weights, tokens)
        numbers = torch.arange(tokens.start, tokens.start + s.shape[2] * GROUP, device=q.device)
        numbers = numbers.view(-1, GROUP)
        seen = near & (numbers < ends[:, None, None])[:, None, :, None, :]
        lse = s.masked_fill_(~seen, float("-inf")).logsumexp(dim=-1)
        smallest.append(lse.masked_fill_(numbers >= n_k, float("inf")).amin(dim=-1))
    return torch.cat(smallest, dim=-1)


def _diagonal_bias(distances: Distances, weights: Tensor, tokens: slice) -> Tensor:
    """``(1 or B, H, g, n, n)``: the bias among the tokens of each group, that of a CLS token aside."""
    assert distances.axes is not None
    # A wrong bias of the CLS token does no harm: the group of its row sees all in any case.
    x = _grouped(distances.axes[..., tokens, None])
    gaps = (x - x.transpose(-1, -2)).abs_().float()[:, :, None]
    return (weights[:, None, :, None, None, None] * gaps).sum(dim=0)


def _grouped(x: Tensor) -> Tensor:
    """``(..., N, D)`` -> ``(..., g, n, D)``, filled up with zeros."""
    missing = -x.shape[-2] % GROUP
    return pad(x, (0, 0, 0, missing)).unflatten(-2, (-1, GROUP))
