"""Front ends: audio (B, n) to time-frequency arrays (B, F, T), and their patches."""

from __future__ import annotations

import torch

from omar_rq.config import CQTConfig, FrontendConfig, MelFrontendConfig, WaveformConfig
from omar_rq.frontends.base import Frontend
from omar_rq.frontends.cqt import CQT
from omar_rq.frontends.encodec import EnCodec
from omar_rq.frontends.mel import Mel
from omar_rq.frontends.patching import patchify
from omar_rq.frontends.waveform import Waveform

__all__ = ["CQT", "EnCodec", "Frontend", "Mel", "Waveform", "build_frontend", "patchify"]


def build_frontend(config: FrontendConfig) -> Frontend:
    """Build the front end that ``config`` describes, on the CPU.

    Filters and windows are not part of a checkpoint, so they are computed even where the rest of a model is built
    without storage (on the "meta" device).

    Raises:
        ConfigError: A setting is out of range.
        MissingExtra: EnCodec is asked for and ``transformers`` is not installed.
        HubError: The EnCodec weights cannot be found.
        WeightsError: The EnCodec weights are incomplete.
    """
    with torch.device("cpu"):
        match config:
            case MelFrontendConfig():
                return Mel(config)
            case CQTConfig():
                return CQT(config)
            case WaveformConfig():
                return Waveform(config)
            case _:
                return EnCodec(config)
