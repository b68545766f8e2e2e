"""Copy detector: does an output hold a piece of a clip, perhaps at another level, filtered, with noise, or elsewhere?

The output is cut into windows of two seconds, and each is sought in the whole clip, in two ways:

- ``waveform``: the largest normalised cross-correlation of the samples at any shift, of either sign, at any level.
- ``spectrum``: the largest correlation of the log-mel patches at any shift, with the mean of each band removed, so that
  neither level nor a filter counts, and noise and coding little. It hears when which band rises and falls.

Held tones rise and fall nowhere, and two with the same harmonics have the same waveform without being copies of each
other: windows whose bands hardly move, or that are nearly silent, are not judged.

Shapes: n samples, W windows, B bands, F frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from rc_audioldm.knob.log_mel import FLOOR_DB, FRAMES_PER_S, Samples, log_mel, mono_at

WAVEFORM_THRESHOLD = 0.7
SPECTRUM_THRESHOLD = 0.82
"""Set on two draws, and then tried on a third, of 10 s from 16, 19 and 24 tracks of the soundtracks of Singularity,
HyperRogue and Wesnoth: none of the 1,134 pairs of unlike tracks of one soundtrack was taken for a copy (largest
waveform .60, largest spectrum .74). Of 16 copies from Singularity, the hardest of the three, all were found at another
level or sign, with noise 20 dB below, and after low MP3; 15 through a filter of 300 to 3000 Hz, 14 with noise 10 dB
below, 6 with noise 3 dB below. Its regular beats are the most alike: lower thresholds took two pairs for copies."""

WINDOW_S, HOP_S = 2.0, 1.0
_RATE = 8_000  # of the waveforms: what is above 4 kHz is the first to go in a copy
_EMPHASIS = np.float32(0.95)  # less bass: two basses of the same pitch have the same waveform
_RANGE_DB = 50.0
_LEAST_MOVEMENT_DB = 2.0
_SILENT_DBFS = -60.0
_TINY = 1e-9


@dataclass(frozen=True)
class CopyMatch:
    """The place of a clip that is most like an output.

    Args:
        clip: Its name.
        waveform: Largest correlation of waveforms, 0 to 1; None where no window can be judged.
        spectrum: Largest correlation of spectra, -1 to 1; likewise.
        output_s: Where the window with the better of the two is in the output, in seconds.
        clip_s: Where it is in the clip.
        seconds: Length of all windows of the output that are above a threshold, overlaps counted once.
        judged: Share of the windows of the output that can be judged.
        is_copy: Whether a window is above a threshold.
    """

    clip: str
    waveform: float | None
    spectrum: float | None
    output_s: float
    clip_s: float
    seconds: float
    judged: float
    is_copy: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


class Searchable:
    """A sound, prepared for the search; one clip can be prepared once for many outputs.

    Args:
        name: Of the sound.
        samples: ``(n,)`` or ``(C, n)``.
        sample_rate: In Hz.

    Raises:
        AudioError: There are no samples, or some that are not finite.
    """

    def __init__(self, name: str, samples: Samples, sample_rate: int) -> None:
        self.name = name
        wave = mono_at(samples, sample_rate, _RATE)
        less_bass = wave - _EMPHASIS * np.concatenate([wave[:1] * 0, wave[:-1]])
        self.wave: NDArray[np.float32] = less_bass.astype(np.float32)
        mel = log_mel(samples, sample_rate)
        self.mel = np.maximum(mel, max(FLOOR_DB, float(mel.max()) - _RANGE_DB))
        self._waves: dict[int, _Haystack] = {}
        self._patches: dict[int, _Haystack] = {}

    def waves(self, width: int) -> _Haystack:
        """Return the waveform, prepared for windows of a width."""
        if width not in self._waves:
            self._waves[width] = _Haystack(self.wave[None], width, 0.0, centred=False)
        return self._waves[width]

    def patches(self, width: int) -> _Haystack:
        """Return the log-mel spectrogram, prepared for patches of a width."""
        if width not in self._patches:
            # Places where nothing moves are like nothing.
            least = self.mel.shape[0] * width * _LEAST_MOVEMENT_DB**2
            self._patches[width] = _Haystack(self.mel, width, least, centred=True)
        return self._patches[width]


def find_copies(output: Searchable, clips: Iterable[Searchable]) -> list[CopyMatch]:
    """Compare an output with each clip, and return the matches, copies and the most alike first.

    Args:
        output: The output; one shorter than two seconds is one window.
        clips: What it may be a copy of: its reference, the retrieved clips, or a whole bank.
    """
    matches = [_match(output, clip) for clip in clips]
    return sorted(matches, key=lambda each: (not each.is_copy, -_likeness(each.waveform, each.spectrum)))


def _match(output: Searchable, clip: Searchable) -> CopyMatch:
    best, wave_best, spectrum_best, copied = (-math.inf, 0.0, 0.0), None, None, []
    windows = list(_windows(output))
    judged = 0
    for start_s, wave, patch in windows:
        if not _can_be_judged(wave, patch):
            continue
        judged += 1
        found = [
            (*_best_wave(wave, clip), WAVEFORM_THRESHOLD),
            (*_best_patch(patch, clip), SPECTRUM_THRESHOLD),
        ]
        wave_best = _larger(wave_best, found[0][0])
        spectrum_best = _larger(spectrum_best, found[1][0])
        value, place, threshold = max(found, key=lambda each: each[0] - each[2])
        best = max(best, (value - threshold, start_s, place))
        if value >= threshold:
            copied.append((start_s, start_s + len(wave) / _RATE))
    seconds = _covered(copied)
    share = judged / len(windows)
    return CopyMatch(clip.name, wave_best, spectrum_best, best[1], best[2], seconds, share, bool(copied))


def _windows(sound: Searchable) -> Iterator[tuple[float, NDArray[np.float32], NDArray[np.float64]]]:
    """(start in s, samples, log-mel patch) of each window; the last one ends with the sound."""
    length_s = len(sound.wave) / _RATE
    last = max(0.0, length_s - WINDOW_S)
    starts = [*np.arange(0, last, HOP_S).tolist(), last]
    for start in starts:
        wave = sound.wave[round(start * _RATE) :][: round(WINDOW_S * _RATE)]
        patch = sound.mel[:, round(start * FRAMES_PER_S) :][:, : round(WINDOW_S * FRAMES_PER_S)]
        yield start, wave, patch


def _can_be_judged(wave: NDArray[np.float32], patch: NDArray[np.float64]) -> bool:
    moves = float(np.sqrt(np.mean((patch - patch.mean(axis=1, keepdims=True)) ** 2)))
    level = 20 * math.log10(math.sqrt(float(np.mean(wave**2))) + _TINY)
    return moves >= _LEAST_MOVEMENT_DB and level > _SILENT_DBFS


class _Haystack:
    """A sound as rows, in which windows of one width are sought; what does not depend on the window is computed once.

    Args:
        rows: ``(R, n)``.
        width: Of the windows; a shorter sound is continued.
        least: Smallest energy of a place that counts, beside that of the loudest place.
        centred: The mean of each row in the place does not count.
    """

    def __init__(self, rows: NDArray[np.floating], width: int, least: float, *, centred: bool) -> None:
        missing = max(0, width - rows.shape[1])
        rows = np.pad(rows, ((0, 0), (0, missing)), mode="edge" if centred else "constant")
        self._size = fft.next_fast_len(
            rows.shape[1], real=True
        )  # what wraps around lies behind the last shift
        self._spectrum = np.asarray(fft.rfft(rows, self._size))
        values = rows.astype(np.float64)
        energy = _sliding_sum(values**2, width)
        if centred:
            energy = energy - _sliding_sum(values, width) ** 2 / width
        energy = energy.sum(axis=0)
        # Where the sound is far quieter than at its loudest, rounding would decide.
        self._norms = np.sqrt(np.maximum(energy, max(least, 1e-4 * float(energy.max()), _TINY)))

    def correlations(self, window: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the correlation of ``(R, width)`` with each place, ``(n - width + 1,)``."""
        product = self._spectrum * np.conj(np.asarray(fft.rfft(window, self._size)))
        products = np.asarray(fft.irfft(product.sum(axis=0), self._size))[: len(self._norms)]
        return products / (self._norms * np.sqrt(np.sum(window.astype(np.float64) ** 2)))


def _best_wave(window: NDArray[np.float32], clip: Searchable) -> tuple[float, float]:
    """Largest correlation and its place in the clip in s."""
    values = np.abs(clip.waves(len(window)).correlations(window[None]))
    place = int(values.argmax())
    return float(values[place]), place / _RATE


def _best_patch(patch: NDArray[np.float64], clip: Searchable) -> tuple[float, float]:
    """Largest correlation of a patch with one of the clip, each band without its mean in the patch, and its place."""
    # The mean of the clip's band drops out of the product, because the window's sums to 0.
    centred = patch - patch.mean(axis=1, keepdims=True)
    values = clip.patches(patch.shape[1]).correlations(centred)
    place = int(values.argmax())
    return float(values[place]), place / FRAMES_PER_S


def _sliding_sum(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Sums of so many neighbours along the last axis."""
    start = np.zeros((*values.shape[:-1], 1))
    sums = np.concatenate([start, np.cumsum(values, axis=-1)], axis=-1)
    return sums[..., width:] - sums[..., :-width]


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    total, end = 0.0, -math.inf
    for low, high in sorted(spans):
        total += max(0.0, high - max(low, end))
        end = max(end, high)
    return total


def _likeness(waveform: float | None, spectrum: float | None) -> float:
    if waveform is None or spectrum is None:
        return -math.inf
    return max(waveform - WAVEFORM_THRESHOLD, spectrum - SPECTRUM_THRESHOLD)


def _larger(one: float | None, other: float) -> float:
    return other if one is None else max(one, other)
