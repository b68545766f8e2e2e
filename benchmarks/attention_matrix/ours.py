"""Ours: the public functions of :mod:`pentatonic.attention`, and what they say about their work.

Shapes: B batch, H heads, G groups of 128 tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attention_matrix.cases import OURS
from attention_matrix.problem import Forward, Problem, Unsuitable
from pentatonic.attention import attention, decode_attention, explain, varlen_attention


def ours(problem: Problem, *, skip: bool = True, **options: Any) -> Forward:
    """The public functions, by the back end that they choose unless ``options`` say otherwise."""
    case, q, k, v = problem.case, problem.q, problem.k, problem.v
    if case.decode:
        return lambda: decode_attention(q, k, v, case.tokens, **options)
    options |= {"bias": problem.bias, "mask": problem.mask, "rope": problem.rope}
    if case.longest is not None:
        bounds, longest = problem.cu_seqlens, max(problem.lengths)
        return lambda: varlen_attention(q, k, v, bounds, max_seqlen_q=longest, **options)
    if skip and case.tolerance is not None:
        options["tolerance"] = case.tolerance
    return lambda: attention(q, k, v, **options)


def path(name: str, problem: Problem) -> str | None:
    """The back end that ours takes, where :func:`pentatonic.attention.explain` can tell."""
    case = problem.case
    if not name.startswith(OURS) or case.decode or case.longest is not None:
        return None
    options: dict[str, Any] = {"bias": problem.bias, "mask": problem.mask}
    if name == "pentatonic triton":
        options["backend"] = "triton"
    return explain(problem.q, problem.k, problem.v, **options).backend


def intervals(problem: Problem) -> Callable[[], Tensor]:
    """What ours may skip: the live key groups (B, H, G, 2) of each group of 128 queries, as its back end finds them."""
    from pentatonic.attention.descriptors import Visibility
    from pentatonic.attention.intervals import key_intervals
    from pentatonic.attention.problem import lower_bias

    case, q, k = problem.case, problem.q, problem.k
    if case.tolerance is None:
        raise Unsuitable("the case asks for no tolerance")
    tolerance, scale = case.tolerance, case.dim**-0.5
    distances, weights, _ = lower_bias(problem.bias, case.batch, case.heads, case.tokens, torch.float32)
    if path(OURS, problem) == "triton":
        from pentatonic.attention.kernels import launch
        from pentatonic.attention.problem import Problem as Lowered

        if weights is None:
            raise Unsuitable("the bias has no slopes")
        lowered = Lowered(distances, scale)
        return lambda: launch.key_intervals(q, k, weights, lowered, tolerance)
    visible = {"visibility": Visibility(), "scale": scale, "tolerance": tolerance}
    return lambda: key_intervals(q, k, distances=distances, weights=weights, **visible)


def live_fraction(problem: Problem) -> float:
    """Mean share of the scores that ours has to compute in this case."""
    from pentatonic.attention.intervals import live_fraction as live

    n = problem.case.tokens
    with torch.no_grad():
        return float(live(intervals(problem)(), n, n, 1).mean())
