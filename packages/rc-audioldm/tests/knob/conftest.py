"""Notes of made-up instruments: harmonics under an envelope that stays where it is when the pitch changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

RATE = 16_000
MELODIES = (
    (60, 62, 64, 65, 67, 65, 64, 62),
    (67, 64, 60, 64, 67, 72, 67, 64),
    (60, 60, 67, 67, 69, 69, 67, 65),
)
# (centre in Hz, width in octaves, height in dB) of formants, and the fall in dB for each octave above 200 Hz.
INSTRUMENTS: dict[str, tuple[Sequence[tuple[float, float, float]], float]] = {
    "cello": (((400, 0.4, 10), (1500, 0.5, 6)), 8),
    "flute": (((800, 0.6, 12),), 16),
    "reed": (((1200, 0.3, 18), (3000, 0.4, 14)), 6),
}

Play = Callable[..., np.ndarray]


@pytest.fixture(scope="session")
def play() -> Play:
    """``play(instrument, melody, transposition, note_s)`` -> (n,) float32 at 16 kHz, peak 0.5."""

    def sound(instrument: str, melody: int = 0, transposition: int = 0, note_s: float = 0.4) -> np.ndarray:
        notes = [_note(pitch + transposition, note_s, *INSTRUMENTS[instrument]) for pitch in MELODIES[melody]]
        samples = np.concatenate(notes)
        return (samples / np.abs(samples).max() / 2).astype(np.float32)

    return sound


def _note(pitch: int, note_s: float, formants: Any, fall_db: float) -> np.ndarray:
    times = np.arange(round(note_s * RATE)) / RATE
    tone = np.zeros(len(times))
    for harmonic in range(1, 40):
        hertz = harmonic * 440 * 2 ** ((pitch - 69) / 12)
        if hertz > 0.47 * RATE:
            break
        level = -fall_db * max(0.0, np.log2(hertz / 200))
        level += sum(
            height * np.exp(-0.5 * (np.log2(hertz / at) / width) ** 2) for at, width, height in formants
        )
        tone += 10 ** (level / 20) * np.sin(2 * np.pi * hertz * times + harmonic**2)
    return tone * np.clip(np.minimum(times / 0.01, (note_s - times) / 0.03), 0, 1)
