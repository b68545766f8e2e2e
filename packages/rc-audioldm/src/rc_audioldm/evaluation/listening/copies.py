"""Copies of recordings that listeners hear: of one loudness, rate and format, and with names that say nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pentatonic import audio as audio_files
from pentatonic.errors import SilentAudio
from rc_audioldm.evaluation.loudness import true_peak
from rc_audioldm.evaluation.sounds import LOUDNESS_LUFS, Sound, loudness_of, read_sound

HIGHEST_PEAK_DBTP = -1.0


def write_pair(sources: tuple[Path, Path], targets: tuple[Path, Path]) -> dict[str, Any]:
    """Write both recordings of a pair at the same loudness, as mono WAV at the higher of their rates.

    The loudness is -23 LUFS, or less where a true peak would be above -1 dBTP. Silent ends stay.

    Args:
        sources: Recordings.
        targets: Files to write.

    Returns:
        ``loudness_lufs`` of both, and ``gains_db``.

    Raises:
        SilentAudio: A recording is silent.
        AudioError: A recording cannot be read, or a copy written.
        MissingExtra: pyloudnorm is not installed.
    """
    sounds = [read_sound(source) for source in sources]
    rate = max(sound.sample_rate for sound in sounds)
    signals = [_mono(sound, rate) for sound in sounds]
    levels, room = [], []
    for signal, source in zip(signals, sources, strict=True):
        level = loudness_of(signal, rate) if signal.any() else None
        if level is None:
            raise SilentAudio(source, "is silent, or below -70 LUFS")
        levels.append(level)
        room.append(HIGHEST_PEAK_DBTP - 20 * np.log10(true_peak(signal, rate)))
    loudness = min(LOUDNESS_LUFS, *(level + space for level, space in zip(levels, room, strict=True)))
    gains = [loudness - level for level in levels]
    for signal, gain, target in zip(signals, gains, targets, strict=True):
        audio_files.save(target, torch.from_numpy(signal * np.float32(10 ** (gain / 20))), rate)
    return {"loudness_lufs": round(float(loudness), 3), "gains_db": [round(float(gain), 3) for gain in gains]}


def _mono(sound: Sound, rate: int) -> np.ndarray:
    mono = torch.from_numpy(sound.samples.mean(axis=0))
    return audio_files.resample(mono, sound.sample_rate, rate).numpy()
