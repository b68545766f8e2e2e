"""Where tokens stand: codes that are added to them, rotations of queries and keys, and biases of the scores."""

from myna_rpe.positions.absolute import AbsoluteCode, sincos2d
from myna_rpe.positions.bias import PositionBias
from myna_rpe.positions.clamp import Clamp
from myna_rpe.positions.grid import grid_coordinates
from myna_rpe.positions.rotation import class_token_order, rotation_table
from myna_rpe.positions.upstream import UPSTREAM_MODES, upstream_positions

__all__ = [
    "UPSTREAM_MODES",
    "AbsoluteCode",
    "Clamp",
    "PositionBias",
    "class_token_order",
    "grid_coordinates",
    "rotation_table",
    "sincos2d",
    "upstream_positions",
]
