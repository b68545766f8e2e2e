"""Modules from tensors: all of them and no other, and no memory before the shapes are known to fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from pentatonic.errors import WeightsError
from pentatonic.untrusted.files import shortened

M = TypeVar("M", bound=nn.Module)


def with_weights(make: Callable[[], M], tensors: Mapping[str, Tensor]) -> M:
    """Make a module of these weights, in float32 and evaluation mode.

    Args:
        make: Makes the module; it is made without memory, so a file that claims a huge one costs nothing.
        tensors: Its state by name.

    Raises:
        WeightsError: A tensor is missing, unexpected, of another shape, or not finite.
    """
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise WeightsError(f"the tensor {shortened(name)} has values that are not finite")
    with torch.device("meta"):
        module = make()
    try:
        # Copies: tensors of a file are views of it.
        copies = {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}
        module.load_state_dict(copies, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(" ".join(str(error).split())) from error
    return module.eval()
