"""Model files of a stranger: every refusal has a type and names what is wrong.

No test takes long by itself; the time limit ends one that would hang.
"""

from __future__ import annotations

import json
import os
import typing
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file as load_golden

from notagen.model import NotaGen, NotaGenConfig
from notagen.prompts import model_prompts
from notagen.weights import config_from_tensors, from_pretrained, load_file
from pentatonic.checkpoint import save_tensors
from pentatonic.errors import CheckpointError, ConfigError, CorruptCheckpoint, HubError, WeightsError
from pentatonic.untrusted.config import Range

pytestmark = pytest.mark.timeout(60)

PLAIN = {"patch_layers": 1, "char_layers": 1, "width": 16, "heads": 2, "patch_length": 8, "dropout": 0.1}
E2E = Path(__file__).parent / "goldens" / "generation_e2e" / "weights.safetensors"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ({"patch_layers": 10**9}, "patch_layers is 1000000000; allowed: whole numbers from 1 up to 128"),
        ({"char_layers": 10**9}, "char_layers is 1000000000"),
        ({"width": 2**40}, "width is 1099511627776"),
        ({"width": 16_384, "patch_layers": 100}, "parameters; allowed: at most"),
        ({"heads": 0}, "heads is 0"),
        ({"heads": 3}, "width 16 is not a multiple of 3 heads"),
        ({"patch_length": 10**400}, "patch_length is a whole number of 1329 bits"),
        ({"patch_length": 8.0}, "patch_length is 8.0"),
        ({"patch_length": []}, "patch_length is []"),
        ({"dropout": 7}, "dropout is 7; allowed: numbers from 0 and below 1"),
        ({"dropout": -1}, "dropout is -1"),
        ({"dropout": True}, "dropout is True"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"dropout": 10**400}, "dropout is a whole number of 1329 bits"),
        ({"x" * 10**5: 1}, "unknown key 'xxx"),
        ({"name": []}, "unknown key name"),
        ("{}", "patch_layers is missing"),
        ("[]", "a section"),
        ('{"width": ' + "9" * 5000 + "}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (" " * (2**20 + 1), "at most 1048576 are read"),
    ],
)
def test_hostile_configurations(tmp_path, text, says):
    (tmp_path / "config.json").write_text(text if isinstance(text, str) else json.dumps(PLAIN | text))
    with pytest.raises(ConfigError, match=r"config\.json") as error:
        from_pretrained(tmp_path)
    assert says in str(error.value)
    assert len(str(error.value)) < 500


def test_every_number_of_the_configuration_declares_its_range():
    hints = typing.get_type_hints(NotaGenConfig, include_extras=True)
    assert hints.keys() == PLAIN.keys()
    assert all(isinstance(hint.__metadata__[0], Range) for hint in hints.values())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(values=st.dictionaries(st.sampled_from([*PLAIN, "x"]), JSON).map(lambda d: PLAIN | d) | JSON)
def test_any_values_are_read_or_refused(values):
    try:
        config = NotaGenConfig.from_dict(values)
    except ConfigError:
        return
    assert NotaGenConfig.from_dict(config.to_dict()) == config


def test_a_model_takes_no_memory_before_its_weights_fit(tmp_path, monkeypatch):
    def build(config):
        assert torch.empty(0).is_meta
        return NotaGen(config)

    monkeypatch.setattr("notagen.weights.NotaGen", build)
    (tmp_path / "config.json").write_text(json.dumps(PLAIN | {"width": 4096}))
    save_tensors(tmp_path / "model.safetensors", {"w": torch.zeros(1)})
    with pytest.raises(WeightsError, match="missing"):
        from_pretrained(tmp_path)


def test_the_shapes_of_released_files_are_held_to_the_same_ranges():
    tensors = {key: value.to("meta") for key, value in load_golden(E2E).items()}
    positions = "patch_level_decoder.base.wpe.weight"
    with pytest.raises(WeightsError, match="patch_length is 1000000000000"):
        config_from_tensors({**tensors, positions: torch.empty(10**12, 64, device="meta")})
    layers = {f"patch_level_decoder.base.h.{i}.x": torch.empty(0) for i in range(5000)}
    with pytest.raises(WeightsError, match="patch_layers is 5"):
        config_from_tensors({**tensors, **layers})


def test_tensors_are_compared_before_they_are_copied(tmp_path, monkeypatch):
    """A transposed view of large data would be copied for its memory layout."""
    tensors = load_golden(E2E)
    key = "patch_level_decoder.base.h.0.attn.c_attn.weight"
    torch.save({**tensors, key: torch.zeros(64, 9999)}, tmp_path / "a.pth")
    monkeypatch.setattr(torch.Tensor, "contiguous", lambda *_args, **_options: pytest.fail("it was copied"))
    with pytest.raises(WeightsError, match="of another shape: "):
        load_file(tmp_path / "a.pth")


def test_files_in_the_place_of_a_model_are_regular(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(PLAIN))
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(CorruptCheckpoint, match=r"model\.safetensors: .*named pipe"):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match="named pipe"):
        from_pretrained(tmp_path)
    os.mkfifo(tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="not a regular file"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["~nosuchuser/x", "x" * 5000, "a\0b", "/dev/zero", ""])
def test_names_of_models_that_are_none(name):
    with pytest.raises(HubError, match="there is no model"):
        from_pretrained(name)
    assert len(model_prompts(name)) == 112


@pytest.mark.parametrize("text", ['{"a": {"b": [' + "9" * 5000 + "]}}", '{"a": 1e400}', '{"a": {"b": [[]]}}'])
def test_hostile_prompt_tables(tmp_path, text):
    (tmp_path / "prompts.json").write_text(text)
    with pytest.raises(ConfigError, match=r"prompts\.json"):
        model_prompts(tmp_path)
