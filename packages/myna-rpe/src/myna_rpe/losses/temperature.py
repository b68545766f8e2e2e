"""A temperature that is learned with the encoder, as CLIP does (arXiv 2103.00020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LearnedTemperature(nn.Module):
    """A temperature within a range, learned as its logarithm.

    Args:
        start: First temperature.
        lowest: End of the range.
        highest: The other end.

    Attributes:
        logarithm: Scalar parameter; it should have no weight decay, which would draw the temperature to 1.
    """

    def __init__(self, start: float, lowest: float, highest: float) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(torch.tensor(math.log(start)))
        self.range = (math.log(lowest), math.log(highest))

    @torch.no_grad()
    def return_to_range(self) -> None:
        """Undo what the last step went too far: outside the range the parameter would have no gradient to come back."""
        self.logarithm.clamp_(*self.range)

    def forward(self) -> Tensor:
        """Return the temperature, a scalar."""
        return self.logarithm.clamp(*self.range).exp()
