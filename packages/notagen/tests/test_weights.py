"""Released layouts, and both file formats."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file as load_golden

from notagen.model import NotaGen, NotaGenConfig
from notagen.weights import (
    RELEASED_FILES,
    config_from_tensors,
    from_pretrained,
    from_upstream,
    load_file,
    save_pretrained,
    to_upstream,
)
from pentatonic.errors import CheckpointError, ConfigError, HubError, WeightsError

GOLDENS = Path(__file__).parent / "goldens"
E2E = GOLDENS / "generation_e2e" / "weights.safetensors"  # width 64: the number of heads follows


@pytest.fixture(scope="module")
def tensors():
    return {key: value.float() for key, value in load_golden(E2E).items()}


def same(model, other):
    mine, theirs = model.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_released_layouts(size):
    released = json.loads((GOLDENS / f"released_notagen-{size}_keys.json").read_text())
    layout = {key: torch.empty(value["shape"], device="meta") for key, value in released["keys"].items()}
    config = config_from_tensors(layout)
    expected = released["config"]
    assert config == NotaGenConfig(
        patch_layers=expected["patch_num_layers"],
        char_layers=expected["char_num_layers"],
        width=expected["hidden_size"],
        heads=expected["num_heads"],
        patch_length=expected["patch_length"],
    )
    with torch.device("meta"):
        model = NotaGen(config)
    upstream = to_upstream(model)
    assert {key: list(value.shape) for key, value in upstream.items()} == {
        key: value["shape"] for key, value in released["keys"].items()
    }
    # The token table of one row that nothing reads has no place in our model.
    assert sum(p.numel() for p in model.parameters()) == released["unique_parameters"] - config.width
    assert set(released["checkpoint_files"]) <= set(RELEASED_FILES.values())


def test_round_trip_of_names(tensors):
    model = load_file(E2E)
    again = to_upstream(model)
    assert again.keys() == tensors.keys()
    unused = "patch_level_decoder.base.wte.weight"
    assert all(torch.equal(again[key], tensors[key]) for key in tensors if key != unused)


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_checkpoints(tmp_path, tensors, wrapped, zipped):
    state = {f"module.{key}": value for key, value in tensors.items()}
    state["module.patch_level_decoder.base.h.0.attn.bias"] = torch.ones(1, 1, 24, 24).tril().bool()
    state["module.char_level_decoder.base.transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    content = {"model": state, "optimizer": {"state": {0: torch.ones(3)}}, "epoch": 3} if wrapped else state
    torch.save(content, tmp_path / "any name.pth", _use_new_zipfile_serialization=zipped)
    assert same(from_pretrained(tmp_path / "any name.pth"), load_file(E2E))
    assert same(from_pretrained(tmp_path), load_file(E2E))


def test_our_format(tmp_path):
    model = load_file(GOLDENS / "model_tiny_a" / "weights.safetensors", heads=4)
    save_pretrained(model, tmp_path / "model")
    loaded = from_pretrained(tmp_path / "model")
    assert same(loaded, model) and loaded.config == model.config and not loaded.training
    half = from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


def test_nothing_in_a_file_is_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"model": {"a": Trap()}}, tmp_path / "trap.pth")
    with pytest.raises(CheckpointError, match=r"trap\.pth: refused"):
        load_file(tmp_path / "trap.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x80\x02noise", b"[1, 2]"])
def test_damaged_files(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        load_file(tmp_path / "a.pth")


def test_other_contents_are_refused(tmp_path, tensors):
    torch.save([torch.ones(2)], tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_file(tmp_path / "a.pth")
    torch.save({"model": {"a": 3}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="'a' is a int"):
        load_file(tmp_path / "a.pth")
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="lacks the patch embedding"):
        load_file(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="is missing"):
        load_file(tmp_path / "b.pth")


def test_tensors_that_do_not_fit(tmp_path, tensors):
    table = "patch_level_decoder.patch_embedding.weight"
    with pytest.raises(WeightsError, match="allowed: 16 x 128"):
        config_from_tensors({**tensors, table: torch.ones(64, 8 * 128)})
    with pytest.raises(WeightsError, match="heads must be given"):
        config_from_tensors({**tensors, table: torch.ones(32, 16 * 128)})
    with pytest.raises(WeightsError, match="differs"):
        from_upstream({**tensors, "char_level_decoder.base.lm_head.weight": torch.ones(128, 64)})
    with pytest.raises(WeightsError, match="surplus"):
        from_upstream({**tensors, "surplus": torch.ones(1)})
    torch.save({k: v for k, v in tensors.items() if not k.endswith("h.0.ln_1.bias")}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"missing: .*blocks\.0\.norm_attention\.bias"):
        load_file(tmp_path / "a.pth")


def test_a_released_name_leads_to_its_file(tmp_path, tensors, monkeypatch):
    def fetched(name, *, bundled, released, allow_patterns, revision):
        assert allow_patterns == [*released[name].files] == [RELEASED_FILES["notagen-x"]]
        return tmp_path

    monkeypatch.setattr("notagen.weights.resolve", fetched)
    torch.save({"model": tensors}, tmp_path / RELEASED_FILES["notagen-x"])
    torch.save({"model": {}}, tmp_path / "another.pth")
    assert same(from_pretrained("notagen-x"), load_file(E2E))


def test_directories_that_hold_no_model(tmp_path):
    with pytest.raises(CheckpointError, match="found: none"):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        from_pretrained(tmp_path)
    with pytest.raises(HubError, match="notagen-x"):
        from_pretrained("no-such-model")
