"""Changes of a spectrogram that leave the music as it is: other equalisation, less band-width.

Recordings of one album share a sound that has nothing to do with the music: a codec cuts the highest bands, a mastering
lifts the low ones. Without such changes in training a model tells albums apart by it. They work on the decibels of the
front ends of Myna-RPE, whose loudest value is 0; loudness needs no change, as these front ends take it out.

Shapes: F mel bands, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from myna_rpe.config import N_MELS, FrontendName
from pentatonic.errors import ConfigError

FLOOR = -80.0
"""Least value of the front ends of Myna-RPE, in their doubled decibels."""


@dataclass
class AugmentConfig:
    """How crops are changed; by default not at all.

    Args:
        equalise: Greatest change at the lowest and the highest band, in the front end's doubled decibels; the change
            is linear in between.
        cut_probability: How often the highest bands are cut.
        cut_bands: Most bands that are cut.

    Raises:
        ConfigError: A value is out of its range.
    """

    equalise: float = 0.0
    cut_probability: float = 0.0
    cut_bands: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.equalise <= -FLOOR:
            raise ConfigError(f"augment.equalise is {self.equalise}; allowed: 0 to {-FLOOR:g}")
        if not 0 <= self.cut_probability <= 1:
            raise ConfigError(f"augment.cut_probability is {self.cut_probability}; allowed: 0 to 1")
        if not 1 <= self.cut_bands < N_MELS:
            raise ConfigError(f"augment.cut_bands is {self.cut_bands}; allowed: 1 to {N_MELS - 1}")

    @property
    def active(self) -> bool:
        """Whether anything is changed."""
        return self.equalise > 0 or self.cut_probability > 0

    def check(self, frontend: FrontendName) -> None:
        """Refuse front ends without decibels.

        Raises:
            ConfigError: The front end is that of Myna.
        """
        if self.active and frontend == "myna":
            raise ConfigError("data.augment changes decibels, and the front end myna has none; leave it out")


def augment(mel: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Change one crop.

    Args:
        mel: ``(F, T)`` of a front end of Myna-RPE.
        config: How.
        rng: Source of random numbers; as many are drawn whatever the configuration.

    Returns:
        ``(F, T)``, with values from -80 to 0.
    """
    low, high, cut, share = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.random(), rng.random()
    slope = torch.linspace(low, high, N_MELS, dtype=mel.dtype)[:, None] * config.equalise
    changed = mel + slope
    changed = (changed - changed.max().clamp(min=FLOOR)).clamp(min=FLOOR)
    if cut < config.cut_probability:
        changed[N_MELS - 1 - int(share * config.cut_bands) :] = FLOOR
    return changed
