"""Loudness and peaks as broadcasters measure them: ITU-R BS.1770."""

from __future__ import annotations

import warnings

import numpy as np
import soxr
from numpy.typing import NDArray

from pentatonic.errors import MissingExtra

SHORTEST_S = 0.4
_FULL_SCALE = 1 - 2.0**-15
# Below this rate a signal is made four times as dense to find its true peak, below twice the rate two times.
_DENSE_ENOUGH_HZ = 96_000


def integrated_loudness(samples: NDArray[np.floating], sample_rate: int) -> float | None:
    """Return the integrated loudness in LUFS, with the gates of BS.1770-4.

    Args:
        samples: ``(n,)`` or ``(C, n)``, at most five channels.
        sample_rate: In Hz.

    Returns:
        None for a signal shorter than 0.4 s, and where everything is below the absolute gate of -70 LUFS.

    Raises:
        MissingExtra: pyloudnorm is not installed.
    """
    try:
        import pyloudnorm
    except ImportError as error:
        raise MissingExtra("Loudness", "rc-audioldm[eval]") from error
    if samples.shape[-1] < SHORTEST_S * sample_rate:
        return None
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # about the logarithm of silence
        warnings.simplefilter("ignore")
        found = float(pyloudnorm.Meter(sample_rate).integrated_loudness(samples.T.astype(np.float64)))
    return found if np.isfinite(found) else None


def true_peak(samples: NDArray[np.floating], sample_rate: int) -> float:
    """Return the largest absolute value of the continuous signal, 1 being full scale.

    Args:
        samples: ``(n,)`` or ``(C, n)``.
        sample_rate: In Hz; the signal is resampled to four times as many samples, two times from 96 kHz on, and not at
            all from 192 kHz on.
    """
    if not samples.size:
        return 0.0
    factor = 4 if sample_rate < _DENSE_ENOUGH_HZ else 2 if sample_rate < 2 * _DENSE_ENOUGH_HZ else 1
    peak = float(np.abs(samples).max())
    if factor == 1:
        return peak
    # Silence around the signal, as when it is played, so that its ends ring too.
    padded = np.pad(np.atleast_2d(samples).astype(np.float64), ((0, 0), (64, 64)))
    dense = soxr.resample(padded.T, sample_rate, factor * sample_rate, quality="HQ")
    return max(peak, float(np.abs(dense).max()))


def clipped_samples(samples: NDArray[np.floating]) -> int:
    """Return the number of samples at full scale of 16 bits, or beyond, in all channels."""
    return int(np.count_nonzero(np.abs(samples) >= _FULL_SCALE))
