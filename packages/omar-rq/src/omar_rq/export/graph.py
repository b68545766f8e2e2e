"""The encoder as one graph of plain tensor operations: waveform in, embeddings out, any length and batch.

The mel front end is written as matrix products, because runtimes differ in what they call a short-time Fourier
transform, and many have none: a convolution with windowed cosines and sines gives the spectrum of all frames.

Shape legend: B batch, n samples, M mel bands, T frames, N tokens, L layers, C width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omar_rq.conformer import Conformer
from omar_rq.frontends import Mel, Waveform, patchify
from omar_rq.frontends.base import standardise
from omar_rq.model import OmarRQ
from omar_rq.signals import layer_indices
from pentatonic.errors import ConfigError


class EncoderGraph(nn.Module):
    """A model in a form that can be exported. Inputs are not checked.

    Args:
        model: Float32, in evaluation mode, with a mel or waveform front end and a conformer trunk.
        layers: Indices of trunk blocks, negative ones from the end; ``None``: the last.

    Attributes:
        layers: Indices of the blocks in the output, ascending.

    Raises:
        ConfigError: The front end or the trunk is of another kind, or the model is not float32.
        LayerIndexError: A layer is out of range.
    """

    def __init__(self, model: OmarRQ, layers: int | Iterable[int] | None = None) -> None:
        super().__init__()
        if not isinstance(model.trunk, Conformer):
            raise ConfigError(f"the trunk is a {model.config.net.name}; graphs exist for: conformer")
        if model.embed.weight.dtype != torch.float32:
            raise ConfigError(f"the model is {model.embed.weight.dtype}; graphs are exported from float32")
        self.layers = sorted(set(layer_indices(layers, len(model.trunk.blocks))))
        self.frontend = _frontend(model)
        self.patch_size = model.patch_size
        self.embed, self.trunk = model.embed, model.trunk

    def forward(self, audio: Tensor) -> Tensor:
        """``(B, n)`` float32 mono samples to ``(L, B, N, C)``."""
        frames = self.frontend(audio)
        frames_per_patch = self.patch_size[1]
        # Gathered: whether a slice leaves anything out is something that an exported graph would be tied to.
        kept = torch.arange(frames.shape[2] // frames_per_patch * frames_per_patch, device=audio.device)
        patches = patchify(frames.index_select(2, kept), self.patch_size)
        return torch.stack(self.trunk(self.embed(patches), layers=self.layers)[1])


class MelGraph(nn.Module):
    """The log-mel front end as a convolution and a matrix product: ``(B, n) -> (B, M, T)``.

    Args:
        frontend: The front end whose settings, window and filters are taken.
    """

    kernels: Tensor
    filterbank: Tensor

    def __init__(self, frontend: Mel) -> None:
        super().__init__()
        self.config = config = frontend.config
        samples = torch.arange(config.n_fft, dtype=torch.float64)
        bins = torch.arange(config.n_fft // 2 + 1, dtype=torch.float64)
        angles = 2 * math.pi / config.n_fft * (bins[:, None] * samples % config.n_fft)
        window = frontend.mel.window.double().cpu()
        kernels = torch.cat((angles.cos() * window, angles.sin() * window))
        self.register_buffer("kernels", kernels.float()[:, None])  # (2 bins, 1, n_fft)
        self.register_buffer("filterbank", frontend.mel.filterbank.detach().cpu().clone())  # (M, bins)

    def forward(self, audio: Tensor) -> Tensor:
        """Give what :class:`omar_rq.frontends.Mel` gives, up to rounding."""
        config = self.config
        half = config.n_fft // 2
        padded = F.pad(audio[:, None], (half, half), mode="reflect")
        real, imaginary = F.conv1d(padded, self.kernels, stride=config.hop_length).chunk(2, dim=1)
        power = real * real + imaginary * imaginary
        if config.power != 2:
            power = power.sqrt() ** config.power
        mel = torch.log10(1 + 10000 * (self.filterbank @ power))
        return standardise(mel, config.norm_mean, config.norm_std)


class WaveformGraph(nn.Module):
    """The waveform front end without its checks: ``(B, n) -> (B, 1, n)``."""

    def __init__(self, frontend: Waveform) -> None:
        super().__init__()
        self.config = frontend.config

    def forward(self, audio: Tensor) -> Tensor:
        """Give what :class:`omar_rq.frontends.Waveform` gives."""
        return standardise(audio, self.config.norm_mean, self.config.norm_std)[:, None]


def _frontend(model: OmarRQ) -> nn.Module:
    match model.frontend:
        case Mel() as mel:
            return MelGraph(mel)
        case Waveform() as waveform:
            return WaveformGraph(waveform)
        case _:
            raise ConfigError(f"the input is {model.config.input.name}; graphs exist for: mel, waveform")
