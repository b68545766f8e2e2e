"""Opponents: ours, other implementations of the same, and implementations without bias as a reference for speed.

An opponent turns a problem into a function without arguments that runs one forward pass and returns the output in
the layout of q. What it does before (compiling masks, padding a bias) is not timed. One that cannot raises, and the
message becomes its row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from attention_matrix.flex import flex, flex_flash
from attention_matrix.ours import intervals, ours
from attention_matrix.problem import Forward, Problem, Unsuitable


@dataclass(frozen=True)
class Opponent:
    """A contestant.

    Attributes:
        prepare: Problem -> forward pass.
        omits: What it leaves out of the problem, ``bias`` or ``rope``; its error is that of the rest.
        whole: Whether it returns the output; parts of ours are timed only.
    """

    prepare: Callable[[Problem], Forward]
    omits: frozenset[str] = frozenset()
    whole: bool = True


def sdpa(problem: Problem, backend: SDPBackend | None = None) -> Forward:
    """PyTorch's fused attention without bias, by one of its back ends or the one it picks."""
    if not problem.sees_all and not (problem.case.causal and problem.case.window is None):
        raise Unsuitable("SDPA has neither windows nor packed sequences")
    q, k, v, causal, rotate = problem.q, problem.k, problem.v, problem.case.causal, problem.rotated()

    def run() -> Tensor:
        return scaled_dot_product_attention(*rotate(q, k), v, is_causal=causal)

    return run if backend is None else _within(backend, run)


def sdpa_bias(problem: Problem, backend: SDPBackend | None = None, *, build: bool = False) -> Forward:
    """PyTorch's fused attention with the bias as a matrix, built beforehand or, as a part of the work, each time."""
    q, k, v = problem.q, problem.k, problem.v
    ready = None if build else problem.ready_bias

    def run() -> Tensor:
        return scaled_dot_product_attention(q, k, v, problem.build_bias() if ready is None else ready)

    return run if backend is None else _within(backend, run)


def sdpa_bias_written(problem: Problem) -> Forward:
    """PyTorch's fused attention with the bias written out as a formula in each call: how models without kernels do."""
    q, k, v = problem.q, problem.k, problem.v
    return lambda: scaled_dot_product_attention(q, k, v, problem.write_bias())


def _within(backend: SDPBackend, run: Forward) -> Forward:
    def restricted() -> Tensor:
        with sdpa_kernel(backend):
            return run()

    return restricted


def varlen_attn(problem: Problem, *, rope: Literal["each time", "before", "never"] = "each time") -> Forward:
    """PyTorch's packed flash attention; rope is a step of its own, part of the work unless done ``"before"``."""
    from torch.nn.attention import varlen

    call: Any = varlen.varlen_attn
    case, q, k, v = problem.case, problem.q, problem.k, problem.v
    bounds, longest = problem.cu_seqlens, max(problem.lengths)
    options: dict[str, Any] = {}
    if case.window is not None:
        if "window_size" not in inspect.signature(call).parameters:
            raise Unsuitable("varlen_attn of this torch has no window_size")
        options["window_size"] = (case.window, case.window)
    rotate = problem.rotated() if rope == "each time" else lambda q, k: (q, k)
    if rope == "before":
        q, k = (x.detach() for x in problem.rotated()(q, k))
    return lambda: call(*rotate(q, k), v, bounds, bounds, longest, longest, **options)


def sdpa_per_sequence(problem: Problem) -> Forward:
    """What a model without packed attention does: rope, then one SDPA call per sequence, windows as a matrix."""
    q, k, v, rotate = problem.q, problem.k, problem.v, problem.rotated()
    first, last = problem.visible
    pieces, start = [], 0
    for length in problem.lengths:
        rows = torch.arange(start, start + length, device=problem.device)
        mask = (rows >= first[rows, None]) & (rows <= last[rows, None])
        pieces.append((slice(start, start + length), None if bool(mask.all()) else mask))
        start += length

    def run() -> Tensor:
        turned = (*rotate(q, k), v)
        heads_first = [[x[at].transpose(0, 1)[None] for x in turned] for at, _ in pieces]
        outputs = (
            scaled_dot_product_attention(*part, attn_mask=mask)
            for part, (_, mask) in zip(heads_first, pieces, strict=True)
        )
        return torch.cat([o[0].transpose(0, 1) for o in outputs])

    return run


def flash_attn_2(problem: Problem, *, alibi: bool = False) -> Forward:
    """The flash-attn package, version 2: one-dimensional ALiBi by token number, or no bias."""
    from flash_attn import flash_attn_func, flash_attn_varlen_func  # pyright: ignore[reportMissingImports]

    options = {"alibi_slopes": problem.slope.float()} if alibi else {}
    return _flash_attn(problem, flash_attn_func, flash_attn_varlen_func, options)


def flash_attn_3(problem: Problem) -> Forward:
    """The flash-attn package, version 3, which has no bias."""
    from flash_attn_interface import (  # pyright: ignore[reportMissingImports]
        flash_attn_func,
        flash_attn_varlen_func,
    )

    return _flash_attn(problem, flash_attn_func, flash_attn_varlen_func, {})


def _flash_attn(problem: Problem, padded: Any, packed: Any, options: dict[str, Any]) -> Forward:
    case, q, k, v, rotate = problem.case, problem.q, problem.k, problem.v, problem.rotated()
    options = {**options, "causal": case.causal}
    if case.window is not None:
        options["window_size"] = (case.window, case.window)

    def run() -> Tensor:
        turned = (*rotate(q, k), v)
        if case.longest is not None:
            bounds, longest = problem.cu_seqlens, max(problem.lengths)
            found = packed(*turned, bounds, bounds, longest, longest, **options)
            return found[0] if isinstance(found, tuple) else found
        found = padded(*(x.transpose(1, 2) for x in turned), **options)
        return (found[0] if isinstance(found, tuple) else found).transpose(1, 2)

    return run


_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
_NO_BIAS = frozenset({"bias"})
OPPONENTS: dict[str, Opponent] = {
    "pentatonic": Opponent(ours),
    "pentatonic dense": Opponent(lambda problem: ours(problem, skip=False)),
    "pentatonic triton": Opponent(lambda problem: ours(problem, backend="triton")),
    "key_intervals": Opponent(intervals, whole=False),
    "flex": Opponent(flex),
    "flex flash": Opponent(flex_flash),
    "flex live blocks": Opponent(lambda problem: flex(problem, live_blocks=True)),
    "varlen_attn": Opponent(varlen_attn),
    "varlen_attn, rotated before": Opponent(lambda problem: varlen_attn(problem, rope="before")),
    "varlen_attn, no rope": Opponent(lambda problem: varlen_attn(problem, rope="never"), frozenset({"rope"})),
    "sdpa per sequence": Opponent(sdpa_per_sequence),
    "flash-attn 2": Opponent(flash_attn_2, _NO_BIAS),
    "flash-attn 2 alibi": Opponent(lambda problem: flash_attn_2(problem, alibi=True)),
    "flash-attn 3": Opponent(flash_attn_3, _NO_BIAS),
    "sdpa": Opponent(sdpa, _NO_BIAS),
    "sdpa bias": Opponent(sdpa_bias),
    "sdpa bias built": Opponent(lambda problem: sdpa_bias(problem, build=True)),
    "sdpa bias written": Opponent(sdpa_bias_written),
    **{
        f"sdpa {name}": Opponent(lambda problem, backend=backend: sdpa(problem, backend), _NO_BIAS)
        for name, backend in _BACKENDS.items()
    },
    **{
        f"sdpa bias {name}": Opponent(lambda problem, backend=backend: sdpa_bias(problem, backend))
        for name, backend in _BACKENDS.items()
    },
}
