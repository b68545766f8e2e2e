"""Sample-rate conversion of a signal that comes in blocks, by libsoxr and without torch.

The result has ``ceil(n * sr_out / sr_in)`` samples. soxr itself rounds to the nearest integer; where that is one sample
less, the last sample is computed from the signal continued with zeros.
"""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from pentatonic.errors import UsageError


class SoxrStream:
    """Resample one channel block by block.

    Args:
        sr_in: Sample rate of the blocks in Hz.
        sr_out: Wanted sample rate in Hz.

    Raises:
        UsageError: A rate is not a positive integer.
    """

    def __init__(self, sr_in: int, sr_out: int) -> None:
        check_rates(sr_in, sr_out)
        self.sr_in, self.sr_out = sr_in, sr_out
        self._stream = soxr.ResampleStream(sr_in, sr_out, 1, dtype="float32") if sr_in != sr_out else None
        self._pushed = self._returned = 0
        self._flushed = False

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Feed a block (n,) float32; returns what is ready, (m,) float32, m >= 0.

        Raises:
            UsageError: :meth:`flush` was called before.
        """
        if self._flushed:
            raise UsageError("push after flush: begin a new stream for the next signal")
        if self._stream is None:
            return block
        self._pushed += len(block)
        ready = self._stream.resample_chunk(block, last=False)
        self._returned += len(ready)
        return ready

    def flush(self) -> NDArray[np.float32]:
        """End the signal; returns its last samples, (m,) float32."""
        flushed, self._flushed = self._flushed, True
        if self._stream is None or flushed or self._pushed == 0:
            return np.zeros(0, np.float32)
        rest = self._stream.resample_chunk(silence(self.sr_in, self.sr_out, np.float32), last=True)
        n_out = -(-self._pushed * self.sr_out // self.sr_in)
        return rest[: n_out - self._returned]


def check_rates(sr_in: int, sr_out: int) -> None:
    """Refuse sample rates that are not positive integers.

    Raises:
        UsageError: One is not.
    """
    for rate in (sr_in, sr_out):
        if not isinstance(rate, int) or rate <= 0:
            raise UsageError(f"a sample rate must be a positive integer in Hz, not {rate!r}")


def silence(sr_in: int, sr_out: int, dtype: type[np.floating]) -> NDArray[np.floating]:
    """Zeros to append to a signal, so that soxr returns all ``ceil(n * sr_out / sr_in)`` samples."""
    return np.zeros(-(-sr_in // sr_out), dtype)
