"""Loading and saving: our format, files of the originals, and the shapes of the released models."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from myna_rpe.config import EncoderConfig, PatchConfig, PositionConfig
from myna_rpe.key_map import from_upstream
from myna_rpe.model import MynaEncoder
from myna_rpe.original_config import original_config
from myna_rpe.pickled import PickledModel
from myna_rpe.weights import from_pretrained, load_original, save_pretrained
from pentatonic.errors import CheckpointError, ConfigError, HubError, UsageError, WeightsError

GOLDENS = Path(__file__).parent / "goldens"
SMALL = EncoderConfig(
    dim=16, depth=2, heads=2, dim_head=8, mlp_dim=24, out_dim=8, positions=PositionConfig(bias="alibi")
)


def test_a_model_comes_back_as_it_was(tmp_path: Path) -> None:
    model = MynaEncoder(SMALL).eval()
    save_pretrained(model, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    assert again.config == SMALL and not again.training
    mel = torch.randn(1, 128, 64)
    assert torch.equal(again(mel), model(mel))
    with pytest.raises(UsageError, match="says the position mode"):
        from_pretrained(tmp_path / "model", mode="zero")


def released_models() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of all tensors of the published models, and of the models of the ablations."""
    files = {path.stem: json.loads(path.read_text()) for path in GOLDENS.glob("released/*.json")}
    ablations = files.pop("released_rpe-head-ablations_keys")["models"]
    found = {stem: shapes_of(about["keys"]) for stem, about in files.items()}
    layers = {
        key: shape
        for key, shape in found["released_rpecl-2d-alibi_keys"].items()
        if key.startswith("transformer.layers.")
    }
    return found | {name: layers | shapes_of(about["extra_keys"]) for name, about in ablations.items()}


def shapes_of(keys: dict[str, Any]) -> dict[str, list[int]]:
    return {key: about["shape"] if isinstance(about, dict) else about for key, about in keys.items()}


RELEASED_SHAPES = released_models()


@pytest.mark.parametrize("name", RELEASED_SHAPES)
def test_keys_and_shapes_of_the_released_models(name: str) -> None:
    shapes = RELEASED_SHAPES[name]
    tensors = {key: torch.zeros(shape, device="meta") for key, shape in shapes.items()}
    # The values of the frequencies decide the base of a rotation, and these tensors have none.
    known = {key: value for key, value in tensors.items() if not key.endswith("inv_freq")}
    patch = PatchConfig(128, 2) if "vertical" in name else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = original_config(PickledModel(known), patch=patch)
    with torch.device("meta"):
        ours = {key: list(value.shape) for key, value in MynaEncoder(config).state_dict().items()}
    theirs = from_upstream(
        {key: value for key, value in tensors.items() if key != "transformer.alibi_2d.slopes"}
    )
    assert {key: list(value.shape) for key, value in theirs.items()} == ours
    assert (config.dim, config.depth, config.heads, config.dim_head) == (384, 12, 6, 64)


def test_what_is_no_model_of_the_family_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="no checkpoint of Myna"):
        load_original(tmp_path / "other.pt")
    torch.save({"a": Path("x")}, tmp_path / "object.pt")
    with pytest.raises(CheckpointError, match=r"object\.pt"):
        load_original(tmp_path / "object.pt")
    (tmp_path / "text.pt").write_text("no")
    with pytest.raises(CheckpointError, match=r"text\.pt"):
        load_original(tmp_path / "text.pt")
    with pytest.raises(HubError, match="no model 'nowhere'"):
        from_pretrained("nowhere")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"dim": 1e400}')
    with pytest.raises(ConfigError, match=r"config\.json"):
        from_pretrained(tmp_path / "model")


def test_a_file_of_the_originals_loads_by_its_path(tmp_path: Path) -> None:
    path = GOLDENS / "pickled_checkpoints" / "demo_1d_state.pt"
    with pytest.warns(UserWarning, match="paper_plus_row is assumed"):
        assumed = from_pretrained(path)
    zero = from_pretrained(path, mode="zero")
    assert assumed.config.positions.bias == "distance" and zero.config.positions.bias == "none"
    with pytest.raises(UsageError, match="unknown position mode 'nope'"):
        from_pretrained(path, mode="nope")


def test_other_slopes_than_those_of_the_formula_are_named() -> None:
    slopes = "transformer.alibi_2d.slopes"
    assert from_upstream({slopes: -torch.tensor([0.0625, 0.00390625])}) == {}
    with pytest.warns(UserWarning, match=r"slopes are \[0.5, 0.25\]; used are \[0.0625, 0.00390625\]"):
        from_upstream({slopes: torch.tensor([0.5, 0.25])})
