"""Outputs of the original programs, for every position mode and every kind of checkpoint that they wrote."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from myna_rpe.config import EncoderConfig, PatchConfig
from myna_rpe.key_map import from_upstream
from myna_rpe.model import MynaEncoder
from myna_rpe.original_config import original_config
from myna_rpe.pickled import PickledModel, read_pickled
from myna_rpe.positions import upstream_positions

GOLDENS = Path(__file__).parent / "goldens"
# The other two are about what is made of several outputs (test_embed.py).
RPE = sorted({path.name for path in GOLDENS.glob("rpe_*")} - {"rpe_demo_chunks", "rpe_paper_chunk_mean"})
MYNA = sorted(path.name for path in GOLDENS.glob("myna_*"))
PICKLED = json.loads((GOLDENS / "pickled_checkpoints" / "meta.json").read_text())["cases"]


def meta(case: str) -> dict[str, Any]:
    return json.loads((GOLDENS / case / "meta.json").read_text())


def close(got: Tensor, expected: Tensor, limits: dict[str, float]) -> None:
    torch.testing.assert_close(got, expected, **limits)


def flags_of(constructor: dict[str, Any]) -> set[str]:
    return {name for name, value in constructor.items() if value is True}


def mode_of(case: str, constructor: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Our name of what the flags of the original's class ask for, and further fields of the positions."""
    flags = flags_of(constructor)
    if case.startswith("rpe_paper"):
        encoding = constructor["positional_encoding"]
        known = {"2D-ALIBI": "paper_plus_manhattan", "1D-ALIBI": "paper_plus_row"}
        return known.get(encoding, "sincos2d"), {"row_table": encoding == "1D-ALIBI"}
    axes = {(True, True): 2, (True, False): 0, (False, True): 1}
    rope = axes.get(("use_rope_x" in flags, "use_rope_y" in flags))
    alibi = axes.get(("use_alibi_x" in flags, "use_alibi_y" in flags))
    modes: list[str] = []
    if case.startswith("rpe_demo"):
        fields: dict[str, Any] = {"row_table": "use_y_emb" in flags}
        if rope is not None:
            modes.append(("rope_row_2025", "rope_sum_2025", "rope_sum_2025")[rope])
            fields["rope_base"] = float(constructor["rope_base"])
        if "use_sinusoidal" in flags:
            modes.append("sincos2d")
        return "+".join(modes or ["zero"]), fields
    fields = {}
    if alibi is not None:
        learned = "_learned" if "use_learned_alibi_slopes" in flags else ""
        modes.append(("head_row", "head_col", "head_signed")[alibi] + learned)
    if rope is not None:
        modes.append(("rope_row_head", "rope_col_head", "rope2d_head")[rope])
        fields["rope_base"] = float(constructor.get("rope_base", 4096))
    if constructor.get("use_sinusoidal_raster", True):
        modes.append("sin_raster")
    if "use_sinusoidal_x" in flags:
        modes.append("sin_xy")
    if "use_learned_encoding_x" in flags:
        modes.append("learned_xy")
    return "+".join(modes or ["zero"]), fields


def loaded(config: EncoderConfig, tensors: dict[str, Tensor]) -> MynaEncoder:
    model = MynaEncoder(config).eval()
    model.load_state_dict({name: value.float() for name, value in from_upstream(tensors).items()})
    return model


@pytest.mark.parametrize("case", RPE)
def test_every_position_mode_gives_the_output_of_the_original(case: str) -> None:
    about, io = meta(case), load_file(GOLDENS / case / "io.safetensors")
    constructor = about["constructor"]
    mode, fields = mode_of(case, constructor)
    config = EncoderConfig(
        dim=constructor["d_model"],
        depth=constructor["depth"],
        heads=constructor["heads"],
        dim_head=constructor["dim_head"],
        mlp_dim=constructor["mlp_dim"],
        out_dim=constructor["latent_space"],
        class_token=constructor["use_cls"],
        train_frames=constructor["image_size"][1],
        positions=upstream_positions(mode, **fields),
    )
    model = loaded(config, load_file(GOLDENS / case / "weights.safetensors"))
    inputs = [name.removeprefix("x_") for name in io if name.startswith("x_")]
    assert inputs
    with torch.no_grad():
        for name in inputs:
            output = model(io[f"x_{name}"].float()[:, 0], keep=io.get(f"keep_{name}"))
            close(output, io[f"y_{name}"], about["tolerance_float32"])
        if "encoded_train" in io:
            encoded = model.tokens(io["x_train"].float()[:, 0])[:, : io["encoded_train"].shape[1]]
            close(encoded, io["encoded_train"], about["tolerance_float32"])


@pytest.mark.parametrize("case", MYNA)
def test_myna_gives_the_output_of_the_original(case: str) -> None:
    about, io = meta(case), load_file(GOLDENS / case / "io.safetensors")
    tensors = load_file(GOLDENS / case / "weights.safetensors")
    patch = PatchConfig(128, 2) if case == "myna_vertical" else None
    config = original_config(PickledModel(tensors), patch=patch, train_frames=96)
    assert config.positions.absolute == "sincos2d" and not config.class_token
    # The heads cannot be told from tensors of other than the published width.
    size = about["constructor"]
    config = EncoderConfig.from_dict(
        config.to_dict() | {"heads": size["heads"], "dim_head": size["dim_head"]}
    )
    model = loaded(config, tensors)
    limits = about["tolerance_float32"]
    mel = io["mel_full"].float()
    chunks = torch.stack([mel[:, start : start + 96] for start in (0, 96)])
    with torch.no_grad():
        close(model.features(chunks), io["embed"], limits)
        if "logits" in io:
            close(model(chunks), io["logits"], limits)
        if "keep" in io:
            close(model.features(chunks, keep=io["keep"]), io["embed_masked"], limits)
        if "embed_toggled" in io:
            close(model.features(chunks, patch="second"), io["embed_toggled"], limits)


@pytest.mark.parametrize("name", PICKLED)
def test_pickled_checkpoints_of_the_original_are_read(name: str) -> None:
    case = PICKLED[name]
    found = read_pickled(GOLDENS / "pickled_checkpoints" / case["file"])
    assert {key: list(value.shape) for key, value in found.tensors.items()} == case["state_dict"]
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        config = original_config(found, train_frames=64)
    told = case["position_mode"]
    assert bool(messages) == (told is None)
    if told is not None:
        assert config.positions == upstream_positions(
            told, row_table=config.positions.row_table, rope_base=config.positions.rope_base
        )
    io = load_file(GOLDENS / "pickled_checkpoints" / f"{name}.io.safetensors")
    with torch.no_grad():
        output = loaded(config, dict(found.tensors))(io["x"].float()[:, 0])
    close(output, io["y"], {"atol": 1e-5, "rtol": 1e-4})
