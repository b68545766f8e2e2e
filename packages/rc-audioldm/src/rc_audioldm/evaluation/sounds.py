"""Recordings as a model hears them: without silent ends, at one rate, loudness and length, so that sets are comparable.

Shape legend: C channels, n samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pentatonic import audio as audio_files
from pentatonic.errors import AudioError, SilentAudio, UsageError
from rc_audioldm.evaluation.loudness import SHORTEST_S, integrated_loudness
from rc_audioldm.evaluation.signal import SILENCE_DBFS, without_silent_ends

LOUDNESS_LUFS = -23.0
"""The level of EBU R 128."""


@dataclass(frozen=True)
class Preparation:
    """What is done to each recording of a set.

    Args:
        sample_rate: In Hz; recordings of a higher rate are resampled, those of a lower one refused, because a model
            hears what is missing above half the rate.
        loudness_lufs: Integrated loudness to which each is scaled; None leaves it.
        length_s: What is behind this length is cut off; None keeps the whole.

    Raises:
        UsageError: A value is out of its range.
    """

    sample_rate: int
    loudness_lufs: float | None = LOUDNESS_LUFS
    length_s: float | None = None

    def __post_init__(self) -> None:
        if self.sample_rate <= 0:
            raise UsageError(f"sample_rate is {self.sample_rate}; allowed: above 0, in Hz")
        if self.loudness_lufs is not None and not -70 < self.loudness_lufs <= 0:
            raise UsageError(f"loudness is {self.loudness_lufs}; allowed: above -70, at most 0 LUFS")
        if self.length_s is not None and not 0 < self.length_s < math.inf:
            raise UsageError(f"length is {self.length_s}; allowed: above 0, in seconds")

    def describe(self) -> dict[str, str]:
        """Return the rules in words, for headers."""
        loudness, length = self.loudness_lufs, self.length_s
        return {
            "silence": f"both ends below {SILENCE_DBFS:g} dBFS are cut off",
            "rate": f"{self.sample_rate} Hz",
            "loudness": "as it is" if loudness is None else f"{loudness:g} LUFS",
            "length": "whole" if length is None else f"the first {length:g} s",
        }


@dataclass(frozen=True)
class Sound:
    """A recording.

    Args:
        samples: (C, n) float32.
        sample_rate: In Hz.
    """

    samples: NDArray[np.float32]
    sample_rate: int


def read_sound(path: Path) -> Sound:
    """Read a recording with all its channels.

    Raises:
        AudioError: It cannot be read.
    """
    audio = audio_files.load(path, mono=False)
    return Sound(audio.samples.numpy(), audio.sample_rate)


def prepare(sound: Sound, preparation: Preparation, name: str) -> NDArray[np.float32]:
    """Return a recording as a model hears it.

    Args:
        sound: The recording.
        preparation: What is done.
        name: Of the recording, for messages.

    Returns:
        (n,), the mean of the channels.

    Raises:
        SilentAudio: It is silent.
        AudioError: Its rate is too low.
        MissingExtra: A loudness is wanted, and pyloudnorm is not installed.
    """
    rate = preparation.sample_rate
    if sound.sample_rate < rate:
        raise AudioError(name, f"has {sound.sample_rate} Hz; allowed: {rate} Hz or more, as the others have")
    mono = without_silent_ends(sound.samples).mean(axis=0)
    if not mono.any():
        raise SilentAudio(name, f"is silent: no sample is above {SILENCE_DBFS:g} dBFS")
    mono = audio_files.resample(torch.from_numpy(mono), sound.sample_rate, rate).numpy()
    if preparation.length_s is not None:
        mono = mono[: max(1, round(preparation.length_s * rate))]
    if preparation.loudness_lufs is None:
        return mono
    loudness = loudness_of(mono, rate)
    if loudness is None:
        raise SilentAudio(name, "is too quiet: its loudness is below -70 LUFS")
    return mono * np.float32(10 ** ((preparation.loudness_lufs - loudness) / 20))


def loudness_of(samples: NDArray[np.floating], sample_rate: int) -> float | None:
    """Return the integrated loudness of a recording of any length; one shorter than 0.4 s is repeated.

    Args:
        samples: (n,) or (C, n), at least one sample.
        sample_rate: In Hz.

    Returns:
        LUFS; None where all is below -70.
    """
    needed = math.ceil(SHORTEST_S * sample_rate)
    if samples.shape[-1] < needed:
        times = -(-needed // samples.shape[-1])
        samples = np.tile(samples, times if samples.ndim == 1 else (1, times))
    return integrated_loudness(samples, sample_rate)
