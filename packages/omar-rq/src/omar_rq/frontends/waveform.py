"""The waveform front end: the samples themselves, scaled; a patch is a run of samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from omar_rq.config import WaveformConfig
from omar_rq.frontends.base import Frontend, standardise


class Waveform(Frontend):
    """Samples as (B, 1, n), minus the mean, over the standard deviation.

    Args:
        config: Settings; no scaling unless both statistics are given.
    """

    config: WaveformConfig

    def __init__(self, config: WaveformConfig) -> None:
        super().__init__(config, min_samples=config.patch_size[1])

    def frames(self, n_samples: int) -> int:
        """Return ``n_samples``: every sample is a frame."""
        return n_samples

    def _transform(self, audio: Tensor) -> Tensor:
        return standardise(audio, self.config.norm_mean, self.config.norm_std)[:, None]

    def _stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        for block in blocks:
            yield self._transform(block[None].float())[0]
