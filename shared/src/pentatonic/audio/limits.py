"""Limits against files that decode to far more than their size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pentatonic.audio.sources import Source
from pentatonic.errors import AudioLimitExceeded


@dataclass(frozen=True)
class AudioLimits:
    """Limits for one file, against files that decode to far more than their size.

    Attributes:
        max_duration_s: Longest duration.
        max_channels: Most channels.
        max_bytes: Largest file, and largest result of :func:`load`.
        min_sample_rate: Lowest sample rate in Hz.
        max_sample_rate: Highest sample rate in Hz.
    """

    max_duration_s: float = 6 * 3600
    max_channels: int = 64
    max_bytes: int = 4 * 2**30
    min_sample_rate: int = 1000
    max_sample_rate: int = 768000

    def check(self, path: Path, source: Source) -> None:
        """Raise AudioLimitExceeded when a value of the header is out of bounds."""
        rate = source.sample_rate
        if not self.min_sample_rate <= rate <= self.max_sample_rate:
            allowed = f"{self.min_sample_rate} to {self.max_sample_rate} Hz are allowed"
            raise AudioLimitExceeded(path, f"sample rate {rate} Hz; {allowed}")
        if source.channels > self.max_channels:
            raise AudioLimitExceeded(
                path, f"{source.channels} channels; at most {self.max_channels} are allowed"
            )
        self.check_duration(path, source.frames or 0, rate)

    def check_duration(self, path: Path, frames: int, sample_rate: int) -> None:
        """Raise AudioLimitExceeded when ``frames`` samples are too long."""
        if frames > self.max_duration_s * sample_rate:
            raise AudioLimitExceeded(path, f"longer than {self.max_duration_s:g} s, the longest allowed")

    def check_result(self, path: Path, n_values: float) -> None:
        """Raise AudioLimitExceeded when ``n_values`` float32 values need more than ``max_bytes``."""
        if 4 * n_values > self.max_bytes:
            reason = f"would take more than {self.max_bytes} bytes of memory; stream it, or load a part"
            raise AudioLimitExceeded(path, reason)
