"""Fixtures of the tests of the library and the playlists: synthetic pieces, a small random model, a library."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from myna_rpe.config import EncoderConfig, PositionConfig
from myna_rpe.library.library import Library
from myna_rpe.library.scan import scan
from myna_rpe.model import MynaEncoder

RATE = 22050
SMALL = EncoderConfig(
    dim=24, depth=1, heads=2, dim_head=8, mlp_dim=32, out_dim=8, positions=PositionConfig(bias="alibi")
)


def small_model(seed: int = 0) -> MynaEncoder:
    torch.manual_seed(seed)
    return MynaEncoder(SMALL).eval()


@lru_cache(maxsize=16)
def piece(seed: int, seconds: float = 12.0) -> np.ndarray:
    """A piece of random notes with random rhythm and timbre, mono float64, which cannot be written to."""
    random = np.random.default_rng(seed)
    sound = np.zeros(int(seconds * RATE))
    partials = random.uniform(0.05, 1, 8) / np.arange(1, 9)
    at = 0.0
    while at < seconds - 0.1:
        length = float(random.choice([0.2, 0.3, 0.45, 0.6, 0.9]))
        time = np.arange(int(min(length * 1.5, seconds - at) * RATE)) / RATE
        for _ in range(int(random.integers(1, 4))):
            pitch = 110 * 2 ** (random.integers(0, 36) / 12)
            tone = np.polyval([*partials[::-1], 0], np.exp(2j * np.pi * pitch * time)).imag
            start = int(at * RATE)
            sound[start : start + len(time)] += tone * np.exp(-time * random.uniform(2, 8))
        at += length
    sound += random.normal(size=len(sound)) * 1e-3
    sound *= 0.5 / np.abs(sound).max()
    sound.setflags(write=False)
    return sound


def write(path: Path, sound: np.ndarray, **tags: str) -> Path:
    """Write a FLAC or Ogg file with tags."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".flac": "FLAC", ".ogg": "OGG", ".wav": "WAV", ".mp3": "MP3"}[path.suffix]
    with soundfile.SoundFile(path, "w", RATE, 1, format=kind) as file:
        for name, value in tags.items():
            setattr(file, name, value)
        file.write(sound)
    return path


@pytest.fixture
def sounds() -> SimpleNamespace:
    """``piece``, ``write``, ``small_model`` and ``RATE`` of this module."""
    return SimpleNamespace(piece=piece, write=write, small_model=small_model, RATE=RATE)


@pytest.fixture(scope="session")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A library that no test changes.

    ``music`` and ``index`` are its folders: 12 pieces of 4 artists on 6 albums, a copy of the first with 3 s of silence
    before it, silence, near-silence, a short piece and a file that is no audio.
    """
    folder = tmp_path_factory.mktemp("library")
    music = folder / "music"
    for seed in range(12):
        tags = {"title": f"Piece {seed}", "artist": f"Artist {seed % 4}", "album": f"Album {seed % 6}"}
        write(music / f"{seed:02}.ogg", piece(seed), **tags)
    write(music / "late.flac", np.concatenate([np.zeros(3 * RATE), piece(0)]), title="Piece 0 (late)")
    write(music / "silent.wav", np.zeros(11 * RATE))
    write(music / "quiet.wav", 1e-4 * piece(30))
    write(music / "short.wav", piece(31, 4.9))
    (music / "broken.ogg").write_bytes(b"OggS" + b"x" * 3000)
    result = scan(small_model(), folder / "index", [music], model_name="small")
    return SimpleNamespace(
        music=music, index=folder / "index", result=result, library=Library.open(folder / "index")
    )
