"""Synthetic pieces and a small random model, for the tests of the library and the playlists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch

from myna_rpe.config import EncoderConfig, PositionConfig
from myna_rpe.model import MynaEncoder

RATE = 22050
SMALL = EncoderConfig(
    dim=24, depth=1, heads=2, dim_head=8, mlp_dim=32, out_dim=8, positions=PositionConfig(bias="alibi")
)


def small_model(seed: int = 0) -> MynaEncoder:
    torch.manual_seed(seed)
    return MynaEncoder(SMALL).eval()


def piece(seed: int, seconds: float = 12.0) -> np.ndarray:
    """A piece of random notes with random rhythm and timbre, mono float64."""
    random = np.random.default_rng(seed)
    sound = np.zeros(int(seconds * RATE))
    partials = random.uniform(0.05, 1, 8) / np.arange(1, 9)
    at = 0.0
    while at < seconds - 0.1:
        length = float(random.choice([0.2, 0.3, 0.45, 0.6, 0.9]))
        time = np.arange(int(min(length * 1.5, seconds - at) * RATE)) / RATE
        for _ in range(int(random.integers(1, 4))):
            pitch = 110 * 2 ** (random.integers(0, 36) / 12)
            tone = sum(a * np.sin(2 * np.pi * pitch * (k + 1) * time) for k, a in enumerate(partials))
            start = int(at * RATE)
            sound[start : start + len(time)] += tone * np.exp(-time * random.uniform(2, 8))
        at += length
    sound += random.normal(size=len(sound)) * 1e-3
    return 0.5 * sound / np.abs(sound).max()


def write(path: Path, sound: np.ndarray, **tags: str) -> Path:
    """Write a FLAC or Ogg file with tags."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".flac": "FLAC", ".ogg": "OGG", ".wav": "WAV", ".mp3": "MP3"}[path.suffix]
    with soundfile.SoundFile(path, "w", RATE, 1, format=kind) as file:
        for name, value in tags.items():
            setattr(file, name, value)
        file.write(sound)
    return path
