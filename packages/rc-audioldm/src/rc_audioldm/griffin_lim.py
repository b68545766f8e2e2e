"""A vocoder without weights, for models that have no trained one: the method of Griffin and Lim.

It finds a signal whose magnitudes are those of a log-mel spectrogram. The sound of one is rougher than that of a
trained vocoder: 64 bands do not tell the partials of low notes apart.

Sources: Griffin and Lim 1984; the accelerated form of Perraudin, Balazs and Sondergaard 2013.

Shapes: B clips, T frames, M bands, K bins of the transform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from pentatonic.errors import ConfigError
from pentatonic.mel import PRESETS, MelConfig, MelFrontend
from pentatonic.untrusted.config import Range, check_fields

_MOMENTUM = 0.99
_SMALLEST = 1e-8
_START = 0  # seed of the phases that every clip starts from


@dataclass(frozen=True)
class GriffinLimConfig:
    """Settings, under the names that other vocoders have for them.

    Args:
        mel: Preset of :mod:`pentatonic.mel` that the spectrograms were made with; natural logarithms of magnitudes.
        model_in_dim: Bands.
        sampling_rate: Samples per second.
        upsample_rates: Their product is the number of samples per frame.
        iterations: Rounds from signal to spectrogram and back.

    Raises:
        ConfigError: A value is out of range.
    """

    mel: str = "audioldm"
    model_in_dim: Annotated[int, Range(1, 1024)] = 64
    sampling_rate: Annotated[int, Range(1, 1 << 18)] = 16_000
    upsample_rates: tuple[Annotated[int, Range(1, 1 << 12)], ...] = (160,)
    iterations: Annotated[int, Range(1, 1000)] = 60

    def __post_init__(self) -> None:
        check_fields(self, "vocoder")


class GriffinLimVocoder(nn.Module):
    """From log-mel spectrograms to samples.

    Each clip is computed by itself and from the same phases, so no other clip of a batch can change it.

    Args:
        config: Settings.
    """

    def __init__(self, config: GriffinLimConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = _preset(config)
        inverse = torch.linalg.pinv(MelFrontend(self.mel).filterbank)
        self.register_buffer("inverse", inverse, persistent=False)

    def magnitudes(self, log_mel: Tensor) -> Tensor:
        """Return magnitudes ``(K, T)`` whose spectrogram ``(T, M)`` comes near the given one."""
        return (self.get_buffer("inverse") @ log_mel.exp().T).clamp_min(0)

    @torch.no_grad()
    def forward(self, mel: Tensor) -> Tensor:
        """Return samples ``(B, T * hop)`` of log-mel spectrograms ``(B, T, M)``."""
        return torch.stack([self._signal(each) for each in mel.float()])

    def _signal(self, log_mel: Tensor) -> Tensor:
        config = self.mel
        window = torch.hann_window(config.win_length, device=log_mel.device)
        size: dict[str, Any] = {
            "n_fft": config.n_fft,
            "hop_length": config.hop_length,
            "win_length": config.win_length,
            "window": window,
        }
        count = len(log_mel) * config.hop_length
        # A frame more than there is hop for: the signal's end is the middle of the last frame.
        magnitudes = self.magnitudes(torch.cat([log_mel, log_mel[-1:]]))
        generator = torch.Generator().manual_seed(_START)
        angles = torch.rand(magnitudes.shape, generator=generator).to(magnitudes) * (2 * torch.pi)
        phases, last = torch.polar(torch.ones_like(angles), angles), torch.zeros_like(angles) + 0j
        for _ in range(self.config.iterations):
            signal = torch.istft(magnitudes * phases, **size, length=count)
            found = torch.stft(signal, **size, return_complex=True, pad_mode=config.pad_mode)
            pushed = found - _MOMENTUM / (1 + _MOMENTUM) * last
            phases, last = pushed / pushed.abs().clamp_min(_SMALLEST), found
        return torch.istft(magnitudes * phases, **size, length=count)


def _preset(config: GriffinLimConfig) -> MelConfig:
    """The spectrograms that a configuration names.

    Raises:
        ConfigError: There is no such preset, or its sizes are others than the configuration states.
    """
    if config.mel not in PRESETS:
        raise ConfigError(f"vocoder.mel is {config.mel!r:.80}; allowed: {', '.join(PRESETS)}")
    mel = PRESETS[config.mel]
    if mel.log != "ln" or mel.power != 1:
        raise ConfigError(f"vocoder.mel is {config.mel!r}; allowed: natural logarithms of magnitudes")
    for name, stated, of_preset in (
        ("model_in_dim", config.model_in_dim, mel.n_mels),
        ("sampling_rate", config.sampling_rate, mel.sample_rate),
        ("upsample_rates", math.prod(config.upsample_rates), mel.hop_length),
    ):
        if stated != of_preset:
            raise ConfigError(f"vocoder.{name} gives {stated}, and the preset {config.mel!r} has {of_preset}")
    return mel
