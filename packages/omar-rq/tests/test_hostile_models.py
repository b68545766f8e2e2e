"""Model directories of a stranger: every refusal has a type and names the key, and no other file is reached.

No test takes long by itself; the time limit ends one that would hang.
"""

from __future__ import annotations

import dataclasses
import json
import os
import typing
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omar_rq.cli import app
from omar_rq.config import (
    FRONTENDS,
    TRUNKS,
    EncodecConfig,
    MaskingConfig,
    MelFrontendConfig,
    ModelConfig,
    QuantizerConfig,
)
from omar_rq.frontends import encodec as encodec_frontend
from omar_rq.frontends.encodec_encoder import Architecture, load_encoder
from omar_rq.gin import MAX_CHARACTERS, model_config, parse
from omar_rq.model import OmarRQ
from omar_rq.weights import from_pretrained, load_directory, save_pretrained
from pentatonic.checkpoint import save_tensors
from pentatonic.cli import run
from pentatonic.errors import (
    CheckpointError,
    ConfigError,
    CorruptCheckpoint,
    HubError,
    PentatonicError,
    WeightsError,
)
from pentatonic.untrusted.config import Range

pytestmark = pytest.mark.timeout(60)

GIN = """
build_module.net = @Conformer
build_module.representation = @MelSpectrogram
Conformer.embed_dim = 16
Conformer.num_heads = 2
Conformer.depth = 1
"""
CQT = "build_module.representation = @CQT\nCQT.n_bins = 24\nCQT.patch_size = (24, 4)\nCQT.f_min = 500.0\n"
MEL = {"name": "mel"}
NET = {"name": "conformer", "embed_dim": 16, "num_heads": 2, "depth": 1}
HUGE = "9" * 5000


@pytest.fixture
def no_hub(monkeypatch):
    """No test may ask the hub; a test that expects it to be asked sets its own answer."""
    import huggingface_hub

    def ask(repo_id, **_options):
        pytest.fail(f"the hub was asked for {repo_id}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", ask)


def load_gin(folder: Path, lines: str) -> None:
    (folder / "config.gin").write_text(GIN + lines)
    load_directory(folder, load_weights=False)


def load_json(folder: Path, values: object) -> None:
    text = values if isinstance(values, str) else json.dumps(values)
    (folder / "config.json").write_text(text)
    load_directory(folder, load_weights=False)


def test_the_plain_configurations_of_this_file_load(tmp_path):
    load_gin(tmp_path, "")
    load_gin(tmp_path, CQT)
    load_json(tmp_path, {"input": MEL, "net": NET})


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (f"Conformer.depth = {HUGE}", "a number has 5000 characters; at most 64"),
        (f"Conformer.depth = -{HUGE}", "a number has 5000 characters"),
        ("Conformer.depth = 0x" + "f" * 100_000, "a number has 100002 characters"),
        ("Conformer.depth = 0x" + "f" * 60, "net.depth is a whole number of 240 bits"),
        ("Conformer.depth = 10**400", "cannot read '**400"),
        ("Conformer.depth = 1000000000", "net.depth is 1000000000; allowed: whole numbers from 1 up to"),
        ("Conformer.depth = -1", "net.depth is -1"),
        ("Conformer.depth = 1.5", "net.depth is 1.5"),
        ("Conformer.embed_dim = 1099511627776", "net.embed_dim is 1099511627776"),
        ("Conformer.embed_dim = 16384\nConformer.depth = 100", "parameters; allowed: at most"),
        ("Conformer.dropout = 7", "net.dropout is 7; allowed: numbers from 0 and below 1"),
        ("Conformer.mlp_ratio = -1", "net.mlp_ratio is -1"),
        ("Conformer.mlp_ratio = 1e400", "net.mlp_ratio is inf"),
        ("Conformer.mlp_ratio = 1e-9", "net.embed_dim * net.mlp_ratio is 1.6e-08"),
        ("Conformer.alpha_deepnorm = 1e400", "net.alpha_deepnorm is inf"),
        ("MelSpectrogram.win_len = 1099511627776", "input.win_length is 1099511627776"),
        ("MelSpectrogram.win_len = 0", "input.win_length is 0"),
        ("MelSpectrogram.hop_len = 0", "input.hop_length is 0"),
        ("MelSpectrogram.sr = 0", "input.sample_rate is 0"),
        ("MelSpectrogram.n_mel = 1000000000", "input.n_mels is 1000000000"),
        ("MelSpectrogram.norm_std = 0", "input.norm_std is 0"),
        ("MelSpectrogram.norm_mean = 1e400", "input.norm_mean is inf"),
        ("MelSpectrogram.patch_size = (96, 1099511627776)", "input.patch_size is (96, 1099511627776)"),
        ("MelSpectrogram.norm = []", "input.norm is []"),
        (CQT + "CQT.bins_per_octave = 0", "input.bins_per_octave is 0"),
        (CQT + "CQT.bins_per_octave = 192", "the filters have up to"),
        (CQT + "CQT.f_min = 0", "input.f_min is 0"),
        (CQT + "CQT.f_min = 1e-300", "the filters have up to"),
        (CQT + "CQT.n_bins = 1000000000", "input.n_bins is 1000000000"),
        (CQT + "CQT.power = 1e400", "input.power is inf"),
        ("MaskingModel.codebook_size = 1000000000", "quantizer.codebook_size is 1000000000"),
        (
            "MaskingModel.codebook_size = 16777216\nMaskingModel.num_codebooks = 9",
            "codebooks and projections",
        ),
        ("MaskingModel.codebook_size = 9\nFiniteScalarQuantizer.levels = [65536] * 9", "cannot read '*"),
        (
            "MaskingModel.codebook_size = 9\nFiniteScalarQuantizer.levels = (1,)",
            "quantizer.fsq_levels is (1,)",
        ),
        (
            f"MaskingModel.codebook_size = 9\nFiniteScalarQuantizer.levels = {[65536] * 9}",
            "codes; allowed: at most",
        ),
        ("MaskingModel.codebook_size = 9\nMaskingModel.seed = -1", "quantizer.seed is -1"),
        ("MaskingModel.mask_seconds = 1e400", "masking.seconds is inf"),
        ("build_module.representation = [" + "@CQT," * 5000 + "]", "has 5000 entries; allowed: at most 16"),
        ("build_module.net = []", "build_module.net is []"),
        ("build_module.module = " + "[" * 20 + "]" * 20, "build_module.module is [["),
        ("a.b = " + "'' " * 1_000_000, "at most 1048576 are read"),
        ("a.b = " + "'' " * 100_000, f"at most {MAX_CHARACTERS} are read"),
        ("Conformer.depth = " + "'' " * 40_000, "net.depth is ''"),
        (
            "build_module.net = %m0\n" + "".join(f"m{i} = %m{i + 1}\n" for i in range(5000)),
            "macro '%m32' has no value",
        ),
    ],
)
def test_hostile_gin_files(tmp_path, lines, says):
    with pytest.raises(ConfigError, match=r"config\.gin") as error:
        load_gin(tmp_path, lines)
    assert says in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"input": {"name": []}, "net": NET}, "input.name is []; allowed: mel, cqt"),
        ({"input": MEL, "net": {"name": {}}}, "net.name is {}"),
        ({"input": MEL, "net": NET | {"depth": 10**400}}, "net.depth is a whole number of 1329 bits"),
        ({"input": MEL, "net": NET | {"mlp_ratio": 10**400}}, "net.mlp_ratio is a whole number of 1329 bits"),
        ({"input": MEL, "net": NET | {"mlp_ratio": float("nan")}}, "net.mlp_ratio is nan"),
        ('{"input": {"name": "mel", "n_fft": ' + HUGE + '}, "net": {}}', "not JSON"),
        ({"input": MEL | {"n_fft": 2**40}, "net": NET}, "input.n_fft is 1099511627776"),
        ({"input": MEL, "net": NET | {"x" * 10**5: 1}}, "unknown key net.'xxx"),
        ({"input": MEL, "net": NET, **{str(i): 1 for i in range(10**4)}}, "allowed: input (required)"),
        ({"input": MEL, "net": NET, "targets": [MEL] * 10_000}, "targets is [{"),
        ({"input": MEL, "net": NET, "quantizer": {"fsq_levels": [2] * 10_000}}, "quantizer.fsq_levels is [2"),
        ("[" * 100_000, "not JSON"),
        (" " * (2**20 + 1), "at most 1048576 are read"),
    ],
)
def test_hostile_json_files(tmp_path, values, says):
    with pytest.raises(ConfigError) as error:
        load_json(tmp_path, values)
    assert says in str(error.value)
    assert len(str(error.value)) < 600


def test_every_number_of_a_configuration_declares_its_range():
    def without_range(hint: object) -> bool:
        parts = typing.get_args(hint)
        if typing.get_origin(hint) is typing.Annotated and isinstance(parts[-1], Range):
            return False
        return hint in (int, float) or (
            typing.get_origin(hint) is not typing.Literal and any(map(without_range, parts))
        )

    kinds = (*FRONTENDS.values(), *TRUNKS.values(), QuantizerConfig, MaskingConfig, Architecture)
    for kind in kinds:
        hints = typing.get_type_hints(kind, include_extras=True)
        assert [f.name for f in dataclasses.fields(kind) if without_range(hints[f.name])] == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(2**70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def sections(kinds: dict[str, type]) -> st.SearchStrategy[dict]:
    """Sections with the right keys and any values."""
    keys = sorted({field.name for kind in kinds.values() for field in dataclasses.fields(kind)})
    return st.builds(
        lambda name, values: {"name": name, **values},
        st.sampled_from([*kinds, "", [], None]),
        st.dictionaries(st.sampled_from(keys), VALUES, max_size=4),
    )


@settings(max_examples=150, deadline=None)
@given(
    values=st.fixed_dictionaries(
        {"input": sections(FRONTENDS) | VALUES, "net": sections(TRUNKS) | VALUES},
        optional={"targets": st.lists(sections(FRONTENDS), max_size=2) | VALUES, "quantizer": VALUES},
    )
)
def test_any_json_values_are_read_or_refused(values):
    try:
        config = ModelConfig.from_dict(values)
    except ConfigError:
        return
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from(
                ["MelSpectrogram.n_mel", "Conformer.depth", "build_module.net", "MaskingModel.seed"]
            ),
            VALUES.map(repr)
            | st.text(max_size=30)
            | st.text("'\"@%()[]{},:=0123456789eExX_.-\\\n ", max_size=30),
        ),
        max_size=3,
    )
)
def test_any_gin_values_are_read_or_refused(lines):
    with suppress(ConfigError):
        model_config(parse(GIN + "\n".join(f"{name} = {value}" for name, value in lines)))


# --- files that a configuration names

ENCODEC = "build_module.representation = @EnCodec\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A model directory beside files that it must not reach."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.json").write_text('{"mean": 0, "std": 1}')
    (tmp_path / "encodec").mkdir()
    (folder / "link.json").symlink_to("../secret.json")
    (folder / "link").symlink_to("../encodec")
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "someone/encodec",
        "someone/encodec@main",
        "/dev/zero",
        "/",
        "../encodec",
        "folder/../../encodec",
        "link",
        "missing",
        "~nosuchuser/x",
        "~",
        "\\\\0",
        "C:/x",
        "x" * 4000,
        "x" * 5000,
        "",
    ],
)
def test_encodec_weights_of_a_loaded_model_lie_beside_it(place, no_hub, name):
    with pytest.raises(ConfigError, match=r"(encodec|input)\.weights_path is "):
        load_gin(place, ENCODEC + f"EnCodec.weights_path = '{name}'")
    values = {"input": {"name": "encodec", "weights_path": name}, "net": NET}
    with pytest.raises(ConfigError, match=r"(encodec|input)\.weights_path is "):
        load_json(place, values)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/dev/zero", "encodec.stats_path is '/dev/zero'"),
        ("../secret.json", "encodec.stats_path is '../secret.json'"),
        ("link.json", "encodec.stats_path is 'link.json', which leads to"),
        ("pipe", "pipe: cannot be read: it is a named pipe"),
        ("folder", "folder: cannot be read: it is a folder"),
        ("missing", "missing: is missing"),
    ],
)
def test_statistics_of_a_loaded_model_are_a_regular_file_beside_it(place, no_hub, monkeypatch, name, says):
    monkeypatch.chdir(place)
    with pytest.raises(ConfigError) as error:
        load_gin(place, ENCODEC + f"EnCodec.stats_path = '{name}'")
    assert says in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"mean": 1e400, "std": 1}',
        '{"mean": 0, "std": 0}',
        '{"mean": 0, "std": [' + "1," * 1000 + "1]}",
        '{"mean": ' + HUGE + ', "std": 1}',
        " " * (2**20 + 1),
    ],
)
def test_hostile_statistics(place, no_hub, text):
    (place / "stats.json").write_text(text)
    with pytest.raises(ConfigError, match=r"stats\.json"):
        load_gin(place, ENCODEC + "EnCodec.stats_path = 'stats.json'")


def test_targets_that_are_not_built_name_no_files(place, no_hub):
    lines = "build_module.representation = [@EnCodec]\nMaskingModel.input_representation = @MelSpectrogram\n"
    lines += (
        "MaskingModel.codebook_size = 8\nEnCodec.weights_path = '/x/encodec'\nEnCodec.stats_path = '/x/y'\n"
    )
    load_gin(place, lines)
    with pytest.raises(ConfigError, match=r"encodec\.stats_path is '/x/y'"):
        load_directory(place, load_weights=False, quantization_targets=True)


@pytest.fixture
def encodec_model(place, encodec):
    """A model of random weights that reads EnCodec from the folder ``sub`` beside it."""
    (place / "sub").symlink_to(place / "copy")
    (place / "copy").mkdir()
    for name in ("config.json", "model.safetensors"):
        (place / "copy" / name).write_bytes((Path(encodec) / name).read_bytes())
    config = {"input": {"name": "encodec", "weights_path": "sub"}, "net": NET}
    (place / "config.json").write_text(json.dumps(config))
    return place


def test_encodec_weights_beside_the_model_are_read(encodec_model, no_hub, tmp_path):
    model = load_directory(encodec_model, load_weights=False)
    assert model.config.input == EncodecConfig(weights_path="sub")
    assert model.frontend(torch.zeros(1, 1000)).shape == (1, 128, 4)
    save_pretrained(model, tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert saved["input"]["weights_path"] == "sub"


def test_the_published_encodec_is_fetched_and_others_where_the_caller_says(
    encodec_model, encodec, monkeypatch
):
    import huggingface_hub

    asked = []

    def ask(repo_id, *, revision, **_options):
        asked.append((repo_id, revision))
        return encodec

    monkeypatch.setattr(huggingface_hub, "snapshot_download", ask)
    (encodec_model / "config.json").write_text(json.dumps({"input": {"name": "encodec"}, "net": NET}))
    from_pretrained(encodec_model, load_weights=False)
    for given_by_caller in ("me/encodec@abc123", encodec):
        from_pretrained(encodec_model, load_weights=False, encodec=given_by_caller)
    assert asked == [("facebook/encodec_24khz", "main"), ("me/encodec", "abc123")]
    with pytest.raises(HubError, match="give a revision"):
        from_pretrained(encodec_model, load_weights=False, encodec="me/encodec")
    assert list(encodec_frontend.PUBLISHED) == ["facebook/encodec_24khz"]


@pytest.mark.parametrize("verb", ["embed", "tokenize"])
def test_the_command_line_says_which_encodec_is_read(tmp_path, capsys, no_hub, verb):
    (tmp_path / "config.json").write_text(json.dumps({"input": {"name": "encodec"}, "net": NET}))
    save_tensors(tmp_path / "model.safetensors", {})
    words = [verb, str(tmp_path), "--out", str(tmp_path / "out"), "--model", str(tmp_path), "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        run(app, [*words, "--encodec", "/nowhere/encodec"])
    assert ended.value.code == 1
    assert "there is no model '/nowhere/encodec'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_filters": 10**9}, "num_filters"),
        ({"num_lstm_layers": 10**9}, "num_lstm_layers"),
        ({"num_residual_layers": 10**9}, "num_residual_layers"),
        ({"upsampling_ratios": [320] * 10**5}, "upsampling_ratios"),
        ({"upsampling_ratios": [8, 5, 4]}, "a product of 320"),
        ({"kernel_size": 2**40}, "kernel_size"),
        ({"compress": 0}, "compress"),
        ({"compress": 64}, "compress"),
        ({"hidden_size": 10**9}, "hidden_size"),
        ({"norm_type": []}, "norm_type"),
    ],
)
def test_hostile_encodec_configurations(encodec_model, change, says):
    path = encodec_model / "copy" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match=says):
        load_encoder(path.parent)


def test_an_encodec_model_is_not_larger_than_its_file(encodec_model, monkeypatch):
    path = encodec_model / "copy" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_filters": 64}))
    monkeypatch.setattr(torch.random, "fork_rng", lambda **_options: pytest.fail("memory was used"))
    with pytest.raises(WeightsError, match="of another shape: encoder"):
        load_encoder(path.parent)


def test_other_files_of_an_encodec_model_are_not_followed(encodec_model, no_hub):
    folder = encodec_model / "copy"
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/encodec"}')
    load_encoder(folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"encoder": "../../secret"}}')
    with pytest.raises(WeightsError, match=r"model\.safetensors is missing"):
        load_encoder(folder)


# --- weights and names of models


def test_files_in_the_place_of_a_model_are_regular(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, error in (("config.json", ConfigError), ("config.gin", ConfigError)):
        (tmp_path / name).symlink_to("/dev/zero")
        with pytest.raises(error):
            load_directory(tmp_path)
        (tmp_path / name).unlink()
    (tmp_path / "config.json").write_text(json.dumps({"input": MEL, "net": NET}))
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint found"):
        load_directory(tmp_path)


def test_a_model_takes_no_memory_before_its_weights_fit(tmp_path, monkeypatch):
    def build(config):
        assert torch.empty(0).is_meta
        return OmarRQ(config)

    monkeypatch.setattr("omar_rq.weights.OmarRQ", build)
    (tmp_path / "config.json").write_text(json.dumps({"input": MEL, "net": NET | {"embed_dim": 2048}}))
    save_tensors(tmp_path / "model.safetensors", {})
    with pytest.raises(WeightsError, match="missing"):
        load_directory(tmp_path)


@pytest.mark.parametrize("name", ["../a.ckpt", "/a.ckpt", "x" * 300 + ".ckpt", "a\\0.ckpt", "link.ckpt"])
def test_a_checkpoint_that_gin_names_lies_beside_it(place, name):
    (place.parent / "a.ckpt").write_bytes(b"")
    (place / "link.ckpt").symlink_to("../a.ckpt")
    (place / "other.ckpt").symlink_to("../a.ckpt")
    (place / "config.gin").write_text(GIN + f"build_module.ckpt_path = '{name}'\n")
    with pytest.raises((ConfigError, CheckpointError)) as error:
        load_directory(place)
    assert not isinstance(error.value, CorruptCheckpoint)
    assert "a.ckpt: is not" not in str(error.value)


@pytest.mark.parametrize("name", ["~nosuchuser/x", "x" * 5000, "a\0b", "/dev/zero", ""])
def test_names_of_models_that_are_none(no_hub, name):
    with pytest.raises(HubError, match="there is no model"):
        from_pretrained(name)


def test_a_configuration_beside_nothing_else_is_typed(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"input": MEL, "net": NET}))
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(PentatonicError):
        load_directory(tmp_path)
    assert MelFrontendConfig() == load_directory(tmp_path, load_weights=False).config.input
