"""Linear layers with 8-bit weights for inference on a CPU.

:class:`Int8Linear` rounds the weights alone: a product with few rows, limited by memory bandwidth, takes little more
than a quarter of the time. :class:`Int8ProductLinear` also rounds its inputs, which makes products with many rows
faster, too, where the processor multiplies 8-bit integers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

COLUMNS = 32
"""Widths of an :class:`Int8Linear` must be multiples of it; PyTorch does not check, and reads beyond the weights."""
_LARGEST = 127
_ZERO = 128  # of inputs, which are unsigned in the processor's instructions
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
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        levels, scales = _rounded(linear.weight)
        self.register_buffer("weight", levels.to(torch.int8))
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C_in) -> (..., C_out)``."""
        rows = x.detach().bfloat16().flatten(0, -2)
        product = torch.ops.aten._weight_int8pack_mm(rows, self.weight, self.scales)
        product = product.to(x.dtype).unflatten(0, x.shape[:-1])
        return product if self.bias is None else product.add_(self.bias)


class Int8ProductLinear(nn.Module):
    """:class:`Int8Linear` whose inputs are rounded to 8 bits, too, so that the product is one of integers.

    Each row of the input has its own scale and the sums are exact, so a row does not depend on the others of its batch.
    The result has the dtype of the input. No gradients. The weights lie in the order in which the processor reads them:
    they are no part of the state, and cannot be compiled.

    Args:
        linear: Layer to replace, on the CPU. The sums are only right where :func:`has_integer_products` is true:
            elsewhere the library adds pairs of products in 16 bits.
    """

    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        levels, scales = _rounded(linear.weight)
        scales = scales.float()
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        weight = torch.quantize_per_channel(levels * scales[:, None], scales, zeros, 0, torch.qint8)
        self._packed = torch.ops.quantized.linear_prepack(weight, None)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().float().clone())

    @property
    def rounded_weight(self) -> Tensor:
        """``(C_out, C_in)`` float32: the weights after rounding."""
        return torch.ops.quantized.linear_unpack(self._packed)[0].dequantize()

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C_in) -> (..., C_out)``."""
        rows = x.detach().float()
        largest = rows.abs().amax(-1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny)
        product = _int8_product(rows / largest, 1 / _LARGEST, _ZERO, self._packed)
        if self.bias is None:
            return product.mul_(largest).to(x.dtype)
        return torch.addcmul(self.bias, product, largest).to(x.dtype)


def has_integer_products() -> bool:
    """Whether the processor has instructions for products of 8-bit integers with 32-bit sums (AVX-512 VNNI)."""
    return torch.cpu._is_vnni_supported() and "x86" in torch.backends.quantized.supported_engines


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return levels from -127 to 127, as floats, and the scale of each output in bfloat16."""
    weight = weight.detach().float()
    # The scale is rounded before the weights, so that its rounding error is included in theirs.
    scales = (weight.abs().amax(1) / _LARGEST).clamp_min(torch.finfo(torch.bfloat16).tiny).bfloat16()
    return (weight / scales[:, None].float()).round().clamp(-_LARGEST, _LARGEST), scales
