"""A small record of how a recording's sound changes, and how well two of them match in time.

Vectors of two versions of a piece are near, and so are those of two pieces of one album. Changes of level in bands,
four times a second, tell them apart: with the mean of each band taken out, equalisation and gain are gone, and the
match is searched over delays and speeds. The idea is that of Haitsma and Kalker ("A Highly Robust Audio
Fingerprinting System", ISMIR 2002), with levels in place of their bits.

Shapes: F mel bands, T frames of a spectrogram, t moments of a fingerprint, B bands.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool1d

from myna_rpe.config import FrontendName

Fingerprint = NDArray[np.int8]
"""``(t, B)``."""

BANDS = 16
_RATE = 4.0  # moments per second
_WINDOW_S = 0.5
_LONGEST_S = 120.0
_LONGEST_SILENCE_S = 20.0
# Mel bands in use: above them MP3 cuts, below them are rumble and hum.
_ROWS = slice(4, 100)
# Frames at the ends that are so much quieter than the loud ones are silence.
_SILENCE_DB = 30.0
_SLOW_S = 4.0
_STEP = 32.0  # int8 steps of one standard deviation

_SPEEDS = np.linspace(0.96, 1.04, 17)
_MOST_DELAY_S = 8.0  # silence at the start is cut before, as far as it is silence
_LEAST_OVERLAP = 0.5
_LEAST_S = 4.0


def fingerprint(mel: Tensor, frontend: FrontendName, frames_per_second: float) -> Fingerprint:
    """Compute the fingerprint of the first two minutes of a recording.

    Args:
        mel: ``(F, T)`` of the front end.
        frontend: Its name; that of Myna gives power, the others twice the decibels.
        frames_per_second: Its rate.

    Returns:
        ``(t, B)``; no moments where the recording is shorter than half a second.
    """
    mel = mel[_ROWS, : round((_LONGEST_S + _LONGEST_SILENCE_S) * frames_per_second)]
    window = max(1, round(_WINDOW_S * frames_per_second))
    if mel.shape[1] < window:
        return np.empty((0, BANDS), np.int8)
    level = 10 * torch.log10(mel.clamp(min=1e-10)) if frontend == "myna" else mel / 2
    level = level.clamp(min=float(level.max()) - 60)
    bands = level.unflatten(0, (BANDS, -1)).mean(1)
    smooth = avg_pool1d(bands[None], window, stride=1)[0].T.numpy()
    places = np.arange(0, len(smooth), frames_per_second / _RATE).round().astype(int)
    moments = smooth[places[places < len(smooth)]]
    loudness = moments.mean(axis=1)
    (loud,) = np.nonzero(loudness > np.percentile(loudness, 90) - _SILENCE_DB)
    moments = moments[loud[0] : loud[-1] + 1][: round(_LONGEST_S * _RATE)]
    changes = moments - _slow(moments)
    scale = max(float(changes.std()), 1e-6)
    return np.clip(np.round(changes / scale * _STEP), -127, 127).astype(np.int8)


def match(a: Fingerprint, b: Fingerprint) -> float:
    """Return how well two recordings match at the best speed and delay: at most 1; 0 where too little overlaps.

    Args:
        a: ``(t, B)``.
        b: ``(u, B)``.
    """
    if min(len(a), len(b)) < _LEAST_S * _RATE:
        return 0.0
    fixed = b.astype(np.float64)
    return max(0.0, *(_best_correlation(_stretched(a, speed), fixed) for speed in _SPEEDS))


def _slow(moments: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean over some seconds around each moment."""
    half = round(_SLOW_S * _RATE / 2)
    total = np.concatenate([np.zeros((1, moments.shape[1])), np.cumsum(moments, axis=0, dtype=np.float64)])
    first = np.maximum(np.arange(len(moments)) - half, 0)
    last = np.minimum(np.arange(len(moments)) + half + 1, len(moments))
    return (total[last] - total[first]) / (last - first)[:, None]


def _stretched(a: Fingerprint, speed: float) -> NDArray[np.float64]:
    count = max(2, int(len(a) / speed))
    places = np.minimum(np.arange(count) * speed, len(a) - 1)
    lower = np.minimum(places.astype(int), len(a) - 2)
    share = (places - lower)[:, None]
    values = a.astype(np.float64)
    return values[lower] * (1 - share) + values[lower + 1] * share


def _best_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The best correlation over delays of the part where both sound."""
    size = 1 << (len(a) + len(b) - 1).bit_length()
    spectrum = (np.fft.rfft(a, size, axis=0) * np.conj(np.fft.rfft(b, size, axis=0))).sum(axis=1)
    products = np.fft.irfft(spectrum, size)
    most = round(_MOST_DELAY_S * _RATE)
    delays = np.arange(-most, most + 1)  # b starts this much later than a
    first, last = np.maximum(delays, 0), np.minimum(len(a), len(b) + delays)
    allowed = last - first >= max(_LEAST_OVERLAP * min(len(a), len(b)), _LEAST_S * _RATE)
    if not allowed.any():
        return 0.0
    delays, first, last = delays[allowed], first[allowed], last[allowed]
    energy_a, energy_b = (np.concatenate([[0.0], np.cumsum((x**2).sum(axis=1))]) for x in (a, b))
    energy = (energy_a[last] - energy_a[first]) * (energy_b[last - delays] - energy_b[first - delays])
    return float(np.max(products[delays % size] / np.sqrt(np.maximum(energy, 1e-9))))
