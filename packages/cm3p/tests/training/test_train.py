"""Training through the command line: runs that end, go on, evaluate, freeze, and load as models."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import cm3p
from cm3p.beatmap import RULESETS
from cm3p.cli import app
from cm3p.configuration import CM3PBeatmapConfig, CM3PConfig
from cm3p.inspection.defaults import get_processor
from cm3p.metadata import STATUSES
from cm3p.model import CM3PModel
from cm3p.processor import CM3PProcessor
from cm3p.training.building import build_model, build_optimizer, loss_options, model_config
from cm3p.training.options import TrainConfig
from cm3p.training.processor_options import build_processor
from cm3p.training.train import TrainResult, main
from cm3p.training.trainer import BeatmapTrainer, Freezing
from cm3p.weights import load_directory
from pentatonic.errors import ConfigError
from pentatonic.training import compose_config

TABLES: dict[str, dict[int, Any]] = {
    "modes": {0: "osu"},
    "statuses": {1: "ranked"},
    "mappers": {5: "somebody"},
    "tags": {},
}
QUICK = (
    "training.max_steps=2",
    "training.eval_steps=2",
    "training.save_steps=2",
    "training.gradient_accumulation_steps=1",
    "dataset.train_dataset_end=4",
    "dataset.test_dataset_end=2",
)


def run(data_set: Path, run_dir: Path, *overrides: str, experiment: str = "debug") -> TrainResult:
    return main(
        [
            f"experiment={experiment}",
            f"dataset.train_dataset_paths=[{data_set}]",
            f"run_dir={run_dir}",
            *overrides,
        ]
    )


def compose(*overrides: str) -> TrainConfig:
    return compose_config(
        "cm3p.conf", ["dataset.train_dataset_paths=[maps]", *overrides], TrainConfig, config_name="train"
    )


def log_of(run_dir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the experiment ``debug``. Not to be changed."""
    run_dir = tmp_path_factory.mktemp("runs") / "debug"
    result = CliRunner().invoke(
        app, ["train", "experiment=debug", f"dataset.train_dataset_paths=[{data_set}]", f"run_dir={run_dir}"]
    )
    assert result.exit_code == 0, result.output
    return run_dir


def test_run_leaves_a_record_and_a_model(finished: Path) -> None:
    record = json.loads((finished / "run.json").read_text())
    assert {"command", "versions", "git_commit", "hardware", "parameters", "sets"} <= record.keys()
    assert "labels: masked_lm" in (finished / "config.yaml").read_text()
    losses = [line["loss"] for line in log_of(finished) if "loss" in line]
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    assert "eval_accuracy_masked_lm" in log_of(finished)[-1]
    assert not list(finished.rglob("*.bin"))
    assert not (finished / "left_out.json").exists()


def test_run_folder_and_its_checkpoints_load_as_models(finished: Path) -> None:
    for folder in (finished, finished / "checkpoint-4"):
        model = cm3p.from_pretrained(folder)
        assert isinstance(model, CM3PModel)
        processor = CM3PProcessor.from_pretrained(folder)
        encoded = processor(metadata={"year": 2010, "mapper": "mapper1", "tags": ["style/clean"]})
        tokens = processor.metadata_tokenizer.decode(encoded["input_ids"][0]).split()
        assert {"[MAPPER_11]", "[TAG_style/clean]", "[YEAR_2010]"} <= set(tokens)
        assert model.config.metadata_config.vocab_size == processor.metadata_tokenizer.vocab_size


def test_continued_run_ends_with_equal_bits(data_set: Path, finished: Path, tmp_path: Path) -> None:
    run_dir = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(run_dir / "checkpoint-8")
    for name in ("model.safetensors", "all_results.json", "trainer_state.json"):
        (run_dir / name).unlink()
    # What a kill while the next checkpoint was written leaves.
    shutil.copytree(run_dir / "checkpoint-4", run_dir / "checkpoint-6")
    (run_dir / "checkpoint-6" / "trainer_state.json").write_text('{"global_step": 6, ')
    run(data_set, run_dir)
    assert (run_dir / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    assert (run_dir / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    assert json.loads((run_dir / "run.json").read_text())["resumed_from"] == "checkpoint-4"


@pytest.mark.parametrize(
    ("evaluation", "saved_step"), [(1, 4), (2, 8), pytest.param(3, 8, marks=pytest.mark.slow)]
)
def test_a_signal_during_evaluation_stops_it_and_leaves_it_due(
    data_set: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    evaluation: int,
    saved_step: int,
) -> None:
    run_dir = tmp_path / "run"
    batches = evaluations = 0
    with monkeypatch.context() as patched:
        predict, evaluate = BeatmapTrainer.prediction_step, BeatmapTrainer.evaluation_loop

        def counted(self: BeatmapTrainer, *args: Any, **kwargs: Any) -> Any:
            nonlocal evaluations
            evaluations += 1
            return evaluate(self, *args, **kwargs)

        def interrupted(self: BeatmapTrainer, *args: Any, **kwargs: Any) -> Any:
            nonlocal batches
            if evaluations == evaluation:
                batches += 1
                if batches == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
            return predict(self, *args, **kwargs)

        patched.setattr(BeatmapTrainer, "evaluation_loop", counted)
        patched.setattr(BeatmapTrainer, "prediction_step", interrupted)
        result = run(data_set, run_dir)
    assert (result.interrupted, result.step, batches) == (True, saved_step, 2)
    assert json.loads((run_dir / "interrupted.json").read_text()) == {"step": saved_step, "signal": "SIGTERM"}
    assert not run(data_set, run_dir).interrupted
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (run_dir / name).read_bytes() == (finished / name).read_bytes()
    best = [json.loads((each / "trainer_state.json").read_text()) for each in (run_dir, finished)]
    assert best[0]["best_metric"] == best[1]["best_metric"]
    assert best[0]["best_global_step"] == best[1]["best_global_step"]


def test_a_run_that_was_killed_after_its_last_step_has_the_best_model(
    data_set: Path, finished: Path, tmp_path: Path
) -> None:
    run_dir = shutil.copytree(finished, tmp_path / "run")
    (run_dir / "model.safetensors").unlink()
    run(data_set, run_dir, "dataset.test_dataset_end=2")
    assert (run_dir / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_finished_run_trains_no_further(data_set: Path, finished: Path, tmp_path: Path) -> None:
    run_dir = shutil.copytree(finished, tmp_path / "run")
    assert run(data_set, run_dir, "dataset.test_dataset_end=2").step == 8
    assert (run_dir / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_without_labels_there_is_a_loss_and_the_metrics_of_variations(data_set: Path, tmp_path: Path) -> None:
    result = run(
        data_set,
        tmp_path / "run",
        *QUICK,
        "dataset.labels=none",
        "model.has_decoder_head=false",
        "optim.name=adamw",
    )
    assert {
        "eval_loss",
        "eval_accuracy_year",
        "eval_accuracy_tags",
        "eval_accuracy_mapper",
    } <= result.metrics.keys()
    assert "eval_accuracy_masked_lm" not in result.metrics


def test_masked_lm_then_full_model_then_classifier(data_set: Path, tmp_path: Path) -> None:
    masked, full, classes = tmp_path / "masked", tmp_path / "full", tmp_path / "classes"
    result = run(data_set, masked, *QUICK, "model_cls=CM3PForMaskedLM", "dataset.include_metadata=false")
    assert "eval_accuracy_masked_lm" in result.metrics
    run(data_set, full, *QUICK, f"from_pretrained={masked}", "freeze_beatmap_model=true")
    key = "beatmap_model.encoder.layers.1.attn.Wqkv.weight"
    assert torch.equal(
        load_file(masked / "model.safetensors")[key], load_file(full / "model.safetensors")[key]
    )
    result = run(
        data_set,
        classes,
        *QUICK,
        "model_cls=CM3PForBeatmapClassification",
        f"from_pretrained={full}",
        f"processor_from_pretrained={full}",
        "dataset.labels=ranked_classification",
        "dataset.include_metadata=false",
        "+model.beatmap_config.id2label={0: Graveyard, 1: Ranked}",
    )
    assert 0 <= result.metrics["eval_accuracy_classification"] <= 1
    assert cm3p.from_pretrained(classes).config.id2label == {0: "Graveyard", 1: "Ranked"}


def test_bad_maps_are_named_at_the_end(
    data_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(data_set, tmp_path / "data_set")
    (root / "data" / "set 3" / "0.osu").write_text("<html>")
    result = run(root, tmp_path / "run", *QUICK)
    assert [Path(where).name for where in result.left_out] == ["0.osu"]
    assert json.loads((tmp_path / "run" / "left_out.json").read_text()) == result.left_out
    assert "1 maps were left out" in capsys.readouterr().err


def test_debug_brings_its_own_maps(tmp_path: Path, cm3p_command: Any) -> None:
    """As ``make train-cm3p`` with no further argument."""
    run_dir = tmp_path / "run"
    status, out, messages = cm3p_command("train", "experiment=debug", f"run_dir={run_dir}", *QUICK)
    assert status == 0 and "is finished" in out, messages
    assert (run_dir / "example_data" / "metadata.parquet").is_file()
    assert "train_dataset_paths: []" in (run_dir / "config.yaml").read_text()


@pytest.mark.parametrize("experiment", ["v7", "tiny"])
def test_without_maps_the_key_is_named(tmp_path: Path, experiment: str, cm3p_command: Any) -> None:
    for paths in ([], ["dataset.train_dataset_paths=[]"]):
        status, _, messages = cm3p_command(
            "train", f"experiment={experiment}", f"run_dir={tmp_path / 'run'}", *paths
        )
        assert status == 1 and "dataset.train_dataset_paths" in messages
    assert not (tmp_path / "run").exists()


def test_half_precision_is_close_and_saves_full_precision(
    data_set: Path, finished: Path, tmp_path: Path
) -> None:
    run(data_set, tmp_path / "run", "training.bf16=true")
    for mine, theirs in zip(log_of(tmp_path / "run"), log_of(finished), strict=True):
        for name in {"loss", "eval_loss"} & mine.keys():
            assert mine[name] == pytest.approx(theirs[name], rel=1e-2) and mine[name] != theirs[name]
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoint-4"):
        assert {each.dtype for each in load_file(folder / "model.safetensors").values()} == {torch.float32}


def test_weights_and_biases_offline(
    data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cm3p_command: Any
) -> None:
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.setenv(name, "")  # so that what the run sets does not stay
    run_dir = tmp_path / "run"
    arguments = [
        "train",
        "experiment=debug",
        f"dataset.train_dataset_paths=[{data_set}]",
        f"run_dir={run_dir}",
    ]
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "wandb", None)
        status, _, messages = cm3p_command(*arguments, "wandb_mode=offline")
    assert status == 1 and messages.count("\n") == 1
    assert messages == "Error: wandb_mode=offline needs the extra 'cm3p[wandb]': pip install 'cm3p[wandb]'\n"
    wandb = pytest.importorskip("wandb")
    assert cm3p_command(*arguments, *QUICK, "wandb_mode=offline", "training.do_eval=false")[0] == 0
    wandb.teardown()  # as at the end of a process: its service ends, and has written everything
    (log,) = (run_dir / "wandb").glob("offline-run-*/*.wandb")
    assert b"train/loss" in log.read_bytes()


def test_run_folder_of_something_else_is_refused(data_set: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match=r"holds letter\.txt and no run"):
        run(data_set, tmp_path)


# Experiments

SMALL = (
    "training.use_cpu=true",
    "training.bf16=false",
    "training.log_level=warning",
    "training.torch_empty_cache_steps=null",
    "training.dataloader_num_workers=0",
    "training.max_steps=2",
    "training.eval_steps=2",
    "training.save_steps=2",
    "training.gradient_accumulation_steps=2",
    "training.per_device_train_batch_size=2",
    "training.per_device_eval_batch_size=2",
    "dataset.train_dataset_start=0",
    "dataset.train_dataset_end=0",
    "dataset.test_dataset_start=0",
    "dataset.test_dataset_end=4",
    "dataset.max_year=2030",
    "dataset.test_metadata_variations=8",
    *(
        f"model.{part}{name}={value}"
        for part in ("beatmap_config.", "metadata_config.", "beatmap_config.audio_config.")
        for name, value in (("hidden_size", 16), ("intermediate_size", 16), ("num_attention_heads", 2))
    ),
    "model.projection_dim=8",
    "model.beatmap_config.projection_dim=8",
    "model.metadata_config.projection_dim=8",
    "model.beatmap_config.num_hidden_layers=1",
    "model.metadata_config.num_hidden_layers=1",
    "model.beatmap_config.audio_config.num_hidden_layers=1",
    "model.beatmap_config.audio_config.projector_intermediate_size=64",
    "model.beatmap_config.audio_config.projector_dim=16",
)
"""Overrides of sizes and of the data alone; everything else is the experiment's."""


@pytest.fixture(scope="module")
def experiment_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of the experiments are, each under its name."""
    return tmp_path_factory.mktemp("experiments")


def _run_experiment(data_set: Path, runs: Path, name: str, *overrides: str) -> TrainResult:
    result = run(data_set, runs / name, *SMALL, *overrides, experiment=name)
    assert result.step == 2 and not result.left_out and result.metrics["eval_loss"] > 0
    return result


# v5 is v4 with changes, v4 is v3, v3 is v2.
_PARTS_OF_V5 = [pytest.param(name, marks=pytest.mark.slow) for name in ("v2", "v3", "v4")]


@pytest.mark.parametrize("name", ["v1", *_PARTS_OF_V5, "v5", "v6", "v6.1"])
def test_contrastive_experiments_evaluate_without_labels(
    data_set: Path, experiment_runs: Path, name: str
) -> None:
    overrides = []
    if name.startswith("v6"):
        masked = experiment_runs / "v6_mask"
        if not masked.exists():
            result = _run_experiment(data_set, experiment_runs, "v6_mask")
            assert 0 <= result.metrics["eval_accuracy_masked_lm"] <= 1
        overrides = [f"from_pretrained={masked}"]
    if name == "v6.1":
        overrides.append("unfreeze_beatmap_model_at_step=1")
    result = _run_experiment(data_set, experiment_runs, name, *overrides)
    assert {"eval_accuracy_year", "eval_accuracy_mapper", "eval_accuracy_tags"} <= result.metrics.keys()
    assert "eval_accuracy_masked_lm" not in result.metrics
    pooled = cm3p.from_pretrained(experiment_runs / name).config
    assert pooled.beatmap_config.cls_embed is (name in ("v3", "v4", "v5", "v6"))


def test_v7_and_its_classifier(data_set: Path, experiment_runs: Path) -> None:
    result = _run_experiment(data_set, experiment_runs, "v7")
    assert {"eval_accuracy_masked_lm", "eval_accuracy_mapper"} <= result.metrics.keys()
    result = _run_experiment(
        data_set,
        experiment_runs,
        "v7_classifier",
        f"from_pretrained={experiment_runs / 'v7' / 'checkpoint-2'}",
        "dataset.min_year=2007",
        "training.learning_rate=0",
    )
    assert 0 <= result.metrics["eval_accuracy_classification"] <= 1
    before = load_file(experiment_runs / "v7" / "checkpoint-2" / "model.safetensors")
    after = load_file(experiment_runs / "v7_classifier" / "model.safetensors")
    towers = [key for key in after if key.startswith("beatmap_model.encoder.layers.")]
    assert towers and all(torch.equal(before[key], after[key]) for key in towers)
    assert cm3p.from_pretrained(experiment_runs / "v7_classifier").config.id2label == {
        0: "Graveyard",
        1: "Ranked",
    }


# Configuration


@pytest.mark.parametrize(
    "name", ["v1", "v2", "v3", "v4", "v5", "v6_mask", "v6", "v6.1", "v7", "v7_classifier", "debug", "tiny"]
)
def test_experiments_compose(name: str) -> None:
    config = compose(f"experiment={name}")
    processor = build_processor(config.processor, TABLES, apply_speed_to_audio=True)
    sizes = {"v1": 3967, "v2": 3967, "v3": 3967, "v4": 3967, "v5": 61311, "debug": 2568, "tiny": 3168}
    assert model_config(config, processor).beatmap_config.vocab_size == sizes.get(name, 3968)
    assert config.run_dir == f"runs/cm3p/{name}"


def test_values_of_v7_and_v6_1() -> None:
    v7, v6 = compose("experiment=v7"), compose("experiment=v6.1")
    assert (v7.training.learning_rate, v7.optim.name, v7.training.max_steps) == (4e-4, "muon", 30000)
    assert v7.processor.default_kwargs.beatmap_kwargs.max_length == 2000
    assert (v7.dataset.train_metadata_variations, v7.dataset.masked_lm_prob) == (256, 0.15)
    assert v7.model["has_decoder_head"] and v7.model["beatmap_config"]["cls_embed"]
    assert (v6.training.learning_rate, v6.unfreeze_beatmap_model_at_step) == (1e-4, 5000)
    assert v6.from_pretrained and v6.freeze_beatmap_model and not v6.model["metadata_config"]["cls_embed"]
    assert compose("experiment=v1").wandb_mode == "disabled"
    assert not compose("experiment=v1").training.push_to_hub


def test_maps_are_looked_at_with_the_settings_of_v7() -> None:
    config = compose("experiment=v7")
    tables = {"modes": dict(enumerate(RULESETS)), "statuses": STATUSES, "mappers": {}, "tags": {}}
    trained, shown = build_processor(config.processor, tables, apply_speed_to_audio=True), get_processor(None)
    assert shown.to_dict() == trained.to_dict()
    for name in ("audio_feature_extractor", "beatmap_parser", "beatmap_tokenizer", "metadata_tokenizer"):
        assert getattr(shown, name).to_dict() == getattr(trained, name).to_dict()
    assert shown.metadata_tokenizer.get_vocab() == trained.metadata_tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("+training.lr=1", "lr"),
        ("+model.hidden=3", r"model\.hidden"),
        ("+model.beatmap_config.layers=3", r"model\.beatmap_config\.layers"),
        ("model_cls=CM3P", "model_cls"),
        ("dataset.labels=words", r"dataset\.labels"),
        ("dataset.include_metadata=false", r"dataset\.labels"),
        ("optim.name=sgd", r"optim\.name"),
    ],
)
def test_unknown_keys_and_values_are_named(override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        config = compose("experiment=v7", override)
        model_config(config, build_processor(config.processor, TABLES, apply_speed_to_audio=True))


def _small(*overrides: str) -> tuple[TrainConfig, Any]:
    config = compose("experiment=debug", *overrides)
    return config, build_model(config, build_processor(config.processor, TABLES, apply_speed_to_audio=True))


@pytest.mark.parametrize(
    ("overrides", "has_unused"),
    [
        ((), False),
        (("optim.name=adamw", "dataset.labels=none", "model.has_decoder_head=false"), False),
        (("dataset.labels=none",), True),
        (("dataset.include_audio=false",), True),
        (("model_cls=CM3PForMaskedLM", "dataset.include_metadata=false"), False),
    ],
)
def test_data_parallel_training_knows_of_parameters_without_gradients(
    data_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: tuple[str, ...],
    has_unused: bool,
) -> None:
    """It would wait for them at the second step, unless it is told to look for them."""
    step, seen = BeatmapTrainer.training_step, []

    def training_step(self: BeatmapTrainer, model: Any, *args: Any, **kwargs: Any) -> Any:
        loss = step(self, model, *args, **kwargs)
        unused = [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None]
        seen.append((bool(unused), bool(self.args.ddp_find_unused_parameters)))
        return loss

    monkeypatch.setattr(BeatmapTrainer, "training_step", training_step)
    run(data_set, tmp_path / "run", *QUICK, "training.do_eval=false", *overrides)
    assert set(seen) == {(has_unused, has_unused)}


def test_optimisers_take_all_trained_parameters_by_name() -> None:
    for name, groups in (("muon", 2), ("adamw", 2)):
        config, model = _small(f"optim.name={name}", "training.weight_decay=0.1")
        optimizer = build_optimizer(config, model)
        taken = [id(each) for group in optimizer.param_groups for each in group["params"]]
        assert len(optimizer.param_groups) == groups
        trained = [id(each) for each in model.parameters() if each.requires_grad]
        assert sorted(taken) == sorted(trained) and len(trained) == len(list(model.parameters())) - 1
        small = {id(each) for each in model.parameters() if each.ndim == 1}
        assert small <= {id(each) for each in optimizer.param_groups[1]["params"]}
    config, model = _small("optim.name=muon")
    assert build_optimizer(config, model).param_groups[1]["reproduce_full_lr"]
    config, model = _small("optim.name=muon", "optim.reproduce_full_lr=false")
    assert not build_optimizer(config, model).param_groups[1]["reproduce_full_lr"]


def test_weights_of_the_losses() -> None:
    for overrides, expected in (
        ((), (1 / 8, 0.5)),
        (("loss.weights=original",), (1.0, 0.5)),
        (("loss.contrastive_weight=2", "loss.mlm_weight=3"), (2 / 8, 3.0)),
        (("dataset.labels=none",), (1.0, 0.5)),  # the Trainer then divides the whole
    ):
        training, evaluation = loss_options(compose("experiment=v7", *overrides))
        assert (training.contrastive_weight, training.mlm_weight) == expected
        assert training.gather
        assert not evaluation.gather
        assert evaluation.contrastive_weight == (2.0 if "loss.mlm_weight=3" in overrides else 1.0)


def test_tower_is_unfrozen_at_its_step_and_known_to_the_optimiser(data_set: Path, tmp_path: Path) -> None:
    overrides = (*QUICK, "freeze_beatmap_model=true", "unfreeze_beatmap_model_at_step=1")
    key = "beatmap_model.encoder.layers.1.attn.Wqkv.weight"
    fresh = {}
    for step in (1, 2):
        options = (*overrides, f"unfreeze_beatmap_model_at_step={step}")
        run(data_set, tmp_path / str(step), *options, "training.load_best_model_at_end=false")
        fresh[step] = load_file(tmp_path / str(step) / "model.safetensors")[key]
    assert not torch.equal(fresh[1], fresh[2])  # of two steps, the second counted for the first run alone
    model = load_directory(tmp_path / "1")
    tower: Any = model.beatmap_model
    state: Any = type("State", (), {"global_step": 3})()
    freezing = Freezing(tower, 4)
    freezing.on_train_begin(None, state, None)  # type: ignore[arg-type]
    assert not any(each.requires_grad for each in tower.parameters())
    state.global_step = 4
    freezing.on_step_end(None, state, None)  # type: ignore[arg-type]
    assert all(each.requires_grad for each in tower.parameters())
    tower.requires_grad_(False)
    freezing.on_train_begin(None, state, None)  # type: ignore[arg-type]
    assert all(each.requires_grad for each in tower.parameters())


def test_attn_implementation_is_accepted() -> None:
    _, model = _small("attn_implementation=flash_attention_2")
    assert isinstance(model.config, CM3PConfig)
    assert isinstance(model.config.beatmap_config, CM3PBeatmapConfig)


# Several processes


def _start(arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", *arguments]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        command, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_run_goes_on_to_equal_bits(
    data_set: Path, finished: Path, tmp_path: Path, number: signal.Signals
) -> None:
    run_dir = tmp_path / "run"
    arguments = ["experiment=debug", f"dataset.train_dataset_paths=[{data_set}]", f"run_dir={run_dir}"]
    process = _start(["-m", "cm3p", "train", *arguments])
    while process.poll() is None and not (run_dir / "checkpoint-4" / "trainer_state.json").exists():
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate()
    if number == signal.SIGTERM:
        assert process.returncode == 130
        assert (run_dir / "interrupted.json").exists()
    assert not (run_dir / "all_results.json").exists()
    process = _start(["-m", "cm3p", "train", *arguments])
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert (run_dir / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_of_a_run_ends_it_with_one_line(
    data_set: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """As Ctrl-C in a terminal, and as ``timeout``: the loader's workers get the signal too."""
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "cm3p", "train", "experiment=debug", f"run_dir={run_dir}"),
            *(f"dataset.train_dataset_paths=[{data_set}]", "training.dataloader_num_workers=2"),
            "training.max_steps=100000",
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    while process.poll() is None and not (run_dir / "checkpoint-4" / "trainer_state.json").exists():
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == 130, messages
    step = json.loads((run_dir / "interrupted.json").read_text())["step"]
    assert (run_dir / f"checkpoint-{step}" / "trainer_state.json").exists()
    assert messages == f"{run_dir} was stopped at step {step}, which is saved; the same command continues\n"
    with pytest.raises(ProcessLookupError):  # no worker is left
        os.killpg(process.pid, 0)


def _finish_in_two_processes(arguments: list[str]) -> None:
    """Start the same command line of Python in two processes, and wait for both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launcher = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [_start(arguments, RANK=str(rank), LOCAL_RANK=str(rank), **launcher) for rank in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)


@pytest.mark.slow
def test_sharded_training_goes_as_with_whole_copies(data_set: Path, tmp_path: Path) -> None:
    """It gives the losses of data parallel training, checkpoints that load, and goes on to equal bits."""
    options = ["experiment=debug", f"dataset.train_dataset_paths=[{data_set}]"]
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    script = [str(Path(__file__).with_name("sharded.py")), *options]
    _finish_in_two_processes(["-m", "cm3p", "train", *options, f"run_dir={whole}"])
    _finish_in_two_processes([*script, f"run_dir={sharded}"])
    for mine, theirs in zip(log_of(whole), log_of(sharded), strict=True):
        for name in {"loss", "eval_loss"} & mine.keys():
            assert theirs[name] == pytest.approx(mine[name], rel=1e-4)
    assert (sharded / "checkpoint-4" / "pytorch_model_fsdp_0").is_dir()
    for folder in (sharded, sharded / "checkpoint-4", sharded / "checkpoint-8"):
        model = cm3p.from_pretrained(folder)
        assert isinstance(model, CM3PModel) and model.logit_scale.shape == ()
    stopped = shutil.copytree(sharded, tmp_path / "stopped")
    shutil.rmtree(stopped / "checkpoint-8")
    for name in ("model.safetensors", "all_results.json", "trainer_state.json"):
        (stopped / name).unlink()
    # The first time the stopped run goes on; the second time nothing is left but the last evaluation.
    for _ in range(2):
        _finish_in_two_processes([*script, f"run_dir={stopped}"])
        for name in ("model.safetensors", "all_results.json"):
            assert (stopped / name).exists()
        assert (stopped / "model.safetensors").read_bytes() == (sharded / "model.safetensors").read_bytes()
    assert log_of(stopped)[: len(log_of(sharded))] == log_of(sharded)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["all", "unfrozen later"])
def test_two_processes_give_the_loss_of_one(tmp_path: Path, mode: str) -> None:
    script = str(Path(__file__).with_name("two_processes.py"))
    alone = _start([script, str(tmp_path / "one"), mode])
    _finish_in_two_processes([script, str(tmp_path / "two"), mode])
    output = alone.communicate()[0]
    assert alone.returncode == 0, output
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    for mine, theirs in zip(one, two, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
    changes = [line["tower_change"] for line in one if "tower_change" in line]
    if mode == "all":
        assert all(changes)
    else:
        assert changes[:2] == [0, 0] and all(changes[2:])
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    for key in weights[0]:
        torch.testing.assert_close(weights[0][key], weights[1][key], rtol=1e-4, atol=1e-6)
