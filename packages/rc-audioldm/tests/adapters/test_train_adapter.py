"""``rc-audioldm train-adapter`` through the command line, on made-up vectors."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from pentatonic.training import compose_config
from rc_audioldm.adapters.pair_vectors import read_pairs
from rc_audioldm.adapters.projector import ProjectorConfig
from rc_audioldm.adapters.projector_files import load_projector
from rc_audioldm.adapters.state_files import load_state_adapter
from rc_audioldm.adapters.training.train import AdapterTrainConfig
from rc_audioldm.cli import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["rc-audioldm", "train-adapter", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    return code if isinstance(code, int) else 0


def debug(folder: Path, run_dir: Path, *more: str) -> Sequence[str]:
    return ["experiment=debug", f"data.pairs={folder}", f"run_dir={run_dir}", *more]


def test_a_projector_learns_a_rotation_and_its_best_checkpoint_loads(
    pairs_folder: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, out = pairs_folder(128), tmp_path / "run"
    longer = ("trainer.max_steps=120", "trainer.val_every=20", "trainer.save_every=20", "optim.lr=0.03")
    assert run(monkeypatch, *debug(folder, out, *longer, "model.hidden_width=64")) == 0
    report = json.loads((out / "best" / "report.json").read_text())
    assert report["training_rows"] == 96 and report["validation_rows"] == 32
    without = report["without_adapter"]
    assert report["metrics"]["loss"] < without["loss"]
    assert report["metrics"]["text_to_audio@10"] > without["text_to_audio@10"]
    assert "without adapter" in capsys.readouterr().out
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line for line in lines if "val_loss" in line}
    scores = {
        step: 1 - 0.6 * line["val_text_to_audio@1"] - 0.4 * line["val_audio_to_text@1"]
        for step, line in losses.items()
    }
    assert report["step"] == min(scores, key=lambda step: (round(scores[step], 9), step))
    # The file is the checkpoint that was measured.
    loaded = load_projector(out)
    assert loaded.info.trained_steps == report["step"]
    pairs = read_pairs(folder)
    projected = loaded.projector(torch.from_numpy(pairs.audio.copy()))
    assert projected.norm(dim=-1).allclose(torch.ones(128))


def test_a_run_that_stopped_ends_with_the_same_weights(
    pairs_folder: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pairs_folder()
    assert run(monkeypatch, *debug(folder, tmp_path / "whole")) == 0
    whole = tmp_path / "whole" / "checkpoints"
    # As after a kill at step 6.
    parts = tmp_path / "parts"
    (parts / "checkpoints").mkdir(parents=True)
    (whole / "step-00000006").rename(parts / "checkpoints" / "step-00000006")
    (parts / "metrics.jsonl").write_bytes((tmp_path / "whole" / "metrics.jsonl").read_bytes())
    assert run(monkeypatch, *debug(folder, parts)) == 0
    name = Path("step-00000008") / "adapter.safetensors"
    assert (parts / "checkpoints" / name).read_bytes() == (whole / name).read_bytes()


def test_an_adapter_to_states_is_trained_and_compared_with_the_mean(
    pairs_folder: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = pairs_folder(256, states=True), tmp_path / "run"
    states = ("kind=style-to-states", "objective.select=loss", "trainer.max_steps=100", "optim.lr=0.02")
    assert (
        run(monkeypatch, *debug(folder, out, *states, "trainer.val_every=50", "model.hidden_width=64")) == 0
    )
    report = json.loads((out / "best" / "report.json").read_text())
    assert report["without_adapter"]["explained"] == pytest.approx(0, abs=1e-5)
    assert report["metrics"]["explained"] > 0.1
    adapter, info = load_state_adapter(out)
    assert info.metrics["loss"] == pytest.approx(report["metrics"]["loss"])
    assert adapter(torch.randn(2, 16)).shape == (2, 3, 8)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.batch_size=64", "data.batch_size"),
        ("trainer.val_every=3", "save_every"),
        ("model.in_width=5", "in_width"),
        ("+model.colour=5", "colour"),
        ("kind=flow", "kind"),
        ("data.val_fraction=2", "data.val_fraction"),
        ("objective.select=luck", "objective.select"),
        ("kind=style-to-states", "states.npy"),
        ("init_from=nowhere", "nowhere"),
        ("optim.speed=1", "optim.speed"),
    ],
)
def test_wrong_options_are_named(
    override: str,
    message: str,
    pairs_folder: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *debug(pairs_folder(), tmp_path / "run", override)) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_warm_start_begins_with_the_weights(
    pairs_folder: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, first = pairs_folder(), tmp_path / "first"
    assert run(monkeypatch, *debug(folder, first)) == 0
    second = ("trainer.max_steps=1", "optim.lr=0.0", "optim.weight_decay=0.0", "schedule.min_lr=0.0")
    assert run(monkeypatch, *debug(folder, tmp_path / "second", *second, f"init_from={first}")) == 0
    one, other = (load_projector(path).projector.state_dict() for path in (first, tmp_path / "second"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (
        run(monkeypatch, *debug(folder, tmp_path / "third", "model.hidden_width=8", f"init_from={first}"))
        == 1
    )


def test_a_sweep_keeps_the_best_run(
    pairs_folder: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, out = pairs_folder(), tmp_path / "sweep"
    arguments = debug(folder, out, "objective.select=loss", "optim.lr=0.00001,0.05")
    assert run(monkeypatch, "--multirun", *arguments) == 0
    table = json.loads((out / "sweep.json").read_text())
    assert table["trials"].keys() == {"trial_0000", "trial_0001"}
    assert table["best"] == "trial_0001" == min(table["trials"], key=table["trials"].get)
    assert load_projector(out).info.trained_steps
    kept, found = (path / "best" / "adapter.safetensors" for path in (out, out / "trials" / "trial_0001"))
    assert kept.read_bytes() == found.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs", "sweep"]
    assert run(monkeypatch, "--multirun", *arguments[:-1], "optim.lr=0.1,0.2") == 1


def test_a_failed_trial_says_why(
    pairs_folder: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = debug(pairs_folder(), tmp_path / "sweep", "data.batch_size=64,128")
    assert run(monkeypatch, "--multirun", *arguments) == 1
    assert "data.batch_size" in capsys.readouterr().err


def test_a_search_with_optuna_samples_its_space(
    pairs_folder: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    arguments = debug(pairs_folder(), tmp_path / "search", "trainer.max_steps=2")
    space = "batch:{4,8}; dropout:[0.0,0.3]"
    assert run(monkeypatch, "--trials", "3", "--space", space, *arguments) == 0
    trials = sorted((tmp_path / "search" / "trials").iterdir())
    rates = {
        line
        for trial in trials
        for line in (trial / "config.yaml").read_text().split("\n")
        if "  lr:" in line
    }
    assert len(trials) == len(rates) == 3


@pytest.mark.parametrize(
    ("name", "function"),
    [("original-external", ("silu", False, True, True)), ("original-mlp", ("gelu", True, True, False))],
)
def test_the_originals_projectors_are_experiments(name: str, function: tuple[object, ...]) -> None:
    overrides = [f"experiment={name}", "data.pairs=x"]
    config = compose_config("rc_audioldm.adapters.conf", overrides, AdapterTrainConfig)
    model = ProjectorConfig(**config.model)
    assert (model.activation, model.residual, model.layer_norm, model.normalise) == function
    assert (config.epochs, config.data.batch_size, config.trainer.seed) == (5, 16, 42)
    assert config.run_dir.endswith(name) and not config.objective.mask_same_caption
