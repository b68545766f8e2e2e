"""Losses on convex hulls of embeddings: that a view lies within the hull of the others, and that hulls stay wide.

Ours, after an idea in the outlook of Myna-RPE, whose program has one form of it (:func:`convex_combination`).

Shapes: B samples, p other views, D width of the embeddings, n points, U directions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from myna_rpe.geometry.hull import distances_to_hull


def convex_combination(anchor: Tensor, others: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error between views and a convex combination of the others, over samples and dimensions.

    Args:
        anchor: ``(B, D)`` one view of each sample.
        others: ``(B, p, D)`` its other views.
        weights: ``(p,)`` or ``(B, p)``, 0 or more, with the sum 1.
    """
    return F.mse_loss((weights.unsqueeze(-1) * others).sum(1), anchor)


def attention_weights(anchor: Tensor, others: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Weights ``(B, p)`` of the other views of each sample by their likeness to the anchor, a softmax of products."""
    return (torch.einsum("bd,bpd->bp", anchor, others) / temperature).softmax(dim=1)


def hull_distance(anchor: Tensor, others: Tensor) -> Tensor:
    """Mean squared distance of views to the convex hull of the others, by exact projection.

    By the envelope theorem the gradient is that of the distance to the nearest point with its weights held fixed.

    Args:
        anchor: ``(B, D)`` one view of each sample.
        others: ``(B, p, D)`` its other views.
    """
    points, queries = (x.detach().double().cpu().numpy() for x in (others, anchor))
    found = [
        distances_to_hull(hull, query[None]).weights[0] for hull, query in zip(points, queries, strict=True)
    ]
    weights = torch.stack([torch.from_numpy(one) for one in found]).to(others)
    return ((weights.unsqueeze(-1) * others).sum(1) - anchor).square().sum(1).mean()


def mean_width(
    points: Tensor, directions: Tensor, groups: Tensor | None = None, *, softness: float = 0.1
) -> Tensor:
    """Mean width of hulls: how far their points spread along random directions.

    Greatest and least product with a direction are soft, ``softness * logsumexp(x / softness)``, so that every point
    has a gradient.

    Args:
        points: ``(n, D)`` unit vectors.
        directions: ``(U, D)`` unit vectors.
        groups: ``(n,)`` which hull a point belongs to; ``None``: all to one.
        softness: Of greatest and least.

    Returns:
        A scalar: the mean over directions, and over hulls of two points or more; 0 if there are none.
    """
    along = points @ directions.T / softness  # (n, U)
    members = [along] if groups is None else [along[groups == group] for group in groups.unique()]
    widths = [(x.logsumexp(0) + (-x).logsumexp(0)).mean() for x in members if len(x) > 1]
    return softness * torch.stack(widths).mean() if widths else 0.0 * points.sum()
