"""8-bit weights for generation on a CPU.

Generation of a single piece reads all weights for every character, so its speed is limited by memory bandwidth: with a
quarter of the bytes it takes little more than a quarter of the time. Training and GPUs do not use this.
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
    """``x W^T + b`` with symmetric int8 weights W and one scale per output.

    The product is computed in bfloat16 with float32 sums; the result has the dtype of the input. No gradients.

    Args:
        linear: Layer to replace, on the CPU.
    """

    weight: Tensor
    scales: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        # The scale is rounded before the weights, so that its rounding error is included in theirs.
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
    """Return a copy of a model with int8 weights in its linear layers, with one scale per output.

    Embeddings, norms and the output layer are not quantized. Losses change by less than a thousandth, but a single
    character may change, and with it the rest of a piece. A piece still does not depend on the others in its batch.

    Args:
        model: The model, on the CPU; it is not changed, and shares no tensors with the copy.

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
