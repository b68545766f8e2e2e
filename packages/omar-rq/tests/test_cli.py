"""The command line: exit codes, JSON, what is imported when, and what reaches the library."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

import omar_rq.training
from omar_rq import cli
from omar_rq.config import ConformerConfig, MelFrontendConfig, ModelConfig, QuantizerConfig
from omar_rq.model import OmarRQ
from omar_rq.weights import load_directory, save_pretrained
from pentatonic import audio
from pentatonic.audio import AudioLimits
from pentatonic.audio_folder import options
from pentatonic.audio_folder.reading import ReadOptions
from pentatonic.cli import BatchReport
from pentatonic.errors import InputError

pytestmark = pytest.mark.usefixtures("decode_here")

CONFIG = ModelConfig(
    input=MelFrontendConfig(),
    targets=(MelFrontendConfig(),),
    net=ConformerConfig(embed_dim=16, depth=3, num_heads=2),
    quantizer=QuantizerConfig(type="random_codebook", num_codebooks=2, codebook_size=64),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "small"
    save_pretrained(OmarRQ(CONFIG), folder)
    return folder


@pytest.fixture
def music(tmp_path) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for name in ("a.wav", "b.wav"):
        audio.save(folder / name, 0.1 * torch.randn(16000, generator=generator), 16000)
    return folder


@pytest.fixture
def omar(monkeypatch, capsys):
    """``omar(*arguments) -> (exit code, standard output, standard error)``."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["omar-rq", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return (exit.value.code or 0, *capsys.readouterr())

    return run


def python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_help_and_package_import_no_torch():
    program = """
import sys
import omar_rq, omar_rq.cli
for words in (["--help"], ["embed", "--help"], ["train", "--help"], ["--version"]):
    try:
        omar_rq.cli.app(words)
    except SystemExit as exit:
        assert exit.code == 0
assert not {"torch", "numpy", "hydra", "omegaconf"} & set(sys.modules), "imported too early"
print("Hydra overrides" if omar_rq.__version__ else "")
"""
    text = python(program)
    for word in ("embed", "tokenize", "info", "prepare", "stats", "train", "export", "convert", "demo"):
        assert f"\n  {word} " in text
    assert "multifeature-25hz-fsq" in text and "debug" in text  # experiments
    assert text.rstrip().endswith("Hydra overrides")


def test_the_console_script_is_this_main():
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="omar-rq")
    assert script.load() is cli.main


@pytest.mark.parametrize("name", omar_rq.__all__)
def test_public_names_resolve(name):
    assert getattr(omar_rq, name) is not None and name in dir(omar_rq)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="nothing_like_this"):
        omar_rq.nothing_like_this  # noqa: B018


def test_embed_json(omar, model, music, tmp_path):
    out = tmp_path / "out"
    words = ["embed", music, "--model", model, "--out", out, "--layers", "0,-1", "--json"]
    code, stdout, stderr = omar(*words, "--store", "float16", "--context", "none", "--device", "cpu")
    result = json.loads(stdout)
    assert code == 0 and result["counts"] == {"done": 2, "skipped": 0, "failed": 0}
    assert [Path(entry["output"]).name for entry in result["inputs"]] == ["a.wav.npz", "b.wav.npz"]
    assert "2 done" in stderr
    with np.load(out / "a.wav.npz") as stored:
        assert stored["embeddings"].shape == (2, 15, 16) and stored["embeddings"].dtype == np.float16
        assert stored["layers"].tolist() == [0, 2] and stored["model"] == str(model)
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["context_s"] is None and settings["strict"] is True
    assert omar(*words, "--store", "float16", "--context", "none")[0] == 0
    assert json.loads((out / "report.json").read_text())["counts"]["skipped"] == 2


@pytest.mark.parametrize(
    ("options", "shape", "settings"),
    [
        ([], (1, 15, 16), {"layers": [2], "context_s": 300.0, "store": "float32", "strict": True}),
        (["--layers", "all", "--pool", "mean"], (3, 16), {"layers": [0, 1, 2], "pool": "mean"}),
        (["--context", "20", "--lenient"], (1, 15, 16), {"context_s": 20.0, "strict": False}),
    ],
)
def test_embed_options(omar, model, music, tmp_path, options, shape, settings):
    assert omar("embed", music, "--model", model, "--out", tmp_path / "out", *options)[0] == 0
    with np.load(tmp_path / "out" / "a.wav.npz") as stored:
        assert stored["embeddings"].shape == shape
    found = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert found.items() >= settings.items()


def test_bf16_runs_in_bfloat16(omar, model, music, tmp_path):
    for dtype in ("fp32", "bf16"):
        assert omar("embed", music, "--model", model, "--out", tmp_path / dtype, "--dtype", dtype)[0] == 0
    exact, rounded = (np.load(tmp_path / name / "a.wav.npz")["embeddings"] for name in ("fp32", "bf16"))
    error = np.abs(exact - rounded).max()
    assert 1e-5 < error < 0.1


@pytest.mark.parametrize(("available", "name"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_the_number_type_of_the_hardware(
    omar, model, music, tmp_path, monkeypatch, available, name
):
    monkeypatch.setattr("pentatonic.precision.has_bfloat16", lambda device: available)
    out = tmp_path / "auto"
    assert omar("embed", music, "--model", model, "--out", out, "--dtype", "auto", "--batch", 1)[0] == 0
    assert json.loads((out / "run.json").read_text())["settings"]["dtype"] == name
    assert {e["dtype"] for e in json.loads((out / "report.json").read_text())["inputs"]} == {name}
    assert omar("embed", music, "--model", model, "--out", tmp_path / name, "--dtype", name)[0] == 0
    stored = [np.load(folder / "a.wav.npz")["embeddings"] for folder in (out, tmp_path / name)]
    np.testing.assert_allclose(*stored, rtol=0, atol=2e-5 if name == "fp32" else 5e-2)


def test_a_full_disk_is_exit_1_and_names_no_input_as_bad(omar, model, music, tmp_path, monkeypatch):
    def fill(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pentatonic.audio_folder.npz._write_archive", fill)
    code, _, stderr = omar("embed", music, "--model", model, "--out", tmp_path / "out")
    assert code == 1
    assert "Error: cannot write " in stderr and "No space left on device" in stderr and "failed" not in stderr
    assert json.loads((tmp_path / "out" / "report.json").read_text())["inputs"] == []


@pytest.mark.parametrize("batch", ["0", "-1", "x"])
def test_a_batch_has_at_least_one_file(omar, model, music, tmp_path, batch):
    assert omar("embed", music, "--model", model, "--out", tmp_path / "out", "--batch", batch)[0] == 2


def test_some_bad_inputs_exit_3_and_are_named(omar, model, music, tmp_path):
    (music / "bad.wav").write_text("no audio")
    (music / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    code, stdout, stderr = omar("embed", music, "--model", model, "--out", tmp_path / "out", "--json")
    assert code == 3
    failed = {Path(e["path"]).name for e in json.loads(stdout)["inputs"] if e["status"] == "failed"}
    assert failed == {"bad.wav", "gone.wav"}
    assert "2 of 4 inputs failed" in stderr and "bad.wav" in stderr and "Traceback" not in stderr


@pytest.mark.parametrize("verb", ["embed", "tokenize", "demo"])
def test_an_argument_that_does_not_exist_is_wrong_usage(omar, model, music, tmp_path, verb):
    missing = tmp_path / "missing.wav"
    code, stdout, stderr = omar(verb, music, missing, "--model", model, "--out", tmp_path / "out")
    assert (code, stdout, stderr) == (2, "", f"Error: no such file or folder: {missing}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "layers"), [("0-2", [0, 1, 2]), ("2,0-1", [0, 1, 2]), ("-1", [2]), (" 1 - 1", [1])]
)
def test_layers_are_numbers_and_ranges(omar, model, music, tmp_path, text, layers):
    assert omar("embed", music, "--model", model, "--out", tmp_path / "out", "--layers", text)[0] == 0
    assert np.load(tmp_path / "out" / "a.wav.npz")["layers"].tolist() == layers


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layers", "three"], "--layers is 'three'"),
        (["--layers", ""], "--layers is ''"),
        (["--layers", "0,3"], "layer 3"),
        (["--context", "0"], "--context is '0'"),
        (["--context", "nan"], "--context is 'nan'"),
        (["--format", "csv"], "csv"),
        (["--pool", "max"], "max"),
        (["--start", "-1"], "--start is -1 seconds"),
        (["--start", "nan"], "--start is nan seconds"),
        (["--duration", "0"], "--duration is 0 seconds"),
        (["--duration", "inf"], "--duration is inf seconds"),
        (["--max-duration", "0"], "--max-duration is 0 seconds"),
        (["--max-channels", "0"], "--max-channels is 0"),
        (["--nonfinite", "skip"], "skip"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_wrong_usage_exits_2(omar, model, music, tmp_path, options, said):
    code, stdout, stderr = omar("embed", music, "--model", model, "--out", tmp_path / "out", *options)
    assert code == 2 and said in stderr and not stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["tokenize", "demo"])
def test_wrong_options_of_reading_exit_2_before_any_work(omar, model, music, tmp_path, verb):
    code, stdout, stderr = omar(
        verb, music, "--model", tmp_path / "none", "--out", tmp_path / "out", "--start", "-1"
    )
    assert (code, stdout) == (2, "") and "--start is -1 seconds; allowed: 0 or more" in stderr
    assert not (tmp_path / "out").exists()


def test_the_limits_of_the_command_line_are_those_of_the_library():
    limits = AudioLimits()
    assert limits.max_duration_s == options.MAX_DURATION_S and limits.max_channels == options.MAX_CHANNELS


@pytest.mark.parametrize("verb", ["embed", "tokenize"])
def test_options_of_reading(omar, model, music, tmp_path, verb):
    samples = 0.1 * np.ones((16000, 3), np.float32)
    samples[9000] = np.inf
    soundfile.write(music / "inf.wav", samples, 16000, subtype="FLOAT")
    soundfile.write(music / "long.wav", np.zeros(48000), 16000)
    (music / "cover.jpg").touch()
    words = [
        verb,
        music,
        "--model",
        model,
        "--out",
        tmp_path / "out",
        "--start",
        "0.25",
        "--duration",
        "0.5",
        "--json",
    ]
    options = ["--nonfinite", "zero", "--max-duration", "2", "--max-channels", "3"]
    code, stdout, stderr = omar(*words, *options)
    entries = {Path(entry["path"]).name: entry for entry in json.loads(stdout)["inputs"]}
    assert code == 3 and [name for name, entry in entries.items() if entry["status"] == "failed"] == [
        "long.wav"
    ]
    assert "longer than 2 s" in entries["long.wav"]["reason"]
    assert entries["inf.wav"]["warnings"] == ["3 NaN or infinite samples were set to 0"]
    assert entries["a.wav"]["duration_s"] == 0.5 and entries["a.wav"]["flags"] == ["short (0.50 s)"]
    assert json.loads(stdout)["passed_over"] == {".jpg": 1}
    assert "1 file passed over for its suffix: 1 .jpg\n" in stderr and "a.wav  short (0.50 s)\n" in stderr
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    expected = {
        "start_s": 0.25,
        "duration_s": 0.5,
        "nonfinite": "zero",
        "max_duration_s": 2.0,
        "max_channels": 3,
    }
    assert settings.items() >= expected.items()
    assert json.loads(omar(*words, *options)[1])["counts"] == {"done": 0, "skipped": 3, "failed": 1}
    code, _, stderr = omar(*words)
    assert code == 2 and "max_channels 3, not 64" in stderr and "nonfinite zero, not raise" in stderr
    failed = [
        entry["path"]
        for entry in json.loads(omar(*words, "--overwrite", "--max-channels", "2")[1])["inputs"]
        if entry["status"] == "failed"
    ]
    assert failed == [str(music / "inf.wav")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_wrong_usage(omar, model, music, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    for name in ("cuda", "mps"):
        code, _, stderr = omar("embed", music, "--model", model, "--out", tmp_path / "out", "--device", name)
        assert code == 2 and f"--device is {name}, but there is no usable GPU" in stderr


def test_a_model_that_cannot_be_found_exits_1(omar, music, tmp_path):
    code, _, stderr = omar("embed", music, "--model", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert code == 1 and "nowhere" in stderr and "Traceback" not in stderr


def test_tokenize(omar, model, music, tmp_path):
    code, stdout, _ = omar("tokenize", music, "--model", model, "--out", tmp_path / "out", "--json")
    assert code == 0 and json.loads(stdout)["counts"]["done"] == 2
    assert np.load(tmp_path / "out" / "b.wav.npz")["tokens"].shape == (15, 2)


def test_info_of_a_model(omar, model):
    code, stdout, _ = omar("info", model, "--json")
    n_parameters = sum(p.numel() for p in load_directory(model).parameters())
    assert code == 0 and json.loads(stdout) == {
        "model": str(model),
        "input": "mel",
        "sample_rate": 16000,
        "hop_length": 256,
        "embedding_rate_hz": 15.625,
        "layers": 3,
        "width": 16,
        "parameters": n_parameters,
        "targets": ["mel"],
        "codebooks": [64, 64],
        "licence": "not stated",
        "source": "configuration of the model",
    }
    code, stdout, _ = omar("info", model)
    assert code == 0 and "15.625" in stdout and "64, 64" in stdout


def test_info_of_released_models_needs_no_network(omar):
    code, stdout, _ = omar("info", "mtg-upf/omar-rq-multifeature-25hz-fsq", "--json")
    about = json.loads(stdout)
    assert (
        code == 0 and about["parameters"] == 581_224_960 - 24 * 64
    )  # the file also holds 64 angles per layer
    assert (about["sample_rate"], about["embedding_rate_hz"], about["layers"]) == (24000, 25.0, 24)
    assert about["targets"] == ["cqt", "encodec", "mel"] and "NC" in about["licence"]
    code, stdout, _ = omar("info", "--json")
    models = {each["model"]: each["kind"] for each in json.loads(stdout)}
    assert models["omar-rq-tiny"] == "bundled" and models["mtg-upf/omar-rq-base"] == "released"
    code, stdout, _ = omar("info")
    assert code == 0 and len(stdout.splitlines()) == len(models)


def test_convert_there_and_back_keeps_every_bit(omar, model, tmp_path):
    there, back = tmp_path / "there", tmp_path / "back"
    assert omar("convert", model, "--out", there)[0] == 0
    assert (there / "config.gin").is_file() and (there / "model.ckpt").is_file()
    assert omar("convert", there, "--out", back)[0] == 0
    assert (back / "config.json").is_file() and (back / "model.safetensors").is_file()
    one, other = load_directory(model), load_directory(back)
    assert one.config.net == other.config.net and one.config.input == other.config.input
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())
    code, _, stderr = omar("convert", tmp_path / "nowhere", "--out", tmp_path / "x")
    assert code == 2 and "nowhere" in stderr


def test_export_passes_everything_on(omar, monkeypatch, tmp_path):
    calls, pushed = [], []
    monkeypatch.setattr("omar_rq.export.export", lambda *a, **k: calls.append((a, k)) or a[1])
    monkeypatch.setattr("pentatonic.hub.push", lambda *a: pushed.append(a) or "the address")
    words = ["export", tmp_path, "--out", tmp_path / "o", "--format", "upstream", "--dtype", "fp16"]
    assert omar(*words)[0] == 0
    assert calls == [((str(tmp_path), tmp_path / "o"), {"format": "upstream", "dtype": torch.float16})]
    assert pushed == []
    code, stdout, _ = omar(*words, "--push", "me/my-model")
    assert code == 0 and pushed == [(tmp_path / "o", "me/my-model")] and "the address" in stdout
    monkeypatch.undo()


def test_demo_passes_everything_on(omar, monkeypatch, tmp_path):
    calls, outcome = [], BatchReport()
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav"):
        Path(name).touch()
    monkeypatch.setattr("omar_rq.demo.write_demo", lambda *a: calls.append(a) or ("page.html", outcome))
    words = ["demo", "a.wav", "b.wav", "--out", tmp_path, "--model", "some"]
    code, stdout, _ = omar(*words)
    assert (code, stdout) == (0, "page.html\n")
    assert calls == [("some", [Path("a.wav"), Path("b.wav")], tmp_path, ReadOptions())]
    assert omar(*words, "--start", "3", "--max-channels", "2")[0] == 0
    assert calls[1][3] == ReadOptions(start_s=3.0, max_channels=2)
    outcome.failed("b.wav", InputError("b.wav: this is not audio"))
    code, stdout, stderr = omar(*words)
    assert (code, stdout) == (3, "page.html\n") and "b.wav" in stderr and "not audio" in stderr


@pytest.mark.parametrize("verb", ["train", "prepare", "stats"])
def test_overrides_reach_the_trainers(omar, monkeypatch, verb):
    calls = []
    result = SimpleNamespace(interrupted=False)
    monkeypatch.setattr(
        f"omar_rq.training.{verb}.main", lambda overrides: calls.append(list(overrides)) or result
    )
    assert omar(verb, "experiment=tiny", "+a.b=-1", "~c")[0] == 0
    assert omar(verb)[0] == 0
    assert calls == [["experiment=tiny", "+a.b=-1", "~c"], []]


def test_an_interrupted_training_exits_130(omar, monkeypatch):
    monkeypatch.setattr("omar_rq.training.train.main", lambda _: SimpleNamespace(interrupted=True))
    assert omar("train", "experiment=debug")[0] == 130


def test_a_wrong_override_exits_1_and_names_the_key(omar, tmp_path):
    code, _, stderr = omar("train", "experiment=debug", f"data.root={tmp_path}", "optim.learning=1")
    assert code == 1 and "learning" in stderr and "Traceback" not in stderr


@pytest.mark.parametrize("verb", ["train", "prepare", "stats"])
def test_without_the_train_extra_there_is_one_sentence(omar, monkeypatch, verb):
    monkeypatch.delitem(sys.modules, f"omar_rq.training.{verb}", raising=False)
    monkeypatch.delattr(omar_rq.training, verb, raising=False)
    monkeypatch.setitem(sys.modules, "omegaconf", None)
    code, stdout, stderr = omar(verb, "a=b")
    assert code == 1 and not stdout
    assert "pip install 'omar-rq[train]'" in stderr and len(stderr.splitlines()) == 1
