"""Mel spectrograms: one configurable frontend, and presets for published models (see ``presets.py`` to add one)."""

from __future__ import annotations

from pentatonic.mel.config import MelConfig
from pentatonic.mel.filterbank import mel_filterbank
from pentatonic.mel.frontend import MelFrontend
from pentatonic.mel.presets import PRESETS

__all__ = ["PRESETS", "MelConfig", "MelFrontend", "mel_filterbank"]
