"""The projector, the original's layouts of it, and the files of adapters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pentatonic.checkpoint import save_tensors
from pentatonic.errors import CheckpointError, ConfigError, IncompatibleVectors, UsageError, WeightsError
from rc_audioldm.adapters.adapter_files import AdapterInfo
from rc_audioldm.adapters.legacy_style2lm import LegacyStyle2LM, load_legacy_style2lm
from rc_audioldm.adapters.projector import Projector, ProjectorConfig, untrained_projector
from rc_audioldm.adapters.projector_files import load_projector, save_projector
from rc_audioldm.adapters.projector_layouts import Layout, detect_layout, projector_from
from rc_audioldm.adapters.state_files import load_state_adapter, save_state_adapter
from rc_audioldm.adapters.style_to_states import StateAdapterConfig, StyleToStates
from rc_audioldm.clap.header import ClapHeader

SMALL = ProjectorConfig(4, 6, 4)
HEADER = ClapHeader("clap", "", "abc", "bank", "windows", "mean", "float32", 4)


def closed_form(keys: dict[str, list[int]]) -> dict[str, Tensor]:
    """Weights that the golden describes by a formula."""
    tensors = {}
    for j, name in enumerate(sorted(keys)):
        count = torch.arange(1, torch.Size(keys[name]).numel() + 1, dtype=torch.float64)
        values = (0.05 * torch.sin((0.37 + 0.11 * j) * count)).float()
        is_norm = len(keys[name]) == 1 and name.endswith("weight")
        tensors[name] = (values + is_norm).reshape(keys[name])
    return tensors


def filled(shapes: dict[str, Any]) -> dict[str, Tensor]:
    return {name: torch.zeros(shape[0]) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("case", "layout"), [("projector_external", "external"), ("projector_mlp_train", "mlp-trained")]
)
def test_trained_layouts_meet_the_golden(golden: Callable, case: str, layout: Layout, tmp_path: Path) -> None:
    expected = golden(case)
    weights = load_file(expected.folder / "weights.safetensors")
    file = tmp_path / "projector.best.pt"
    # As the original's trainer writes it, from a data-parallel module.
    wrapped = {f"module.{name}": value for name, value in weights.items()}
    torch.save({"state_dict": wrapped, "metadata": {"epoch": 3, "metrics": {"loss": 1.5}}}, file)
    loaded = load_projector(file)
    assert loaded.info.layout == layout
    torch.testing.assert_close(
        loaded.projector(expected.tensors["x"]), expected.tensors["y"], atol=expected.tolerance, rtol=0
    )


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("infer_aldm2", "mlp-audioldm2"),
        ("infer_aldm1", "mlp-audioldm1"),
        ("style2lm_trainer", "mlp-style2lm"),
    ],
)
def test_inference_layouts_meet_the_golden(golden: Callable, name: str, layout: Layout) -> None:
    expected = golden("projector_mlp_infer_closed_form")
    tensors = closed_form(expected.meta["keys"][name])
    assert detect_layout(tensors, legacy_mlp=True) == layout
    output = projector_from(tensors, layout)(expected.tensors["x"])
    torch.testing.assert_close(output, expected.tensors[name], atol=expected.tolerance, rtol=0)


def test_released_layouts_have_the_keys_and_sizes_of_our_modules() -> None:
    file = Path(__file__).parent.parent / "goldens" / "released_adapters_keys.json"
    models = json.loads(file.read_text(encoding="utf-8"))["models"]
    layouts: dict[str, Layout] = {
        "ClapAudioProjector": "external",
        "MLPProjector_contrastive_trainer": "mlp-trained",
        "MLPProjector_aldm1_infer": "mlp-audioldm1",
        "MLPProjector_style2lm_trainer": "mlp-style2lm",
    }
    for name, layout in layouts.items():
        tensors = filled(models[name]["keys"])
        assert detect_layout(tensors) == layout
        projector = projector_from(tensors, layout)
        assert sum(p.numel() for p in projector.parameters()) == models[name]["params"]
    original = models["Style2LMAdapter_h768_s512"]
    with torch.device("meta"):
        ours = LegacyStyle2LM()
    assert {name: list(value.shape) for name, value in ours.state_dict().items()} == {
        name: shape[0] for name, shape in original["keys"].items()
    }


def test_a_trained_mlp_keeps_its_residual_unless_the_original_is_asked_for(golden: Callable) -> None:
    weights = load_file(golden("projector_mlp_train").folder / "weights.safetensors")
    assert projector_from(weights, detect_layout(weights)).config.residual
    assert not projector_from(weights, detect_layout(weights, legacy_mlp=True)).config.residual


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "nan"])
def test_loading_is_strict(change: str, tmp_path: Path) -> None:
    tensors = closed_form({"fc1.weight": [6, 4], "fc1.bias": [6], "fc2.weight": [4, 6], "fc2.bias": [4]})
    tensors |= {"ln.weight": torch.ones(4), "ln.bias": torch.zeros(4)}
    if change == "missing":
        del tensors["ln.bias"]
    elif change == "unexpected":
        tensors["other"] = torch.ones(1)
    elif change == "shape":
        tensors["fc1.bias"] = torch.ones(5)
    else:
        tensors["fc1.bias"] = torch.full((6,), float("nan"))
    save_tensors(tmp_path / "p.safetensors", tensors)
    with pytest.raises(WeightsError, match=r"p\.safetensors"):
        load_projector(tmp_path / "p.safetensors")
    with pytest.raises(WeightsError):
        load_projector(tmp_path / "p.safetensors", layout="external")


def test_a_pickle_with_an_object_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"fc1.weight": nn.Linear(2, 2)}}, tmp_path / "p.pt")
    with pytest.raises(CheckpointError, match="refused"):
        load_projector(tmp_path / "p.pt")


def test_random_projectors_have_to_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="random"):
        load_projector(None)
    assert load_projector(None, allow_untrained=True).info.trained_steps == 0
    save_projector(tmp_path / "p.safetensors", untrained_projector(SMALL), AdapterInfo(trained_steps=0))
    with pytest.raises(UsageError, match="random"):
        load_projector(tmp_path / "p.safetensors")
    load_projector(tmp_path / "p.safetensors", allow_untrained=True)


def test_a_file_brings_its_flags_and_the_clap_it_was_trained_on(tmp_path: Path) -> None:
    config = ProjectorConfig(4, 6, 4, activation="gelu", residual=False, layer_norm=True, normalise=False)
    projector = untrained_projector(config, seed=3)
    file = tmp_path / "p.safetensors"
    save_projector(file, projector, AdapterInfo(5, HEADER, {"loss": 0.5}))
    loaded = load_projector(file, clap=HEADER)
    assert loaded.projector.config == config and not loaded.projector.training
    assert loaded.info == AdapterInfo(5, HEADER, {"loss": 0.5})
    vectors = torch.randn(3, 4)
    assert torch.equal(loaded.projector(vectors), projector(vectors))
    other = ClapHeader("clap", "", "xyz", "bank", "windows", "mean", "float32", 4)
    with pytest.raises(IncompatibleVectors, match="weights"):
        load_projector(file, clap=other)
    with pytest.raises(UsageError, match="legacy_mlp"):
        load_projector(file, legacy_mlp=True)
    with pytest.raises(CheckpointError, match="style-to-states"):
        load_state_adapter(file)


def test_a_header_that_claims_a_huge_network_costs_nothing(tmp_path: Path) -> None:
    values = {"version": 1, "kind": "projector", "trained_steps": 1, "metrics": {}}
    values["config"] = {"in_width": 65536, "hidden_width": 65536, "out_width": 65536}
    file = tmp_path / "p.safetensors"
    metadata = {"format": "rc-audioldm adapter", "adapter": json.dumps(values)}
    save_tensors(file, {"first.weight": torch.zeros(1, 1)}, metadata)
    with pytest.raises(WeightsError):
        load_projector(file)


def test_a_residual_projector_begins_as_the_identity() -> None:
    vectors = nn.functional.normalize(torch.randn(5, 4), dim=-1)
    torch.testing.assert_close(untrained_projector(SMALL)(vectors), vectors)
    with pytest.raises(ConfigError, match="residual"):
        ProjectorConfig(4, 6, 5)


def test_style2lm_meets_the_golden(golden: Callable, tmp_path: Path) -> None:
    expected = golden("style2lm_adapter")
    weights = load_file(expected.folder / "weights.safetensors")
    file = tmp_path / "style2lm_adapter.pt"
    torch.save({"state_dict": weights, "hidden": 12, "seq_len": 6}, file)
    states = load_legacy_style2lm(file)(expected.tensors["z"])
    torch.testing.assert_close(states, expected.tensors["y"], atol=expected.tolerance, rtol=0)


def test_an_adapter_to_states_comes_back_from_its_file(tmp_path: Path) -> None:
    adapter = StyleToStates(StateAdapterConfig(4, 6, states=3, state_width=5)).eval()
    save_state_adapter(tmp_path / "adapter.safetensors", adapter, AdapterInfo(7, HEADER))
    loaded, info = load_state_adapter(tmp_path, clap=HEADER)
    styles = torch.randn(2, 4)
    assert info.trained_steps == 7 and loaded(styles).shape == (2, 3, 5)
    assert torch.equal(loaded(styles), adapter(styles))


def test_the_flags_change_what_is_computed() -> None:
    torch.manual_seed(0)
    vectors, plain = torch.randn(2, 4), ProjectorConfig(4, 6, 4, residual=False, normalise=False)
    base = Projector(plain).eval()
    for name, value in {
        "residual": True,
        "layer_norm": True,
        "normalise": True,
        "activation": "gelu",
    }.items():
        flags: dict[str, Any] = {name: value}
        other = Projector(replace(plain, **flags)).eval()
        other.load_state_dict(base.state_dict(), strict=False)
        assert not torch.allclose(other(vectors), base(vectors)), name
