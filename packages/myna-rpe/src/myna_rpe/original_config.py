"""The configuration of an original checkpoint, from the shapes of its tensors and the attributes of its modules."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from myna_rpe.config import N_MELS, ClampConfig, EncoderConfig, FrontendName, PatchConfig, PositionConfig
from myna_rpe.pickled import PickledModel
from myna_rpe.positions import upstream_positions
from pentatonic.errors import WeightsError

# What every published model has, where neither tensors nor attributes tell.
_DIM_HEAD = 64
_SQUARE = 16
# The scripts of the newest version of the original pass this base; its checkpoints do not hold it.
_HEAD_ROPE_BASE = 8192.0
# Likewise the cap of that version: they hold the factor on it.
_HEAD_CAP = 64.0
_MYNA_FRAMES, _MYNA_VERTICAL_FRAMES, _RPE_FRAMES = 96, 98, 256


def original_config(
    model: PickledModel,
    *,
    mode: str | None = None,
    patch: PatchConfig | None = None,
    train_frames: int | None = None,
) -> EncoderConfig:
    """Work out the configuration of an original checkpoint.

    Args:
        model: What the checkpoint holds.
        mode: Position mode by its name in :data:`myna_rpe.positions.UPSTREAM_MODES`, several joined by ``+``; ``None``:
            what a whole module says. A state dict does not tell: then the mode of the paper's equations is assumed,
            with a warning.
        patch: The patches; ``None``: from the module or its row table, else 16 x 16. Of Myna, vertical patches have as
            many values as square ones, so that shapes cannot tell.
        train_frames: Frames of the crops of training; ``None``: those of the published models.

    Raises:
        WeightsError: Tensors are missing, or their shapes do not belong together.
    """
    tensors, attributes = model.tensors, model.attributes
    dim, values = _shape(tensors, "to_patch_embedding.2.weight")
    inner = _shape(tensors, "transformer.layers.0.0.to_qkv.weight")[0] // 3
    heads = _heads(tensors, attributes, inner)
    class_token = "cls_token" in tensors
    patch = patch or _patch(tensors, attributes, values)
    second = PatchConfig(N_MELS, 2) if "to_patch_embedding_b.2.weight" in tensors else None
    frames = train_frames or _train_frames(tensors, patch, class_token=class_token)
    return EncoderConfig(
        dim=dim,
        depth=_depth(tensors),
        heads=heads,
        dim_head=inner // heads,
        mlp_dim=_shape(tensors, "transformer.layers.0.1.net.1.weight")[0],
        out_dim=_shape(tensors, "linear_head.weight")[0] if "linear_head.weight" in tensors else 0,
        class_token=class_token,
        frontend=_frontend(class_token=class_token),
        train_frames=frames,
        chunk_frames=frames,
        patch=patch,
        second_patch=second,
        positions=_positions(tensors, attributes, inner // heads, mode, class_token=class_token),
    )


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    if name not in tensors or tensors[name].dim() != 2:
        raise WeightsError(f"{name} is missing or not a matrix; this is no checkpoint of Myna or Myna-RPE")
    rows, columns = tensors[name].shape
    return rows, columns


def _depth(tensors: Mapping[str, Tensor]) -> int:
    found = {
        int(match[1]) for name in tensors if (match := re.match(r"transformer\.layers\.(\d{1,4})\.", name))
    }
    return len(found)


def _heads(tensors: Mapping[str, Tensor], attributes: Mapping[str, Any], inner: int) -> int:
    """From the module, from a slope for each head, or from the frequencies of a rotation."""
    for name in ("slopes", "left_slopes"):
        if (slopes := tensors.get(f"transformer.alibi_2d.{name}")) is not None:
            return len(slopes)
    if (frequencies := tensors.get("transformer.layers.0.0.rotary.inv_freq")) is not None:
        return inner // (2 * len(frequencies))
    heads = attributes.get("transformer.layers.0.0.heads", attributes.get("heads"))
    return heads if isinstance(heads, int) and heads > 0 else max(1, inner // _DIM_HEAD)


def _patch(tensors: Mapping[str, Tensor], attributes: Mapping[str, Any], values: int) -> PatchConfig:
    bands, frames = attributes.get("patch_height"), attributes.get("patch_width")
    if isinstance(bands, int) and isinstance(frames, int):
        return PatchConfig(bands, frames)
    if (table := tensors.get("y_pos_embedding")) is not None and N_MELS % len(table) == 0:
        bands = N_MELS // len(table)
        return PatchConfig(bands, values // bands)
    if values != _SQUARE**2:
        raise WeightsError(f"patches have {values} values; say how many bands and frames that is")
    return PatchConfig(_SQUARE, _SQUARE)


def _train_frames(tensors: Mapping[str, Tensor], patch: PatchConfig, *, class_token: bool) -> int:
    if (table := tensors.get("pos_embedding.x_pos_embedding")) is not None:
        return table.shape[-2] * patch.frames
    if class_token:
        return _RPE_FRAMES
    return _MYNA_VERTICAL_FRAMES if patch.frames == 2 else _MYNA_FRAMES


def _frontend(*, class_token: bool) -> FrontendName:
    return "myna-rpe" if class_token else "myna"


def _positions(
    tensors: Mapping[str, Tensor],
    attributes: Mapping[str, Any],
    dim_head: int,
    mode: str | None,
    *,
    class_token: bool,
) -> PositionConfig:
    fields: dict[str, Any] = {"row_table": "y_pos_embedding" in tensors}
    if (frequencies := tensors.get("transformer.layers.0.0.rotary.inv_freq")) is not None and dim_head > 2:
        fields["rope_base"] = float(frequencies[1].double() ** (-dim_head / 2))
    if mode is not None:
        return _clamped(upstream_positions(mode, **fields), tensors, attributes)
    told = _told(attributes)
    if told is not None:
        base = attributes.get("rope_base")
        if "rope" in told and "rope_base" not in fields and isinstance(base, int | float) and base > 1:
            fields["rope_base"] = float(base)
        return _clamped(upstream_positions(told, **fields), tensors, attributes)
    guessed = upstream_positions(_guessed(tensors, fields, class_token=class_token), **fields)
    return _clamped(guessed, tensors, attributes)


def _clamped(
    positions: PositionConfig, tensors: Mapping[str, Tensor], attributes: Mapping[str, Any]
) -> PositionConfig:
    """The positions with the clamp of the distances, of which the mode or the module says the kind.

    The class of the original that clamps can do two more things. ``normalize`` is known here; ``mask_rescale`` is not:
    it multiplies the distances of each query by their own mean, so that none is a function of the distance alone.
    """
    stem = "transformer.alibi_2d.clamper."
    method = attributes.get(f"{stem}method")
    if method == "mask_rescale":
        raise WeightsError(
            f"{stem}method is mask_rescale, which scales the distances of each query by their own mean; allowed: the "
            "methods that make a bias of the distance alone"
        )
    if positions.bias == "none":
        return positions
    if method == "normalize":
        return dataclasses.replace(positions, clamp=ClampConfig("normalize"))
    squared = f"{stem}cap_coeff" in tensors
    if positions.clamp is not None and positions.clamp.kind == "normalize":
        return positions
    if not squared and f"{stem}cap_value" not in tensors:
        return positions
    kind = attributes.get(f"{stem}cap_type")
    if positions.clamp is not None:
        kind = positions.clamp.kind
    elif kind not in ("tanh", "log", "rational"):
        kind = "tanh"
        warnings.warn(
            "the weights do not say how distances are clamped: tanh is assumed, the default of the original. Give a "
            "mode such as paper_plus_manhattan+clamp_log to choose another",
            stacklevel=5,
        )
    cap = attributes.get(f"{stem}cap_value", _HEAD_CAP) if squared else tensors[f"{stem}cap_value"]
    softness = tensors.get(f"{stem}softness", 1.0)
    clamp = ClampConfig(kind, float(cap), float(softness), learned=True, squared=squared)
    return dataclasses.replace(positions, clamp=clamp)


def _told(attributes: Mapping[str, Any]) -> str | None:
    """The mode that a whole module states, by the plain attributes of its version of the code."""

    def on(name: str) -> bool:
        return attributes.get(name) is True

    if "encoding" in attributes:  # October 2025
        by_name = {"2D-ALIBI": "paper_plus_manhattan", "1D-ALIBI": "paper_plus_row"}
        return by_name.get(str(attributes["encoding"]), "sincos2d")
    if "use_alibi_x" in attributes:  # April 2026
        learned = "_learned" if on("use_learned_alibi_slopes") else ""
        axes = {(True, True): "signed", (True, False): "row", (False, True): "col"}
        modes = []
        if axis := axes.get((on("use_alibi_x"), on("use_alibi_y"))):
            modes.append(f"head_{axis}{learned}")
        rotations = {
            (True, True): "rope2d_head",
            (True, False): "rope_row_head",
            (False, True): "rope_col_head",
        }
        if rotation := rotations.get((on("use_rope_x"), on("use_rope_y"))):
            modes.append(rotation)
        modes += _absolute_of(attributes)
        return "+".join(modes or ["zero"])
    if "use_sinusoidal" in attributes:  # December 2025: the bias is zero whatever the flags say
        return "sincos2d" if on("use_sinusoidal") else "zero"
    return None


def _absolute_of(attributes: Mapping[str, Any]) -> list[str]:
    if attributes.get("use_sinusoidal_raster") is True:
        return ["sin_raster"]
    time, freq = (attributes.get(f"use_sinusoidal_{axis}") is True for axis in "xy")
    if time or freq:
        return ["sin_xy" if time and freq else "sin_x" if time else "sin_y"]
    learned = any(attributes.get(f"use_learned_encoding_{axis}") is True for axis in "xy")
    return ["learned_xy"] if learned else []


def _guessed(tensors: Mapping[str, Tensor], fields: dict[str, Any], *, class_token: bool) -> str:
    if not class_token and not any(name.startswith("transformer.alibi_2d") for name in tensors):
        return "sincos2d"  # Myna
    if "transformer.layers.0.0.rotary.inv_freq" in tensors:
        return "rope_row_2025"
    if "pos_embedding.x_pos_embedding" in tensors:
        return "learned_xy"
    exponents = [f"transformer.layers.0.0.rotary.rope_exp_{axis}" in tensors for axis in "xy"]
    if any(exponents):
        fields["rope_base"] = _HEAD_ROPE_BASE
        return "rope2d_head" if all(exponents) else "rope_row_head" if exponents[0] else "rope_col_head"
    if "transformer.alibi_2d.left_slopes" in tensors:
        return "head_signed_learned"
    guess = "paper_plus_row" if fields["row_table"] else "paper_plus_manhattan"
    warnings.warn(
        f"the weights do not say which position mode they were trained in: {guess} is assumed, as the equations of the "
        "paper have it; the public demo of the original uses zero. Give the mode to choose another",
        stacklevel=4,
    )
    return guess
