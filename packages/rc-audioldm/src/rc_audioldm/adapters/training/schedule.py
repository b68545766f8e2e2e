"""Learning rate of the original's trainer, step by step as it was meant, and held at its end."""

from __future__ import annotations

import math


def warmup_then_cosine(
    step: int, *, base_lr: float, warmup_steps: int, total_steps: int, min_lr: float
) -> float:
    """Linear rise to ``base_lr``, then half a cosine down to ``min_lr``, which the last step has and all after it.

    In :func:`pentatonic.training.warmup_cosine` the step after the warm-up is still at the top; here it has begun to
    fall, as in the original. Past the end the original's rate rises again.

    Args:
        step: Optimizer steps done, from 0.
        base_lr: Highest rate, of the last step of the warm-up.
        warmup_steps: Length of the rise; 0 for none.
        total_steps: Steps of the whole run.
        min_lr: Rate at the end.

    Returns:
        The rate of the next step.
    """
    number = step + 1
    if number <= warmup_steps:
        return base_lr * number / warmup_steps
    share = min(1.0, (number - warmup_steps) / max(1, total_steps - warmup_steps))
    return min_lr + 0.5 * (base_lr - min_lr) * (1.0 + math.cos(math.pi * share))
