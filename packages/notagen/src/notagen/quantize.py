"""8-bit weights for generation on a CPU.

Generation of a single piece reads all weights for every character, so its speed is limited by memory bandwidth: with a
quarter of the bytes it takes little more than a quarter of the time. Where the processor multiplies 8-bit integers, its
inputs are rounded to 8 bits, too, which also makes batches faster. Training and GPUs do not use this.
"""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from notagen.model import NotaGen
from pentatonic.errors import UsageError
from pentatonic.int8 import COLUMNS, Int8Linear, Int8ProductLinear, has_integer_products

__all__ = [
    "Int8Linear",
    "Int8ProductLinear",
    "compilable",
    "eight_bit_copy",
    "fits_eight_bits",
    "has_integer_products",
    "quantize",
]

M = TypeVar("M", bound=nn.Module)


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
            f"int8 weights need a width that is a multiple of {COLUMNS}, got {model.config.width}"
        )
    if model.device.type != "cpu":
        raise UsageError(f"int8 weights are for the CPU, the model is on {model.device}")
    return eight_bit_copy(model)


def fits_eight_bits(model: NotaGen) -> bool:
    """Whether the width is a multiple of 32; PyTorch does not check this, and would read beyond the weights."""
    return model.config.width % COLUMNS == 0


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
    assert layer.bias is not None  # as in all layers of the decoder
    linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(layer.bias)
    return linear
