"""Style vectors: the weighted mean of the neighbours that a prompt, or a clip, has in a bank.

Shapes: Q queries, N rows of the bank, K neighbours, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pentatonic.errors import UsageError

DEFAULT_NEIGHBOURS = 4
DEFAULT_TEMPERATURE = 0.07
_SMALLEST_TEMPERATURE = 1e-6


@dataclass(frozen=True)
class Style:
    """Style vectors, and what they are made of.

    Args:
        vectors: ``(Q, D)`` of norm 1.
        rows: ``(Q, K)`` int64, rows of the bank, the most similar first.
        similarities: ``(Q, K)`` cosines.
        weights: ``(Q, K)``, adding up to 1.
    """

    vectors: Tensor
    rows: Tensor
    similarities: Tensor
    weights: Tensor


def softmax_weights(similarities: Tensor, temperature: float = DEFAULT_TEMPERATURE) -> Tensor:
    """Return the weights of neighbours, ``(..., K)``, from their cosines.

    Raises:
        UsageError: The temperature is below 0 or not finite.
    """
    if not 0 <= temperature < float("inf"):
        raise UsageError(f"temperature is {temperature}; allowed: 0 and more")
    return torch.softmax(similarities / max(temperature, _SMALLEST_TEMPERATURE), dim=-1)


def style_from(bank_rows: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of rows at norm 1.

    Args:
        bank_rows: ``(Q, K, D)`` unit rows.
        weights: ``(Q, K)``.

    Returns:
        ``(Q, D)``; zeros where the rows cancel each other.
    """
    return normalize((weights[..., None] * bank_rows).sum(-2), dim=-1)
