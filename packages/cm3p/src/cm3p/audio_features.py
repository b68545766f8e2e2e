"""Audio of songs: loading, cutting into windows, and log-mel spectrograms.

Shapes: n samples, W windows, M = feature_size bands, F frames.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cm3p.stored import StoredInOneFile
from pentatonic.errors import ConfigError, EmptyAudio, UsageError

if TYPE_CHECKING:
    import torch

    from pentatonic.mel import MelFrontend

log = logging.getLogger(__name__)

_STORED_CLASS = "WhisperFeatureExtractor"


class CM3PAudioFeatureExtractor(StoredInOneFile):
    """Log-mel spectrograms as Whisper's feature extractor makes them, of windows of any length.

    The floor of the logarithm lies 8 decades below the maximum of the window. Silence is -1.5.

    Args:
        feature_size: Mel bands.
        sampling_rate: In Hz.
        hop_length: Samples from one frame to the next.
        chunk_length: Kept for the stored configuration; windows have their own length here.
        n_fft: Samples per Fourier transform.
        padding_value: What windows are filled up with; 0.
        dither: Noise that is added; 0.
        return_attention_mask: Kept for the stored configuration.
        kwargs: Other keys of a stored configuration; they change nothing.

    Raises:
        ConfigError: A value is out of range.
    """

    def __init__(
        self,
        feature_size: int = 80,
        sampling_rate: int = 16000,
        hop_length: int = 160,
        chunk_length: int = 30,
        n_fft: int = 400,
        padding_value: float = 0.0,
        dither: float = 0.0,
        return_attention_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        if padding_value or dither:
            raise ConfigError(f"padding_value is {padding_value} and dither is {dither}; allowed: 0")
        self.feature_size, self.sampling_rate, self.hop_length = feature_size, sampling_rate, hop_length
        self.chunk_length, self.n_fft, self.return_attention_mask = chunk_length, n_fft, return_attention_mask
        self._frontend: MelFrontend | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_frontend": None}

    def frames(self, n_samples: int) -> int:
        """Return the frames of ``n_samples`` samples."""
        return n_samples // self.hop_length

    def __call__(self, windows: torch.Tensor, device: str = "cpu") -> torch.Tensor:
        """Compute the spectrogram of each window.

        Args:
            windows: (W, n) samples, float32.
            device: Where to compute.

        Returns:
            (W, M, F) float32, on the CPU.

        Raises:
            AudioError: A window is too short, or has samples that are not finite.
        """
        if self._frontend is None:
            from pentatonic.mel import PRESETS, MelFrontend

            config = replace(
                PRESETS["cm3p"],
                sample_rate=self.sampling_rate,
                n_fft=self.n_fft,
                win_length=self.n_fft,
                hop_length=self.hop_length,
                n_mels=self.feature_size,
                clip_samples=None,
            )
            self._frontend = MelFrontend(config)
        self._frontend.to(device)
        return self._frontend(windows.to(device)).cpu()

    def to_dict(self) -> dict[str, Any]:
        """The content of the configuration file."""
        n_samples = self.chunk_length * self.sampling_rate
        return {
            "chunk_length": self.chunk_length,
            "dither": 0.0,
            "feature_extractor_type": _STORED_CLASS,
            "feature_size": self.feature_size,
            "hop_length": self.hop_length,
            "n_fft": self.n_fft,
            "n_samples": n_samples,
            "nb_max_frames": n_samples // self.hop_length,
            "padding_side": "right",
            "padding_value": 0.0,
            "processor_class": "CM3PProcessor",
            "return_attention_mask": self.return_attention_mask,
            "sampling_rate": self.sampling_rate,
        }


def load_song(audio: Any, sampling_rate: int, source_rate: int | None = None) -> torch.Tensor:
    """Return a song as mono samples.

    Args:
        audio: Path of an audio file, or samples: (n,), or (n, channels) of which the mean is taken.
        sampling_rate: Wanted rate in Hz; other rates are resampled by soxr.
        source_rate: Rate of samples; None: ``sampling_rate``, with a warning. Files have their own.

    Returns:
        (n,) float32.

    Raises:
        AudioError: The file cannot be read, or there are no samples.
        UsageError: Samples of another form.
    """
    import numpy as np
    import torch

    from pentatonic.audio import load, resample

    if isinstance(audio, str | Path):
        return load(audio, sample_rate=sampling_rate).samples[0]
    samples = np.asarray(audio.detach().cpu() if isinstance(audio, torch.Tensor) else audio)
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if samples.ndim != 1 or samples.dtype.kind not in "fiu":
        raise UsageError(
            f"audio is {samples.dtype} {samples.shape}; allowed: a path, (n,) or (n, channels) samples"
        )
    if not samples.size:
        raise EmptyAudio("audio", "there are no samples")
    song = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    if source_rate is None:
        log.warning("audio is given as samples without audio_sampling_rate; taken as %d Hz", sampling_rate)
        source_rate = sampling_rate
    return resample(song, source_rate, sampling_rate)


def as_songs(audio: Any) -> list[Any]:
    """Return a list of songs for a list or a single one; a list of numbers is a single one."""
    if isinstance(audio, list | tuple) and not (audio and isinstance(audio[0], int | float)):
        return list(audio)
    return [audio]


def padded_window(
    song: torch.Tensor,
    start_s: float,
    window_s: float,
    sampling_rate: int,
    *,
    multiple_of: int | None,
    at_least: int,
) -> torch.Tensor:
    """Return a window of a song, filled up with zeros.

    Args:
        song: (n,) samples.
        start_s: Start of the window in seconds.
        window_s: Its length.
        sampling_rate: Rate of ``song`` in Hz.
        multiple_of: The result has a multiple of so many samples; if this is 0 or None,
        at_least: it has at least so many.
    """
    import torch.nn.functional as F

    window = song[int(start_s * sampling_rate) : int((start_s + window_s) * sampling_rate)]
    length = max(len(window), at_least)
    if multiple_of:
        length = max(1, -(-len(window) // multiple_of)) * multiple_of
    return F.pad(window, (0, length - len(window)))


def in_positions(mel: torch.Tensor, positions: int) -> torch.Tensor:
    """Cut the spectrogram of a window into inputs of the audio tower.

    Args:
        mel: (M, F).
        positions: Frames of an input.

    Returns:
        (F / positions, M, positions).

    Raises:
        UsageError: The frames are not a multiple of ``positions``.
    """
    if mel.shape[1] % positions:
        raise UsageError(
            f"a window has {mel.shape[1]} frames; allowed: multiples of max_source_positions, {positions} "
            "(see pad_to_multiple_of)"
        )
    return mel.reshape(mel.shape[0], -1, positions).transpose(0, 1)
