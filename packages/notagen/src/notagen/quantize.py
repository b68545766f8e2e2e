"""Weights in eight bits, for writing on a CPU.

Writing one piece reads all weights for every character, so its time is that of moving them from memory: a quarter
of the bytes takes little more than a quarter of the time. Training and everything on a GPU stay with the original.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from notagen.model import NotaGen
from pentatonic.errors import UsageError

_LARGEST = 127
_COLUMNS = 32


class Int8Linear(nn.Module):
    """``x W^T + b`` with W in int8 and one scale for each output, symmetric around zero.

    The product is in bfloat16 with sums in float32, the result in the dtype of the input; there are no gradients.

    Args:
        linear: What it stands for, on the CPU.
    """

    weight: Tensor
    scales: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        # The scale is rounded first, so that its rounding does not add to that of the weights.
        scales = (weight.abs().amax(1) / _LARGEST).clamp_min(torch.finfo(torch.bfloat16).tiny).bfloat16()
        levels = (weight / scales[:, None].float()).round().clamp(-_LARGEST, _LARGEST)
        self.register_buffer("weight", levels.to(torch.int8))
        self.register_buffer("scales", scales)
        self.register_buffer("bias", linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C_in) -> (..., C_out)``."""
        rows = x.detach().bfloat16().flatten(0, -2)
        product = torch.ops.aten._weight_int8pack_mm(rows, self.weight, self.scales)
        return product.to(x.dtype).unflatten(0, x.shape[:-1]).add_(self.bias)


def quantize(model: NotaGen) -> NotaGen:
    """Return a copy of a model with the weights of its linear layers in int8, each output with its own scale.

    Embeddings, norms and the output layer stay as they are. Losses move by less than a thousandth, the choice of a
    single character may change, and with it the rest of a piece. What a piece becomes does not depend on the pieces
    beside it here either.

    Args:
        model: On the CPU; it is not changed, and shares nothing with the copy.

    Returns:
        The copy, in the same mode; it cannot be trained or saved.

    Raises:
        UsageError: The model is not on the CPU, or its width is not a multiple of 32.
    """
    if model.config.width % _COLUMNS:
        # PyTorch does not check this, and would read beyond the weights.
        raise UsageError(
            f"int8 weights need a width that is a multiple of {_COLUMNS}, got {model.config.width}"
        )
    if model.device.type != "cpu":
        raise UsageError(f"int8 weights are for the CPU, the model is on {model.device}")
    replaced = {id(module): Int8Linear(module) for module in model.modules() if isinstance(module, nn.Linear)}
    return copy.deepcopy(model, replaced)
