"""Training through the real command line: from a folder of audio to a model, stopped and continued, two processes."""

from __future__ import annotations

import json
import math
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
import soundfile
import torch
from safetensors.torch import load_file

from myna_rpe.config import EncoderConfig, PositionConfig
from myna_rpe.key_map import KEY_MAP
from myna_rpe.losses import GlobalContrastive
from myna_rpe.model import MynaEncoder
from myna_rpe.training.objective import ContrastiveTraining
from myna_rpe.training.options import ContrastConfig, ObjectiveConfig
from myna_rpe.training.prepare import main as prepare_main
from myna_rpe.training.spectrograms import INDEX
from myna_rpe.training.train import (
    MynaScheduleConfig,
    OptimizerConfig,
    TrainConfig,
    check_crops,
    main,
    optimizer,
    start_from,
)
from myna_rpe.weights import from_pretrained, save_pretrained
from pentatonic import audio
from pentatonic.checkpoint import model_directory
from pentatonic.errors import ConfigError, HubError
from pentatonic.training import compose_config
from pentatonic.training.teacher import write_teacher_targets

pytest.importorskip("accelerate")
CONF = Path(__file__).parents[1] / "src" / "myna_rpe" / "conf"
GOLDENS = Path(__file__).parent / "goldens"
RATE, TRACKS = 16000, 20


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Twenty tracks of three seconds, each a chord of its own, prepared, with the targets of a teacher."""
    music, folder = tmp_path_factory.mktemp("music"), tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    time_s = np.arange(3 * RATE) / RATE
    for number in range(TRACKS):
        notes = 110 * 2 ** (rng.choice(48, 3, replace=False) / 12)
        chord = np.sum([np.sin(2 * np.pi * note * time_s) for note in notes], axis=0)
        samples = 0.1 * chord + 0.02 * rng.standard_normal(len(time_s))
        soundfile.write(music / f"{number:02}.wav", samples, RATE)
    about = [{"path": f"{n:02}.wav", "split": "val" if n < 8 else "train"} for n in range(TRACKS)]
    (music / "about.jsonl").write_text("\n".join(map(json.dumps, about)))

    class InThisProcess:
        stream = staticmethod(audio.stream)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "DecodingProcess", InThisProcess)
        prepare_main(
            [f"input={music}", f"output={folder}", "frontend=myna", f"metadata={music / 'about.jsonl'}"]
        )
    targets = [(rng.standard_normal((3, 4)), rng.uniform(size=(3, 2))) for _ in range(TRACKS)]
    names = [f"{number:02}.wav" for number in range(TRACKS)]
    write_teacher_targets(folder, "judge", targets, 1.0, index=INDEX, sources=names)
    return folder


def overrides(data: Path, run: Path, *more: str) -> list[str]:
    return ["experiment=debug", f"data.root={data}", f"run_dir={run}", *more]


SHORT = ("trainer.max_steps=8", "trainer.save_every=2", "model.depth=1", "data.batch_size=4")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(model_directory(run) / "model.safetensors")


def records(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "debug"
    result = main(overrides(data, run, "trainer.val_every=20"))
    assert (result.step, result.interrupted) == (80, False)
    return run


def test_the_debug_experiment_learns_to_find_the_other_crop(finished):
    lines = [line for line in records(finished) if "loss" in line]
    assert [line["step"] for line in lines] == list(range(1, 81))
    first, last = (np.mean([line["loss"] for line in part]) for part in (lines[:3], lines[-10:]))
    assert first > 0.7 * math.log(8) and last < 0.5 * math.log(8)
    assert lines[-1]["effective_rank"] > 3 and lines[-1]["mean_cosine"] < 0.7
    validated = [line for line in records(finished) if "val_loss" in line]
    assert [line["step"] for line in validated] == [20, 40, 60, 80]
    assert validated[-1]["val_accuracy"] > 2 / 8


def test_a_run_and_its_checkpoints_load_as_models(finished):
    state = weights(finished)
    for source in (finished, model_directory(finished)):
        model = from_pretrained(source)
        assert not model.training and (model.config.dim, model.config.frontend) == (32, "myna")
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, state[f"encoder.{name}"])


EVERYTHING = (
    "objective.contrast.name=isogclr",
    "data.crops.views=3",
    "data.crops.max_frames=64",
    *(f"objective.{name}.weight=0.1" for name in ("k_means", "hull", "width", "distillation")),
    *(f"objective.{name}.ramp_steps=4" for name in ("k_means", "hull", "width", "distillation")),
    "objective.k_means.clusters=3",
    "objective.k_means.queue=24",
    "objective.distillation.teacher=judge",
    "objective.sub_batch=3",
)


def test_a_resumed_run_is_bit_identical_with_every_loss_and_its_memory(data, tmp_path):
    # The schedule depends on max_steps, so the second run is cut back by removing its newest checkpoint.
    straight, run = tmp_path / "straight", tmp_path / "resumed"
    for folder in (straight, run):
        assert main(overrides(data, folder, *SHORT, *EVERYTHING)).step == 8
    shutil.rmtree(run / "checkpoints" / "step-00000008")
    assert model_directory(run).name == "step-00000006"
    assert main(overrides(data, run, *SHORT, *EVERYTHING)).first_step == 6
    one, other = weights(straight), weights(run)
    assert one.keys() == other.keys()
    assert {"memory.temperatures", "k_means.centroids", "distillation.to_tags.weight"} <= one.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (run / "metrics.jsonl").read_text() == (straight / "metrics.jsonl").read_text()
    assert all(math.isfinite(value) for line in records(run) for value in line.values())


# What the loss of a run with options of its own depends on is part of its checkpoints.
OPTIONS = (
    "objective.contrast.learned_temperature=true",
    "objective.patchout.kind=columns",
    "trainer.ema_decay=0.9",
    "trainer.max_steps=4",
    "+model.positions.learned_slopes=true",
    "+model.positions.clamp={kind:tanh,cap:2,learned:true}",
)


def test_a_run_with_averaged_weights_a_temperature_and_a_clamp_resumes_and_loads(data, tmp_path):
    straight, run = tmp_path / "straight", tmp_path / "resumed"
    for folder in (straight, run):
        assert main(overrides(data, folder, *SHORT, *OPTIONS)).step == 4
    shutil.rmtree(run / "checkpoints" / "step-00000004")
    assert main(overrides(data, run, *SHORT, *OPTIONS)).first_step == 2
    for file in ("model.safetensors", "trained.safetensors"):
        one, other = (load_file(model_directory(folder) / file) for folder in (straight, run))
        assert all(torch.equal(one[key], other[key]) for key in one | other)
    assert (run / "metrics.jsonl").read_text() == (straight / "metrics.jsonl").read_text()
    temperatures = [line["temperature"] for line in records(run)]
    assert temperatures[0] == pytest.approx(0.1) and len(set(temperatures)) == 4
    trained = load_file(model_directory(run) / "trained.safetensors")
    assert trained["encoder.bias.clamp.cap"] != 2 and trained["encoder.bias.clamp.softness"] != 1
    model, averaged = from_pretrained(run), weights(run)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, averaged[f"encoder.{name}"])
    assert not torch.equal(averaged["encoder.bias.clamp.cap"], trained["encoder.bias.clamp.cap"])


def test_a_learned_temperature_has_no_weight_decay():
    for name in ("adamw", "adam"):
        options = ObjectiveConfig(contrast=ContrastConfig(learned_temperature=True))
        module = ContrastiveTraining(EncoderConfig(dim=8, depth=1, mlp_dim=8), options, n_tracks=2)
        groups = optimizer(module, OptimizerConfig(1e-3, 0.1, name=name)).param_groups
        decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        assert decays.keys() == {id(p) for p in module.parameters()}
        assert [n for n, p in module.named_parameters() if decays[id(p)] == 0] == ["temperature.logarithm"]


def test_a_run_begins_with_the_weights_of_a_model_and_then_has_its_own(data, finished, tmp_path):
    model = from_pretrained(finished)
    save_pretrained(model, tmp_path / "model")
    run = tmp_path / "run"
    # Crops may have another length; the rate is so low that the weights stay what they are.
    options = [
        *SHORT,
        "model.depth=2",
        f"init_from={tmp_path / 'model'}",
        "data.crops.frames=48",
        "optim.lr=1e-12",
    ]
    assert main(overrides(data, run, *options, "trainer.max_steps=2")).step == 2
    found = weights(run)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found[f"encoder.{name}"], tensor, atol=1e-6, rtol=0)
    assert f"init_from: {tmp_path / 'model'}" in (run / "config.yaml").read_text()
    # Going on, it needs the model no more.
    shutil.rmtree(tmp_path / "model")
    assert main(overrides(data, run, *options, "trainer.max_steps=3")).first_step == 2
    with pytest.raises(HubError):
        main(overrides(data, tmp_path / "other", *options))


def test_a_model_of_another_architecture_is_no_beginning(data, finished, tmp_path):
    options = [f"init_from={finished}", "model.depth=1", "model.positions.bias=distance"]
    options += ["+model.positions.clamp={kind:hard}"]
    with pytest.raises(ConfigError) as caught:
        main(overrides(data, tmp_path / "run", *options))
    assert f"init_from={finished} is not the architecture of model: depth is 2 there and 1 here" in str(
        caught.value
    )
    assert "positions.bias is alibi there and distance here" in str(caught.value)
    assert "positions.clamp.kind is None there and hard here" in str(caught.value)


def test_a_file_of_the_original_is_a_beginning(tmp_path):
    torch.manual_seed(0)
    config = EncoderConfig(
        dim=16,
        depth=1,
        heads=2,
        dim_head=64,
        mlp_dim=32,
        out_dim=8,
        positions=PositionConfig(bias="distance"),
    )
    model = MynaEncoder(config)
    tensors = KEY_MAP.to_theirs(model.state_dict())
    torch.save({"model_state_dict": tensors}, tmp_path / "model.pt")
    other = MynaEncoder(config)
    with pytest.warns(UserWarning, match="paper_plus_manhattan is assumed"):
        start_from(str(tmp_path / "model.pt"), other)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_bf16_and_a_hybrid_model_train(data, tmp_path):
    hybrid = ["model=myna-hybrid", "model.dim=32", "model.heads=2", "model.dim_head=16", "model.mlp_dim=64"]
    options = [*hybrid, *SHORT, "trainer.max_steps=3", "trainer.precision=bf16", "data.crops.frames=96"]
    sogclr = ["objective.contrast.name=sogclr", "optim.name=adam", "schedule.unit=epoch"]
    assert main(overrides(data, tmp_path, *options, *sogclr)).step == 3
    assert json.loads((tmp_path / "run.json").read_text())["precision"] == "bf16"
    assert {tensor.dtype for tensor in weights(tmp_path).values()} == {torch.float32}
    assert from_pretrained(tmp_path).config.second_patch is not None


def start(*command: str, data: Path, run: Path, options: Sequence[str] = ()) -> subprocess.Popen[str]:
    """A training run in a process group of its own."""
    return subprocess.Popen(
        [*command, "myna_rpe", "train", *overrides(data, run, *SHORT, *options)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def wait_for(happened: Callable[[], object], process: subprocess.Popen[str], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_run_continues_as_if_nothing_had_happened(data, tmp_path):
    options = ["trainer.max_steps=60"]
    straight, run = tmp_path / "straight", tmp_path / "killed"
    process = start(sys.executable, "-P", "-m", data=data, run=run, options=options)
    wait_for(lambda: list((run / "checkpoints").glob("step-*")), process)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    for folder in (straight, run):
        assert main(overrides(data, folder, *SHORT, *options)).step == 60
    one, other = weights(straight), weights(run)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (run / "metrics.jsonl").read_text() == (straight / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_two_processes_train_as_one_run(data, tmp_path):
    config = Path(__file__).parents[3] / "configs" / "accelerate" / "ddp.yaml"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    launch += ["--num_processes", "2", "--main_process_port", "0", "-m"]
    process = start(*launch, data=data, run=tmp_path, options=["trainer.max_steps=4"])
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr[-3000:]
    state = json.loads((model_directory(tmp_path) / "state.json").read_text())
    assert (state["step"], state["world_size"]) == (4, 2)


def test_wrong_configurations_say_what_is_wrong(data, tmp_path):
    for options, message in (
        (["+optim.learning_rate=1"], "learning_rate"),
        (["+model.width=1"], "width"),
        (["model.frontend=myna-rpe"], "prepared with the front end myna"),
        (["data.batch_size=13"], "own negative"),
        (["objective.distillation.weight=1"], r"distillation\.teacher"),
        (["optim.name=sgd"], "adamw, adam"),
        (["schedule.unit=year"], "step, epoch"),
        (["data.crops.frames=4"], "a patch has 8"),
    ):
        with pytest.raises(ConfigError, match=message):
            main(overrides(data, tmp_path / "run", *options))


def test_crops_must_fit_positions_in_time(data):
    config = EncoderConfig.from_dict(
        {"dim": 8, "frontend": "myna", "train_frames": 32, "positions": {"absolute": "sincos2d"}}
    )
    crops = compose_config("myna_rpe.conf", overrides(data, Path("run")), TrainConfig).data.crops
    check_crops(config, crops)
    crops.max_frames = 64
    with pytest.raises(ConfigError, match="crops of 32 to 64 frames, and the positions 'sincos2d'"):
        check_crops(config, crops)


EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
# Of spec and paper, with the head.
PARAMETERS = {
    "myna-base": 21_395_122,
    "myna-vertical": 21_395_122,
    "myna-hybrid": 21_495_090,
    "rpecl-2d-alibi": 21_425_536,
    "rpecl-1d-alibi": 21_428_608,
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_to_a_model(name):
    config = compose_config("myna_rpe.conf", [f"experiment={name}", "data.root=somewhere"], TrainConfig)
    model = EncoderConfig.from_dict(config.model)
    check_crops(model, config.data.crops)
    assert config.run_dir == f"runs/myna-rpe/{name}"
    assert config.data.crops.frames == model.train_frames
    assert model.parameters == PARAMETERS.get(name, model.parameters)
    if name in ("tiny", "debug"):
        assert model.parameters < 3.5e6


def test_the_models_of_the_papers_have_experiments_of_their_own():
    assert {*PARAMETERS, "rpe-2d", "tiny", "debug"} == set(EXPERIMENTS)


@pytest.mark.parametrize("number", range(3))
def test_rates_and_gamma_of_each_epoch_are_those_of_the_original(number):
    about = json.loads((GOLDENS / "schedules" / "meta.json").read_text())
    case = about["cases"][number]
    config = MynaScheduleConfig(warmup_steps=case["warmup_epochs"], decay="cosine", unit="epoch")
    steps_per_epoch = 5
    rate_of = config.by_step(case["learning_rate"], case["epochs"] * steps_per_epoch, steps_per_epoch)
    memory = GlobalContrastive(1, gamma=case["gamma"], schedule="cosine", decay_epochs=case["epochs"])
    limit = about["tolerance"]
    for epoch, rate, gamma in case["rows"]:
        memory.start_epoch(epoch)
        assert memory.current_gamma() == pytest.approx(gamma, abs=limit)
        for step in (0, 4):
            assert rate_of(epoch * steps_per_epoch + step) == pytest.approx(rate, abs=limit)
