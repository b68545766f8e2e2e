"""Classifier-free guidance, with a second direction for a style.

Sources: Ho and Salimans 2022 (arXiv 2207.12598); the second direction as in Brooks et al. 2023 (arXiv 2211.09800).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from pentatonic.errors import UsageError


@dataclass(frozen=True)
class Guidance:
    """How far predictions are pushed.

    Args:
        text: From the negative prompt to the prompt. At 1 and below there is no push and the negative is not used.
        style: From the prompt to the prompt with a style, for clips that have such a second condition.

    Raises:
        UsageError: A number is not finite, or is negative.
    """

    text: float = 3.0
    style: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("text", self.text), ("style", self.style)):
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"the guidance of the {name} is {value}; allowed: 0 and more")

    @property
    def uses_negative(self) -> bool:
        """Whether rows of the negative prompt are needed."""
        return self.text > 1

    def combine(self, negative: Tensor | None, prompt: Tensor, styled: Tensor | None) -> Tensor:
        """Return the guided prediction.

        Args:
            negative: Prediction for the negative prompt; None without a push.
            prompt: For the prompt.
            styled: For the prompt with a style; None without one.
        """
        guided = prompt if negative is None else negative + self.text * (prompt - negative)
        return guided if styled is None else guided + self.style * (styled - prompt)
