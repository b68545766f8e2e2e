"""Metrics of sets as the original computes them, to compare with its published tables.

Shape legend: n samples, N recordings, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from pentatonic.errors import InputError
from pentatonic.mel import MelConfig, MelFrontend
from pentatonic.statistics import frechet_distance
from rc_audioldm.evaluation.diversity import diversity

SUITE_RATE = 16_000
_SUITE_MEL = MelConfig(
    sample_rate=SUITE_RATE,
    n_fft=2048,
    win_length=2048,
    hop_length=512,
    n_mels=128,
    f_min=0,
    f_max=8000,
    pad_mode="constant",
)
_FLOOR, _DYNAMICS_DB = 1e-10, 80.0
_RIDGE = 1e-6
_SMALL, _MEDIUM = 0.5, 0.8
_SIGNIFICANT = 0.05


def audio_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return the original's Fréchet distance: one vector for each file, and 1e-6 on the diagonals.

    The original compares two systems with each other, so that its numbers are no quality; and where its root of a
    matrix fails, it takes the identity, which is not repeated here.

    Args:
        first: (N, D), at least two.
        second: (M, D), at least two.

    Raises:
        InputError: There are fewer, or the dimensions differ.
    """
    return frechet_distance(first, second, ridge=_RIDGE)


def mel_diversity(recordings: Sequence[NDArray[np.floating]]) -> dict[str, float]:
    """Return the diversity of the original's suite: cosine distances of mean, deviation and maximum of mel bands.

    Args:
        recordings: N times (n,) at 16 kHz, in [-1, 1].

    Returns:
        ``mean_pairwise_distance``, ``std_pairwise_distance``, ``min_distance``, ``max_distance``, ``diversity_score``
        (the mean again) and ``num_samples``.

    Raises:
        InputError: There are fewer than two recordings.
    """
    statistics = [_mel_statistics(samples) for samples in recordings]
    found = diversity(np.array(statistics))
    return {
        "mean_pairwise_distance": found.mean,
        "std_pairwise_distance": found.std,
        "min_distance": found.least,
        "max_distance": found.largest,
        "diversity_score": found.mean,
        "num_samples": found.recordings,
    }


def compare_pair(
    first: Mapping[str, Sequence[float]], second: Mapping[str, Sequence[float]], names: tuple[str, str]
) -> dict[str, dict[str, Any]]:
    """Compare two systems by Welch's t-test and Cohen's d, without regard to the pairs and without correction.

    Args:
        first: Metric -> its values of the first system, two or more.
        second: Likewise of the second.
        names: Of the systems.

    Returns:
        Metric of both -> ``{name}_mean``, ``{name}_std``, ``p_value``, ``cohens_d`` (first minus second),
        ``significant`` and ``effect_size``.

    Raises:
        InputError: A metric has fewer than two values.
    """
    result = {}
    for metric in (metric for metric in first if metric in second):
        one, other = (np.asarray(each[metric], np.float64) for each in (first, second))
        if min(len(one), len(other)) < 2:
            raise InputError(
                f"{metric} has {len(one)} and {len(other)} values; allowed: two or more of each system"
            )
        pooled = ((len(one) - 1) * one.var(ddof=1) + (len(other) - 1) * other.var(ddof=1)) / (
            len(one) + len(other) - 2
        )
        effect = float((one.mean() - other.mean()) / math.sqrt(pooled)) if pooled else 0.0
        test: Any = stats.ttest_ind(one, other, equal_var=False) if pooled else None
        p_value = 1.0 if test is None else float(test.pvalue)
        size = "small" if abs(effect) < _SMALL else "medium" if abs(effect) < _MEDIUM else "large"
        result[metric] = {
            f"{names[0]}_mean": float(one.mean()),
            f"{names[0]}_std": float(one.std(ddof=1)),
            f"{names[1]}_mean": float(other.mean()),
            f"{names[1]}_std": float(other.std(ddof=1)),
            "p_value": p_value,
            "cohens_d": effect,
            "significant": p_value < _SIGNIFICANT,
            "effect_size": size,
        }
    return result


def _mel_statistics(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    mel = MelFrontend(_SUITE_MEL)(torch.from_numpy(samples.astype(np.float32))).numpy()
    levels = 10 * np.log10(np.maximum(mel, _FLOOR)) - 10 * np.log10(max(float(mel.max()), _FLOOR))
    levels = np.maximum(levels, levels.max() - _DYNAMICS_DB).astype(np.float32)
    parts = [levels.mean(axis=1), levels.std(axis=1), levels.max(axis=1)]
    return np.concatenate(parts).astype(np.float64)
