"""Settings of a probe, and the grids from which one is selected.

The full grid is that of JukeMIR (Castellon, Donahue and Liang, "Codified audio language modeling learns useful
representations for music information retrieval", 2021); the quick one is the part of it that Myna's evaluation uses.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pentatonic.untrusted.config import Range, check_fields

# 1-based positions in the full grid of the reduced grid that Myna's evaluation uses.
_QUICK_POSITIONS = (
    *(2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 16, 19, 37, 43, 52),
    *(55, 56, 58, 59, 70, 94, 106, 213),
)


@dataclass(frozen=True)
class ProbeSettings:
    """How one probe is built and trained.

    Args:
        standardise: Features are shifted and scaled to mean 0 and deviation 1 over the training split.
        model: A linear layer, or one hidden layer of 512 units with ReLU.
        batch_size: Chunks per optimizer step.
        learning_rate: Of Adam, constant.
        dropout: Probability behind the hidden layer; without effect on a linear probe.
        weight_decay: L2 penalty of Adam, part of the gradient.

    Raises:
        ConfigError: A value is out of its range.
    """

    standardise: bool = True
    model: Literal["linear", "mlp"] = "linear"
    batch_size: Annotated[int, Range(1, 1_000_000)] = 64
    learning_rate: Annotated[float, Range(0, 10, above=True)] = 1e-3
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.25
    weight_decay: Annotated[float, Range(0, 10)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "probe")

    def effective(self) -> ProbeSettings:
        """These settings without those that have no effect, so that equal runs are equal values."""
        return replace(self, dropout=0.0) if self.model == "linear" else self


def full_grid() -> tuple[ProbeSettings, ...]:
    """The 216 settings of JukeMIR's grid in its order, the last factor fastest."""
    factors = itertools.product(
        (False, True), ("linear", "mlp"), (64, 256), (1e-5, 1e-4, 1e-3), (0.25, 0.5, 0.75), (0.0, 1e-4, 1e-3)
    )
    return tuple(ProbeSettings(*values) for values in factors)


def quick_grid() -> tuple[ProbeSettings, ...]:
    """The 17 distinct settings (9 linear, 8 MLP) among the 24 positions that Myna's evaluation uses for quick runs.

    All standardise, as the original did whatever its option said. Positions that then differ only in the dropout of
    a linear probe are one setting.
    """
    grid = full_grid()
    chosen = (replace(grid[position - 1], standardise=True).effective() for position in _QUICK_POSITIONS)
    return tuple(dict.fromkeys(chosen))
