"""Audio to spectrograms: the front ends that the models were trained with.

``myna``: 16 kHz, mel power without a logarithm. ``myna-rpe``: 44.1 kHz, 100 frames a second, twice the decibels below
the loudest value of the track, down to -80. ``myna-rpe-demo``: the same with the window and the hop of the original's
public demo, for parity with what that published.

Shapes: n samples, F mel bands, T frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from myna_rpe.config import N_MELS, FrontendName
from pentatonic.errors import EmptyAudio
from pentatonic.mel import MelFrontend
from pentatonic.mel.presets import PRESETS

PADDING: Mapping[FrontendName, float] = {"myna": 0.0, "myna-rpe": -80.0, "myna-rpe-demo": -80.0}
"""Value that stands for nothing, where spectrograms are padded."""
# Of the mel power. Below it every value of the logarithm is that of silence, which the front end takes for the loudest.
_SILENT_POWER = 1e-5


@dataclass(frozen=True)
class Spectrogram:
    """A spectrogram, and what is unusual about it.

    Attributes:
        mel: ``(F, T)`` float32.
        is_silent: The recording is so quiet that the front end gives 0 dB everywhere, as of the loudest music: its
            embedding would mean nothing.
        padded: Samples that were added because there were fewer than the front end needs.
    """

    mel: Tensor
    is_silent: bool
    padded: int = 0


class Frontend(nn.Module):
    """A front end of the family.

    Args:
        name: Which.

    Attributes:
        name: As given.
        mel_config: Parameters of the mel spectrogram.
        sample_rate: Of the audio, in Hz.
        hop_length: Samples from one frame to the next.
    """

    def __init__(self, name: FrontendName) -> None:
        super().__init__()
        self.name = name
        config = PRESETS["myna" if name == "myna" else "myna-rpe"]
        if name == "myna-rpe-demo":
            config = dataclasses.replace(config, win_length=2048, hop_length=512)
        self.mel_config = config
        self._mel = MelFrontend(config)
        self.sample_rate, self.hop_length = config.sample_rate, config.hop_length

    @property
    def frames_per_second(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    def forward(self, blocks: Iterable[Tensor]) -> Spectrogram:
        """Compute the spectrogram of a recording.

        Args:
            blocks: Consecutive ``(n,)`` pieces of its samples at :attr:`sample_rate`, which are not kept.

        Raises:
            EmptyAudio: There are no samples.
            NonFiniteAudio: A sample is NaN or infinite.
        """
        counted = _Counted(blocks, self._mel.min_samples)
        mel = torch.cat(list(self._mel.stream(counted)), dim=1)
        assert mel.shape[0] == N_MELS
        silent = bool(mel.max() <= _SILENT_POWER) if self.name == "myna" else bool((mel == 0).all())
        return Spectrogram(mel, silent, counted.padded)


class _Counted:
    """Blocks of samples; zeros follow where there are fewer in all than are needed."""

    def __init__(self, blocks: Iterable[Tensor], least: int) -> None:
        self._blocks, self._least = blocks, least
        self.padded = 0

    def __iter__(self) -> Iterator[Tensor]:
        count = 0
        for block in self._blocks:
            count += len(block)
            yield block
        if count == 0:
            raise EmptyAudio("audio", "no samples")
        self.padded = max(0, self._least - count)
        if self.padded:
            yield torch.zeros(self.padded)
