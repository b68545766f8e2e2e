"""Full float32 arithmetic, independent of the precision in which a model is trained or run.

Front ends and quantisers compute the targets. The logarithm after the CQT and the nearest-code search turn a relative
error of 1e-3 into different tokens, so their results must not depend on settings made for the trunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

# Settings that let PyTorch compute float32 products with fewer bits (TF32, bfloat16). Type checkers miss two of them,
# because those modules replace themselves on import.
_SETTINGS: tuple[Any, ...] = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.rnn,
    torch.backends.mkldnn.matmul,  # pyright: ignore[reportAttributeAccessIssue]
)


@contextmanager
def float32_arithmetic(device: torch.device) -> Iterator[None]:
    """Switch off autocast on ``device``, and TF32 and bfloat16 in float32 products on all devices."""
    kept = [settings.fp32_precision for settings in _SETTINGS]
    try:
        for settings in _SETTINGS:
            settings.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for settings, precision in zip(_SETTINGS, kept, strict=True):
            settings.fp32_precision = precision


class Float32Module(nn.Module):
    """A module that follows its model to another device, but keeps its dtype when the model is cast."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Applying `fn` to an empty tensor gives the new device without rounding any value.
        return super()._apply(lambda tensor: tensor.to(fn(tensor.new_empty(0)).device), recurse)
