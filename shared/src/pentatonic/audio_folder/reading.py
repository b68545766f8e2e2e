"""How recordings are read: which part of each, up to which limits, and what is worth a note about its signal."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from pentatonic.audio import AudioLimits
from pentatonic.errors import UsageError
from pentatonic.progress import show_detail

Stream = Callable[..., Iterator[Tensor]]
"""Reads a file as :func:`pentatonic.audio.stream` does."""

_LIMITS = AudioLimits()

QUIET_PEAK_DBFS = -60.0
"""A recording whose samples all stay below this is flagged as ``quiet``: what is embedded may be noise."""
SHORT_S = 1.0
"""A recording below this length is flagged as ``short``: its few tokens have hardly any context."""


@dataclass(frozen=True)
class ReadOptions:
    """What is read of each recording.

    Attributes:
        start_s: Start here, in seconds.
        duration_s: Read at most this many seconds; None: to the end.
        nonfinite: ``"raise"``: NaN and infinite samples are an error; ``"zero"``: they are set to 0, with a warning.
        max_duration_s: A longer recording is an error, whatever part of it is asked for.
        max_channels: A recording with more channels is an error.

    Raises:
        UsageError: A value is not allowed.
    """

    start_s: float = 0.0
    duration_s: float | None = None
    nonfinite: Literal["raise", "zero"] = "raise"
    max_duration_s: float = _LIMITS.max_duration_s
    max_channels: int = _LIMITS.max_channels

    def __post_init__(self) -> None:
        for name in ("start_s", "duration_s", "max_duration_s"):
            if (
                value := getattr(self, name)
            ) is not None:  # 30 and 30.0 are stored in outputs as the same text
                object.__setattr__(self, name, float(value))
        if not (math.isfinite(self.start_s) and self.start_s >= 0):
            raise UsageError(f"start is {self.start_s:g} seconds; allowed: 0 or more")
        if self.duration_s is not None and not (math.isfinite(self.duration_s) and self.duration_s > 0):
            raise UsageError(f"duration is {self.duration_s:g} seconds; allowed: more than 0")
        if self.nonfinite not in ("raise", "zero"):
            raise UsageError(f"nonfinite is {self.nonfinite!r}; allowed: raise, zero")
        if not (math.isfinite(self.max_duration_s) and self.max_duration_s > 0):
            raise UsageError(f"max-duration is {self.max_duration_s:g} seconds; allowed: more than 0")
        if self.max_channels < 1:
            raise UsageError(f"max-channels is {self.max_channels}; allowed: 1 or more")

    @property
    def is_excerpt(self) -> bool:
        """Whether a part may be left out."""
        return self.start_s > 0 or self.duration_s is not None

    @property
    def stream_options(self) -> dict[str, Any]:
        """The same as arguments of :func:`pentatonic.audio.stream`."""
        return {
            "offset_s": self.start_s,
            "duration_s": self.duration_s,
            "nonfinite": self.nonfinite,
            "limits": AudioLimits(max_duration_s=self.max_duration_s, max_channels=self.max_channels),
        }


DEFAULT_READING = ReadOptions()
"""Whole recordings, with the limits of :class:`pentatonic.audio.AudioLimits`."""


class MeasuredBlocks(Iterator[Tensor]):
    """Blocks of samples (n,) that are measured as they pass, and shown as progress.

    Args:
        blocks: The blocks.
        sample_rate: Their rate in Hz.
        name: Of the recording, for the progress.

    Attributes:
        n_samples: Samples so far.
        peak: Largest absolute sample so far.
    """

    def __init__(self, blocks: Iterable[Tensor], sample_rate: int, name: str) -> None:
        self.n_samples, self.peak = 0, 0.0
        self._blocks, self._sample_rate, self._name = iter(blocks), sample_rate, name

    def __next__(self) -> Tensor:
        if self.n_samples:  # whoever asks for the next block is done with the last one
            show_detail(f"{self._name}: {self.duration_s:.0f} s of audio")
        block = next(self._blocks)
        self.n_samples += len(block)
        if len(block):
            self.peak = max(self.peak, float(block.abs().max()))
        return block

    def close(self) -> None:
        """Read no further."""
        if isinstance(self._blocks, Generator):
            self._blocks.close()

    @property
    def duration_s(self) -> float:
        """Seconds so far."""
        return self.n_samples / self._sample_rate

    @property
    def flags(self) -> list[str]:
        """What is unusual about the signal, such as ``quiet (peak -72.0 dBFS)``; for most there is nothing."""
        flags = []
        if self.peak < 10 ** (QUIET_PEAK_DBFS / 20):
            flags.append(
                f"quiet (peak {20 * math.log10(self.peak):.1f} dBFS)" if self.peak else "quiet (silence)"
            )
        if self.duration_s < SHORT_S:
            flags.append(f"short ({self.duration_s:.2f} s)")
        return flags


def open_audio(
    source: str | Path,
    *,
    stream: Stream,
    sample_rate: int,
    strict: bool = True,
    reading: ReadOptions = DEFAULT_READING,
    note: str = "",
) -> MeasuredBlocks:
    """Open one recording; nothing is decoded before the first block is asked for.

    Args:
        source: The file.
        stream: Reads it.
        sample_rate: Of the blocks, in Hz.
        strict: Damage is an error; else what precedes it is read, with a ``UserWarning``.
        reading: What is read of it.
        note: Added to its name in the progress.
    """
    blocks = stream(source, sample_rate=sample_rate, strict=strict, **reading.stream_options)
    return MeasuredBlocks(blocks, sample_rate, f"{Path(source).name}{note}")
