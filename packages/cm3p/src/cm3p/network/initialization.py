"""First values of weights. Each module that holds weights says how they are drawn.

Weights are drawn module by module, because transformers draws those that a checkpoint lacks, and no others.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from transformers import initialization

M = TypeVar("M", nn.Linear, nn.Conv1d, nn.Embedding)


def drawn(module: M, std: float, cutoff: float | None = None) -> M:
    """Say how the weight of a module is drawn; its bias begins at 0.

    Args:
        module: A matrix, convolution or table.
        std: Standard deviation of a normal distribution around 0.
        cutoff: Standard deviations beyond which values are drawn again; ``None``: never.

    Returns:
        The module.
    """
    module.init_std, module.init_cutoff = std, cutoff  # type: ignore[assignment]
    return module


def initialize(module: nn.Module) -> None:
    """Draw the weights that a module itself holds: as :func:`drawn` says, and 1 for norms."""
    if isinstance(module, nn.LayerNorm):
        initialization.ones_(module.weight)
        if module.bias is not None:
            initialization.zeros_(module.bias)
    elif isinstance(module, nn.Linear | nn.Conv1d | nn.Embedding):
        std, cutoff = float(module.init_std), module.init_cutoff  # type: ignore[arg-type]
        if cutoff is None:
            initialization.normal_(module.weight, 0.0, std)
        else:
            bound = float(cutoff) * std  # type: ignore[arg-type]
            initialization.trunc_normal_(module.weight, 0.0, std, -bound, bound)
        if not isinstance(module, nn.Embedding) and module.bias is not None:
            initialization.zeros_(module.bias)
