"""Names of tensors: ours, and those of the original checkpoints of Myna and Myna-RPE."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from pentatonic.attention import alibi_slopes
from pentatonic.hub import KeyMap

CLAMP = ("bias.clamp.cap", "bias.clamp.factor", "bias.clamp.softness")
"""Our names of what a checkpoint of the original holds of a clamp of distances."""
_RULES = (
    ("embed.first.0.{p}", "to_patch_embedding.1.{p}"),
    ("embed.first.1.{p}", "to_patch_embedding.2.{p}"),
    ("embed.first.2.{p}", "to_patch_embedding.3.{p}"),
    ("embed.second.0.{p}", "to_patch_embedding_b.1.{p}"),
    ("embed.second.1.{p}", "to_patch_embedding_b.2.{p}"),
    ("embed.second.2.{p}", "to_patch_embedding_b.3.{p}"),
    ("class_token", "cls_token"),
    ("code.row_table", "y_pos_embedding"),
    ("code.freq_table", "pos_embedding.y_pos_embedding"),
    ("code.time_table", "pos_embedding.x_pos_embedding"),
    ("bias.before", "transformer.alibi_2d.left_slopes"),
    ("bias.after", "transformer.alibi_2d.right_slopes"),
    ("bias.clamp.cap", "transformer.alibi_2d.clamper.cap_value"),
    ("bias.clamp.factor", "transformer.alibi_2d.clamper.cap_coeff"),
    ("bias.clamp.softness", "transformer.alibi_2d.clamper.softness"),
    ("blocks.{i}.attention.norm.{p}", "transformer.layers.{i}.0.norm.{p}"),
    ("blocks.{i}.attention.qkv.{p}", "transformer.layers.{i}.0.to_qkv.{p}"),
    ("blocks.{i}.attention.out.{p}", "transformer.layers.{i}.0.to_out.{p}"),
    ("blocks.{i}.mlp.norm.{p}", "transformer.layers.{i}.1.net.0.{p}"),
    ("blocks.{i}.mlp.up.{p}", "transformer.layers.{i}.1.net.1.{p}"),
    ("blocks.{i}.mlp.down.{p}", "transformer.layers.{i}.1.net.3.{p}"),
    ("norm.{p}", "transformer.norm.{p}"),
    ("head.{p}", "linear_head.{p}"),
)
# Formulas give these: slopes that most versions do not use, and frequencies of rotations.
FORMULAS = ("transformer.alibi_2d.slopes", "transformer.layers.*.0.rotary.*")
KEY_MAP = KeyMap(_RULES, drop=FORMULAS)

# The original keeps axes of length one; the number of axes that are left.
_AXES = {"class_token": 1, "code.freq_table": 2, "code.time_table": 2} | dict.fromkeys(CLAMP, 0)


def from_upstream(tensors: Mapping[str, Tensor], *, features_only: bool = False) -> dict[str, Tensor]:
    """Rename the tensors of an original checkpoint.

    Args:
        tensors: By the original's names.
        features_only: Leave out the head, ``linear_head.*``: Myna throws it away after training.

    Returns:
        By our names; not copied.

    Raises:
        WeightsError: A name is unknown.

    Warns:
        UserWarning: Stored slopes are not those of the formula, which are used: most versions stored them unused.
    """
    if (slopes := tensors.get("transformer.alibi_2d.slopes")) is not None:
        formula = alibi_slopes(slopes.numel(), "halving")
        if slopes.dim() != 1 or not torch.allclose(slopes.abs().float(), formula, rtol=1e-4, atol=0):
            text = f"transformer.alibi_2d.slopes are {slopes.tolist()}; used are {formula.tolist()}"
            warnings.warn(text, stacklevel=3)
    kept = {
        key: value for key, value in tensors.items() if not (features_only and key.startswith("linear_head"))
    }
    renamed = KEY_MAP.to_ours(kept)
    return {
        name: value.reshape(_without_ones(value) if _AXES[name] == 2 else value.shape[-1:] * _AXES[name])
        if name in _AXES
        else value
        for name, value in renamed.items()
    }


def _without_ones(value: Tensor) -> tuple[int, ...]:
    """``(rows, D)`` of a table with axes of length one before or between them."""
    return (value.numel() // value.shape[-1], value.shape[-1])
