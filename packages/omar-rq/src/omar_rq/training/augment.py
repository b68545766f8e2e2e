"""Changes of a recording that leave the music as it is: loudness, equalisation, band-width, codec.

Recordings of one album share a sound that has nothing to do with the music: its level, what its codec left out, how it
was mastered. Without such changes in training a model tells albums apart by it.

Shapes: n samples of a crop.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import soundfile
import torch
from torch import Tensor

from pentatonic.errors import ConfigError

_LOWEST_HZ = 50.0
"""Where the line of the equalisation starts; it ends at half the sample rate."""
_COARSEST, _FINEST = 1.0, 0.4
"""Range of libsndfile's compression level of Vorbis: 1 is the smallest file."""


@dataclass
class AugmentConfig:
    """How crops are changed; by default not at all.

    Args:
        gain_db: Greatest change of the level, up or down.
        equalise_db: Greatest change at the lowest and at the highest frequency; in between the change is linear in
            octaves.
        cut_probability: How often everything above a frequency is taken out.
        lowest_cut_hz: Least such frequency; drawn in octaves from here to half the sample rate.
        codec_probability: How often the crop goes through Ogg Vorbis, at a quality that is drawn.

    Raises:
        ConfigError: A value is out of its range.
    """

    gain_db: float = 0.0
    equalise_db: float = 0.0
    cut_probability: float = 0.0
    lowest_cut_hz: float = 3000.0
    codec_probability: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gain_db", "equalise_db"):
            if not 0 <= getattr(self, name) <= 60:
                raise ConfigError(f"augment.{name} is {getattr(self, name)}; allowed: 0 to 60")
        for name in ("cut_probability", "codec_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augment.{name} is {getattr(self, name)}; allowed: 0 to 1")
        if not 100 <= self.lowest_cut_hz < math.inf:
            raise ConfigError(f"augment.lowest_cut_hz is {self.lowest_cut_hz}; allowed: 100 and more")

    @property
    def active(self) -> bool:
        """Whether anything is changed."""
        return max(self.gain_db, self.equalise_db, self.cut_probability, self.codec_probability) > 0


def augment(audio: Tensor, sample_rate: int, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Change one crop.

    Args:
        audio: ``(n,)`` float32.
        sample_rate: Samples per second.
        config: How.
        rng: Source of random numbers; as many are drawn whatever the configuration.

    Returns:
        ``(n,)`` float32; it may leave [-1, 1].
    """
    gain, low, high = rng.uniform(-1, 1, 3)
    cut, cut_share, codec, quality = rng.random(4)
    spectrum = torch.fft.rfft(audio)
    frequencies = torch.fft.rfftfreq(len(audio), 1 / sample_rate)
    octaves = torch.log2(frequencies.clamp(min=_LOWEST_HZ) / _LOWEST_HZ)
    share = octaves / octaves[-1].clamp(min=1e-6)
    change_db = gain * config.gain_db + config.equalise_db * (low + (high - low) * share)
    spectrum = spectrum * 10 ** (change_db / 20)
    if cut < config.cut_probability:
        room = math.log2(max(1.0, sample_rate / 2 / config.lowest_cut_hz))
        spectrum[frequencies > config.lowest_cut_hz * 2 ** (cut_share * room)] = 0
    changed = torch.fft.irfft(spectrum, len(audio))
    if codec < config.codec_probability:
        changed = through_vorbis(changed, sample_rate, _FINEST + (_COARSEST - _FINEST) * quality)
    return changed


def through_vorbis(audio: Tensor, sample_rate: int, level: float) -> Tensor:
    """Return a crop as Ogg Vorbis gives it back.

    Args:
        audio: ``(n,)`` float32.
        sample_rate: Samples per second.
        level: Compression level, 0 to 1; 1 is the smallest.

    Returns:
        ``(n,)`` float32.
    """
    peak = float(audio.abs().max())
    if not peak > 0:
        return audio
    file = io.BytesIO()
    # What is louder than 1 would be clipped.
    scale = max(1.0, peak)
    soundfile.write(
        file, (audio / scale).numpy(), sample_rate, format="OGG", subtype="VORBIS", compression_level=level
    )
    file.seek(0)
    samples, _ = soundfile.read(file, dtype="float32")
    decoded = torch.zeros_like(audio)
    decoded[: len(samples)] = torch.from_numpy(samples)[: len(audio)] * scale
    return decoded
