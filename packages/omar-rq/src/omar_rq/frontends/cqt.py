"""Constant-Q front end: octave by octave from the highest, halving the sample rate between octaves.

Short filters suffice in each octave, because lower octaves are analysed at lower rates. The design
of the filters follows the recursive variable-Q transform (Schoerkhuber and Klapuri, "Constant-Q transform
toolbox for music processing", 2010) with gamma 0, truncated to the non-negative frequencies of each filter.

The filters are designed in float32, phases are evaluated left to right, and normalisation is PyTorch's: released models
were trained on targets computed this way, and another order of evaluation changes quiet bins by up to 5e-3 after the
logarithm. The transform applies the same filters in the time domain, as one matrix product per octave, which takes a
fifth of the time of a short-time Fourier transform per octave.

Shapes: B batch, n samples, T frames, K filters of one octave, W filter width (a power of two).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omar_rq.config import CQTConfig
from omar_rq.frontends.base import Frontend, standardise
from pentatonic.errors import ConfigError

# The 2:1 resampler: a windowed sinc out to 6 zero crossings, cut off at 0.99 of the new Nyquist frequency.
_ZERO_CROSSINGS = 6
_ROLLOFF = 0.99
_HALF_WIDTH = math.ceil(_ZERO_CROSSINGS * 2 / _ROLLOFF)
# Output samples per row of the resampler's matrix product; 16 measured fastest of 8, 16, 32 and 64.
_BLOCK = 16
# Most samples of a filter, and most products to design the filters: the sum of K W^2 / 2 over the octaves. Released
# models have filters of up to 512 samples and 2^23 products.
_MAX_WIDTH = 8192
_MAX_PRODUCTS = 2**29
# Times at which the filters are evaluated at once, so that memory stays small.
_TIMES = 1024


@dataclass(frozen=True)
class Octave:
    """Filters of one octave.

    Args:
        hop_length: Samples from frame to frame at the octave's own rate.
        n_halvings: How often the sample rate was halved for this octave.
        basis: Filters in the frequency domain, (K, W / 2 + 1) complex64, lowest first.
    """

    hop_length: int
    n_halvings: int
    basis: Tensor

    @property
    def width(self) -> int:
        """Samples that one filter covers, W."""
        return 2 * (self.basis.shape[1] - 1)

    def taps(self) -> Tensor:
        """Return the filters in the time domain, real parts then imaginary parts, (2 K, W) float32.

        The inner product with W samples equals that of ``basis`` with their one-sided Fourier transform. The
        taps include the gain that keeps the energy equal between rates, sqrt(2) per halving.
        """
        frequency = torch.arange(self.basis.shape[1], dtype=torch.float64)
        parts = []
        for time in torch.arange(self.width, dtype=torch.float64).split(_TIMES):
            angle = -2 * math.pi / self.width * torch.outer(frequency, time)
            parts.append(self.basis.to(torch.complex128) @ torch.polar(torch.ones_like(angle), angle))
        filters = torch.cat(parts, dim=1)
        return (torch.cat([filters.real, filters.imag]) * math.sqrt(2.0) ** self.n_halvings).float()


def design_octaves(config: CQTConfig) -> list[Octave]:
    """Design the filters of every octave.

    Args:
        config: Sample rate, hop, bins and lowest frequency.

    Returns:
        One :class:`Octave` each, the highest first; the highest may have fewer bins than the others.

    Raises:
        ConfigError: There are fewer than two bins, the highest filter reaches beyond half the sample rate, or the
            filters are very long.
    """
    if config.n_bins < 2:
        raise ConfigError(f"cqt.n_bins is {config.n_bins}; allowed: 2 or more")
    step = torch.arange(config.n_bins, dtype=torch.float32) / config.bins_per_octave
    frequencies = config.f_min * 2.0**step
    bandwidth = _relative_bandwidth(frequencies)
    highest = float(frequencies[-1] * (1 + 1.5 * bandwidth[-1]))
    if highest > config.sample_rate / 2:
        raise ConfigError(
            f"cqt.n_bins is {config.n_bins}: the highest filter reaches {highest:.0f} Hz; "
            f"allowed: up to {config.sample_rate / 2:.0f} Hz, half of cqt.sample_rate"
        )
    octaves: list[Octave] = []
    rate, hop, halvings = float(config.sample_rate), config.hop_length, 0
    products = 0.0
    for first in reversed(range(0, config.n_bins, config.bins_per_octave)):
        bins = slice(first, first + config.bins_per_octave)
        longest = float((rate / bandwidth[bins] / frequencies[bins]).max())
        products += len(frequencies[bins]) * longest**2 / 2
        if not (longest <= _MAX_WIDTH and products <= _MAX_PRODUCTS):
            raise ConfigError(
                f"cqt.f_min is {config.f_min:g}, with {config.bins_per_octave} bins_per_octave and hop_length "
                f"{config.hop_length}: the filters have up to {longest:.0f} samples; allowed: shorter ones, by a "
                "higher f_min, fewer bins_per_octave, or a hop_length that can be halved more often"
            )
        gain = math.sqrt(config.sample_rate / rate)
        basis = _octave_basis(frequencies[bins], 1 / bandwidth[bins], rate) * gain
        octaves.append(Octave(hop, halvings, basis))
        if hop % 2 == 0:  # an odd hop cannot be halved, so lower octaves keep this rate
            rate, hop, halvings = rate / 2, hop // 2, halvings + 1
    return octaves


def _relative_bandwidth(frequencies: Tensor) -> Tensor:
    """Bandwidth over centre frequency of each filter, 1 / Q, from the distance to its neighbours."""
    octave = torch.log2(frequencies)
    per_octave = torch.cat(
        [1 / (octave[1:2] - octave[:1]), 2 / (octave[2:] - octave[:-2]), 1 / (octave[-1:] - octave[-2:-1])]
    )
    ratio = 2.0 ** (2 / per_octave)
    return (ratio - 1) / (ratio + 1)


def _octave_basis(frequencies: Tensor, quality: Tensor, rate: float) -> Tensor:
    """Filters at ``rate``, in the frequency domain: (K, W / 2 + 1) complex64."""
    lengths = quality * rate / frequencies
    width = 1 << (int(lengths.max()) - 1).bit_length()
    filters = []
    for length, frequency in zip(lengths, frequencies, strict=True):
        n = torch.arange(math.floor(-length / 2), math.floor(length / 2), dtype=torch.float32)
        phase = n * 2 * math.pi * frequency / rate
        wave = torch.complex(phase.cos(), phase.sin()) * torch.hann_window(len(n))
        left = (width - len(n)) // 2
        padded = F.pad(F.normalize(wave, p=1.0, dim=0), (left, width - len(n) - left))
        filters.append(padded * (length / width))
    return torch.fft.fft(torch.stack(filters))[:, : width // 2 + 1]


def half_rate_kernel() -> Tensor:
    """Return the filter of the 2:1 resampler, (28,) float32, centred on tap 13."""
    t = _ROLLOFF * torch.arange(-_HALF_WIDTH, _HALF_WIDTH + 2, dtype=torch.float32) / 2
    t = t.clamp(-_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    window = torch.cos(t * math.pi / _ZERO_CROSSINGS / 2) ** 2
    t = t * math.pi
    sinc = torch.where(t == 0, torch.ones(()), torch.sin(t) / t)
    return sinc * (window * (_ROLLOFF / 2))


def _banded(kernel: Tensor) -> Tensor:
    """Stride-2 correlation as a matrix: a row of samples times this matrix gives ``_BLOCK`` outputs."""
    matrix = kernel.new_zeros(2 * (_BLOCK - 1) + len(kernel), _BLOCK)
    for column in range(_BLOCK):
        matrix[2 * column : 2 * column + len(kernel), column] = kernel
    return matrix


class CQT(Frontend):
    """Constant-Q magnitudes to a power, ``log10(1 + 10000 x)``, mean and standard deviation.

    Every octave gives ``1 + n // hop_length`` frames, for every n.

    Args:
        config: Settings. ``power`` has an effect above 1; mean and deviation are used if both are given.

    Raises:
        ConfigError: ``magnitude`` is off (complex values cannot be patches), or the filters do not fit.
    """

    config: CQTConfig
    _halving: Tensor

    def __init__(self, config: CQTConfig) -> None:
        super().__init__(config, min_samples=max(1, config.hop_length * (config.patch_size[1] - 1)))
        if not config.magnitude:
            raise ConfigError("cqt.magnitude is False; allowed: True")
        octaves = design_octaves(config)
        self._hops = [octave.hop_length for octave in octaves]
        for index, octave in enumerate(octaves):
            self.register_buffer(f"_taps_{index}", octave.taps(), persistent=False)
        self.register_buffer("_halving", _banded(half_rate_kernel()), persistent=False)

    def frames(self, n_samples: int) -> int:
        """Return ``1 + n_samples // hop_length``."""
        return 1 + n_samples // self.hop_length

    def _transform(self, audio: Tensor) -> Tensor:
        parts = [real.square() + imag.square() for real, imag in self._octaves(audio)]
        x = torch.cat(parts[::-1], dim=-1).mT
        power = max(self.config.power, 1.0)
        x = x if power == 2 else x.pow(power / 2)
        x = torch.log10(1 + 10000 * x) if self.config.log else x
        return standardise(x, self.config.norm_mean, self.config.norm_std)

    def _octaves(self, audio: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Real and imaginary coefficients of each octave, the highest first, (B, T, K) each."""
        frames = self.frames(audio.shape[-1])
        for index, hop in enumerate(self._hops):
            taps = self.get_buffer(f"_taps_{index}")
            width = taps.shape[1]
            windows = F.pad(audio, (width // 2, width // 2)).unfold(-1, width, hop)[:, :frames]
            real, imag = (windows @ taps.mT).chunk(2, dim=-1)
            yield real, imag
            if hop % 2 == 0 and index + 1 < len(self._hops):
                audio = self._halve(audio)

    def _halve(self, audio: Tensor) -> Tensor:
        """Resample (B, n) to half the rate: (B, ceil(n / 2))."""
        n_out = -(-audio.shape[-1] // 2)
        rows, row_length = -(-n_out // _BLOCK), self._halving.shape[0]
        padded_length = 2 * _BLOCK * (rows - 1) + row_length
        padded = F.pad(audio, (_HALF_WIDTH, padded_length - _HALF_WIDTH - audio.shape[-1]))
        return (padded.unfold(-1, row_length, 2 * _BLOCK) @ self._halving).flatten(-2)[:, :n_out]
