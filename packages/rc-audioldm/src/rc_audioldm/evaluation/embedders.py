"""What turns a recording into vectors for the metrics of sets.

Shape legend: n samples, W windows, D dimensions, T texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from pentatonic.mel import MelConfig, MelFrontend

if TYPE_CHECKING:
    from rc_audioldm.clap import ClapEncoder

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Gives a recording a vector for each of its windows."""

    @property
    def sample_rate(self) -> int:
        """Samples per second that it takes."""
        ...

    def describe(self) -> dict[str, Any]:
        """What makes the vectors, as JSON values: vectors of other values cannot be compared."""
        ...

    def embed(self, samples: NDArray[np.float32]) -> Vectors:
        """Return (W, D), at least one window, of samples (n,) at :attr:`sample_rate`."""
        ...


@runtime_checkable
class TextEmbedder(Protocol):
    """Gives texts vectors that can be compared with those of recordings."""

    def embed_texts(self, texts: list[str]) -> Vectors:
        """Return (T, D), of norm 1."""
        ...


class ClapEmbedder:
    """Windows and texts by CLAP.

    Args:
        encoder: The model.
    """

    def __init__(self, encoder: ClapEncoder) -> None:
        self._encoder = encoder

    @property
    def sample_rate(self) -> int:
        """Samples per second that the model takes."""
        return self._encoder.sample_rate

    def describe(self) -> dict[str, Any]:
        """The header of the model, without its names: two of one hash are one model."""
        values = self._encoder.header.to_json()
        return {"kind": "CLAP", **{key: values[key] for key in values if key not in ("model", "revision")}}

    def embed(self, samples: NDArray[np.float32]) -> Vectors:
        """Return the vectors of the windows, (W, D) of norm 1."""
        windows = self._encoder.spectrograms([torch.from_numpy(samples)])
        return torch.stack([self._encoder.embed_windows([window]) for window in windows]).numpy()

    def embed_texts(self, texts: list[str]) -> Vectors:
        """Return the vectors of texts, (T, D) of norm 1."""
        return self._encoder.embed_text(texts).numpy()


class MelEmbedder:
    """Mean and standard deviation of each mel band in windows of 0.96 s, hop 0.48 s: 128 numbers.

    It needs no weights, hears level and spectrum and nothing else, and its distances are only comparable with its own.
    """

    _WINDOW_FRAMES, _HOP_FRAMES = 96, 48
    _FLOOR = 1e-8
    _CONFIG = MelConfig(
        sample_rate=16_000,
        n_fft=512,
        win_length=400,
        hop_length=160,
        n_mels=64,
        f_min=60,
        f_max=7800,
        pad_mode="constant",
    )

    def __init__(self) -> None:
        self._mel = MelFrontend(self._CONFIG)

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self._CONFIG.sample_rate

    def describe(self) -> dict[str, Any]:
        """The settings."""
        return {
            "kind": "mel statistics",
            "filter_bank": "16 kHz, 400 of 512, hop 160, 64 bands from 60 to 7800 Hz (Slaney), dB / 80 above -80 dB",
            "windows": "96 frames, hop 48; mean and standard deviation of each band",
            "dimension": 2 * self._CONFIG.n_mels,
        }

    def embed(self, samples: NDArray[np.float32]) -> Vectors:
        """Return (W, 128)."""
        mel = self._mel(torch.from_numpy(samples)[None])[0].double()  # (bands, frames)
        levels = 1 + torch.log10(mel.clamp(min=self._FLOOR)) / 8  # 0 at the floor
        size = min(self._WINDOW_FRAMES, levels.shape[-1])
        windows = levels.unfold(-1, size, self._HOP_FRAMES)  # (bands, W, frames of a window)
        statistics = torch.cat([windows.mean(-1), windows.std(-1, correction=0)])
        return statistics.T.float().numpy()
