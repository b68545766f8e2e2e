"""Slopes of linear distance biases."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pentatonic.errors import UsageError

SlopeRule = Literal["press", "halving"]


def alibi_slopes(n_heads: int, variant: SlopeRule = "press") -> Tensor:
    """One slope per head, from steep (local) to flat (global).

    With m the largest power of two <= ``n_heads``, the first m slopes are ``2^(-8 (i+1) / m)``. The rest are,
    for ``"press"``, every second slope of the series for 2m heads (Press et al., arXiv 2108.12409), and for
    ``"halving"`` the last slope halved again and again (the rule of the Myna-RPE code).

    Args:
        n_heads: Number of heads, positive.
        variant: ``"press"`` or ``"halving"``.

    Returns:
        ``(n_heads,)`` float32, positive.

    Raises:
        UsageError: ``n_heads`` is not positive, or the variant is unknown.
    """
    if n_heads < 1:
        raise UsageError(f"n_heads must be positive, got {n_heads}")
    m = 1 << (n_heads.bit_length() - 1)
    slopes = _power_series(m)
    if variant == "press":
        slopes += _power_series(2 * m)[0::2][: n_heads - m]
    elif variant == "halving":
        slopes += [slopes[-1] * 0.5 ** (i + 1) for i in range(n_heads - m)]
    else:
        raise UsageError(f"unknown slope variant {variant!r}; allowed: 'press', 'halving'")
    return torch.tensor(slopes, dtype=torch.float32)


def _power_series(m: int) -> list[float]:
    return [2.0 ** (-8.0 * (i + 1) / m) for i in range(m)]
