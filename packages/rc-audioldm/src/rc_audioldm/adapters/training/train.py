"""``rc-audioldm train-adapter``: adapters from cached vectors, in seconds on a CPU.

    rc-audioldm train-adapter data.pairs=data/pairs
    rc-audioldm train-adapter experiment=states data.pairs=data/pairs run_dir=runs/states

A run that was stopped, at any moment, goes on from its newest complete checkpoint when the same command is given.
``best/`` of the run folder holds the checkpoint of the best validation: ``adapter.safetensors``, and ``report.json``
with its measures beside those of no adapter and of chance. The run folder loads as that adapter.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import MISSING
from torch import Tensor, nn

from pentatonic.checkpoint import atomic_directory
from pentatonic.cli import make_output_folder
from pentatonic.errors import ConfigError, UsageError
from pentatonic.optim import adamw
from pentatonic.training import (
    OptimConfig,
    Trainer,
    TrainerConfig,
    TrainResult,
    compose_config,
    config_yaml,
    report_run,
)
from pentatonic.untrusted.config import read_fields
from rc_audioldm.adapters.adapter_files import ADAPTER_FILE, BEST, AdapterInfo
from rc_audioldm.adapters.pair_vectors import PairVectors, read_pairs, split_by_group
from rc_audioldm.adapters.projector import Projector, ProjectorConfig
from rc_audioldm.adapters.projector_files import PROJECTOR, load_projector, save_projector
from rc_audioldm.adapters.state_files import STATES, load_state_adapter, save_state_adapter
from rc_audioldm.adapters.style_to_states import StateAdapterConfig, StyleToStates
from rc_audioldm.adapters.training.data import PairRows, WholeAtOnce
from rc_audioldm.adapters.training.objective import ContrastiveTraining, ObjectiveConfig, StateTraining
from rc_audioldm.adapters.training.schedule import warmup_then_cosine

KINDS = (PROJECTOR, STATES)
REPORT = "report.json"


@dataclass
class DataConfig:
    """What to train from.

    Args:
        pairs: Folder of cached vectors; see :mod:`rc_audioldm.adapters.pair_vectors`.
        val_fraction: Share of the rows for validation; whole groups are kept together.
        split_seed: Decides which groups; not the seed of the run, so that runs with other seeds can be compared.
        batch_size: Rows per process and step.
    """

    pairs: str = MISSING
    val_fraction: float = 0.1
    split_seed: int = 0
    batch_size: int = 256


@dataclass
class AdapterScheduleConfig:
    """Learning rate: a linear warm-up, then half a cosine.

    Args:
        warmup_ratio: Share of all steps in which the rate rises.
        min_lr: Rate at the end.
    """

    warmup_ratio: float = 0.1
    min_lr: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_ratio < 1:
            raise ConfigError(f"schedule.warmup_ratio is {self.warmup_ratio}; allowed: from 0 and below 1")


@dataclass
class AdapterTrainConfig:
    """Everything that decides a run.

    Args:
        kind: ``projector``, or ``style-to-states``.
        model: Fields of :class:`rc_audioldm.adapters.ProjectorConfig` or
            :class:`rc_audioldm.adapters.StateAdapterConfig`; the widths of input and output are those of the data.
        data: Pairs.
        objective: The task.
        optim: AdamW.
        schedule: Learning rate.
        epochs: Passes over the data; if given, they decide the number of steps, with a validation after each pass.
        trainer: The loop.
        init_from: Adapter whose weights the run begins with; of the same architecture.
        run_dir: Folder of the run.
    """

    kind: str = PROJECTOR
    model: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-3, weight_decay=1e-5))
    schedule: AdapterScheduleConfig = field(default_factory=AdapterScheduleConfig)
    epochs: float | None = None
    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(
            max_steps=500, max_grad_norm=1.0, log_every=10, val_every=50, save_every=50
        )
    )
    init_from: str | None = None
    run_dir: str = MISSING


def train(config: AdapterTrainConfig) -> TrainResult:
    """Train, or go on training, in ``config.run_dir``.

    Raises:
        ConfigError: The options contradict each other or the data.
        FormatError, InputError: The pairs cannot be used.
        CheckpointError, WeightsError: The adapter to begin with cannot be loaded.
    """
    if config.kind not in KINDS:
        raise ConfigError(f"kind is {config.kind!r}; allowed: {', '.join(KINDS)}")
    pairs = read_pairs(config.data.pairs)
    train_rows, val_rows = _split(config, pairs)
    _check_batch(config, len(train_rows))
    _settle_steps(config, len(train_rows))
    train_data, validation = PairRows(pairs, train_rows), PairRows(pairs, val_rows).whole()
    torch.manual_seed(config.trainer.seed)  # the fresh weights
    if config.kind == PROJECTOR:
        module = ContrastiveTraining(
            _projector(config, pairs), config.objective, validation, config.data.batch_size
        )
    else:
        module = StateTraining(_state_adapter(config, pairs), validation, _mean_states(pairs, train_rows))
    trainer = config.trainer
    about = {
        "kind": config.kind,
        "select": config.objective.select,
        "training_rows": len(train_rows),
        "validation_rows": len(val_rows),
        "without_adapter": module.without_adapter(),
    }
    return Trainer(
        module,
        optimizer=adamw(module, lr=config.optim.lr, weight_decay=config.optim.weight_decay),
        schedule=partial(
            warmup_then_cosine,
            base_lr=config.optim.lr,
            warmup_steps=round(config.schedule.warmup_ratio * trainer.max_steps),
            total_steps=trainer.max_steps,
            min_lr=config.schedule.min_lr,
        ),
        train_dataset=train_data,
        val_dataset=WholeAtOnce(),
        batch_size=config.data.batch_size,
        collate=train_data.collate,  # for the validation's one item too, whose content is not used
        config=trainer,
        run_dir=Path(config.run_dir),
        resolved_config=config_yaml(config),
        on_save=partial(_complete_checkpoint, config, pairs, about),
    ).fit()


def _split(config: AdapterTrainConfig, pairs: PairVectors) -> tuple[np.ndarray, np.ndarray]:
    try:
        return split_by_group(pairs.groups, config.data.val_fraction, config.data.split_seed)
    except UsageError as error:
        raise ConfigError(f"data.{error}") from error


def _check_batch(config: AdapterTrainConfig, rows: int) -> None:
    """Refuse a batch that has a row twice, which would be its own negative, and validations that nobody keeps."""
    batch = config.data.batch_size * int(os.environ.get("WORLD_SIZE", "1"))
    if batch > rows:
        raise ConfigError(f"data.batch_size makes batches of {batch} rows, and {rows} are for training")
    trainer = config.trainer
    if config.epochs is None and (trainer.val_every < 1 or trainer.val_every % trainer.save_every):
        raise ConfigError(
            f"trainer.val_every is {trainer.val_every} and trainer.save_every {trainer.save_every}; allowed: a "
            "multiple of save_every, so that the checkpoint of the best validation is kept"
        )


def _settle_steps(config: AdapterTrainConfig, rows: int) -> None:
    """Turn epochs into steps."""
    if config.epochs is None:
        return
    if not 0 < config.epochs < float("inf"):
        raise ConfigError(f"epochs is {config.epochs}; allowed: above 0")
    batch = config.data.batch_size * int(os.environ.get("WORLD_SIZE", "1"))
    per_epoch = max(1, rows // batch // config.trainer.grad_accumulation)
    config.trainer.max_steps = max(1, math.ceil(config.epochs * per_epoch))
    config.trainer.val_every = config.trainer.save_every = per_epoch


def _projector(config: AdapterTrainConfig, pairs: PairVectors) -> Projector:
    widths = {"in_width": pairs.width, "out_width": pairs.width}
    projector = Projector(read_fields(ProjectorConfig, widths | config.model, "model"))
    _check_widths(config, widths, projector.config)
    if config.init_from is not None:
        loaded = load_projector(config.init_from, clap=pairs.clap).projector
        _start_from(config, loaded, projector)
    return projector


def _state_adapter(config: AdapterTrainConfig, pairs: PairVectors) -> StyleToStates:
    if pairs.states is None:
        raise ConfigError(f"{pairs.where}: has no states.npy, which kind=style-to-states learns from")
    if config.objective.select != "loss":
        raise ConfigError(
            f"objective.select is {config.objective.select!r}; allowed with kind=style-to-states: loss"
        )
    _, states, width = pairs.states.shape
    widths = {"in_width": pairs.width, "states": states, "state_width": width}
    adapter = StyleToStates(read_fields(StateAdapterConfig, widths | config.model, "model"))
    _check_widths(config, widths, adapter.config)
    if config.init_from is not None:
        _start_from(config, load_state_adapter(config.init_from, clap=pairs.clap)[0], adapter)
    return adapter


def _check_widths(config: AdapterTrainConfig, of_data: dict[str, int], model: Any) -> None:
    for name, width in of_data.items():
        if getattr(model, name) != width:
            raise ConfigError(f"model.{name} is {getattr(model, name)}, and {config.data.pairs} has {width}")


def _start_from(config: AdapterTrainConfig, loaded: Any, adapter: Any) -> None:
    if loaded.config != adapter.config:
        raise ConfigError(f"init_from={config.init_from} is {loaded.config}, and model says {adapter.config}")
    adapter.load_state_dict(loaded.state_dict())


def _mean_states(pairs: PairVectors, rows: np.ndarray) -> Tensor:
    assert pairs.states is not None
    total = np.zeros(pairs.states.shape[1:])
    for start in range(0, len(rows), 1024):
        total += pairs.states[rows[start : start + 1024]].sum(axis=0, dtype=np.float64)
    return torch.from_numpy((total / len(rows)).astype(np.float32))


def _complete_checkpoint(
    config: AdapterTrainConfig, pairs: PairVectors, about: dict[str, Any], folder: Path, module: nn.Module
) -> None:
    """Put the adapter into a checkpoint, and keep a copy when its validation is the best so far."""
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    step, trainer = state["step"], config.trainer
    metrics = {
        name.removeprefix("val_"): value
        for name, value in state["metrics"].items()
        if name.startswith("val_")
    }
    on_time = step % trainer.val_every == 0 or step == trainer.max_steps
    validated = bool(metrics) and on_time and not state["validation_due"]
    info = AdapterInfo(step, pairs.clap, metrics if validated else {})
    adapter, save = module.adapter, _saver(config.kind)
    save(folder / ADAPTER_FILE, adapter, info)
    if not validated:
        return
    score, best = config.objective.score(metrics), Path(config.run_dir) / BEST
    lowest = math.inf
    if (best / REPORT).is_file():
        lowest = json.loads((best / REPORT).read_text(encoding="utf-8"))["score"]
    if score < lowest:
        report = about | {"step": step, "score": score, "metrics": metrics}
        with atomic_directory(best) as temporary:
            save(temporary / ADAPTER_FILE, adapter, info)
            (temporary / REPORT).write_text(f"{json.dumps(report, indent=2)}\n", encoding="utf-8")


def _saver(kind: str) -> Callable[[Path, Any, AdapterInfo], None]:
    return save_projector if kind == PROJECTOR else save_state_adapter


def main(overrides: Sequence[str]) -> TrainResult:
    """Run with Hydra overrides, such as ``experiment=debug data.pairs=data/pairs``."""
    config = compose_config("rc_audioldm.adapters.conf", overrides, AdapterTrainConfig, config_name="train")
    make_output_folder(Path(config.run_dir), "run_dir=")
    result = report_run(train(config), config.run_dir)
    if os.environ.get("RANK", "0") == "0":
        print("\n".join(summary(Path(config.run_dir))))
    return result


def read_report(run_dir: Path) -> dict[str, Any] | None:
    """Return ``best/report.json`` of a run folder, or None before the first validation."""
    file = run_dir / BEST / REPORT
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def summary(run_dir: Path) -> list[str]:
    """Return lines that compare the best checkpoint with no adapter, measure by measure."""
    report = read_report(run_dir)
    if report is None:
        return []
    without = report["without_adapter"]
    lines = [f"best validation, on {report['validation_rows']} rows, at step {report['step']}:"]
    for name, value in report["metrics"].items():
        beside = f", without adapter {without[name]:.4g}" if name in without else ""
        chance = without.get(f"chance@{name.rpartition('@')[2]}")
        beside += "" if chance is None or "@" not in name else f", by chance {chance:.4g}"
        lines.append(f"  {name:<18}{value:.4g}{beside}")
    return lines
