"""The training loop. Run by ``runpy``, this file is a small training job for the tests that kill it."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import runpy
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file
from torch import nn

from pentatonic.errors import (
    CheckpointError,
    ConfigError,
    CorruptCheckpoint,
    InputError,
    MissingExtra,
    PentatonicError,
    RunFolderInUse,
    WeightsError,
)
from pentatonic.optim import adamw, muon
from pentatonic.processes.run_lock import locked_run_folder
from pentatonic.training import (
    ItemKey,
    StepContext,
    Trainer,
    TrainerConfig,
    TrainResult,
    mix_seed,
    report_run,
    warmup_cosine,
)
from pentatonic.training.interruption import StopRequest
from pentatonic.training.metrics import MetricsLog
from pentatonic.training.seeding import opaque_context

STEPS = 9


class Regression:
    """Points whose crop depends on the key only."""

    def __init__(self, size: int = 22, bad: tuple[int, ...] = (), delay_s: float = 0.0) -> None:
        self.size, self.bad, self.delay_s = size, bad, delay_s

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: ItemKey) -> dict[str, torch.Tensor]:
        time.sleep(self.delay_s)
        if key.index in self.bad:
            raise InputError(f"item {key.index} is broken")
        x = torch.randn(4, generator=torch.Generator().manual_seed(mix_seed(3, key.epoch, key.index)))
        return {"x": x, "y": (x.sum().sin() + key.index % 3).unsqueeze(0)}


class Net(nn.Module):
    """Draws from every kind of generator, has buffers, and can send SIGTERM or return an infinite loss at a step."""

    def __init__(self, noisy: bool = True, stop_at: int = -1, spoil_at: int = -1) -> None:
        super().__init__()
        self.noisy, self.stop_at, self.spoil_at = noisy, stop_at, spoil_at
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8) if noisy else nn.ReLU())
        self.dropout = nn.Dropout(0.2 if noisy else 0.0)
        self.head = nn.Linear(8, 1)
        self.seen: list[tuple[bool, StepContext]] = []

    def forward(self, batch: dict[str, torch.Tensor], context: StepContext) -> dict[str, torch.Tensor]:
        self.seen.append((self.training, context))
        x = batch["x"]
        if self.training and context.step == self.stop_at and context.micro_step == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        if self.noisy:
            noise = torch.randn(x.shape, generator=context.generator())
            x = x + 0.1 * noise + 0.01 * random.random() + 0.01 * float(np.random.rand())
        error = self.head(self.dropout(self.layers(x))) - batch["y"]
        loss = error.square().mean()
        if self.training and context.step == self.spoil_at:
            loss = loss * torch.inf
        return {"loss": loss, "abs_error": error.abs().mean()}


def make_trainer(
    run_dir: Path,
    *,
    bad: tuple[int, ...] = (),
    val: bool = False,
    delay_s: float = 0.0,
    batch_size: int = 4,
    num_workers: int = 0,
    on_save=None,
    optimizer: str = "adamw",
    noisy: bool = True,
    stop_at: int = -1,
    spoil_at: int = -1,
    train_size: int = 22,
    **settings,
) -> Trainer:
    torch.manual_seed(11)
    module = Net(noisy, stop_at, spoil_at)
    config = TrainerConfig(**{"max_steps": STEPS, "log_every": 1, "save_every": 3, "cpu": True} | settings)
    return Trainer(
        module,
        optimizer=adamw(module, 1e-2, 1e-2) if optimizer == "adamw" else muon(module, 1e-2),
        schedule=partial(warmup_cosine, base_lr=1e-2, warmup_steps=2, total_steps=STEPS, min_lr=1e-4),
        train_dataset=Regression(train_size, bad, delay_s),
        val_dataset=Regression(10, bad) if val else None,
        batch_size=batch_size,
        num_workers=num_workers,
        config=config,
        run_dir=run_dir,
        on_save=on_save,
    )


def train(run_dir: Path, **settings) -> TrainResult:
    return make_trainer(run_dir, **settings).fit()


def records(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def checkpoints(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def outcome(run_dir: Path) -> dict[str, bytes]:
    """Everything that an interrupted run must have in common with a straight one: the last checkpoint and the log."""
    last = max((run_dir / "checkpoints").glob("step-*"))
    files = {path.name: path.read_bytes() for path in last.iterdir()}
    return files | {name: (run_dir / name).read_bytes() for name in ("metrics.jsonl", "bad_items.json")}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_workers": 2, "grad_accumulation": 2, "bad": (5, 6)},
        {"grad_accumulation": 3, "val": True, "val_every": 2, "max_grad_norm": 0.5, "optimizer": "muon"},
        {"ema_decay": 0.7, "val": True, "val_every": 2},
    ],
    ids=["plain", "workers", "validation", "averaged"],
)
def test_resume_at_every_step_is_bit_exact(tmp_path: Path, settings: dict) -> None:
    straight = train(tmp_path / "straight", **settings)
    assert not straight.interrupted
    for step in range(STEPS - 1):
        part = train(tmp_path / "parts", stop_at=step, **settings)
        assert (part.step, part.interrupted) == (step + 1, True)
        assert checkpoints(tmp_path / "parts")[-1] == f"step-{step + 1:08d}"
    end = train(tmp_path / "parts", **settings)
    assert end == straight
    expected, found = outcome(tmp_path / "straight"), outcome(tmp_path / "parts")
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert [line["step"] for line in records(tmp_path / "parts") if "loss" in line] == list(
        range(1, STEPS + 1)
    )


def test_resume_from_each_checkpoint_of_one_run(tmp_path: Path) -> None:
    settings = {"save_every": 1, "keep_checkpoints": 100, "grad_accumulation": 2}
    train(tmp_path / "straight", **settings)
    for step in (1, 4, 8):
        shutil.copytree(tmp_path / "straight", tmp_path / "again")
        for later in range(step + 1, STEPS + 1):
            shutil.rmtree(tmp_path / "again" / "checkpoints" / f"step-{later:08d}")
        train(tmp_path / "again", **settings)
        assert outcome(tmp_path / "again") == outcome(tmp_path / "straight")
        shutil.rmtree(tmp_path / "again")


def test_a_finished_run_stays_as_it_is(tmp_path: Path) -> None:
    first = train(tmp_path, val=True, val_every=4)
    before = outcome(tmp_path)
    assert train(tmp_path, val=True, val_every=4) == first
    assert outcome(tmp_path) == before
    assert {"loss", "lr", "grad_norm", "abs_error", "val_loss", "val_abs_error"} <= first.metrics.keys()


def test_randomness_counts(tmp_path: Path) -> None:
    """The exact comparisons above would pass for a net that ignores its generators."""
    train(tmp_path / "a", noisy=True)
    train(tmp_path / "b", noisy=True, seed=1)
    assert records(tmp_path / "a")[0]["loss"] != records(tmp_path / "b")[0]["loss"]
    state = json.loads(outcome(tmp_path / "a")["state.json"])
    assert (state["step"], state["items"], state["world_size"]) == (STEPS, STEPS * 4, 1)
    assert (state["loaders"]["train"]["epoch"], state["loaders"]["train"]["batch"]) == (1, 4)


def test_contexts(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, grad_accumulation=2, max_steps=2, val=True, val_every=1)
    trainer.fit()
    training = [context for is_training, context in trainer.module.seen if is_training]
    validation = [context for is_training, context in trainer.module.seen if not is_training]
    assert training == [StepContext(0, 0, step, micro) for step in (0, 1) for micro in (0, 1)]
    assert validation[:2] == validation[2:]
    assert [(context.rank, context.step) for context in validation[:2]] == [(0, 0), (0, 1)]
    assert validation[0].seed != 0


def test_validation_is_deterministic_and_leaves_training_alone(tmp_path: Path) -> None:
    train(tmp_path / "never")
    train(tmp_path / "often", val=True, val_every=1)
    train(tmp_path / "rarely", val=True, val_every=4)
    for name, validated in (("often", [1, 2, 3, 4, 5, 6, 7, 8, 9]), ("rarely", [4, 8, 9])):
        lines = records(tmp_path / name)
        assert [line for line in lines if "loss" in line] == records(tmp_path / "never")
        assert [line["step"] for line in lines if "val_loss" in line] == validated
    often, rarely = (
        {line["step"]: line for line in records(tmp_path / name) if "val_loss" in line}
        for name in ("often", "rarely")
    )
    assert [often[step] for step in rarely] == list(rarely.values())


def test_averaged_weights_are_validated_and_saved_and_the_trained_ones_go_on(tmp_path: Path) -> None:
    exported: list[torch.Tensor] = []

    def on_save(folder: Path, module: nn.Module) -> None:
        exported.append(module.head.weight.detach().clone())

    settings = {
        "val": True,
        "val_every": 1,
        "save_every": 1,
        "keep_checkpoints": 100,
        "max_steps": 4,
        "noisy": False,
    }
    train(tmp_path / "plain", **settings)
    trainer = make_trainer(tmp_path / "averaged", ema_decay=0.3, on_save=on_save, **settings)
    first = trainer.module.head.weight.detach().clone()
    trainer.fit()

    def loaded(name: str, file: str, step: int) -> torch.Tensor:
        return load_file(tmp_path / name / "checkpoints" / f"step-{step:08d}" / file)["head.weight"]

    average = first
    for step in (1, 2, 3, 4):
        # The same steps are taken; of the average 2/11, 3/12 and then 0.3 stays.
        trained = loaded("plain", "model.safetensors", step)
        assert torch.equal(loaded("averaged", "trained.safetensors", step), trained)
        average = average + (1 - min(0.3, (1 + step) / (10 + step))) * (trained - average)
        torch.testing.assert_close(loaded("averaged", "model.safetensors", step), average)
        assert torch.equal(exported[step - 1], loaded("averaged", "model.safetensors", step))
    assert torch.equal(trainer.module.head.weight, trained)
    losses = {
        name: [line for line in records(tmp_path / name) if "loss" in line] for name in ("plain", "averaged")
    }
    assert losses["plain"] == losses["averaged"]
    # What is validated is what the checkpoint loads as.
    copy = Net(noisy=False).eval()
    copy.load_state_dict(
        load_file(tmp_path / "averaged" / "checkpoints" / "step-00000004" / "model.safetensors")
    )
    data = Regression(10)
    items = [data[ItemKey(0, index)] for index in range(8)]
    batch = {key: torch.stack([item[key] for item in items]) for key in ("x", "y")}
    expected = copy(batch, StepContext(0, 0, 0, 0))["loss"]
    validated = [line["val_loss"] for line in records(tmp_path / "averaged") if "val_loss" in line]
    assert validated[-1] == pytest.approx(float(expected.detach()), rel=1e-5)


def test_an_average_may_begin_or_end_in_the_middle_of_a_run(tmp_path: Path) -> None:
    train(tmp_path / "straight")
    for before, after in ((None, 0.5), (0.5, None), (0.5, 0.5)):
        run = tmp_path / f"{before}-{after}"
        train(run, ema_decay=before, stop_at=4)
        train(run, ema_decay=after)
        name = "model.safetensors" if after is None else "trained.safetensors"
        found, expected = outcome(run), outcome(tmp_path / "straight")
        trained, straight = (
            safetensors.torch.load(found[name]),
            safetensors.torch.load(expected["model.safetensors"]),
        )
        assert all(torch.equal(trained[key], straight[key]) for key in trained)
        assert ("trained.safetensors" in found) == (after is not None)


def test_validation_can_be_cut_short(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, val=True, val_every=3, val_batches=1, max_steps=3)
    trainer.fit()
    assert [is_training for is_training, _ in trainer.module.seen] == [True] * 3 + [False]


def test_accumulation_equals_a_large_batch(tmp_path: Path) -> None:
    train(tmp_path / "large", noisy=False, batch_size=8, train_size=24)
    train(tmp_path / "small", noisy=False, batch_size=2, grad_accumulation=4, train_size=24)
    for large, small in zip(records(tmp_path / "large"), records(tmp_path / "small"), strict=True):
        assert small == pytest.approx(large, rel=1e-6, abs=1e-6)


def test_the_schedule_and_group_scales_reach_the_optimizer(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_steps=3)
    trainer.optimizer.param_groups[0]["lr_scale"] = 0.5
    trainer.fit()
    rates = [
        warmup_cosine(step, base_lr=1e-2, warmup_steps=2, total_steps=STEPS, min_lr=1e-4) for step in range(3)
    ]
    assert [line["lr"] for line in records(tmp_path)] == rates
    assert trainer.optimizer.param_groups[0]["lr"] == rates[-1] / 2


def test_clipping(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_steps=1, max_grad_norm=0.01)
    trainer.fit()
    assert records(tmp_path)[0]["grad_norm"] > 0.1
    norm = torch.nn.utils.get_total_norm([p.grad for p in trainer.module.parameters()])
    assert float(norm) == pytest.approx(0.01, rel=1e-3)


def test_bf16_trains_and_leaves_the_module_as_it_was(tmp_path: Path) -> None:
    settings = {"noisy": False, "max_steps": 60, "batch_size": 22, "optimizer": "adamw"}
    trainer = make_trainer(tmp_path / "bf16", precision="bf16", **settings)
    before = set(vars(trainer.module))
    trainer.schedule = lambda step: 3e-2
    trainer.fit()
    losses = [line["loss"] for line in records(tmp_path / "bf16")]
    assert losses[-1] < 0.8 * losses[0]
    assert set(vars(trainer.module)) == before
    assert {p.dtype for p in trainer.module.parameters()} == {torch.float32}
    exact = make_trainer(tmp_path / "fp32", **settings)
    exact.schedule = trainer.schedule
    exact.fit()
    exact_losses = [line["loss"] for line in records(tmp_path / "fp32")]
    assert losses != exact_losses
    assert losses == pytest.approx(exact_losses, rel=0.1)


@pytest.mark.parametrize("available", [True, False])
def test_auto_precision_is_that_of_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: bool
) -> None:
    monkeypatch.setattr("pentatonic.precision.has_bfloat16", lambda device: available)
    asked = {"auto": "auto", "used": "bf16" if available else "fp32"}
    for name, precision in asked.items():
        make_trainer(tmp_path / name, precision=precision, noisy=False, max_steps=2, cpu=True).fit()
    description = json.loads((tmp_path / "auto" / "run.json").read_text())
    assert (description["precision"], description["trainer"]["precision"]) == (asked["used"], "auto")
    losses = [[line["loss"] for line in records(tmp_path / name)] for name in asked]
    assert losses[0] == losses[1]


def test_run_description_comes_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(PentatonicError, match="step 1: loss inf"):
        train(tmp_path, spoil_at=0)
    description = json.loads((tmp_path / "run.json").read_text())
    assert {"command", "versions", "git_commit", "hardware", "trainer", "world_size"} <= description.keys()
    assert "max_steps: 9" in (tmp_path / "config.yaml").read_text()
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    assert not (tmp_path / "checkpoints").exists()


def test_non_finite_loss_writes_nothing(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, spoil_at=4, save_every=1)
    with pytest.raises(PentatonicError, match=r"step 5: loss inf, .*; the step was not taken"):
        trainer.fit()
    assert [line["step"] for line in records(tmp_path)] == [1, 2, 3, 4]
    assert checkpoints(tmp_path) == ["step-00000003", "step-00000004"]
    assert all(p.isfinite().all() for p in trainer.module.parameters())
    train(tmp_path)
    train(tmp_path / "straight")
    assert outcome(tmp_path)["model.safetensors"] == outcome(tmp_path / "straight")["model.safetensors"]


def test_non_finite_gradient_is_not_applied(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.module.head.weight.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(PentatonicError, match=r"step 1: loss \d.*, gradient norm nan"):
        trainer.fit()
    assert all(p.isfinite().all() for p in trainer.module.parameters())


def test_metrics_log_is_cut_to_a_position(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0)
    log.write({"step": 1, "loss": 0.1 + 0.2, "accuracy": float("nan")})
    position = log.sync()
    log.write({"step": 2, "loss": 1.0})
    log.close()
    path.write_bytes(path.read_bytes()[:-4])  # a line that was being written when the process was killed
    log = MetricsLog(path, position)
    log.write({"step": 2, "loss": 2.0})
    log.close()
    assert records(tmp_path) == [{"step": 1, "loss": 0.1 + 0.2, "accuracy": None}, {"step": 2, "loss": 2.0}]


def test_bad_items_are_reported(tmp_path: Path) -> None:
    train(tmp_path, bad=(1, 5), val=True, val_every=9)
    report = json.loads((tmp_path / "bad_items.json").read_text())
    assert report == {
        "train": [{"index": index, "reason": f"item {index} is broken"} for index in (1, 5)],
        "validation": [{"index": index, "reason": f"item {index} is broken"} for index in (1, 5)],
    }
    counts = [line["replaced_items"] for line in records(tmp_path) if "loss" in line]
    assert counts == sorted(counts)
    assert counts[-1] >= 2


@pytest.mark.parametrize("damage", ["cut", "flip", "delete"])
def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path / "straight")
    train(tmp_path / "run", stop_at=6)
    assert checkpoints(tmp_path / "run") == ["step-00000006", "step-00000007"]
    path = tmp_path / "run" / "checkpoints" / "step-00000007" / "optimizer.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else content[:-1])
    result = train(tmp_path / "run")
    assert result.step == STEPS
    assert re.search(r"skipped.*optimizer\.safetensors", caplog.text)
    assert "damaged-step-00000007" in checkpoints(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "straight")


def test_a_run_without_an_intact_checkpoint_does_not_begin_again(tmp_path: Path) -> None:
    train(tmp_path, max_steps=4, keep_checkpoints=1)
    log = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "checkpoints" / "step-00000004" / "state.json").unlink()
    with pytest.raises(CorruptCheckpoint, match=r"state\.json"):
        train(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == log
    assert checkpoints(tmp_path) == ["step-00000004"]


def test_old_checkpoints_are_removed_and_on_save_is_published(tmp_path: Path) -> None:
    def export(directory: Path, module: nn.Module) -> None:
        module.eval()
        torch.rand(5)
        (directory / "export.txt").write_text(str(sum(p.numel() for p in module.parameters())))

    train(tmp_path / "plain", save_every=2)
    train(tmp_path / "export", save_every=2, on_save=export)
    assert checkpoints(tmp_path / "export") == ["step-00000008", "step-00000009"]
    last = tmp_path / "export" / "checkpoints" / "step-00000009"
    assert (last / "export.txt").read_text() == "65"
    assert "export.txt" in (last / "manifest.json").read_text()
    assert records(tmp_path / "export") == records(tmp_path / "plain")


def test_an_error_while_saving_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    def fail(directory: Path, module: nn.Module) -> None:
        raise OSError("disk full")

    train(tmp_path, stop_at=2)
    with pytest.raises(CheckpointError, match="disk full"):
        train(tmp_path, on_save=fail)
    assert checkpoints(tmp_path) == ["step-00000003"]
    train(tmp_path)
    train(tmp_path / "straight")
    assert outcome(tmp_path) == outcome(tmp_path / "straight")


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    train(tmp_path, max_steps=3)
    with pytest.raises(WeightsError, match=r"model\.safetensors does not fit"):
        train(tmp_path, noisy=False)


def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    train(tmp_path, max_steps=3)
    with pytest.raises(CheckpointError, match=r"optimizer\.json does not fit"):
        train(tmp_path, optimizer="muon")


def test_a_longer_run_goes_on_and_says_that_the_configuration_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path / "long", max_steps=6)
    train(tmp_path / "short", max_steps=4)
    train(tmp_path / "short", max_steps=6)
    assert "configuration is not the one" in caplog.text
    assert records(tmp_path / "short") == records(tmp_path / "long")


def test_an_interrupted_run_says_so_until_its_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "job-7.interrupted"
    monkeypatch.setenv("PENTATONIC_INTERRUPTED_FILE", str(named))
    files = [tmp_path / "run" / "interrupted.json", named]
    train(tmp_path / "run", stop_at=4)
    assert [json.loads(file.read_text()) for file in files] == [{"step": 5, "signal": "SIGTERM"}] * 2
    with pytest.raises(PentatonicError, match="step 7"):
        train(tmp_path / "run", spoil_at=6)
    assert not any(file.exists() for file in files)
    train(tmp_path / "run", stop_at=STEPS - 1)  # with the last step done, nothing is left to do
    assert not any(file.exists() for file in files)


def test_signals_are_handed_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train(tmp_path, stop_at=1)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize("impatient", [False, True])
def test_a_later_second_interrupt_stops_at_once(tmp_path: Path, monkeypatch, impatient: bool) -> None:
    monkeypatch.setattr(StopRequest, "REPEAT_S", 0.0 if impatient else 60.0)
    trainer = make_trainer(tmp_path)

    def interrupted_twice(step: int) -> float:
        if step == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return 1e-2

    trainer.schedule = interrupted_twice
    if impatient:
        with pytest.raises(KeyboardInterrupt):
            trainer.fit()
    else:
        assert trainer.fit().interrupted
    assert checkpoints(tmp_path)[-1] == ("step-00000003" if impatient else "step-00000005")


def test_interrupted_validation_is_made_up_for(tmp_path: Path) -> None:
    settings = {"val": True, "val_every": 4, "save_every": 100}
    train(tmp_path / "straight", **settings)
    run_dir = tmp_path / "run"
    trainer = make_trainer(run_dir, **settings)
    trainer.module.register_forward_hook(
        lambda module, _, __: None if module.training else os.kill(os.getpid(), signal.SIGTERM)
    )
    assert trainer.fit().interrupted
    assert (checkpoints(run_dir), records(run_dir)[-1]["step"]) == (["step-00000004"], 4)
    assert not any("val_loss" in line for line in records(run_dir))
    # This run validates and then fails before a checkpoint, so the next one must validate again, and log it once.
    with pytest.raises(PentatonicError, match="step 5"):
        train(run_dir, spoil_at=4, **settings)
    assert "val_loss" in records(run_dir)[-1]
    train(run_dir, **settings)
    assert outcome(run_dir) == outcome(tmp_path / "straight")


def test_training_works_outside_the_main_thread(tmp_path: Path) -> None:
    results: list[TrainResult] = []
    thread = threading.Thread(target=lambda: results.append(train(tmp_path, max_steps=2)))
    thread.start()
    thread.join()
    assert [result.step for result in results] == [2]


def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path / "run", trackers=["tensorboard"], val=True, val_every=3)
    events = EventAccumulator(str(next((tmp_path / "run").rglob("events*")).parent)).Reload()
    assert {"loss", "lr", "items_per_s", "val_loss"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("val_loss")] == [3, 6, 9]


def test_missing_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(MissingExtra, match=r"pentatonic\[wandb\]"):
            make_trainer(tmp_path, trackers=["wandb"])
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingExtra, match=r"pentatonic\[train\]"):
        make_trainer(tmp_path)


def test_validation_needs_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="val_every is 2"):
        make_trainer(tmp_path, val_every=2)


def test_where_a_run_ended_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = train(tmp_path)
    model = tmp_path / "checkpoints" / "step-00000009"
    capsys.readouterr()
    assert report_run(result, tmp_path) is result
    assert capsys.readouterr().out == f"{tmp_path} is finished, at step 9; the model is {model}\n"
    report_run(train(tmp_path), tmp_path)
    assert capsys.readouterr().out == f"{tmp_path} was finished already, at step 9; the model is {model}\n"
    (tmp_path / "best").mkdir()
    report_run(result, tmp_path)
    assert capsys.readouterr().out.endswith(f"; the model is {tmp_path / 'best'}\n")
    stopped = replace(result, step=3, interrupted=True)
    report_run(stopped, tmp_path)
    out, err = capsys.readouterr()
    assert (
        not out and err == f"{tmp_path} was stopped at step 3, which is saved; the same command continues\n"
    )
    monkeypatch.setenv("RANK", "1")
    report_run(stopped, tmp_path)
    assert capsys.readouterr() == ("", "")


def test_progress_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path)
    assert re.search(
        r"training: 9/9 .*loss [\d.e-]+, lr 0\.000\d+, [\d.e+]+ items/s", capsys.readouterr().err
    )


# Other processes


def job_settings(run_dir: Path) -> dict:
    def slow_export(directory: Path, module: nn.Module) -> None:
        (directory / "export.txt").write_text("begun")
        time.sleep(0.03)
        (directory / "export.txt").write_text("done")

    return {
        "run_dir": run_dir,
        "max_steps": 40,
        "save_every": 4,
        "grad_accumulation": 2,
        "delay_s": 0.001,
        "num_workers": 1,
        "val": True,
        "val_every": 10,
        "on_save": slow_export,
    }


@pytest.fixture(scope="module")
def server() -> BaseContext:
    """Makes processes that have the slow imports behind them, and none of this process's threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "accelerate", "pytest", "pentatonic.training"])
    process = context.Process(target=int)  # does nothing, but waits for the imports
    process.start()
    process.join()
    return context


def start(server: BaseContext, **arguments: object) -> BaseProcess:
    process = server.Process(target=runpy.run_path, args=(__file__, {"ARGUMENTS": arguments}, "__main__"))
    process.start()
    return process


def finish(process: BaseProcess, exit_code: int = 0) -> None:
    process.join(timeout=120)
    assert process.exitcode == exit_code


def kill_when(process: BaseProcess, condition: Callable[[], bool], timeout_s: float = 60) -> None:
    """Ends a process without notice as soon as the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"the job ended by itself with {process.exitcode}"


def is_saving(run_dir: Path) -> bool:
    """Whether a checkpoint is being written that is not yet published."""
    root = run_dir / "checkpoints"
    found = list(root.rglob("export.txt")) if root.exists() else []
    return any(not re.fullmatch(r"step-\d{8}", path.parent.name) for path in found)


def lines(run_dir: Path) -> int:
    path = run_dir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def straight_job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run_dir = tmp_path_factory.mktemp("job")
    train(**job_settings(run_dir))
    return outcome(run_dir)


def test_killed_while_stepping_and_while_saving(
    tmp_path: Path, server, straight_job: dict[str, bytes]
) -> None:
    kill_when(start(server, job=str(tmp_path)), lambda: lines(tmp_path) >= 15)
    kill_when(start(server, job=str(tmp_path)), lambda: lines(tmp_path) >= 18 and is_saving(tmp_path))
    train(**job_settings(tmp_path))
    assert outcome(tmp_path) == straight_job


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path, server, straight_job: dict[str, bytes]) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    moments = random.Random(seed)
    killed, whole_s = 0, 5.0
    while killed < 20:
        is_fresh, began_s = not (tmp_path / "run").exists(), time.monotonic()
        process = start(server, job=str(tmp_path / "run"))
        process.join(timeout=moments.uniform(0, whole_s))
        killed += process.is_alive()
        process.kill()
        process.join()
        if process.exitcode == 0:
            whole_s = time.monotonic() - began_s if is_fresh else whole_s  # kills spread over a whole run
            assert outcome(tmp_path / "run") == straight_job, f"seed {seed}, after {killed} kills"
            shutil.rmtree(tmp_path / "run")
    finish(start(server, job=str(tmp_path / "run")))
    assert outcome(tmp_path / "run") == straight_job, f"seed {seed}"


def test_sigterm_saves_and_ends_well(tmp_path: Path, server, straight_job: dict[str, bytes]) -> None:
    process = start(server, job=str(tmp_path))
    while lines(tmp_path) < 6 and process.is_alive():
        time.sleep(0.001)
    process.terminate()
    finish(process)
    steps = records(tmp_path)[-1]["step"]
    assert 6 <= steps < 40
    assert checkpoints(tmp_path)[-1] == f"step-{steps:08d}"
    train(**job_settings(tmp_path))
    assert outcome(tmp_path) == straight_job


def test_a_second_trainer_is_refused_and_disturbs_nothing(
    tmp_path: Path, server, straight_job: dict[str, bytes]
) -> None:
    process = start(server, job=str(tmp_path))
    while lines(tmp_path) < 6 and process.is_alive():
        time.sleep(0.001)
    with pytest.raises(RunFolderInUse, match=f"process {process.pid} on"):
        train(**job_settings(tmp_path))
    assert process.is_alive()
    finish(process)
    assert outcome(tmp_path) == straight_job


def run_two_processes(server: BaseContext, run_dir: Path, exit_code: int = 0, **settings) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        start(
            server,
            run_dir=str(run_dir),
            settings=settings,
            environment={"RANK": rank, "LOCAL_RANK": rank} | common,
        )
        for rank in "01"
    ]
    for process in processes:
        finish(process, exit_code)


RANKS = {"noisy": False, "train_size": 24, "val": True, "val_every": 3, "bad": (3,)}


def test_two_processes_equal_one_with_the_double_batch(tmp_path: Path, server, caplog) -> None:
    train(tmp_path / "one", batch_size=4, grad_accumulation=2, **RANKS)
    two = {"batch_size": 2, "grad_accumulation": 2, **RANKS}
    run_two_processes(server, tmp_path / "two", stop_at=3, **two)
    assert checkpoints(tmp_path / "two")[-1] == "step-00000004"
    assert {"rng-0.safetensors", "rng-1.safetensors"} <= {
        path.name for path in (tmp_path / "two" / "checkpoints" / "step-00000004").iterdir()
    }
    shutil.copytree(tmp_path / "two", tmp_path / "then_one")
    run_two_processes(server, tmp_path / "two", **two)
    train(tmp_path / "then_one", batch_size=4, grad_accumulation=2, **RANKS)
    assert "made by 2 processes, now there are 1" in caplog.text
    for name in ("two", "then_one"):
        assert len(records(tmp_path / name)) == STEPS + 3
        for one, other in zip(records(tmp_path / "one"), records(tmp_path / name), strict=True):
            assert other == pytest.approx(one, rel=1e-6, abs=1e-6)
        assert (tmp_path / name / "bad_items.json").read_text() == (
            tmp_path / "one" / "bad_items.json"
        ).read_text()


def test_the_processes_of_a_run_lock_once_and_are_refused_together(tmp_path: Path, server) -> None:
    with locked_run_folder(tmp_path):
        run_two_processes(server, tmp_path, exit_code=1, **RANKS)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    run_two_processes(server, tmp_path, stop_at=3, **RANKS)
    assert json.loads((tmp_path / "interrupted.json").read_text()) == {"step": 4, "signal": "SIGTERM"}


@pytest.mark.slow
def test_two_processes_resume_bit_exactly(tmp_path: Path, server) -> None:
    settings = {"num_workers": 1, "grad_accumulation": 2, "val": True, "val_every": 2}
    run_two_processes(server, tmp_path / "straight", **settings)
    for step in (0, 4):
        run_two_processes(server, tmp_path / "parts", stop_at=step, **settings)
    run_two_processes(server, tmp_path / "parts", **settings)
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "straight")


def test_compiled_code_serves_every_step() -> None:
    @torch.compile(backend="eager")
    def forward(x: torch.Tensor, context: StepContext) -> torch.Tensor:
        return x + torch.randn(x.shape, generator=context.generator())

    context = opaque_context()
    with torch._dynamo.config.patch(error_on_recompile=True):
        results = [forward(torch.zeros(3), context(0, 0, step, 0)) for step in range(4)]
    for step, result in enumerate(results):
        expected = torch.randn(3, generator=StepContext(0, 0, step, 0).generator())
        assert torch.equal(result, expected)


@pytest.mark.slow
def test_compiled_training_equals_the_plain_one(tmp_path: Path) -> None:
    train(tmp_path / "plain", noisy=False, max_steps=20)
    train(tmp_path / "compiled", noisy=False, max_steps=20, compile=True)
    for plain, compiled in zip(records(tmp_path / "plain"), records(tmp_path / "compiled"), strict=True):
        assert compiled == pytest.approx(plain, rel=1e-4, abs=1e-5)


if __name__ == "__main__":
    arguments = globals()["ARGUMENTS"]
    # As in a program started from a shell: the child of a fork server would start its workers through another one.
    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(1)
    if "job" in arguments:
        train(**job_settings(Path(arguments["job"])))
    else:
        os.environ |= arguments["environment"]
        train(Path(arguments["run_dir"]), **arguments["settings"])
