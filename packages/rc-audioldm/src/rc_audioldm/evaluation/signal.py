"""Metrics of one signal that need no model. The original's numbers are in :mod:`rc_audioldm.legacy.signal`.

Silence at both ends is removed first, by one rule (:func:`without_silent_ends`), so that it changes no metric except
the duration and the share of silence.

Shape legend: n = samples, C = channels, F = frames, B = bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pentatonic.errors import EmptyAudio, NonFiniteAudio, UsageError
from rc_audioldm.evaluation.loudness import clipped_samples, integrated_loudness, true_peak

Samples = NDArray[np.floating]

SILENCE_DBFS = -60.0
"""A sample below this level, in all channels, is silent."""

FRAME, HOP = 2048, 512
_LOWEST_DB = -120.0
_ROLLOFF = 0.85
_SILENCE_FRAME_S = 0.01


@dataclass(frozen=True)
class SignalMetrics:
    """Metrics of one signal; levels of silence are -120 dB.

    Attributes:
        duration_s: Length, silent ends included.
        silence_ratio: Share of frames of 10 ms whose largest sample is below -60 dBFS, silent ends included.
        rms_dbfs: Root mean square, in dB below full scale.
        peak_dbfs: Largest sample.
        true_peak_dbtp: Largest value of the continuous signal.
        loudness_lufs: Integrated loudness by BS.1770; None where it was not measured, or is not defined.
        clipped_samples: Samples at full scale.
        crest_db: Peak above the root mean square.
        dynamic_range_db: 95th above 5th percentile of the levels of frames.
        zero_crossing_rate: Share of neighbouring samples of different sign; a zero has the sign before it.
        centroid_hz: Centre of the power spectrum.
        bandwidth_hz: Standard deviation of the power spectrum around it.
        rolloff_hz: Below it is 85 % of the power.
        flatness: Geometric by arithmetic mean of the power spectrum: 0 for tones, towards 1 for white noise.
    """

    duration_s: float
    silence_ratio: float
    rms_dbfs: float
    peak_dbfs: float
    true_peak_dbtp: float
    loudness_lufs: float | None
    clipped_samples: int
    crest_db: float
    dynamic_range_db: float
    zero_crossing_rate: float
    centroid_hz: float
    bandwidth_hz: float
    rolloff_hz: float
    flatness: float


def signal_metrics(samples: Samples, sample_rate: int, *, loudness: bool = True) -> SignalMetrics:
    """Measure a signal.

    Args:
        samples: ``(n,)`` or ``(C, n)``, 1 being full scale. Spectrum and sign changes are those of the mean of the
            channels, levels those of all channels.
        sample_rate: In Hz.
        loudness: Also measure the loudness, which needs pyloudnorm.

    Raises:
        EmptyAudio: No samples.
        NonFiniteAudio: NaN or infinite samples.
        UsageError: The rate is not positive.
        MissingExtra: The loudness is wanted, and pyloudnorm is not installed.
    """
    if sample_rate <= 0:
        raise UsageError(f"sample_rate is {sample_rate}; allowed: above 0, in Hz")
    x_CN = np.atleast_2d(samples).astype(np.float64)
    if x_CN.ndim != 2 or not x_CN.size:
        raise EmptyAudio("the signal", f"has the shape {samples.shape}; allowed: (n,) or (C, n) with samples")
    if not np.isfinite(x_CN).all():
        raise NonFiniteAudio("the signal", "there are NaN or infinite samples")
    sound_CN = without_silent_ends(x_CN)
    mono = sound_CN.mean(axis=0)
    rms = math.sqrt(np.mean(sound_CN**2)) if sound_CN.size else 0.0
    peak = float(np.abs(sound_CN).max(initial=0.0))
    centroid_hz, bandwidth_hz, rolloff_hz, flatness = _spectrum_metrics(mono, sample_rate)
    return SignalMetrics(
        duration_s=x_CN.shape[1] / sample_rate,
        silence_ratio=silence_ratio(x_CN, sample_rate),
        rms_dbfs=decibels(rms),
        peak_dbfs=decibels(peak),
        true_peak_dbtp=decibels(true_peak(sound_CN, sample_rate)),
        loudness_lufs=integrated_loudness(sound_CN, sample_rate) if loudness and sound_CN.size else None,
        clipped_samples=clipped_samples(sound_CN),
        crest_db=decibels(peak) - decibels(rms),
        dynamic_range_db=_dynamic_range(sound_CN),
        zero_crossing_rate=zero_crossing_rate(mono),
        centroid_hz=centroid_hz,
        bandwidth_hz=bandwidth_hz,
        rolloff_hz=rolloff_hz,
        flatness=flatness,
    )


def without_silent_ends(samples: Samples) -> Samples:
    """Return a signal from its first to its last sample that is at least -60 dBFS in some channel.

    Args:
        samples: ``(n,)`` or ``(C, n)``.

    Returns:
        A view of it; without samples where all are silent.
    """
    loudest = np.abs(np.atleast_2d(samples)).max(axis=0)
    sounding = np.flatnonzero(loudest >= 10 ** (SILENCE_DBFS / 20))
    if not len(sounding):
        return samples[..., :0]
    return samples[..., sounding[0] : sounding[-1] + 1]


def silence_ratio(samples: Samples, sample_rate: int) -> float:
    """Return the share of silent frames of 10 ms, the last one perhaps shorter, of ``(n,)`` or ``(C, n)``."""
    loudest = np.abs(np.atleast_2d(samples)).max(axis=0)
    starts = np.arange(0, len(loudest), max(1, round(_SILENCE_FRAME_S * sample_rate)))
    peaks = np.maximum.reduceat(loudest, starts)
    return float(np.mean(peaks < 10 ** (SILENCE_DBFS / 20)))


def zero_crossing_rate(mono: Samples) -> float:
    """Return the share of neighbouring samples of ``(n,)`` with different signs, in [0, 1]; zeros do not count."""
    signs = np.sign(mono[mono != 0])
    return float(np.count_nonzero(signs[1:] != signs[:-1]) / max(1, len(mono) - 1))


def decibels(value: float) -> float:
    """Return an amplitude in dB relative to 1; -120 for smaller ones."""
    return max(_LOWEST_DB, 20 * math.log10(value)) if value > 0 else _LOWEST_DB


def _frames(mono: Samples) -> Samples:
    """Frames ``(F, 2048)`` without centring; a signal shorter than one is continued with zeros."""
    padded = np.pad(mono, (0, max(0, FRAME - len(mono))))
    return np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]


def _dynamic_range(sound_CN: Samples) -> float:
    squares = (sound_CN**2).mean(axis=0) if sound_CN.size else np.zeros(0)
    levels_F = [decibels(math.sqrt(value)) for value in _frames(squares).mean(axis=1)]
    return float(np.percentile(levels_F, 95) - np.percentile(levels_F, 5))


def _spectrum_metrics(mono: Samples, sample_rate: int) -> tuple[float, float, float, float]:
    """Centroid, bandwidth, roll-off and flatness of the mean power spectrum of windowed frames."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
    power_B = np.mean(np.abs(np.fft.rfft(_frames(mono) * window)) ** 2, axis=0)
    total = float(power_B.sum())
    if total <= 0:
        return 0.0, 0.0, 0.0, 0.0
    frequencies = np.fft.rfftfreq(FRAME, 1 / sample_rate)
    centroid = float(power_B @ frequencies) / total
    bandwidth = math.sqrt(float(power_B @ (frequencies - centroid) ** 2) / total)
    rolloff = float(frequencies[np.searchsorted(np.cumsum(power_B), _ROLLOFF * total)])
    floor = np.finfo(np.float64).tiny
    flatness = float(np.exp(np.log(np.maximum(power_B, floor)).mean()) / power_B.mean())
    return centroid, bandwidth, rolloff, flatness
