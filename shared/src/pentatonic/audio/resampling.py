"""Sample-rate conversion.

Every method returns ``ceil(n * sr_out / sr_in)`` samples, so that the length of a result does not depend on the
method. soxr itself rounds to the nearest integer; where that is one sample less, the last sample is computed from the
signal continued with zeros.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import soxr
import torch
from torch import Tensor

from pentatonic.audio.soxr_stream import SoxrStream, check_rates, silence
from pentatonic.errors import MissingExtra, UsageError

Method = Literal["soxr", "torchaudio-hann", "kaiser"]

# Kaiser design: 64 zero crossings to each side, cut-off at 0.9476 of the lower Nyquist frequency, about 146 dB of
# stop-band attenuation from 1.025 of it on.
_ZERO_CROSSINGS = 64
_ROLLOFF = 0.9475937167399596
_BETA = 14.769656459379492
_MAX_KERNEL = 1 << 24


def resample(samples: Tensor, sr_in: int, sr_out: int, *, method: Method = "soxr") -> Tensor:
    """Convert a signal to another sample rate.

    Args:
        samples: (..., n) float32 or float64.
        sr_in: Sample rate of ``samples`` in Hz.
        sr_out: Wanted sample rate in Hz.
        method: ``"soxr"``: the default; the HQ recipe of libsoxr, flat to 0.91 of the lower Nyquist frequency, aliases
            below -140 dB; on the CPU, without gradients. ``"kaiser"``: polyphase Kaiser-windowed sinc in PyTorch, for
            signals on a GPU and for gradients. ``"torchaudio-hann"``: the default resampler of torchaudio (six zero
            crossings, Hann window), which aliases audibly; only to reproduce models that were trained with it.

    Returns:
        (..., ceil(n * sr_out / sr_in)) of the same dtype and on the same device; ``samples`` itself at equal rates.

    Raises:
        UsageError: A rate is not a positive integer, the dtype or method is not one of the above, the signal is on a
            GPU or needs gradients and the method is soxr, or the ratio of the rates needs too large a Kaiser kernel.
        MissingExtra: ``"torchaudio-hann"`` without a working torchaudio.
    """
    check_rates(sr_in, sr_out)
    if samples.dtype not in (torch.float32, torch.float64) or samples.ndim == 0:
        raise UsageError(
            f"samples must be (..., n) float32 or float64, not {samples.dtype} {tuple(samples.shape)}"
        )
    if method not in ("soxr", "kaiser", "torchaudio-hann"):
        raise UsageError(f"unknown resampling method {method!r}; one of soxr, kaiser, torchaudio-hann")
    n_out = -(-samples.shape[-1] * sr_out // sr_in)
    if sr_in == sr_out:
        return samples
    if samples.numel() == 0:
        return samples.new_zeros((*samples.shape[:-1], n_out))
    if method == "kaiser":
        return _kaiser(samples, sr_in, sr_out, n_out)
    if method == "torchaudio-hann":
        return _torchaudio_hann(samples, sr_in, sr_out)
    if samples.device.type != "cpu" or (samples.requires_grad and torch.is_grad_enabled()):
        raise UsageError("method 'soxr' runs on the CPU without gradients; use method='kaiser'")
    return _soxr(samples.detach(), sr_in, sr_out, n_out)


class StreamResampler:
    """Resample one channel block by block; the concatenation equals :func:`resample` (soxr) bit for bit.

    Args:
        sr_in: Sample rate of the blocks in Hz.
        sr_out: Wanted sample rate in Hz.

    Raises:
        UsageError: A rate is not a positive integer.
    """

    def __init__(self, sr_in: int, sr_out: int) -> None:
        self._stream = SoxrStream(sr_in, sr_out)

    def push(self, block: Tensor) -> Tensor:
        """Feed a block (n,) float32; returns what is ready, (m,) float32, m >= 0.

        Raises:
            UsageError: The block is of another shape or dtype, or :meth:`flush` was called before.
        """
        if block.ndim != 1 or block.dtype != torch.float32:
            raise UsageError(f"block must be (n,) float32, not {block.dtype} {tuple(block.shape)}")
        return torch.from_numpy(self._stream.push(block.detach().cpu().numpy()))

    def flush(self) -> Tensor:
        """End the signal; returns its last samples, (m,) float32."""
        return torch.from_numpy(self._stream.flush())


def _soxr(samples: Tensor, sr_in: int, sr_out: int, n_out: int) -> Tensor:
    rows = samples.reshape(-1, samples.shape[-1]).numpy()
    zeros = silence(sr_in, sr_out, rows.dtype.type)
    result = np.empty((len(rows), n_out), rows.dtype)
    for row, out in zip(rows, result, strict=True):
        out[:] = soxr.resample(np.concatenate((row, zeros)), sr_in, sr_out)[:n_out]
    return torch.from_numpy(result).reshape(*samples.shape[:-1], n_out)


def _torchaudio_hann(samples: Tensor, sr_in: int, sr_out: int) -> Tensor:
    try:
        from torchaudio.functional import resample as torchaudio_resample
    except (
        ImportError,
        OSError,
        RuntimeError,
    ) as error:  # a torchaudio built for another torch raises any of these
        raise MissingExtra("Resampling method 'torchaudio-hann'", "pentatonic[torchaudio]") from error
    return torchaudio_resample(samples, sr_in, sr_out)


def _kaiser(samples: Tensor, sr_in: int, sr_out: int, n_out: int) -> Tensor:
    divisor = math.gcd(sr_in, sr_out)
    step, phases = sr_in // divisor, sr_out // divisor
    kernel, reach = _kaiser_kernel(step, phases)
    kernel = kernel.to(samples)
    with torch.autocast(samples.device.type, enabled=False):
        n_steps = -(-n_out // phases)
        padding = (reach, max(0, n_steps * step + reach - samples.shape[-1]))
        # One row of `kernel.shape[1]` samples per step; every row gives `phases` consecutive output samples.
        windows = torch.nn.functional.pad(samples, padding).unfold(-1, kernel.shape[1], step)
        return (windows[..., :n_steps, :] @ kernel.T).flatten(-2)[..., :n_out]


@lru_cache(maxsize=16)
def _kaiser_kernel(step: int, phases: int) -> tuple[Tensor, int]:
    """Filters (phases, step + 2 * reach) float64 and their reach in input samples.

    Output sample ``p`` of a step lies at input time ``p * step / phases``; tap ``i`` lies at ``i - reach``. The ideal
    low-pass of cut-off c (cycles per input sample) is 2c sinc(2c t), windowed to 64 zero crossings.
    """
    bandwidth = _ROLLOFF * min(1.0, phases / step)
    reach = math.ceil(_ZERO_CROSSINGS / bandwidth)
    width = step + 2 * reach
    if phases * width > _MAX_KERNEL:
        raise UsageError(
            f"the rates {phases}:{step} (reduced) need a Kaiser kernel of {phases} x {width} taps; use method='soxr'"
        )
    taps = torch.arange(width, dtype=torch.float64) - reach
    centres = torch.arange(phases, dtype=torch.float64) * step / phases
    crossings = bandwidth * (taps[None, :] - centres[:, None])
    inside = (1 - (crossings / _ZERO_CROSSINGS) ** 2).clamp(min=0)
    beta = torch.tensor(_BETA, dtype=torch.float64)
    window = torch.where(
        crossings.abs() < _ZERO_CROSSINGS, torch.i0(beta * inside.sqrt()) / torch.i0(beta), 0.0
    )
    return bandwidth * torch.sinc(crossings) * window, reach
