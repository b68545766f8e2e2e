"""The log-mel spectrogram by which sounds are compared here.

Shapes: n samples, B bands, F frames.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from pentatonic.audio import resample
from pentatonic.errors import EmptyAudio, NonFiniteAudio
from pentatonic.mel import MelConfig, MelFrontend

SAMPLE_RATE, HOP, BANDS = 16_000, 320, 64
FRAMES_PER_S = SAMPLE_RATE / HOP
FLOOR_DB = -80.0
"""Levels below are raised to it; 0 dB is a sine of full scale, about."""

Samples = NDArray[np.floating]
Mel = NDArray[np.float64]

_N_FFT = 1024
_CONFIG = MelConfig(
    sample_rate=SAMPLE_RATE,
    n_fft=_N_FFT,
    win_length=_N_FFT,
    hop_length=HOP,
    n_mels=BANDS,
    f_min=50,
    f_max=7600,
    mel_scale="htk",
    norm=None,
    pad_mode="constant",
)


def mono_at(samples: Samples, sample_rate: int, wanted: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """Return the mean of the channels at another rate.

    Args:
        samples: ``(n,)`` or ``(C, n)``.
        sample_rate: Of the samples, in Hz.
        wanted: In Hz.

    Returns:
        ``(n,)`` float32.

    Raises:
        EmptyAudio: No samples.
        NonFiniteAudio: NaN or infinite samples.
    """
    mono = np.atleast_2d(samples).mean(axis=0, dtype=np.float64).astype(np.float32)
    if not len(mono):
        raise EmptyAudio("a sound to compare", "has no samples")
    if not np.isfinite(mono).all():
        raise NonFiniteAudio("a sound to compare", "has NaN or infinite samples")
    return resample(torch.from_numpy(mono), sample_rate, wanted).numpy()


def mel_power(samples: Samples, sample_rate: int) -> Mel:
    """Return the power in each band, ``(B, F)``, frames of 64 ms every 20 ms; arguments and errors as :func:`mono_at`.

    Full scale has the power 1, about, so that decibels mean something.
    """
    mel = _frontend()(torch.from_numpy(mono_at(samples, sample_rate))[None])[0]
    return (
        mel.double().numpy() / (_N_FFT / 4) ** 2
    )  # the square of what a sine of full scale gives in its bin


def log_mel(samples: Samples, sample_rate: int) -> Mel:
    """Return :func:`mel_power` in dB, ``(B, F)``, not below -80."""
    return 10 * np.log10(np.maximum(mel_power(samples, sample_rate), 10 ** (FLOOR_DB / 10)))


def log_mel_distance(one: Mel, other: Mel) -> float:
    """Return the root mean square difference of two log-mel spectrograms in dB; silence follows the shorter one."""
    frames = max(one.shape[1], other.shape[1])
    padded = [
        np.pad(each, ((0, 0), (0, frames - each.shape[1])), constant_values=FLOOR_DB) for each in (one, other)
    ]
    return float(np.sqrt(np.mean((padded[0] - padded[1]) ** 2)))


@cache
def _frontend() -> MelFrontend:
    return MelFrontend(_CONFIG)
