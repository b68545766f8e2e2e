"""One pass over an audio file: decode, check, downmix, resample.

Shape legend: n = samples per channel, C = channels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pentatonic.audio.formats.containers import find_fault
from pentatonic.audio.limits import AudioLimits
from pentatonic.audio.sources import Source, open_source, probe
from pentatonic.audio.soxr_stream import SoxrStream
from pentatonic.errors import (
    AudioTooShort,
    CorruptAudio,
    EmptyAudio,
    NonFiniteAudio,
    UsageError,
)

NonFinite = Literal["raise", "zero"]

BLOCK_S = 30.0
"""Length of the blocks of a stream, in seconds, unless the caller says otherwise."""


@dataclass
class Decoding:
    """Options of one pass over a file, and what the pass found.

    The first eight fields are the arguments of :func:`pentatonic.audio.load`; :meth:`run` sets the others.

    Raises:
        UsageError: An argument is out of range.
    """

    path: Path
    sample_rate: int | None
    mono: bool
    offset_s: float
    duration_s: float | None
    strict: bool
    nonfinite: NonFinite
    limits: AudioLimits
    source_rate: int = 0
    source_channels: int = 0
    peak: float = 0.0
    warnings: list[str] = field(default_factory=list)
    _n_nonfinite: int = 0

    def __post_init__(self) -> None:
        if self.sample_rate is not None and (not isinstance(self.sample_rate, int) or self.sample_rate <= 0):
            raise UsageError(f"sample_rate must be a positive integer in Hz, not {self.sample_rate!r}")
        if not (math.isfinite(self.offset_s) and self.offset_s >= 0):
            raise UsageError(f"offset_s must be 0 or more seconds, not {self.offset_s}")
        if self.duration_s is not None and not (math.isfinite(self.duration_s) and self.duration_s > 0):
            raise UsageError(f"duration_s must be positive seconds, not {self.duration_s}")
        if self.nonfinite not in ("raise", "zero"):
            raise UsageError(f"nonfinite must be 'raise' or 'zero', not {self.nonfinite!r}")

    @property
    def result_rate(self) -> int:
        """Sample rate of the result in Hz, once the file is open."""
        return self.sample_rate or self.source_rate

    def run(self, *, hold_all: bool) -> Iterator[NDArray[np.float32]]:
        """Decode the file.

        Args:
            hold_all: The caller holds all blocks in memory, so the size of the result is checked against the limits.

        Yields:
            Blocks (C, n) float32 at :attr:`result_rate`, C = 1 when mono.
        """
        container, offset = probe(self.path, self.limits.max_bytes)
        fault = find_fault(self.path, container)
        if isinstance(fault, str):
            self.warnings.append(fault)
        elif fault is not None:
            self._tolerate(fault)
        with open_source(self.path, container, offset) as source:
            self.source_rate, self.source_channels = source.sample_rate, source.channels
            self.limits.check(self.path, source)
            start, stop = self._range(source)
            if hold_all:
                self._check_result(source, start, stop)
            yield from self._resampled(self._downmixed(self._decoded(source, start, stop)))
            self.warnings += source.notes
        if self._n_nonfinite:
            self.warnings.append(f"{self._n_nonfinite} NaN or infinite samples were set to 0")
        # Decoders of lossy formats overshoot slightly; only peaks stored as floats get a warning.
        if self.peak > 1 and source.subtype in ("FLOAT", "DOUBLE"):
            self.warnings.append(f"peak {self.peak:g} is beyond full scale")

    def _tolerate(self, error: CorruptAudio | EmptyAudio) -> None:
        if self.strict:
            raise error
        self.warnings.append(error.reason)

    def _range(self, source: Source) -> tuple[int, int | None]:
        rate, frames = source.sample_rate, source.frames
        start = round(self.offset_s * rate)
        if frames is not None and start >= frames:
            if frames > 0:
                reason = f"offset_s={self.offset_s:g} is past the end at {frames / rate:g} s"
                raise AudioTooShort(self.path, reason)
            start = 0  # an empty file: reported as such below
        if self.duration_s is None:
            return start, None
        return start, start + max(1, round(self.duration_s * rate))

    def _check_result(self, source: Source, start: int, stop: int | None) -> None:
        if source.frames is not None:
            end = source.frames if stop is None else min(stop, source.frames)
            channels = 1 if self.mono else source.channels
            self.limits.check_result(
                self.path, (end - start) * channels * self.result_rate / source.sample_rate
            )

    def _decoded(self, source: Source, start: int, stop: int | None) -> Iterator[NDArray[np.float32]]:
        """Finite blocks (n, C) from sample ``start`` to ``stop``."""
        position = start
        try:
            for decoded in source.blocks(start):
                block = decoded if stop is None else decoded[: stop - position]
                self.limits.check_duration(self.path, position + len(block), source.sample_rate)
                yield self._finite(block, position)
                position += len(block)
                if position == stop:
                    return
        except CorruptAudio as error:
            self._tolerate(error)
        if position == start > 0:
            raise AudioTooShort(self.path, f"nothing could be decoded from offset_s={self.offset_s:g} on")
        if position == 0:
            self._tolerate(EmptyAudio(self.path, "no samples"))

    def _finite(self, block: NDArray[np.float32], position: int) -> NDArray[np.float32]:
        peak = float(max(block.max(), -block.min()))  # NaN propagates through both
        if not math.isfinite(peak):
            good = np.isfinite(block)
            if self.nonfinite == "raise":
                at = position + int(np.argmin(good.all(axis=1)))
                reason = (
                    f"NaN or infinite sample at {at / self.source_rate:.3f} s; nonfinite='zero' sets it to 0"
                )
                raise NonFiniteAudio(self.path, reason)
            self._n_nonfinite += int(block.size - good.sum())
            block = np.where(good, block, np.float32(0))
            peak = float(np.abs(block).max())
        self.peak = max(self.peak, peak)
        return block

    def _downmixed(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Turn blocks (n, C) into blocks (C, n), C = 1 when mono."""
        for block in blocks:
            if self.mono and block.shape[1] > 1:
                # In float64, so that neither the order of the channels nor an overflow of their sum matters.
                total = block[:, 0].astype(np.float64)
                for channel in range(1, block.shape[1]):
                    total += block[:, channel]
                yield (total / block.shape[1]).astype(np.float32)[None]
            else:
                yield np.ascontiguousarray(block.T)

    def _resampled(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        if self.result_rate == self.source_rate:
            yield from blocks
            return
        n_channels = 1 if self.mono else self.source_channels
        channels = [SoxrStream(self.source_rate, self.result_rate) for _ in range(n_channels)]
        for block in blocks:
            ready = np.stack([channel.push(row) for channel, row in zip(channels, block, strict=True)])
            if ready.shape[1]:
                yield ready
        rest = np.stack([channel.flush() for channel in channels])
        if rest.shape[1]:
            yield rest


def mono_blocks(decoding: Decoding, block_s: float) -> Iterator[NDArray[np.float32]]:
    """Decode a file to mono blocks of equal length; its warnings are issued after the last one.

    Args:
        decoding: With ``mono``.
        block_s: Length of every block but the last, in seconds.

    Yields:
        Blocks (n,) float32.
    """
    pending: list[NDArray[np.float32]] = []
    n_pending = 0
    for block in decoding.run(hold_all=False):
        pending.append(block[0])
        n_pending += block.shape[1]
        size = max(1, round(block_s * decoding.result_rate))
        if n_pending >= size:
            samples = np.concatenate(pending)
            whole = n_pending - n_pending % size
            for start in range(0, whole, size):
                yield samples[start : start + size]
            pending, n_pending = [samples[whole:]], n_pending - whole
    if n_pending:
        yield np.concatenate(pending)
    for text in decoding.warnings:
        warnings.warn(f"{decoding.path}: {text}", stacklevel=3)
