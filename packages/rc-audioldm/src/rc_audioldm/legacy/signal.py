"""Signal metrics as the original computes them, to compare with its published tables.

Several do not measure what their names say; :mod:`rc_audioldm.evaluation.signal` has metrics that do.

Shape legend: n = samples, F = frames, B = bins.
"""

from __future__ import annotations

import math

import numpy as np
import soxr
from numpy.typing import NDArray

from pentatonic.errors import EmptyAudio

Samples = NDArray[np.floating]

SUITE_RATE = 22_050
_FRAME, _HOP = 2048, 512
_NO_NOISE_DB = 100.0
_SOUND = 0.02
_ROLLOFF = 0.85


def generation_metrics(samples: Samples, sample_rate: int) -> dict[str, float]:
    """Return the metrics that the original's generation scripts write for each file.

    Args:
        samples: ``(n,)`` in [-1, 1].
        sample_rate: In Hz.

    Returns:
        ``rms``, ``rms_dbfs``, ``max_amp``, ``crest_factor``, ``zero_crossing_rate``, ``spectral_centroid`` and
        ``spectral_rolloff`` (of one spectrum of the whole file), ``snr_db`` (against what a median of five samples
        removes), ``dynamic_range_db`` (the crest factor in dB), ``flatness`` (of the first 2048 samples), ``ns_ratio``
        (share of samples above 0.02), ``duration_seconds`` and ``sample_rate``.

    Raises:
        EmptyAudio: No samples.
    """
    x = _checked(samples)
    rms = math.sqrt(np.mean(x**2))
    peak = float(np.abs(x).max())
    magnitudes = np.abs(np.fft.rfft(x))
    frequencies = np.fft.rfftfreq(len(x), 1 / sample_rate)
    total = float(magnitudes.sum())
    reached = np.cumsum(magnitudes) >= _ROLLOFF * total
    return {
        "rms": rms,
        "rms_dbfs": _level(x),
        "max_amp": peak,
        "crest_factor": peak / rms if rms else 0.0,
        "zero_crossing_rate": _sign_changes(x),
        "spectral_centroid": float(magnitudes @ frequencies) / total if total else 0.0,
        "spectral_rolloff": float(frequencies[np.argmax(reached)]),
        "snr_db": _snr_against_median(x),
        "dynamic_range_db": 20 * math.log10(peak / (rms + 1e-12)) if peak else 0.0,
        "flatness": _flatness_of_start(x),
        "ns_ratio": float(np.mean(np.abs(x) > _SOUND)),
        "duration_seconds": len(x) / sample_rate,
        "sample_rate": sample_rate,
    }


def suite_metrics(samples: Samples, sample_rate: int) -> dict[str, float]:
    """Return the metrics of the original's evaluation suite, at 22,050 Hz.

    Centroid and bandwidth are weighted with the power in place of the magnitude, the flatness (``frequency_diversity``)
    is that of the squared power, and the dynamic range, whose frame levels take power for magnitude, is about twice the
    true one in dB.

    Args:
        samples: ``(n,)`` in [-1, 1].
        sample_rate: In Hz.

    Returns:
        ``duration``, ``rms``, ``rms_db``, ``peak``, ``snr``, ``spectral_centroid``, ``spectral_bandwidth``,
        ``frequency_diversity`` and ``dynamic_range``.

    Raises:
        EmptyAudio: No samples.
    """
    x = _at_suite_rate(_checked(samples), sample_rate)
    frames_FN = np.lib.stride_tricks.sliding_window_view(np.pad(x, _FRAME // 2), _FRAME)[::_HOP]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME) / _FRAME)
    power_FB = np.abs(np.fft.rfft(frames_FN * window)) ** 2
    frequencies = np.fft.rfftfreq(_FRAME, 1 / SUITE_RATE)
    shares_FB = power_FB / np.maximum(power_FB.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    centroid_F = shares_FB @ frequencies
    bandwidth_F = np.sqrt((shares_FB * (frequencies - centroid_F[:, None]) ** 2).sum(axis=1))
    squared_FB = np.maximum(power_FB**2, 1e-10)
    flatness_F = np.exp(np.log(squared_FB).mean(axis=1)) / squared_FB.mean(axis=1)
    rms_F = np.sqrt(np.mean(frames_FN**2, axis=1))
    rms = math.sqrt(np.mean(x**2))
    return {
        "duration": len(x) / SUITE_RATE,
        "rms": rms,
        "rms_db": _level(x),
        "peak": float(np.abs(x).max()),
        "snr": _ratio_db(float(rms_F.mean()), float(np.percentile(rms_F, 10))),
        "spectral_centroid": float(centroid_F.mean()),
        "spectral_bandwidth": float(bandwidth_F.mean()),
        "frequency_diversity": float(flatness_F.mean()),
        "dynamic_range": _dynamic_range(power_FB),
    }


def _checked(samples: Samples) -> NDArray[np.float64]:
    if samples.ndim != 1 or not len(samples):
        raise EmptyAudio("the signal", f"has the shape {samples.shape}; allowed: (n,) with samples")
    return samples.astype(np.float64)


def _level(x: NDArray[np.float64]) -> float:
    return 20 * math.log10(math.sqrt(np.mean(x**2) + 1e-12) + 1e-12)


def _sign_changes(x: NDArray[np.float64]) -> float:
    return float(np.abs(np.diff(np.sign(x))).mean() / 2) if len(x) > 1 else 0.0


def _snr_against_median(x: NDArray[np.float64]) -> float:
    around = np.lib.stride_tricks.sliding_window_view(np.pad(x, 2), 5)
    noise = float(np.mean((x - np.median(around, axis=1)) ** 2))
    signal = float(np.mean(x**2))
    return 10 * math.log10(signal / noise) if noise and signal else _NO_NOISE_DB


def _flatness_of_start(x: NDArray[np.float64]) -> float:
    start = x[:_FRAME]
    power = np.abs(np.fft.rfft(start * np.hanning(len(start)))) ** 2 + 1e-12
    return float(np.exp(np.log(power).mean()) / power.mean())


def _at_suite_rate(x: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    if sample_rate == SUITE_RATE:
        return x
    length = math.ceil(len(x) * SUITE_RATE / sample_rate)
    found = soxr.resample(x.astype(np.float32), sample_rate, SUITE_RATE, quality="HQ").astype(np.float64)
    return np.pad(found[:length], (0, max(0, length - len(found))))


def _dynamic_range(power_FB: NDArray[np.float64]) -> float:
    squares = power_FB**2
    squares[:, [0, -1]] *= 0.5
    rms_F = np.sqrt(2 * squares.sum(axis=1)) / _FRAME
    return _ratio_db(float(np.percentile(rms_F, 95)), float(np.percentile(rms_F, 5)))


def _ratio_db(high: float, low: float) -> float:
    return 20 * math.log10(high / low) if high > 0 and low > 0 else 0.0
