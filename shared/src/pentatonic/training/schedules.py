"""Learning-rate schedules: plain functions from the number of optimizer steps done to the next step's rate."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]
"""Learning rate of the next optimizer step, by the number of finished ones; ``partial`` binds other arguments."""


def constant(step: int, *, base_lr: float) -> float:
    """The same rate at every step.

    Args:
        step: Optimizer steps done, from 0.
        base_lr: The rate.

    Returns:
        ``base_lr``.
    """
    return base_lr


def warmup_linear(
    step: int, *, base_lr: float, warmup_steps: int, total_steps: int, min_lr: float = 0.0
) -> float:
    """Linear rise to ``base_lr``, then a straight line down to ``min_lr``.

    Args:
        step: Optimizer steps done, from 0.
        base_lr: Highest rate, reached with the last warm-up step.
        warmup_steps: Length of the rise; 0 for none.
        total_steps: Step from which the rate stays at ``min_lr``.
        min_lr: Lowest rate of the descent.

    Returns:
        The rate of the next step.
    """
    if step < warmup_steps:
        return base_lr * (step + 1) / warmup_steps
    return min_lr + (base_lr - min_lr) * (1.0 - _descended(step, warmup_steps, total_steps))


def warmup_cosine(
    step: int, *, base_lr: float, warmup_steps: int, total_steps: int, min_lr: float = 0.0
) -> float:
    """As :func:`warmup_linear`, but down half a cosine (Loshchilov and Hutter, SGDR, 2017)."""
    if step < warmup_steps:
        return base_lr * (step + 1) / warmup_steps
    share = _descended(step, warmup_steps, total_steps)
    return min_lr + (base_lr - min_lr) * (1.0 + math.cos(math.pi * share)) / 2


def _descended(step: int, warmup_steps: int, total_steps: int) -> float:
    """Share of the descent that is done, in [0, 1]."""
    if step >= total_steps:
        return 1.0
    return (step - warmup_steps) / (total_steps - warmup_steps)
