"""Triangular mel filters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pentatonic.errors import ConfigError

# Slaney's scale (Auditory Toolbox, 1998): 15 mels of 200/3 Hz up to 1 kHz, then 27 steps per factor 6.4.
_HZ_PER_MEL = 200 / 3
_KNEE_HZ, _KNEE_MEL = 1000.0, 15.0
_LOG_STEP = math.log(6.4) / 27
# O'Shaughnessy's formula as in HTK.
_HTK_SCALE, _HTK_KNEE_HZ = 2595.0, 700.0


def _to_mel(hz: float, scale: str) -> float:
    if scale == "htk":
        return _HTK_SCALE * math.log10(1 + hz / _HTK_KNEE_HZ)
    if hz < _KNEE_HZ:
        return hz / _HZ_PER_MEL
    return _KNEE_MEL + math.log(hz / _KNEE_HZ) / _LOG_STEP


def _to_hz(mel: Tensor, scale: str) -> Tensor:
    if scale == "htk":
        return _HTK_KNEE_HZ * (10.0 ** (mel / _HTK_SCALE) - 1)
    logarithmic = _KNEE_HZ * torch.exp(_LOG_STEP * (mel - _KNEE_MEL))
    return torch.where(mel >= _KNEE_MEL, logarithmic, _HZ_PER_MEL * mel)


def mel_filterbank(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    *,
    f_min: float = 0.0,
    f_max: float | None = None,
    mel_scale: str = "slaney",
    norm: str | None = "slaney",
) -> Tensor:
    """Triangular filters, evenly spaced in mel, that overlap by half.

    Computed in float32, as in torchaudio, whose values it reproduces.

    Args:
        sample_rate: Samples per second.
        n_fft: Samples per Fourier transform.
        n_mels: Number of filters.
        f_min: Lower edge of the lowest filter, in Hz.
        f_max: Upper edge of the highest filter, in Hz; half the sample rate by default.
        mel_scale: ``"slaney"`` or ``"htk"``.
        norm: ``"slaney"`` divides by half the width in Hz, so all areas are equal; ``None`` keeps peaks of 1.

    Returns:
        Weights ``(n_mels, n_fft // 2 + 1)``, float32, on the CPU.

    Raises:
        ConfigError: ``mel_scale`` or ``norm`` is unknown.
    """
    if mel_scale not in ("slaney", "htk"):
        raise ConfigError(f"mel_scale is {mel_scale!r}; allowed: 'slaney', 'htk'")
    if norm not in ("slaney", None):
        raise ConfigError(f"norm is {norm!r}; allowed: 'slaney', None")
    f_max = sample_rate / 2 if f_max is None else f_max
    low, high = _to_mel(f_min, mel_scale), _to_mel(f_max, mel_scale)
    # An explicit device, so that a model built on the meta device still gets real values.
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float32, device="cpu")
    edges = _to_hz(torch.linspace(low, high, n_mels + 2, dtype=torch.float32, device="cpu"), mel_scale)
    lower, centre, upper = (part.unsqueeze(1) for part in (edges[:-2], edges[1:-1], edges[2:]))
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    weights = torch.minimum(rising, falling).clamp(min=0)
    return weights * (2 / (upper - lower)) if norm == "slaney" else weights
