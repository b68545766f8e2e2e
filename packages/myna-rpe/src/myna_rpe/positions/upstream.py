"""The position modes of the original programs by name, for parity with their checkpoints.

Coordinate 0 of the original, which it calls x, is the row: its "1D ALiBi" measures frequency. A mode says what is
rotated and what is added to the scores; tables that are added to the tokens are found by the names in a checkpoint.
Source: the public code of Myna-RPE, October 2025 to April 2026.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from myna_rpe.config import ClampConfig, PositionConfig
from pentatonic.errors import UsageError

UPSTREAM_MODES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # Biases. In which of them the released models were trained is not known with certainty.
        "sloped_lr": {"bias": "alibi", "slope_rule": "halving"},
        "paper_plus_manhattan": {"bias": "distance"},
        "paper_plus_row": {"bias": "distance", "bias_axes": "freq"},
        "zero": {},
        "head_signed": {"bias": "signed"},
        "head_signed_learned": {"bias": "signed", "learned_slopes": True},
        "head_row": {"bias": "distance", "bias_axes": "freq"},
        "head_row_learned": {"bias": "distance", "bias_axes": "freq", "learned_slopes": True},
        "head_col": {"bias": "distance", "bias_axes": "time"},
        "head_col_learned": {"bias": "distance", "bias_axes": "time", "learned_slopes": True},
        # Rotations.
        "rope_row_2025": {"rotation": "freq", "rope_base": 512.0, "rope_halves": True},
        "rope_sum_2025": {"rotation": "sum", "rope_base": 512.0, "rope_halves": True},
        "rope_row_head": {"rotation": "freq", "rope_base": 4096.0, "rope_halves": True},
        "rope_col_head": {"rotation": "time", "rope_base": 4096.0, "rope_halves": True},
        "rope2d_head": {"rotation": "axial", "rope_base": 4096.0, "rope_halves": True},
        # Codes alone.
        "sincos2d": {"absolute": "sincos2d"},
        "sin_raster": {"absolute": "sin_raster"},
        "sin_xy": {"absolute": "sin_xy"},
        "sin_x": {"absolute": "sin_x"},
        "sin_y": {"absolute": "sin_y"},
        "learned_xy": {"absolute": "learned_xy"},
        # What is done to distances, beside a bias; cap and softness are in the checkpoint.
        "clamp_tanh": {"clamp": ClampConfig("tanh")},
        "clamp_log": {"clamp": ClampConfig("log")},
        "clamp_rational": {"clamp": ClampConfig("rational")},
        "clamp_normalize": {"clamp": ClampConfig("normalize")},
    }
)
"""Mode -> fields of :class:`myna_rpe.config.PositionConfig`. Bases are the defaults of the original's classes."""


def upstream_positions(mode: str, **fields: Any) -> PositionConfig:
    """Return the positions of one or more modes of the original.

    Args:
        mode: Name in :data:`UPSTREAM_MODES`, or several joined by ``+``.
        fields: Further fields of :class:`~myna_rpe.config.PositionConfig`, such as ``row_table`` or ``rope_base``.

    Raises:
        UsageError: There is no such mode.
    """
    positions = PositionConfig()
    for name in mode.split("+"):
        if name not in UPSTREAM_MODES:
            raise UsageError(f"unknown position mode {name!r}; allowed: {', '.join(UPSTREAM_MODES)}")
        positions = dataclasses.replace(positions, **UPSTREAM_MODES[name])
    return dataclasses.replace(positions, **fields)
