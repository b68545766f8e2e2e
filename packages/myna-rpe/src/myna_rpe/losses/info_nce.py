"""Contrastive losses over a batch.

Shapes: B samples, D width of the embeddings, W processes. All losses are computed in float32 and on unit vectors.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from pentatonic.training.gather import gathered


def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    symmetric: bool = True,
    gather: bool = True,
) -> Tensor:
    """InfoNCE (arXiv 1807.03748): each query against the keys of all samples, of which its own is right.

    Args:
        queries: ``(B, D)`` one view of each sample.
        keys: ``(B, D)`` another view.
        temperature: Divides the cosines; a tensor gets a gradient.
        symmetric: Mean of both directions; else ``queries`` against ``keys`` alone, as Myna-RPE does.
        gather: In a distributed job, compare with the keys of all processes. The mean over the processes, which data
            parallel training forms of the gradients, is then the loss of the whole batch.

    Returns:
        The loss, a scalar.
    """
    one, other = (F.normalize(view.float(), dim=1) for view in (queries, keys))
    loss = _one_direction(one, other, temperature, gather)
    return (loss + _one_direction(other, one, temperature, gather)) / 2 if symmetric else loss


def _one_direction(queries: Tensor, keys: Tensor, temperature: float | Tensor, gather: bool) -> Tensor:
    first = 0
    if gather and dist.is_initialized():
        first = dist.get_rank() * len(queries)
        keys = gathered(keys)
    right = torch.arange(first, first + len(queries), device=queries.device)
    return F.cross_entropy(queries @ keys.T / temperature, right)


def nt_xent(one: Tensor, other: Tensor, *, temperature: float | Tensor = 0.5) -> Tensor:
    """NT-Xent (arXiv 2002.05709): each view against all other views of the batch.

    Args:
        one: ``(B, D)`` one view of each sample.
        other: ``(B, D)`` another view.
        temperature: Divides the cosines; a tensor gets a gradient.
    """
    views = F.normalize(torch.cat((one, other)).float(), dim=1)
    scores = views @ views.T / temperature
    scores = scores.masked_fill(torch.eye(len(views), dtype=torch.bool, device=views.device), float("-inf"))
    right = torch.arange(len(views), device=views.device).roll(len(one))
    return F.cross_entropy(scores, right)
