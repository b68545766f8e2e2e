"""Logarithms of mel spectrograms. Below their floor the gradient is zero.

To add one: its name to :data:`Log` and its formula to :func:`compress` here (and to :func:`below_peak` if it is
relative to the maximum of the signal), a line to the docstring of :class:`~pentatonic.mel.config.MelConfig`, and in
``shared/tests/test_mel_frontend.py`` a branch to ``naive`` and an entry to ``VARIANTS``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pentatonic.errors import ConfigError

Log = Literal["log10_1p", "db", "db_below_peak", "whisper", "ln"]

# Relative to the maximum of the whole signal, so no value is final before the end of the signal.
PEAK_RELATIVE: tuple[Log, ...] = ("db_below_peak", "whisper")


def compress(mel: Tensor, log: Log | None) -> Tensor:
    """The logarithm of ``mel``; those in :data:`PEAK_RELATIVE` still need :func:`below_peak`."""
    match log:
        case None:
            return mel
        case "log10_1p":
            return torch.log10(1 + 10000 * mel)
        case "db":
            return 10 * torch.log10(mel.clamp(min=1e-10))
        case "db_below_peak":
            return 20 * torch.log10(mel.clamp(min=1e-5))
        case "whisper":
            return torch.log10(mel.clamp(min=1e-10))
        case "ln":
            return mel.clamp(min=1e-5).log()


def below_peak(values: Tensor, peak: Tensor, log: Log | None) -> Tensor:
    """Second step of the logarithms in :data:`PEAK_RELATIVE`: relate them to the maximum.

    Args:
        values: Result of :func:`compress`.
        peak: Its maximum over the whole signal, in a shape that broadcasts.
        log: The logarithm.
    """
    match log:
        case "whisper":
            return (torch.maximum(values, peak - 8) + 4) / 4
        case "db_below_peak":
            return (values - peak).clamp(min=-80)
        case _:
            raise ConfigError(f"log {log!r} is not relative to the maximum of the signal")
