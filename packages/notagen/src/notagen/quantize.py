"""8-bit weights for generation on a CPU.

Generation of a single piece reads all weights for every character, so its speed is limited by memory bandwidth: with a
quarter of the bytes it takes little more than a quarter of the time. Where the processor multiplies 8-bit integers, its
inputs are rounded to 8 bits, too, which also makes batches faster. Training and GPUs do not use this.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from notagen.model import NotaGen
from pentatonic.errors import UsageError

M = TypeVar("M", bound=nn.Module)
_LARGEST = 127
_ZERO = 128  # of inputs, which are unsigned in the processor's instructions
_COLUMNS = 32
# Rounds an input with one scale for all of it, and multiplies it with packed weights.
_int8_product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default


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
        levels, scales = _rounded(linear.weight)
        self.register_buffer("weight", levels.to(torch.int8))
        self.register_buffer("scales", scales)
        self.register_buffer("bias", linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C_in) -> (..., C_out)``."""
        rows = x.detach().bfloat16().flatten(0, -2)
        product = torch.ops.aten._weight_int8pack_mm(rows, self.weight, self.scales)
        return product.to(x.dtype).unflatten(0, x.shape[:-1]).add_(self.bias)


class Int8ProductLinear(nn.Module):
    """:class:`Int8Linear` whose inputs are rounded to 8 bits, too, so that the product is one of integers.

    Each row of the input has its own scale and the sums are exact, so a row does not depend on the others of its batch.
    The result has the dtype of the input. No gradients. The weights lie in the order in which the processor reads them:
    they are no part of the state, and cannot be compiled (:func:`compilable`).

    Args:
        linear: Layer to replace, on the CPU. The sums are only right where :func:`has_integer_products` is true:
            elsewhere the library adds pairs of products in 16 bits.
    """

    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        levels, scales = _rounded(linear.weight)
        scales = scales.float()
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        weight = torch.quantize_per_channel(levels * scales[:, None], scales, zeros, 0, torch.qint8)
        self._packed = torch.ops.quantized.linear_prepack(weight, None)
        self.register_buffer("bias", linear.bias.detach().float().clone())

    @property
    def rounded_weight(self) -> Tensor:
        """``(C_out, C_in)`` float32: the weights after rounding."""
        return torch.ops.quantized.linear_unpack(self._packed)[0].dequantize()

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C_in) -> (..., C_out)``."""
        rows = x.detach().float()
        largest = rows.abs().amax(-1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny)
        product = _int8_product(rows / largest, 1 / _LARGEST, _ZERO, self._packed)
        return torch.addcmul(self.bias, product, largest).to(x.dtype)


def has_integer_products() -> bool:
    """Whether the processor has instructions for products of 8-bit integers with 32-bit sums (AVX-512 VNNI)."""
    return torch.cpu._is_vnni_supported() and "x86" in torch.backends.quantized.supported_engines


def quantize(model: NotaGen) -> NotaGen:
    """Return a copy of a model with int8 weights in its linear layers, with one scale per output.

    Embeddings, norms and the output layer are not quantized. Losses change by less than a hundredth, but a single
    character may change, and with it the rest of a piece. Processors with and without instructions for products of
    integers round differently. A piece still does not depend on the others in its batch.

    Args:
        model: The model, on the CPU; it is not changed, and shares no tensors with the copy.

    Returns:
        The copy, in the same mode; it cannot be trained or saved.

    Raises:
        UsageError: The model is not on the CPU, or its width is not a multiple of 32.
    """
    if not fits_eight_bits(model):
        raise UsageError(
            f"int8 weights need a width that is a multiple of {_COLUMNS}, got {model.config.width}"
        )
    if model.device.type != "cpu":
        raise UsageError(f"int8 weights are for the CPU, the model is on {model.device}")
    return eight_bit_copy(model)


def fits_eight_bits(model: NotaGen) -> bool:
    """Whether the width is a multiple of 32; PyTorch does not check this, and would read beyond the weights."""
    return model.config.width % _COLUMNS == 0


def eight_bit_copy(module: M) -> M:
    """Return a copy of a module of a model for which :func:`fits_eight_bits` is true; see :func:`quantize`."""
    layer = Int8ProductLinear if has_integer_products() else Int8Linear
    replaced = {id(linear): layer(linear) for linear in module.modules() if isinstance(linear, nn.Linear)}
    return copy.deepcopy(module, replaced)


def compilable(module: M) -> M:
    """Return a module that ``torch.compile`` can read: the given one, or a copy with other layers and equal weights.

    The copy rounds the weights alone, so its results differ by the rounding of the inputs.
    """
    packed = [layer for layer in module.modules() if isinstance(layer, Int8ProductLinear)]
    if not packed:
        return module
    return copy.deepcopy(module, {id(layer): Int8Linear(_plain(layer)) for layer in packed})


def _plain(layer: Int8ProductLinear) -> nn.Linear:
    weight = layer.rounded_weight
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(layer.bias)
    return linear


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return levels from -127 to 127, as floats, and the scale of each output in bfloat16."""
    weight = weight.detach().float()
    # The scale is rounded before the weights, so that its rounding error is included in theirs.
    scales = (weight.abs().amax(1) / _LARGEST).clamp_min(torch.finfo(torch.bfloat16).tiny).bfloat16()
    return (weight / scales[:, None].float()).round().clamp(-_LARGEST, _LARGEST), scales
