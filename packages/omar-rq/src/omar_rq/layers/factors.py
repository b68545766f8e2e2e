"""Clips in which three factors vary independently: every motif in every timbre and every key.

Made by additive synthesis, so that nothing else differs: all clips have the same length, loudness and tempo.

Shapes: M motifs, I timbres, K keys, n samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pentatonic.errors import UsageError

FACTORS = ("motif", "timbre", "key")
"""Names of the factors, in the order of the axes."""

CLIP_S = 4.0
_LOUDNESS = 0.1  # root mean square of every clip
_TONIC_HZ = 261.63  # of key 0
_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_MOST_PARTIALS = 24


@dataclass(frozen=True)
class Timbre:
    """How a note sounds.

    Args:
        name: Shown to readers.
        slope: Partial h has the amplitude ``h ** -slope``.
        step: 1: all partials; 2: odd ones only.
        attack_s: Seconds until full amplitude.
        decay_s: Seconds in which a note falls to 1/e; 0: it is held.
        vibrato: Depth of the vibrato, in semitones, at 5.5 Hz.
        stretch: Inharmonicity: partial h is ``sqrt(1 + stretch * h^2)`` too high.
    """

    name: str
    slope: float
    step: int = 1
    attack_s: float = 0.01
    decay_s: float = 0.0
    vibrato: float = 0.0
    stretch: float = 0.0


TIMBRES = (
    Timbre("flute", slope=2.5, attack_s=0.05, vibrato=0.15),
    Timbre("clarinet", slope=1.2, step=2, attack_s=0.03),
    Timbre("strings", slope=1.0, attack_s=0.12, vibrato=0.25),
    Timbre("plucked", slope=1.3, attack_s=0.003, decay_s=0.25),
    Timbre("bell", slope=0.7, step=3, attack_s=0.002, decay_s=0.6, stretch=0.01),
)


@dataclass(frozen=True)
class Design:
    """Which clips there are.

    Args:
        motifs: M melodies, each drawn from ``seed``.
        timbres: I timbres of :data:`TIMBRES`.
        keys: K transpositions, in semitones above C.
        seed: Of the melodies.

    Raises:
        UsageError: A factor has fewer than two levels, or a key is not among -12 to 12.
    """

    motifs: int = 6
    timbres: tuple[Timbre, ...] = TIMBRES
    keys: tuple[int, ...] = (0, 2, 4, 5, 7, 9)
    seed: int = 0
    melodies: tuple[tuple[tuple[int, float], ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        if min(self.shape) < 2:
            raise UsageError(f"the factors have {self.shape} levels; allowed: at least 2 each")
        if len(set(self.keys)) < len(self.keys) or not all(-12 <= key <= 12 for key in self.keys):
            raise UsageError(f"keys is {self.keys}; allowed: different semitones from -12 to 12")
        rng = np.random.default_rng(self.seed)
        object.__setattr__(self, "melodies", tuple(_melody(rng) for _ in range(self.motifs)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Levels of each factor, (M, I, K)."""
        return self.motifs, len(self.timbres), len(self.keys)

    def levels(self) -> np.ndarray:
        """Return the level of each factor for each clip, ``(M * I * K, 3)``, in the order of :meth:`clips`."""
        return np.indices(self.shape).reshape(3, -1).T

    def clips(self, sample_rate: int) -> Iterator[np.ndarray]:
        """Render the clips, one after the other: ``(n,)`` float32 in [-1, 1] each.

        Args:
            sample_rate: In Hz; partials above its half are left out.
        """
        for motif, timbre, key in self.levels():
            yield render(self.melodies[motif], self.timbres[timbre], self.keys[key], sample_rate)


def render(melody: Sequence[tuple[int, float]], timbre: Timbre, key: int, sample_rate: int) -> np.ndarray:
    """Render a melody.

    Args:
        melody: (semitones above the tonic, seconds) of each note.
        timbre: How it sounds.
        key: Semitones by which everything is transposed.
        sample_rate: In Hz.

    Returns:
        ``(CLIP_S * sample_rate,)`` float32, of equal loudness for all.
    """
    samples = np.zeros(round(CLIP_S * sample_rate))
    start_s = 0.0
    for semitones, length_s in melody:
        first, last = round(start_s * sample_rate), round((start_s + length_s) * sample_rate)
        time_s = np.arange(last - first) / sample_rate
        samples[first:last] += _note(_TONIC_HZ * 2 ** ((semitones + key) / 12), time_s, timbre, sample_rate)
        start_s += length_s
    return (samples * (_LOUDNESS / np.sqrt(np.mean(samples**2)))).astype(np.float32)


def _note(hz: float, time_s: np.ndarray, timbre: Timbre, sample_rate: int) -> np.ndarray:
    bend = timbre.vibrato * np.log(2) / 12 / (2 * np.pi * 5.5)
    phase = 2 * np.pi * hz * (time_s + bend * (1 - np.cos(2 * np.pi * 5.5 * time_s)))
    sound = np.zeros_like(time_s)
    for partial in range(1, _MOST_PARTIALS * timbre.step, timbre.step):
        ratio = partial * np.sqrt(1 + timbre.stretch * partial**2)
        if hz * ratio * 1.03 >= sample_rate / 2:
            break
        sound += partial**-timbre.slope * np.sin(ratio * phase)
    envelope = np.minimum(1, time_s / timbre.attack_s) * np.minimum(1, (time_s[-1] - time_s) / 0.02)
    return sound * envelope * (np.exp(-time_s / timbre.decay_s) if timbre.decay_s else 1.0)


def _melody(rng: np.random.Generator) -> tuple[tuple[int, float], ...]:
    """Eight notes of a major scale, from the tonic by steps and small leaps, with a rhythm of their own."""
    degrees = np.clip(np.cumsum([0, *rng.choice([-2, -1, 1, 2, 3, -3], 7)]), -5, 9)
    weights = rng.choice([1, 2, 3], 8)
    lengths = CLIP_S * weights / weights.sum()
    notes = [12 * (degree // 7) + _MAJOR[degree % 7] for degree in degrees]
    return tuple(zip(map(int, notes), map(float, lengths), strict=True))
