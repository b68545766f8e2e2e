"""Timbre: the spectral envelope of a sound, whatever its level and, within limits, its notes.

The power spectrum in mel bands is averaged over the sounding frames, each at the same level, and its logarithm smoothed
by a cepstrum: what is left are the formants and the tilt, not the harmonics of single notes. Two envelopes are compared
by their root mean square difference in dB. A sound that is transposed by an octave or more, or played much louder on an
instrument, has another envelope indeed; the measure does not claim otherwise.

Shapes: B bands, F frames, n samples.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, idct

from pentatonic.errors import SilentAudio
from rc_audioldm.knob.log_mel import FLOOR_DB, Samples, mel_power

COEFFICIENTS = 8
"""Cosines that make up the smoothed envelope, without the first, which is the level."""

RANGE_DB = 50.0
"""Bands further below the strongest say nothing about the timbre, but much about the background."""

_SOUNDING_DB = 40.0  # frames further below the loudest are pauses
_SCALE_DB = 10.0


def spectral_envelope(samples: Samples, sample_rate: int) -> NDArray[np.float64]:
    """Return the smoothed envelope of a sound in dB, ``(B,)``, its mean over bands 0.

    Args:
        samples: ``(n,)`` or ``(C, n)``.
        sample_rate: In Hz.

    Raises:
        SilentAudio: Nothing sounds.
        EmptyAudio: No samples.
        NonFiniteAudio: NaN or infinite samples.
    """
    power_BF = mel_power(samples, sample_rate)
    level_F = power_BF.sum(axis=0)
    loudest = float(level_F.max())
    if loudest < 10 ** (FLOOR_DB / 10):
        raise SilentAudio("a sound to compare", "is silent")
    sounding = level_F > loudest * 10 ** (-_SOUNDING_DB / 10)
    mean_B = (power_BF[:, sounding] / level_F[sounding]).mean(axis=1)
    envelope = 10 * np.log10(np.maximum(mean_B, mean_B.max() * 10 ** (-RANGE_DB / 10)))
    smoothed = smooth_over_bands(envelope)
    return smoothed - smoothed.mean()


def smooth_over_bands(spectrum_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a spectrum in dB, ``(B,)`` or ``(B, F)``, without its details: harmonics, but not formants, are gone."""
    cepstrum = np.asarray(dct(spectrum_db, axis=0, norm="ortho"))
    cepstrum[COEFFICIENTS + 1 :] = 0
    return np.asarray(idct(cepstrum, axis=0, norm="ortho"))


def timbre_likeness(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return how alike two envelopes are: 1 for equal ones, 0.37 for a difference of 10 dB, towards 0."""
    difference = float(np.sqrt(np.mean((one - other) ** 2)))
    return math.exp(-difference / _SCALE_DB)
