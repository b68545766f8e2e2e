"""The best of several clips of a prompt."""

from __future__ import annotations

from torch import Tensor

from pentatonic.errors import UsageError


def rank_candidates(scores: Tensor) -> Tensor:
    """Rank the clips of each prompt among themselves.

    Args:
        scores: ``(P, N)``: how well each of its N clips fits a prompt, in the order of variants.

    Returns:
        ``(P, N)`` variants, the best first; of equal ones the lower first.

    Raises:
        UsageError: A score is not a number.
    """
    if scores.isnan().any():
        raise UsageError("a score of a candidate is not a number")
    return scores.argsort(dim=1, descending=True, stable=True)
