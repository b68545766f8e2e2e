"""Tensors of all processes of a distributed job, for losses that compare samples across a whole batch."""

from __future__ import annotations

import torch
from torch import Tensor


def gathered(x: Tensor) -> Tensor:
    """Concatenate the tensors of all processes, ``(B, ...) -> (W * B, ...)``, with gradients.

    Each process must have as many rows.
    """
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(x))
