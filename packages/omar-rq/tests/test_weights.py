"""Released layouts and our own: exact keys, exact round trips, and refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from omar_rq import gin, weights
from omar_rq.config import ConformerConfig, ModelConfig, TransformerConfig, WaveformConfig
from omar_rq.model import OmarRQ
from omar_rq.published_models import PUBLISHED_NAMES, published_config
from omar_rq.weights import (
    from_pretrained,
    from_upstream,
    get_model,
    load_directory,
    position_tensors,
    save_pretrained,
    to_upstream,
)
from pentatonic.errors import CheckpointError, ConfigError, HubError, UsageError, WeightsError

GOLDENS = Path(__file__).parent / "goldens"
MEL, RPQ = "model_mel_tiny", "model_multifeature_rpq_tiny"
SIZES = {"embed_dim": 16, "depth": 2, "num_heads": 2}
LAYOUTS = {
    "deepnorm": ConformerConfig(**SIZES),
    "plain": ConformerConfig(**SIZES, use_deepnorm=False),
    "sinusoidal": ConformerConfig(**SIZES, use_deepnorm=False, use_rope=False),
    "transformer": TransformerConfig(**SIZES, num_patches=5),
    "transformer, norm first": TransformerConfig(**SIZES, num_patches=5, do_deepnorm=False),
}


def released_tensors(case: str) -> dict[str, torch.Tensor]:
    """What a released file of the tiny model holds."""
    tensors = load_file(GOLDENS / case / "weights.safetensors")
    return {k: v for k, v in tensors.items() if k.startswith(("net.", "embedding_layer."))}


@pytest.fixture
def hub_directory(tmp_path):
    """``hub_directory(case, **files)``: config.gin and model.ckpt as the hub has them."""

    def make(case: str = RPQ, checkpoint="model.ckpt", tensors=None, gin_lines: str = "") -> Path:
        text = (GOLDENS / case / "config.gin").read_text() + gin_lines
        (tmp_path / "config.gin").write_text(text)
        torch.save(released_tensors(case) if tensors is None else tensors, tmp_path / checkpoint)
        return tmp_path

    return make


@pytest.fixture
def audio(signal) -> torch.Tensor:
    return signal("a_24k", 48000)


def random_model(net=LAYOUTS["deepnorm"]) -> OmarRQ:
    torch.manual_seed(0)
    return OmarRQ(ModelConfig(input=WaveformConfig(), net=net)).eval()


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
def test_released_keys_and_shapes(name):
    recorded = json.loads((GOLDENS / f"released_{name}_keys.json").read_text())
    with torch.device("meta"):
        model = OmarRQ(published_config(name))
    layout = {
        key: f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        for key, tensor in to_upstream(model).items()
    }
    assert layout == recorded["hub_keys"]
    counts = recorded["param_counts"]
    own = sum(parameter.numel() for parameter in model.parameters())
    assert own + counts["of_which_frozen_rotary_freqs"] == counts["hub_total_params"]
    derived = recorded["derived"]
    assert (model.eps, model.sr, list(model.patch_size)) == (derived["eps"], derived["sr"], derived["patch"])


@pytest.mark.parametrize("case", [MEL, RPQ])
def test_released_layout_round_trips_exactly(case):
    tensors = released_tensors(case)
    model = OmarRQ(gin.model_config(gin.parse((GOLDENS / case / "config.gin").read_text())))
    model.load_state_dict(from_upstream(tensors, model.config))
    back = to_upstream(model)
    assert set(back) == set(tensors)
    for key, value in tensors.items():
        assert torch.equal(back[key], value) and back[key].dtype == value.dtype, key


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_round_trips(layout):
    model = random_model(LAYOUTS[layout])
    ours, theirs = model.state_dict(), to_upstream(model)
    assert len(theirs) == len(ours) + len(position_tensors(model.config))
    again = from_upstream(theirs, model.config)
    assert set(again) == set(ours) and all(torch.equal(again[key], ours[key]) for key in ours)


@pytest.mark.parametrize("case", ["transformer_deepnorm", "transformer_prenorm", "transformer_vit_cls"])
def test_transformer_layouts_have_the_recorded_keys(case, golden_weights):
    net = TransformerConfig(do_deepnorm=case != "transformer_prenorm")
    keys = weights.key_map(ModelConfig(input=WaveformConfig(), net=net))
    recorded = {f"net.{key}": value for key, value in golden_weights(case).items()}
    assert set(keys.to_theirs(keys.to_ours(recorded))) == set(recorded)


def test_directory_as_downloaded_loads(hub_directory, golden, audio):
    model = load_directory(hub_directory())
    assert not model.training and model.eps == 18.75
    io, _ = golden(RPQ)
    out = model.extract_embeddings(audio, sample_rate=24000)
    torch.testing.assert_close(out, io["emb_default"], rtol=0, atol=5e-6)


@pytest.mark.parametrize("give", ["directory", "file"])
def test_get_model_takes_directory_or_file_either_way(hub_directory, give):
    directory = hub_directory()
    path = directory if give == "directory" else directory / "config.gin"
    for model in (get_model(path), get_model(config_file=path), get_model(str(path))):
        assert torch.equal(model.embed.weight, released_tensors(RPQ)["embedding_layer.weight"])


def test_get_model_wants_one_of_its_two_sources():
    for arguments in ({}, {"model_id": "a", "config_file": "b"}):
        with pytest.raises(UsageError, match="either"):
            get_model(**arguments)


@pytest.mark.parametrize("checkpoint", ["epoch=1.ckpt", "model.ckpt", "other.ckpt"])
def test_checkpoint_named_default_or_only_one(hub_directory, checkpoint):
    line = "\nbuild_module.ckpt_path = '/elsewhere/epoch=1.ckpt'"
    assert load_directory(hub_directory(checkpoint=checkpoint, gin_lines=line)).eps == 18.75


def test_named_checkpoint_wins_over_model_ckpt(hub_directory):
    directory = hub_directory(gin_lines="\nbuild_module.ckpt_path = 'run/best.ckpt'")
    changed = released_tensors(RPQ)
    changed["embedding_layer.bias"] = torch.full((16,), 5.0)
    torch.save(changed, directory / "best.ckpt")
    assert load_directory(directory).embed.bias[0] == 5.0


def test_checkpoint_may_be_safetensors(hub_directory):
    directory = hub_directory()
    (directory / "model.ckpt").unlink()
    save_file(released_tensors(RPQ), directory / "model.safetensors")
    loaded = load_directory(directory).state_dict()
    assert torch.equal(loaded["embed.bias"], released_tensors(RPQ)["embedding_layer.bias"])


def test_missing_files_are_named(hub_directory, tmp_path):
    with pytest.raises(ConfigError, match=r"config\.json or config\.gin"):
        load_directory(tmp_path)
    directory = hub_directory()
    (directory / "model.ckpt").unlink()
    with pytest.raises(CheckpointError, match=r"model\.ckpt"):
        load_directory(directory)
    (directory / "a.ckpt").touch()
    (directory / "b.ckpt").touch()
    with pytest.raises(CheckpointError):
        load_directory(directory)


def test_weights_are_optional(hub_directory):
    directory = hub_directory()
    (directory / "model.ckpt").unlink()
    model = get_model(directory, load_weights=False)
    assert not model.training and all(p.device.type == "cpu" for p in model.parameters())


def test_training_checkpoint_loads(hub_directory):
    """A Lightning file wraps the tensors, and holds head, quantisers, front ends and optimiser state."""
    tensors = load_file(GOLDENS / RPQ / "weights.safetensors")
    assert {"linear.weight", "quantizers.2.1.codebook"} <= set(tensors)
    tensors["representation.2.mel_scale.fb"] = tensors["input_rep.mean"] = torch.zeros(3)
    wrapped = {"state_dict": tensors, "epoch": 3, "optimizer_states": [{"state": {0: torch.ones(2)}}]}
    model = load_directory(hub_directory(tensors=wrapped))
    bare = from_upstream(released_tensors(RPQ), model.config)
    assert all(torch.equal(value, bare[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("net.layers.2.norm2.bias"), "norm_out.bias"),
        (lambda t: t.update({"net.layers.0.extra": torch.zeros(1)}), "net.layers.0.extra"),
        (lambda t: t.update({"decoder.weight": torch.zeros(1)}), "decoder.weight"),
        (lambda t: t.update({"embedding_layer.bias": torch.zeros(3)}), "embed.bias"),
        (lambda t: t["net.layers.1.attention.rotary_emb.freqs"].mul_(1.01), "layers.1.attention.rotary"),
    ],
)
def test_tensors_that_do_not_fit_are_named(hub_directory, change, says):
    tensors = released_tensors(RPQ)
    change(tensors)
    with pytest.raises(WeightsError, match=says.replace(".", r"\.")):
        load_directory(hub_directory(tensors=tensors))


def test_anything_but_tensors_is_refused(hub_directory):
    with pytest.raises(CheckpointError, match="norm2"):
        load_directory(hub_directory(tensors=released_tensors(RPQ) | {"net.layers.0.norm2.bias": "text"}))


def test_position_codes_saved_in_half_precision_are_accepted():
    model = random_model()
    tensors = {key: value.bfloat16() for key, value in to_upstream(model).items()}
    assert set(from_upstream(tensors, model.config)) == set(model.state_dict())


def test_configuration_is_never_executed(hub_directory, tmp_path):
    proof = tmp_path / "executed"
    directory = hub_directory(gin_lines=f"\nx = __import__('os').mkdir('{proof}')\n")
    with pytest.raises(ConfigError, match="__import__"):
        load_directory(directory)
    assert not proof.exists()


def test_checkpoint_is_never_unpickled_into_code(hub_directory, tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    with pytest.raises(CheckpointError):
        load_directory(hub_directory(tensors={"net.x": Payload()}))
    assert not (tmp_path / "executed").exists()


def test_saved_model_loads_the_same(tmp_path, audio):
    model = random_model(dataclasses.replace(LAYOUTS["deepnorm"], causal=False))
    save_pretrained(model, tmp_path / "saved")
    assert {"config.json", "model.safetensors"} <= {path.name for path in (tmp_path / "saved").iterdir()}
    loaded = from_pretrained(tmp_path / "saved")
    assert loaded.config == model.config and not loaded.training
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    same = (m.extract_embeddings(audio, sample_rate=24000) for m in (model, loaded))
    assert torch.equal(*same)


def test_loading_draws_no_random_numbers(hub_directory):
    """Weights that are replaced at once are never made: that is most of the time of building a large model."""
    directory, state = hub_directory(), torch.get_rng_state()
    load_directory(directory)
    assert torch.equal(torch.get_rng_state(), state)


def test_saved_directory_is_replaced_as_a_whole(tmp_path):
    save_pretrained(random_model(LAYOUTS["plain"]), tmp_path / "saved")
    save_pretrained(random_model(), tmp_path / "saved")
    assert load_directory(tmp_path / "saved").config.net == LAYOUTS["deepnorm"]
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_damaged_configuration_is_refused(tmp_path):
    save_pretrained(random_model(), tmp_path / "saved")
    for text, says in (
        ("{", "not JSON"),
        ('{"input": {"name": "mel"}}', "net"),
        ("\xff", "not UTF-8"),
    ):
        (tmp_path / "saved" / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(ConfigError, match=says):
            load_directory(tmp_path / "saved")


def test_dtype_of_the_trunk(hub_directory, audio):
    model = from_pretrained(hub_directory(), dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.extract_embeddings(audio, sample_rate=24000).dtype == torch.float32
    assert model.frontend(audio[None]).dtype == torch.float32


def test_targets_on_request(hub_directory, golden, signal):
    directory = hub_directory(MEL)
    assert get_model(directory).tokenizer is None
    model = get_model(directory, quantization_targets=True)
    assert model.tokenizer is not None and model.tokenizer.frontends[0] is model.frontend
    io, _ = golden(MEL)
    audio = torch.stack([signal("a_16k", 32000), signal("b_16k", 32000)])
    assert torch.equal(model.tokenizer(audio), io["train.tokens"])
    save_pretrained(model, directory / "saved")
    assert set(load_file(directory / "saved" / "model.safetensors")) == set(get_model(directory).state_dict())


def test_names_that_lead_nowhere():
    with pytest.raises(HubError, match="no-such-model"):
        from_pretrained("./no-such-model")


def test_released_table_covers_the_hub():
    assert set(weights.RELEASED) == {
        f"mtg-upf/omar-rq-{name}" for name in (*PUBLISHED_NAMES, "base-freesound-small")
    }
    assert all(entry.licence == "CC BY-NC-SA 4.0" for entry in weights.RELEASED.values())
