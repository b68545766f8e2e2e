"""Style vectors: the weighted mean of the neighbours that a prompt, or a clip, has in a bank.

Shapes: Q queries, N rows of the bank, K neighbours, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pentatonic.errors import UsageError
from pentatonic.search import top_k

Weighting = Literal["softmax", "mean"]

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


def weights_of(
    similarities: Tensor, weighting: Weighting, temperature: float = DEFAULT_TEMPERATURE
) -> Tensor:
    """Return the weights of neighbours, ``(..., K)``: by :func:`softmax_weights`, or the same for all.

    Raises:
        UsageError: There is no such weighting, or the temperature is below 0.
    """
    if weighting not in get_args(Weighting):
        raise UsageError(f"weighting is {weighting!r}; allowed: {', '.join(get_args(Weighting))}")
    if weighting == "mean":
        return torch.full_like(similarities, 1 / similarities.shape[-1])
    return softmax_weights(similarities, temperature)


def nearest_styles(
    queries: Tensor,
    bank: np.ndarray,
    count: int = DEFAULT_NEIGHBOURS,
    *,
    temperature: float = DEFAULT_TEMPERATURE,
    weighting: Weighting = "softmax",
    allowed: np.ndarray | None = None,
) -> Style:
    """Return the styles of prompts or clips: the weighted means of their nearest rows in a bank.

    Args:
        queries: ``(Q, D)``, of any norm but 0.
        bank: ``(N, D)`` rows, also a memory map, of any norm but 0.
        count: Neighbours wanted; there are fewer where fewer rows are allowed.
        temperature: Of the softmax; lower values give the nearest row more weight.
        weighting: ``softmax`` of the cosines, or ``mean``.
        allowed: ``(N,)`` bool, the rows that may be found.

    Returns:
        Styles on the CPU; of rows with the same cosine, the lower comes first.

    Raises:
        UsageError: An argument is out of its range, or no row is allowed.
        InputError: Widths differ, or a vector is zero or not finite.
    """
    found = top_k(queries.detach().cpu().float().numpy(), bank, count, metric="cosine", allowed=allowed)
    if not found.rows.shape[1]:
        raise UsageError("no row of the bank is allowed, so there is no style")
    similarities = torch.from_numpy(found.scores).float()
    weights = weights_of(similarities, weighting, temperature)
    rows = normalize(torch.from_numpy(np.asarray(bank[found.rows.ravel()])), dim=-1)
    vectors = style_from(rows.reshape(*found.rows.shape, -1), weights)
    return Style(vectors, torch.from_numpy(found.rows), similarities, weights)
