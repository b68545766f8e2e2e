"""Measures of collapse: whether embeddings still differ from each other. Shapes: B embeddings, D their width."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def effective_rank(embeddings: Tensor) -> Tensor:
    """Exponential of the entropy of the singular values of ``(B, D)``, 1 to min(B, D); RankMe, arXiv 2210.02885."""
    values = torch.linalg.svdvals(embeddings.float())
    shares = values / values.sum().clamp(min=1e-12)
    return torch.exp(-torch.xlogy(shares, shares).sum())


@torch.no_grad()
def mean_cosine(embeddings: Tensor) -> Tensor:
    """Mean cosine of the pairs of ``(B, D)`` unit vectors; 1 where all are the same."""
    n = len(embeddings)
    return (embeddings.sum(0).square().sum() - n) / max(1, n * (n - 1))
