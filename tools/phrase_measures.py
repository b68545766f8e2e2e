"""The clips of tools/phrases/make_phrases.py, and measures of single sounds that no model has a part in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct

from pentatonic.audio import load
from pentatonic.mel import MelFrontend
from rc_audioldm.data.manifest import ManifestRow, read_manifest

RATE = 16_000
REGISTERS = ("low", "middle", "high")
_LOWEST_HZ, _HIGHEST_HZ = 38.0, 2200.0
_NEIGHBOURS = 5
_COEFFICIENTS = 20
_RANGE = np.log(1000.0)  # what is 60 dB below the loudest value of a clip is background
Samples = NDArray[np.float32]


class Listener:
    """Timbre, copies and level by spectrograms, compared with training clips; nothing of it is the model's.

    Args:
        rows: Training clips.
        read: Reads one.
    """

    def __init__(self, rows: Sequence[ManifestRow], read: Callable[[ManifestRow], Samples]) -> None:
        self._frontend = MelFrontend.preset("audioldm")
        self.rows = rows
        mels = np.stack([self._mel(read(row)) for row in rows])
        raw = np.stack([self._features(mel) for mel in mels])
        self._middle, self._spread = raw.mean(axis=0), raw.std(axis=0)
        self._known = (raw - self._middle) / self._spread
        self._images = np.stack([self._image(mel) for mel in mels]).astype(np.float32)
        self._instruments = np.array([row.labels[0] for row in rows])
        self._registers = np.array([register_of(row.labels) for row in rows])

    def features(self, samples: Samples) -> NDArray[np.float64]:
        """Standardised spectral envelope of a sound, and how it changes."""
        return (self._features(self._mel(samples)) - self._middle) / self._spread

    def instrument(self, samples: Samples) -> str:
        """Return the instrument of most of the five nearest training clips."""
        distances = ((self._known - self.features(samples)) ** 2).sum(axis=1)
        nearest = self._instruments[np.argsort(distances, kind="stable")[:_NEIGHBOURS]]
        names, counts = np.unique(nearest, return_counts=True)
        return str(names[counts.argmax()])

    def nearest_copy(self, samples: Samples) -> float:
        """Return the highest correlation of the log-mel spectrogram with that of a training clip."""
        return float((self._images @ self._image(self._mel(samples)).astype(np.float32)).max())

    def _mel(self, samples: Samples) -> NDArray[np.float64]:
        mel = self._frontend(torch.from_numpy(samples)).numpy()[:, :128].astype(np.float64)
        return np.maximum(mel, mel.max() - _RANGE)

    @staticmethod
    def _features(mel: NDArray[np.float64]) -> NDArray[np.float64]:
        cepstrum = dct(mel, axis=0, norm="ortho")[1 : _COEFFICIENTS + 1]
        loud = mel.mean(axis=0) >= np.median(mel.mean(axis=0))
        level = mel.mean(axis=0)
        return np.concatenate(
            [
                cepstrum[:, loud].mean(axis=1),
                cepstrum.std(axis=1),
                [level.std(), np.abs(np.diff(level)).mean()],
            ]
        )

    @staticmethod
    def _image(mel: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = (mel - mel.mean()).ravel()
        return flat / max(1e-9, float(np.linalg.norm(flat)))


def register_of(labels: Iterable[str]) -> str:
    """Return the register of labels, or nothing."""
    return next((label for label in labels if label in REGISTERS), "")


def pitches(samples: Samples) -> NDArray[np.float64]:
    """Return MIDI pitches of voiced frames by pYIN, maybe none."""
    import librosa

    found, _, _ = librosa.pyin(
        samples.astype(np.float64),
        fmin=_LOWEST_HZ,
        fmax=_HIGHEST_HZ,
        sr=RATE,
        frame_length=2048,
        hop_length=512,
        resolution=0.25,  # of a semitone; ten times as fast as the library's own choice
    )
    voiced = found[np.isfinite(found)]
    return 69 + 12 * np.log2(voiced / 440)


def level_db(samples: Samples) -> float:
    """Return the level in dB of full scale."""
    return float(10 * np.log10(max(1e-12, float(np.mean(samples.astype(np.float64) ** 2)))))


class Phrases:
    """The clips of tools/phrases/make_phrases.py by split."""

    def __init__(self, folder: Path) -> None:
        self.manifest = read_manifest(folder / "manifest.jsonl")

    def split(self, name: str) -> list[ManifestRow]:
        """Return the rows of a split."""
        return [row for row in self.manifest if row.more.get("split") == name]

    def read(self, row: ManifestRow) -> Samples:
        """Read a clip."""
        return load(self.manifest.file(row), sample_rate=RATE).samples[0].numpy()

    def range_of(self, instrument: str, register: str) -> tuple[float, float]:
        """Return lowest and highest pitch that the training clips of a register play."""
        played = [
            note[2]
            for row in self.split("train")
            if row.labels[0] == instrument and register in row.labels
            for note in row.more["notes"]
        ]
        return min(played), max(played)
