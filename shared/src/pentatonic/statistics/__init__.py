"""Statistics of measurements: bootstrap intervals, and distances between sets of vectors."""

from __future__ import annotations

from pentatonic.statistics.distances import (
    Gaussian,
    extrapolated_distance,
    frechet_distance,
    gaussian_distance,
    kernel_distance,
)
from pentatonic.statistics.intervals import (
    DEFAULT_RESAMPLES,
    Estimate,
    mean_interval,
    resampled_groups,
    set_groups,
)

__all__ = [
    "DEFAULT_RESAMPLES",
    "Estimate",
    "Gaussian",
    "extrapolated_distance",
    "frechet_distance",
    "gaussian_distance",
    "kernel_distance",
    "mean_interval",
    "resampled_groups",
    "set_groups",
]
