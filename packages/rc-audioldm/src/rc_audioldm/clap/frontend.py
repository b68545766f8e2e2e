"""Log-mel spectrograms as a CLAP checkpoint was trained with, from the settings beside its weights.

The class defaults of the feature extractor are another frontend than that of the published checkpoint: their
spectrograms differ by more than 10 dB. So every setting must be stated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pentatonic.errors import ConfigError
from pentatonic.mel import PRESETS, MelConfig, MelFrontend
from pentatonic.untrusted.files import read_json

_FILE, _FILE_OF_ALL = "preprocessor_config.json", "processor_config.json"
_NEEDED = {
    "feature_size": "n_mels",
    "sampling_rate": "sample_rate",
    "hop_length": "hop_length",
    "fft_window_size": "n_fft",
    "frequency_min": "f_min",
    "frequency_max": "f_max",
}
_LONGEST_S = 120


@dataclass(frozen=True)
class ClapFrontend:
    """A frontend.

    Args:
        mel: Settings of the spectrogram of a window.
        window_s: Length of a window in seconds.
        stacked: The model takes four views of a recording; for one window these are equal.
    """

    mel: MelConfig
    window_s: float
    stacked: bool = False

    @property
    def window_samples(self) -> int:
        """Samples of a window, at the sample rate of :attr:`mel`."""
        return round(self.window_s * self.mel.sample_rate)

    def compute(self, windows: Tensor, mel: MelFrontend) -> Tensor:
        """Return what the audio tower takes.

        Args:
            windows: ``(W, w)`` float32.
            mel: Of :attr:`mel`; a frontend keeps its filters, so it is made once.

        Returns:
            ``(W, 1 or 4, frames, bands)`` float32 in decibels.
        """
        spectrograms = mel(windows).mT[:, None]
        return spectrograms.expand(-1, 4, -1, -1) if self.stacked else spectrograms

    def describe(self) -> str:
        """Return the filter bank in words, for headers."""
        mel = self.mel
        scale = f"{mel.mel_scale} scale, {'equal area' if mel.norm else 'equal peak'}"
        return (
            f"{mel.sample_rate} Hz, transform {mel.n_fft}, hop {mel.hop_length}, {mel.n_mels} bands "
            f"{mel.f_min:g} to {mel.f_max:g} Hz, {scale}, decibels"
        )


def read_frontend(folder: Path) -> ClapFrontend:
    """Read the settings of the feature extractor that lie beside the weights.

    Args:
        folder: Of the model.

    Raises:
        ConfigError: There are none, one is missing, or a value cannot be used.
    """
    path = folder / _FILE
    values: Any
    if path.is_file():
        values = read_json(path)
    elif (path := folder / _FILE_OF_ALL).is_file():
        values = read_json(path)
        values = values.get("feature_extractor") if isinstance(values, dict) else None
    else:
        raise ConfigError(
            f"{folder}: has no {_FILE}, which says what spectrograms the model was trained with"
        )
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: has no settings of a feature extractor")
    return _frontend(values, str(path))


def _frontend(values: dict[str, Any], where: str) -> ClapFrontend:
    for name in (*_NEEDED, "max_length_s", "truncation"):
        if name not in values:
            raise ConfigError(
                f"{where}: {name} is missing; the default of the library is that of another frontend"
            )
    numbers = {ours: _number(values, theirs, where) for theirs, ours in _NEEDED.items()}
    whole = {name: int(value) for name, value in numbers.items() if name not in ("f_min", "f_max")}
    truncation = values["truncation"]
    if truncation not in ("rand_trunc", "fusion"):
        raise ConfigError(f"{where}: truncation is {truncation!r}; allowed: rand_trunc, fusion")
    if values.get("top_db") is not None:
        raise ConfigError(
            f"{where}: top_db is {values['top_db']!r}; allowed: null, as the library ignores it"
        )
    stacked = truncation == "fusion"
    mel = replace(
        PRESETS["clap"],
        **whole,  # type: ignore[arg-type]
        win_length=whole["n_fft"],
        f_min=numbers["f_min"],
        f_max=numbers["f_max"],
        mel_scale="htk" if stacked else "slaney",
        norm=None if stacked else "slaney",
        clip_samples=None,
        double=True,
    )
    window_s = _number(values, "max_length_s", where)
    if not 0 < window_s <= _LONGEST_S:
        raise ConfigError(f"{where}: max_length_s is {window_s:g}; allowed: above 0 and up to {_LONGEST_S}")
    return ClapFrontend(mel, window_s, stacked)


def _number(values: dict[str, Any], name: str, where: str) -> float:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ConfigError(f"{where}: {name} is {value!r:.80}; allowed: numbers from 0 up")
    return float(value)


def log_mel(samples: Tensor) -> Tensor:
    """Return the log-mel spectrogram of the published checkpoint, for a signal of any length.

    Args:
        samples: ``(n,)`` float32 at 48 kHz.

    Returns:
        ``(frames, 64)`` float32 in decibels.
    """
    return MelFrontend(replace(PRESETS["clap"], clip_samples=None, double=True))(samples.to(torch.float32)).mT
