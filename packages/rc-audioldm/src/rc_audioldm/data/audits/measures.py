"""What an audit measures of a clip, in one pass over blocks of any length. Imports neither torch nor SciPy.

Shape legend: n = samples, F = frames, B = bins of a spectrum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FRAME_LENGTH, HOP = 2048, 512
HIGH_FREQUENCY_HZ = 8000.0
_QUIETEST = 1e-12
_SILENCE_DB = -240.0
_FLOOR_PERCENTILE = 10.0
_FRAMES_AT_ONCE = 1024

Samples = NDArray[np.floating]


@dataclass(frozen=True)
class FastMeasures:
    """Level of a clip.

    Attributes:
        rms_dbfs: Root mean square in dB below full scale; -240 for digital silence.
        peak_dbfs: Largest absolute sample in dB; above 0 for samples beyond full scale.
        zcr: Share of neighbouring samples with different signs, in [0, 1]; the sign of zero counts.
        duration_s: Length in seconds.
    """

    rms_dbfs: float
    peak_dbfs: float
    zcr: float
    duration_s: float


@dataclass(frozen=True)
class DeepMeasures:
    """Spectrum of a clip.

    Attributes:
        centroid_hz: Mean over the frames of the centroid of the magnitudes.
        flatness: Mean over the frames of geometric by arithmetic mean of the magnitudes; about 0.85 for white noise.
        hf_ratio: Share of the magnitudes at 8 kHz and above.
        floor_db: 10th percentile over the frames of the root mean square over the bins of the amplitude spectrum, in dB
            relative to full scale: magnitudes are divided by the sum of the window, its coherent gain. White noise has
            a floor about 31 dB below its level. With ``legacy_floor`` they are not divided, which adds 60 dB.
        quiet_rms_dbfs: 10th percentile over the frames of their root mean square, in dB below full scale.
    """

    centroid_hz: float
    flatness: float
    hf_ratio: float
    floor_db: float
    quiet_rms_dbfs: float


class DeepMeter:
    """Collects :class:`DeepMeasures` from blocks of samples.

    Frames lie at multiples of the hop, without centring; an incomplete one at the end is dropped, and a clip that is
    shorter than a frame is continued with zeros.

    Args:
        sample_rate: In Hz.
        legacy_floor: Measures of the original: the floor is not normalised, and digital silence has a flatness and a
            high-frequency ratio of 1; otherwise both are 0.
        frame_length: Samples.
        hop: Samples.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        legacy_floor: bool = False,
        frame_length: int = FRAME_LENGTH,
        hop: int = HOP,
    ) -> None:
        self._legacy, self._length, self._hop = legacy_floor, frame_length, hop
        # In float32 the spectrum of a tone has a floor of rounding errors, which the original's flatness measures.
        self._dtype = np.float32 if legacy_floor else np.float64
        self._window = np.hanning(frame_length).astype(self._dtype)
        self._frequencies = np.fft.rfftfreq(frame_length, 1 / sample_rate)
        self._pending = np.zeros(0)
        self._high = self._total = 0.0
        self._columns: list[NDArray[np.float64]] = []

    def push(self, block: Samples) -> None:
        """Take the next samples, ``(n,)``."""
        samples = np.concatenate([self._pending, block.astype(np.float64)])
        n_frames = max(0, (len(samples) - self._length) // self._hop + 1)
        if n_frames:
            frames = np.lib.stride_tricks.sliding_window_view(samples, self._length)[:: self._hop]
            for start in range(0, n_frames, _FRAMES_AT_ONCE):
                self._measure(frames[start : start + _FRAMES_AT_ONCE])
        self._pending = samples[n_frames * self._hop :]

    def result(self) -> DeepMeasures:
        """Return the measures of all samples; call it once."""
        if not self._columns:
            padded = np.zeros(self._length)
            padded[: len(self._pending)] = self._pending
            self._measure(padded[None])
        centroid, flatness, floor, quiet = np.concatenate(self._columns, axis=1)
        none = 1.0 if self._legacy else 0.0
        return DeepMeasures(
            centroid_hz=float(centroid.mean()),
            flatness=float(flatness.mean()),
            hf_ratio=self._high / self._total if self._total else none,
            floor_db=float(np.percentile(floor, _FLOOR_PERCENTILE)),
            quiet_rms_dbfs=float(np.percentile(quiet, _FLOOR_PERCENTILE)),
        )

    def _measure(self, frames_FN: NDArray[np.float64]) -> None:
        magnitudes_FB = np.abs(np.fft.rfft(frames_FN.astype(self._dtype) * self._window)).astype(np.float64)
        sums_F = magnitudes_FB.sum(axis=1)
        self._total += float(sums_F.sum())
        self._high += float(magnitudes_FB[:, self._frequencies >= HIGH_FREQUENCY_HZ].sum())
        geometric_F = np.exp(np.log(magnitudes_FB + _QUIETEST).mean(axis=1))
        flatness_F = geometric_F / (magnitudes_FB.mean(axis=1) + _QUIETEST)
        if not self._legacy:
            flatness_F = np.where(sums_F > 0, flatness_F, 0.0)
        floor_F = np.sqrt(np.mean(magnitudes_FB**2, axis=1))
        if not self._legacy:
            floor_F = floor_F / self._window.sum()
        columns = (
            magnitudes_FB @ self._frequencies / np.maximum(sums_F, _QUIETEST),
            flatness_F,
            20 * np.log10(floor_F + _QUIETEST),
            20 * np.log10(np.sqrt(np.mean(frames_FN**2, axis=1)) + _QUIETEST),
        )
        self._columns.append(np.stack(columns))


class FastMeter:
    """Collects :class:`FastMeasures` from blocks of samples.

    Args:
        sample_rate: In Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._n = self._n_changes = 0
        self._squares = self._peak = 0.0
        self._last: NDArray[np.bool_] = np.zeros(0, bool)

    def push(self, block: Samples) -> None:
        """Take the next samples, ``(n,)``."""
        if not len(block):
            return
        samples = block.astype(np.float64)
        self._n += len(samples)
        self._squares += float(samples @ samples)
        self._peak = max(self._peak, float(np.abs(samples).max()))
        signs = np.concatenate([self._last, np.signbit(samples)])
        self._n_changes += int(np.count_nonzero(signs[1:] != signs[:-1]))
        self._last = signs[-1:]

    def result(self) -> FastMeasures:
        """Return the measures of all samples."""
        return FastMeasures(
            rms_dbfs=_decibels(float(np.sqrt(self._squares / max(1, self._n)))),
            peak_dbfs=_decibels(self._peak),
            zcr=self._n_changes / max(1, self._n - 1),
            duration_s=self._n / self._rate,
        )


def measure(
    blocks: Iterable[Samples], sample_rate: int, *, deep: bool = True, legacy_floor: bool = False
) -> tuple[FastMeasures, DeepMeasures | None]:
    """Measure a clip in one pass.

    Args:
        blocks: Its samples, ``(n,)`` each.
        sample_rate: In Hz.
        deep: Also measure the spectrum.
        legacy_floor: As for :class:`DeepMeter`.
    """
    fast = FastMeter(sample_rate)
    spectrum = DeepMeter(sample_rate, legacy_floor=legacy_floor) if deep else None
    for block in blocks:
        fast.push(block)
        if spectrum is not None:
            spectrum.push(block)
    return fast.result(), None if spectrum is None else spectrum.result()


def measure_clip(
    samples: Samples, sample_rate: int, *, deep: bool = True, legacy_floor: bool = False
) -> tuple[FastMeasures, DeepMeasures | None]:
    """Measure samples ``(n,)`` that are in memory, as :func:`measure`."""
    return measure([samples], sample_rate, deep=deep, legacy_floor=legacy_floor)


def _decibels(value: float) -> float:
    return _SILENCE_DB if value <= _QUIETEST else 20 * float(np.log10(value + _QUIETEST))
