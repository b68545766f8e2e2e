"""Log-mel front end: the shared :class:`pentatonic.mel.MelFrontend` with the settings of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from torch import Tensor

from omar_rq.config import MelFrontendConfig
from omar_rq.frontends.base import Frontend
from omar_rq.frontends.spec_augment import SpecAugmentation
from omar_rq.precision import float32_arithmetic
from pentatonic.mel import MelConfig, MelFrontend
from pentatonic.mel.config import MelScale, Norm


class Mel(Frontend):
    """``log10(1 + 10000 mel)``, mean and deviation; frames are centred, with mirrored ends.

    Args:
        config: Settings; no normalisation unless both statistics are given.

    Raises:
        ConfigError: A setting is out of range.
    """

    config: MelFrontendConfig

    def __init__(self, config: MelFrontendConfig) -> None:
        normalised = config.norm_mean is not None and config.norm_std is not None
        mel = MelFrontend(
            MelConfig(
                sample_rate=config.sample_rate,
                n_fft=config.n_fft,
                win_length=config.win_length,
                hop_length=config.hop_length,
                n_mels=config.n_mels,
                f_min=0.0,
                f_max=config.sample_rate / 2,
                power=config.power,
                mel_scale=cast(MelScale, config.mel_scale),  # checked by MelConfig
                norm=cast(Norm | None, config.norm),
                log="log10_1p",
                mean=config.norm_mean if normalised else None,
                std=config.norm_std if normalised else None,
            )
        )
        last_frame = config.hop_length * (config.patch_size[1] - 1)
        super().__init__(config, min_samples=max(mel.min_samples, last_frame))
        self.mel = mel

    def frames(self, n_samples: int) -> int:
        """Return ``1 + n_samples // hop_length``."""
        return self.mel.frames(n_samples)

    def augmented(self, audio: Tensor, augmentation: SpecAugmentation) -> Tensor:
        """As :meth:`forward`, with an augmentation of each signal's power spectrogram."""
        self.check(audio)
        with float32_arithmetic(audio.device):
            return self.mel.from_power(augmentation(self.mel.power_spectrogram(audio.float())))

    def _transform(self, audio: Tensor) -> Tensor:
        return self.mel(audio)

    def _stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        return self.mel.stream(blocks)
