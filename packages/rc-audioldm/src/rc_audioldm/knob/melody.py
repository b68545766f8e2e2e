"""Melody: which pitch classes sound in which order, whatever the instrument, the octave and, if asked, the key.

Each frame is a chroma vector of the salience of pitches: a pitch is as salient as its harmonics together are strong, so
that the overtones of an instrument weigh less than in a plain folded spectrum. Two sequences are aligned by dynamic
time warping inside a band, so that a small difference in tempo costs nothing. The likeness is the mean cosine of the
aligned frames, with the mean of each frame removed: 1 for the same melody, 0 for what has nothing in common. The best
of all alignments and of twelve keys is well above 0 for unrelated melodies too, so read it beside that of other sounds.

Shapes: P pitches, F frames, 12 pitch classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rc_audioldm.knob.log_mel import Samples, mono_at

Chroma = NDArray[np.float64]

FRAMES_PER_S = 10
BAND_S = 1.0
"""Aligned frames are at most so far apart, besides what the lengths differ."""

_RATE, _N_FFT = 16_000, 4096  # 256 ms: two notes a semitone apart are told from each other above 130 Hz
_LOWEST, _HIGHEST = 36, 96  # MIDI pitches C2 and C7
_HARMONICS, _DECAY = 5, 0.6
_SEMITONE_WIDTH = 0.35
_SOUNDING_DB = 40.0
_TINY = 1e-12


@dataclass(frozen=True)
class MelodyLikeness:
    """How alike two melodies are.

    Args:
        same_key: As they are, -1 to 1.
        any_key: The best of the twelve keys.
        transposition: In semitones, -5 to 6: so much higher is the second sound in that key.
    """

    same_key: float
    any_key: float
    transposition: int


def chroma(samples: Samples, sample_rate: int) -> Chroma:
    """Return the pitch classes of a sound over time, ``(F, 12)``: rows of norm 1 and mean 0, or 0 in pauses.

    Args:
        samples: ``(n,)`` or ``(C, n)``.
        sample_rate: In Hz.

    Raises:
        EmptyAudio: No samples.
        NonFiniteAudio: NaN or infinite samples.
    """
    mono = mono_at(samples, sample_rate, _RATE).astype(np.float64)
    padded = np.pad(mono, _N_FFT // 2)
    starts = np.arange(0, len(mono), _RATE // FRAMES_PER_S)
    frames = np.stack([padded[start : start + _N_FFT] for start in starts])
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(_N_FFT)))
    salience_FP = np.sqrt(magnitude) @ _salience_weights()
    classes = np.zeros((len(starts), 12))
    # What is below the mean over pitches is no pitch, but the floor that all have in common.
    above = np.maximum(salience_FP - salience_FP.mean(axis=1, keepdims=True), 0) ** 2
    for pitch in range(_LOWEST, _HIGHEST + 1):
        classes[:, pitch % 12] += above[:, pitch - _LOWEST]
    centred = classes - classes.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    level = (magnitude**2).sum(axis=1, keepdims=True)
    sounding = (level > level.max() * 10 ** (-_SOUNDING_DB / 10)) & (norms > _TINY)
    return np.where(sounding, centred / np.maximum(norms, _TINY), 0.0)


def melody_likeness(one: Chroma, other: Chroma) -> MelodyLikeness:
    """Compare two sequences of :func:`chroma`."""
    rotated = np.stack([np.roll(one, shift, axis=1) for shift in range(12)])
    likeness = _aligned(rotated @ other.T, _pauses(one, other))
    best = int(likeness.argmax())
    return MelodyLikeness(float(likeness[0]), float(likeness[best]), (best + 5) % 12 - 5)


def _pauses(one: Chroma, other: Chroma) -> NDArray[np.float64]:
    """1 where both are silent: pauses at the same place are alike; ``(F, F')``."""
    return np.outer((one == 0).all(axis=1), (other == 0).all(axis=1)).astype(np.float64)


def _aligned(cosines: NDArray[np.float64], pauses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean likeness along the best path of each of ``(12, F, F')`` cosines; a diagonal step counts twice."""
    likeness = cosines + pauses
    keys, rows, columns = likeness.shape
    band = round(BAND_S * FRAMES_PER_S) + abs(rows - columns)
    cost = 1 - likeness
    total = np.full((keys, rows + 1, columns + 1), np.inf)
    total[:, 0, 0] = 0
    # Cells of one anti-diagonal depend on the two before only.
    for diagonal in range(rows + columns - 1):
        row = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        row = row[np.abs(2 * row - diagonal) <= band]
        column = diagonal - row
        here = cost[:, row, column]
        total[:, row + 1, column + 1] = np.minimum(
            total[:, row, column] + 2 * here,
            np.minimum(total[:, row, column + 1], total[:, row + 1, column]) + here,
        )
    return 1 - total[:, rows, columns] / (rows + columns)


def _salience_weights() -> NDArray[np.float64]:
    """``(bins, P)``: how much each bin of the spectrum adds to each pitch, by a Gaussian around each harmonic."""
    bins_hz = np.fft.rfftfreq(_N_FFT, 1 / _RATE)
    semitones = 69 + 12 * np.log2(np.maximum(bins_hz, 1.0) / 440)
    weights = np.zeros((len(bins_hz), _HIGHEST - _LOWEST + 1))
    for harmonic in range(1, _HARMONICS + 1):
        centre = np.arange(_LOWEST, _HIGHEST + 1) + 12 * np.log2(harmonic)
        near = np.exp(-0.5 * ((semitones[:, None] - centre) / _SEMITONE_WIDTH) ** 2)
        weights += _DECAY ** (harmonic - 1) * near / np.maximum(near.sum(axis=0), _TINY)
    return weights
