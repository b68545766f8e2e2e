"""Base class of the front ends: checks, float32 arithmetic, patch geometry and streaming.

Shapes: B batch, n samples, F values per frame, T frames, F_p x T_p patch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor

from omar_rq.config import FrontendConfig
from omar_rq.precision import Float32Module, float32_arithmetic
from pentatonic.errors import AudioTooShort, ConfigError, UsageError


def standardise(x: Tensor, mean: float | None, std: float | None) -> Tensor:
    """Return ``(x - mean) / std``, or ``x`` itself unless both are given."""
    return x if mean is None or std is None else (x - mean) / std


class Frontend(Float32Module, ABC):
    """Audio to a time-frequency array, always in float32 whatever dtype the model has.

    Args:
        config: Settings; kept as ``.config``.
        min_samples: Fewest samples that give one patch.

    Attributes:
        sample_rate: Samples per second of the input audio.
        hop_length: Samples from one frame to the next.
        rep_dims: Values per frame, F.
        patch_size: Rows and frames of a patch, (F_p, T_p).
        min_samples: Fewest samples that give one patch.
        frame_centre: Centre of the first frame, in frames: 0 where frames are windows around their time.

    Raises:
        ConfigError: The patch is empty or taller than a frame.
    """

    frame_centre: float = 0.0

    def __init__(self, config: FrontendConfig, *, min_samples: int) -> None:
        super().__init__()
        rows, frames = config.patch_size
        if not (1 <= rows <= config.rep_dims and frames >= 1):
            raise ConfigError(
                f"{config.name}.patch_size is {config.patch_size}; "
                f"allowed: 1 to {config.rep_dims} rows (values per frame) and at least 1 frame"
            )
        self.config = config
        self.sample_rate, self.hop_length = config.sample_rate, config.hop_length
        self.rep_dims, self.patch_size = config.rep_dims, config.patch_size
        self.min_samples = min_samples

    @abstractmethod
    def frames(self, n_samples: int) -> int:
        """Frames, T, that ``n_samples`` samples give (``n_samples >= min_samples``)."""

    @abstractmethod
    def _transform(self, audio: Tensor) -> Tensor:
        """(B, n) float32, long enough, to (B, F, T) float32."""

    def forward(self, audio: Tensor) -> Tensor:
        """Analyse whole signals.

        Args:
            audio: Mono signals, (B, n), any floating dtype, at ``sample_rate``.

        Returns:
            (B, F, T) float32.

        Raises:
            UsageError: ``audio`` has no batch axis, or too many axes.
            AudioTooShort: Fewer than ``min_samples`` samples.
        """
        self.check(audio)
        with float32_arithmetic(audio.device):
            return self._transform(audio.float())

    def check(self, audio: Tensor) -> None:
        """Raise the errors of :meth:`forward` without computing anything."""
        if audio.ndim != 2:
            raise UsageError(f"audio has shape {tuple(audio.shape)}; allowed: (batch, samples)")
        if audio.shape[1] < self.min_samples:
            raise self._too_short(audio.shape[1])

    def stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Analyse one signal that arrives in blocks.

        The mel and waveform front ends need bounded memory. The CQT and EnCodec front ends collect the signal
        and yield once.

        Args:
            blocks: Mono blocks, each (n,), of any lengths.

        Yields:
            (F, f) float32; concatenated they equal ``forward`` of the concatenated blocks.

        Raises:
            AudioTooShort: Fewer than ``min_samples`` samples altogether.
        """
        blocks, head, held = iter(blocks), [], 0
        while held < self.min_samples:
            block = next(blocks, None)
            if block is None:
                raise self._too_short(held)
            head.append(block)
            held += block.shape[0]
        chunks = self._stream(chain(head, blocks))
        while True:  # these settings are global: set them per chunk, not while the caller runs
            with float32_arithmetic(head[0].device):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def _stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        yield self._transform(torch.cat(list(blocks))[None].float())[0]

    def _too_short(self, n_samples: int) -> AudioTooShort:
        return AudioTooShort(
            "audio",
            f"{n_samples} samples at {self.sample_rate} Hz; "
            f"one patch of the {self.config.name} front end needs at least {self.min_samples} samples",
        )
