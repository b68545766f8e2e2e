"""Training through the real command line: debug run, resume, two processes, export."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from omar_rq.config import ModelConfig
from omar_rq.export import export
from omar_rq.training.train import TrainConfig, main
from omar_rq.weights import from_pretrained
from pentatonic.checkpoint import model_directory
from pentatonic.errors import CheckpointError, ConfigError, UsageError
from pentatonic.training import compose_config

pytest.importorskip("accelerate")
CONF = Path(__file__).parents[1] / "src" / "omar_rq" / "conf"
SMALL = ["model.net.embed_dim=16", "model.net.depth=1", "data.crop_s=1.0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for index in range(8):
        time_s = np.arange(32000) / 16000
        tone = np.sin(2 * np.pi * 110 * (index + 1) * time_s) + 0.1 * rng.standard_normal(len(time_s))
        (0.3 * tone).astype("<f2").tofile(folder / f"{index}.mmap")
    names = [f"{index}.mmap\n" for index in range(8)]
    (folder / "train.txt").write_text("".join(names[:6]))
    (folder / "val.txt").write_text("".join(names[6:]))
    return folder


def overrides(data: Path, run: Path, *more: str) -> list[str]:
    return ["experiment=debug", f"data.root={data}", f"run_dir={run}", *SMALL, *more]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(model_directory(run) / "model.safetensors")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "straight"
    result = main(overrides(data, run))
    assert (result.step, result.interrupted) == (8, False)
    return run


def test_a_run_writes_its_description_and_a_line_per_step(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 9))
    assert [line["step"] for line in lines if "val_loss" in line] == [4, 8]
    described = json.loads((finished / "run.json").read_text())
    assert {"versions", "git_commit", "hardware"} <= set(described)
    assert "embed_dim: 16" in (finished / "config.yaml").read_text()


def test_a_resumed_run_is_bit_identical(data, finished, tmp_path):
    # The schedule depends on max_steps, so the first part is stopped by keeping its checkpoints only up to step 4.
    run = tmp_path / "resumed"
    assert main(overrides(data, run)).step == 8
    newest = sorted((run / "checkpoints").iterdir())[-1]
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    assert model_directory(run).name == "step-00000006"
    assert main(overrides(data, run)).step == 8
    straight, resumed = weights(finished), weights(run)
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    assert (run / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()


def start(*command: str, data: Path, run: Path, options: Sequence[str] = ()) -> subprocess.Popen[str]:
    """A training run in a process group of its own."""
    return subprocess.Popen(
        [*command, "omar_rq", "train", *overrides(data, run, *options)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def launcher(config: str, *options: str) -> list[str]:
    file = Path(__file__).parents[3] / "configs" / "accelerate" / config
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file), *options, "-m"]


CPU = launcher("cpu.yaml", "--quiet")
# As on GPUs; the debug experiment says trainer.cpu=true, so the processes talk through gloo.
TWO_PROCESSES = launcher("ddp.yaml", "--num_processes", "2", "--main_process_port", "0")


def wait_for(happened: Callable[[], object], process: subprocess.Popen[str], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)


def test_sigterm_saves_and_exits_130(data, tmp_path):
    process = start(sys.executable, "-m", data=data, run=tmp_path, options=["trainer.max_steps=100000"])
    wait_for(lambda: list((tmp_path / "checkpoints").glob("step-*")), process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    state = json.loads((model_directory(tmp_path) / "state.json").read_text())
    stopped = json.loads((tmp_path / "interrupted.json").read_text())
    assert stopped == {"step": state["step"], "signal": "SIGTERM"}


@pytest.mark.slow
@pytest.mark.parametrize("command", [CPU, TWO_PROCESSES], ids=["one process", "two processes"])
def test_a_signal_to_a_launcher_and_its_processes_leaves_a_record(data, tmp_path, command):
    options = ["trainer.max_steps=100000", "data.batch_size=1"]
    process = start(*command, data=data, run=tmp_path, options=options)
    wait_for(lambda: list((tmp_path / "checkpoints").glob("step-*")), process)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=120)
    deadline = time.monotonic() + 60  # the launcher may end before the trainer
    while not (tmp_path / "interrupted.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    state = json.loads((model_directory(tmp_path) / "state.json").read_text())
    stopped = json.loads((tmp_path / "interrupted.json").read_text())
    assert stopped == {"step": state["step"], "signal": "SIGTERM"}


@pytest.mark.slow
@pytest.mark.parametrize("option", ["experiment=nothing", "optim.rate=1"])
def test_errors_through_the_launcher_are_one_sentence_of_one_process(data, tmp_path, option):
    process = start(*CPU, data=data, run=tmp_path / "run", options=[option])
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1 and stderr.startswith("Error: omar_rq.conf/train: ")
    assert stderr.count("\n") == 1
    process = start(*TWO_PROCESSES, data=data, run=tmp_path / "run", options=[option])
    _, stderr = process.communicate(timeout=120)
    # What follows is the launcher's own report that a process has failed.
    assert process.returncode == 1 and stderr.count("Error: omar_rq.conf/train: ") == 1
    assert not (tmp_path / "run").exists()


def test_two_processes_train_as_one_run(data, tmp_path):
    options = ["trainer.max_steps=4", "data.batch_size=1"]
    process = start(*TWO_PROCESSES, data=data, run=tmp_path, options=options)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr[-3000:]
    assert stderr.count("training: 4/4 (100%)") == 1
    state = json.loads((model_directory(tmp_path) / "state.json").read_text())
    assert (state["step"], state["world_size"]) == (4, 2)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]


def test_a_run_and_its_checkpoints_load_as_models(finished, tmp_path):
    state = weights(finished)
    for source in (finished, model_directory(finished)):
        model = from_pretrained(source)
        assert not model.training and model.config.net.embed_dim == 16
        assert torch.equal(model.embed.weight, state["encoder.embed.weight"])
        assert all(
            torch.equal(tensor, state[f"encoder.trunk.{name}"])
            for name, tensor in model.trunk.state_dict().items()
        )
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    (model_directory(copy) / "model.safetensors").write_bytes(b"damaged")
    assert model_directory(copy).name == "step-00000006"
    older = load_file(model_directory(copy) / "model.safetensors")
    assert torch.equal(from_pretrained(copy).embed.weight, older["encoder.embed.weight"])
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        from_pretrained(tmp_path / "empty")


def test_export_gives_the_encoder_in_both_formats(finished, tmp_path):
    audio = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    outputs = []
    for format in ("safetensors", "upstream"):
        export(finished, tmp_path / format, format=format)
        model = from_pretrained(tmp_path / format)
        outputs.append(model.extract_embeddings(audio, sample_rate=16000))
    assert torch.equal(outputs[0], outputs[1])
    assert outputs[0].shape == (1, 1, 15, 16)
    state = weights(finished)
    assert torch.equal(model.embed.weight, state["encoder.embed.weight"])
    assert "MaskingModel.lr = 0.001\n" in (tmp_path / "upstream" / "config.gin").read_text()  # of the run
    half = export(finished, tmp_path / "half", dtype=torch.float16)
    stored = load_file(half / "model.safetensors")
    assert stored["embed.weight"].dtype == torch.float16


@pytest.mark.parametrize("format", ["safetensors", "upstream"])
def test_export_writes_a_card_of_what_the_run_left(finished, tmp_path, format):
    out = export(finished, tmp_path / "my-model", format=format, dtype=torch.float16)
    card = (out / "README.md").read_text()
    state = json.loads((model_directory(finished) / "state.json").read_text())
    model = from_pretrained(out)
    assert card.startswith("---\nlibrary_name: omar-rq\n") and "# my-model" in card
    assert f"| steps | {state['step']} |" in card
    assert f"| parameters | {sum(p.numel() for p in model.parameters()):,} |" in card
    assert "| weights | float16 |" in card and "16000 Hz" in card
    losses = [json.loads(line).get("loss") for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert f"| loss | {[loss for loss in losses if loss is not None][-1]:.4g} |" in card


def test_a_card_says_that_it_knows_nothing(finished, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(model_directory(finished), alone)
    (alone / "state.json").unlink()
    assert "Nothing is known" in (export(alone, tmp_path / "out") / "README.md").read_text()
    (alone / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        export(alone, tmp_path / "out")


def test_export_refuses_what_is_not_a_model(finished, tmp_path):
    with pytest.raises(ConfigError, match="neither a model nor a training run"):
        export(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="onnx"):
        export(finished, tmp_path / "out", format="onnx")


def test_wrong_configurations_name_the_key(data, tmp_path):
    with pytest.raises(ConfigError, match="learning_rate"):
        main(overrides(data, tmp_path / "run", "+optim.learning_rate=1"))
    with pytest.raises(ConfigError, match=r"net\.width"):
        main(overrides(data, tmp_path / "run", "+model.net.width=1"))
    with pytest.raises(ConfigError, match="nothing"):
        main(["experiment=nothing"])


EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_to_a_model(name):
    config = compose_config("omar_rq.conf", [f"experiment={name}", "data.root=somewhere"], TrainConfig)
    model = ModelConfig.from_dict(config.model)
    assert model.targets
    assert model.quantizer is not None
    assert config.run_dir == f"runs/omar-rq/{name}"
    assert config.trainer.max_steps > config.schedule.warmup_steps
    rates = [target.frame_rate / target.patch_size[1] for target in model.targets]
    assert rates == pytest.approx([model.embedding_rate_hz] * len(rates))


def test_the_released_models_have_experiments_of_their_own():
    released = {"base", "multicodebook", "multifeature", "multifeature-25hz", "multifeature-25hz-fsq"}
    assert released | {"tiny", "small", "huge", "debug"} <= set(EXPERIMENTS)
    for name in EXPERIMENTS:
        config = compose_config("omar_rq.conf", [f"experiment={name}", "data.root=somewhere"], TrainConfig)
        assert config.schedule.decay == "cosine" or name not in released
