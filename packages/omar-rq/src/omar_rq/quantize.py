"""8-bit products for embedding on a CPU, and the loss of quality that they cost."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from omar_rq.conformer import Pointwise
from omar_rq.model import OmarRQ
from pentatonic.errors import BackendUnavailable, UsageError
from pentatonic.int8 import Int8ProductLinear, has_integer_products
from pentatonic.precision import number_type_name


def quantize(model: OmarRQ) -> OmarRQ:
    """Return a copy of a model whose trunk multiplies 8-bit integers.

    Weights are rounded once, with one scale per output; inputs of a product at each call, with one scale per token, so
    a token does not depend on the rest of its batch. Front end, patch embedding, attention scores, depthwise
    convolutions and norms stay in float32.

    Args:
        model: Float32, on the CPU; it is not changed.

    Returns:
        The copy, in evaluation mode; it cannot be trained or saved.

    Raises:
        BackendUnavailable: The processor has no instructions for products of 8-bit integers.
        UsageError: The model is not float32, or not on the CPU.
    """
    weight = model.embed.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        raise UsageError(
            f"int8 is for float32 models on the CPU; this one is {weight.dtype} on {weight.device}"
        )
    if not has_integer_products():
        raise BackendUnavailable("int8 needs a processor with AVX-512 VNNI instructions; use fp32 or bf16")
    replaced: dict[int, nn.Module] = {}
    for module in model.trunk.modules():
        if isinstance(module, nn.Linear):
            replaced[id(module)] = Int8ProductLinear(module)
        elif isinstance(module, Pointwise):
            replaced[id(module)] = Int8ProductLinear(_linear(module))
    return copy.deepcopy(model, replaced).eval()


def rounded_weights(model: OmarRQ) -> dict[str, Tensor]:
    """Return the weights of 8-bit layers, which are no part of the state: ``(C_out, C_in)`` float32, by name."""
    return {
        f"{name}.weight": layer.rounded_weight
        for name, layer in model.named_modules()
        if isinstance(layer, Int8ProductLinear)
    }


def number_type(model: OmarRQ) -> str:
    """Return the number type in which the trunk computes, as reports name it: fp32, bf16, fp16 or int8."""
    if any(isinstance(layer, Int8ProductLinear) for layer in model.modules()):
        return "int8"
    return number_type_name(model.embed.weight.dtype)


def _linear(conv: Pointwise) -> nn.Linear:
    linear = nn.Linear(conv.in_channels, conv.out_channels, device="meta")
    assert conv.bias is not None
    linear.weight, linear.bias = nn.Parameter(conv.weight.squeeze(-1)), nn.Parameter(conv.bias)
    return linear
