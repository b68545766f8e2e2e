"""FlexAttention on the same problems: biases as functions of captured tensors, bounds as blocks of 128 x 128.

Shapes: B batch, H heads, Nq queries, N keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from attention_matrix.ours import intervals
from attention_matrix.problem import Forward, Problem


def flex_flash(problem: Problem) -> Forward:
    """FlexAttention by its second back end, which needs the newest flash-attn."""
    import flash_attn.cute  # noqa: F401  # pyright: ignore[reportMissingImports]

    return flex(problem, kernel_options={"BACKEND": "FLASH"})


def flex(problem: Problem, *, live_blocks: bool = False, **options: Any) -> Forward:
    """FlexAttention: the bias as a function of captured coordinates, bounds as blocks; rope is a step of its own."""
    from torch.nn.attention.flex_attention import flex_attention

    q, k, v, rotate = problem.q, problem.k, problem.v, problem.rotated()
    options["score_mod"] = score_mod(problem)
    if live_blocks:
        options["block_mask"] = live_block_mask(problem)
    elif not problem.sees_all:
        options["block_mask"] = bounds_block_mask(problem)
    run: Any = flex_attention
    if problem.flex_mode != "eager":
        mode = None if problem.flex_mode == "default" else problem.flex_mode
        run = torch.compile(flex_attention, dynamic=False, mode=mode)
    if problem.case.longest is None:
        return lambda: run(*rotate(q, k), v, **options)

    def packed() -> Tensor:
        heads_first = (x.transpose(0, 1)[None] for x in (*rotate(q, k), v))
        return run(*heads_first, **options)[0].transpose(0, 1)

    return packed


def score_mod(problem: Problem) -> Callable[..., Tensor] | None:
    """The bias in FlexAttention's terms; float32 coordinates spare its kernels the conversion."""
    slope = problem.slope
    if problem.case.bias is None:
        return None
    if problem.coords is None:
        return lambda score, b, h, i, j: score - slope[h] * (i - j).abs()
    t, f = (axis.contiguous() for axis in problem.coords.float().unbind(-1))
    if t.dim() == 1:

        def shared(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            distance = slope[h] * (t[i] - t[j]).abs() + slope[h] * (f[i] - f[j]).abs()
            return torch.where((i > 0) & (j > 0), score - distance, score)

        return shared

    def of_sample(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        distance = slope[h] * (t[b, i] - t[b, j]).abs() + slope[h] * (f[b, i] - f[b, j]).abs()
        return torch.where((i > 0) & (j > 0), score - distance, score)

    return of_sample


def bounds_block_mask(problem: Problem) -> Any:
    """Causal bound, window and sequences, block by block: hidden, full, or decided score by score."""
    first, last = problem.visible
    n_q, n = problem.n_q, problem.case.tokens
    starts = torch.arange(0, n, 128, device=problem.device, dtype=torch.int32)
    ends = (starts + 128).clamp(max=n) - 1

    def blocks(bound: Tensor, filler: int) -> Tensor:
        return pad(bound, (0, -n_q % 128), value=filler).view(-1, 128, 1)

    # Rows that follow each other see ranges that follow each other, so a block sees all between its extremes.
    some = (starts <= blocks(last, -1).amax(1)) & (ends >= blocks(first, n).amin(1))
    full = (starts >= blocks(first, -1).amax(1)) & (ends <= blocks(last, n).amin(1))

    def mask_mod(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (j >= first[i]) & (j <= last[i])

    return _block_mask(some & ~full, full, (n_q, n), mask_mod)


def live_block_mask(problem: Problem) -> Any:
    """The blocks that ours visits, given to FlexAttention: what skipping is worth to another kernel."""
    n = problem.case.tokens
    with torch.no_grad():
        low, high = intervals(problem)().unbind(-1)
    groups = torch.arange(-(-n // 128), device=problem.device)
    live = (groups >= low[..., None]) & (groups < high[..., None])
    live[..., 0] = True  # the CLS key
    return _block_mask(torch.zeros_like(live), live, (n, n), None)


def _block_mask(partial: Tensor, full: Tensor, lengths: tuple[int, int], mask_mod: Any) -> Any:
    from torch.nn.attention.flex_attention import BlockMask

    def listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
        blocks = blocks if blocks.dim() == 4 else blocks[None, None]
        order = blocks.int().argsort(dim=-1, descending=True, stable=True)
        return blocks.sum(-1, dtype=torch.int32), order.int()

    return BlockMask.from_kv_blocks(
        *listed(partial), *listed(full), BLOCK_SIZE=128, mask_mod=mask_mod, seq_lengths=lengths
    )
