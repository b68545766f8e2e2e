"""``myna-rpe train``: contrastive pre-training on prepared spectrograms.

    myna-rpe train experiment=debug data.root=data/music
    myna-rpe train experiment=rpecl-2d-alibi data.root=data/jamendo trainer.precision=bf16
    myna-rpe train experiment=tiny data.root=data/music init_from=myna-rpe-tiny
    accelerate launch --config_file configs/accelerate/ddp.yaml -m myna_rpe train experiment=myna-base data.root=…

A run that was stopped, at any moment, goes on from its newest complete checkpoint when the same command is given. A run
folder, and each of its checkpoints, loads as a model.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING
from torch import nn
from torch.optim import Adam, Optimizer

from myna_rpe.config import EncoderConfig
from myna_rpe.losses import LearnedTemperature
from myna_rpe.model import MynaEncoder
from myna_rpe.training.augment import AugmentConfig
from myna_rpe.training.data import CropConfig, Views
from myna_rpe.training.objective import ContrastiveTraining
from myna_rpe.training.options import ObjectiveConfig
from myna_rpe.training.spectrograms import INDEX, SpectrogramFolder
from myna_rpe.weights import from_pretrained
from myna_rpe.whole_tracks import absolute_time
from pentatonic.cli import make_output_folder
from pentatonic.errors import ConfigError
from pentatonic.optim import adamw
from pentatonic.training import (
    OptimConfig,
    Schedule,
    ScheduleConfig,
    Trainer,
    TrainerConfig,
    TrainResult,
    compose_config,
    config_yaml,
    report_run,
)
from pentatonic.training.teacher import TeacherTargets

logger = logging.getLogger(__name__)

OPTIMIZERS = ("adamw", "adam")
UNITS = ("step", "epoch")


@dataclass
class DataConfig:
    """Where the spectrograms are, and how they are cropped.

    Args:
        root: Folder that ``myna-rpe prepare`` has written.
        crops: How tracks are cropped.
        augment: How the crops of training are changed; those of validation are not.
        batch_size: Tracks per process and step.
        num_workers: Loader processes.
    """

    root: str = MISSING
    crops: CropConfig = field(default_factory=CropConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    batch_size: int = 256
    num_workers: int = 4


@dataclass
class OptimizerConfig(OptimConfig):
    """The optimizer.

    Args:
        name: ``adamw``, as Myna-RPE; ``adam``, whose weight decay is part of the gradient, as Myna.
    """

    name: str = "adamw"

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise ConfigError(f"optim.name is {self.name!r}; allowed: {', '.join(OPTIMIZERS)}")


@dataclass
class MynaScheduleConfig(ScheduleConfig):
    """Learning rate.

    Args:
        unit: What ``warmup_steps`` counts, and how often the rate changes: ``step`` or, as Myna, ``epoch``.
    """

    unit: str = "step"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ConfigError(f"schedule.unit is {self.unit!r}; allowed: {', '.join(UNITS)}")

    def by_step(self, base_lr: float, total_steps: int, steps_per_epoch: int) -> Schedule:
        """The learning rate of each step.

        Args:
            base_lr: Highest rate.
            total_steps: Steps of the whole run.
            steps_per_epoch: Steps of an epoch.
        """
        if self.unit == "step":
            return self.schedule(base_lr, total_steps)
        by_epoch = self.schedule(base_lr, -(-total_steps // steps_per_epoch))
        return lambda step: by_epoch(step // steps_per_epoch)


@dataclass
class TrainConfig:
    """Everything that decides a pre-training run.

    Args:
        model: Fields of :class:`myna_rpe.config.EncoderConfig`.
        data: Spectrograms.
        objective: The task.
        optim: The optimizer.
        schedule: Learning rate.
        trainer: The loop.
        init_from: Model whose weights the run begins with: whatever :func:`myna_rpe.from_pretrained` loads, of the
            architecture in ``model``. A run that goes on has weights of its own.
        run_dir: Folder of the run.
    """

    model: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: MynaScheduleConfig = field(default_factory=MynaScheduleConfig)
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(max_steps=16_000))
    init_from: str | None = None
    run_dir: str = MISSING


def train(config: TrainConfig) -> TrainResult:
    """Train, or go on training, in ``config.run_dir``.

    Raises:
        ConfigError: The model, the data and the options contradict each other.
        InputError: The data folder cannot be used.
        HubError, CheckpointError, WeightsError: The model to begin with cannot be loaded.
    """
    model_config = EncoderConfig.from_dict(config.model)
    check_crops(model_config, config.data.crops)
    folder = SpectrogramFolder(config.data.root)
    if folder.frontend != model_config.frontend:
        raise ConfigError(
            f"{folder.root} was prepared with the front end {folder.frontend}, and model.frontend is "
            f"{model_config.frontend}"
        )
    config.data.augment.check(model_config.frontend)
    distillation = config.objective.distillation
    teacher = TeacherTargets(folder.root, distillation.teacher, index=INDEX) if distillation.weight else None
    views = partial(
        Views,
        folder,
        config=config.data.crops,
        step=max(patch.frames for patch in model_config.patches.values()),
        seed=config.trainer.seed,
        teacher=teacher,
    )
    train_data, val_data = views("train", augmentation=config.data.augment), views("val")
    batch = config.data.batch_size * int(os.environ.get("WORLD_SIZE", "1"))
    if batch > len(train_data):
        raise ConfigError(
            f"a batch of {batch} tracks needs as many for training, and {folder.root} has {len(train_data)}: a track "
            "twice in a batch would be its own negative"
        )
    if config.trainer.val_every and len(val_data) < batch:
        logger.warning("%d tracks for validation are less than a batch: there is none", len(val_data))
        config.trainer.val_every = 0
    torch.manual_seed(config.trainer.seed)  # the fresh weights
    module = ContrastiveTraining(
        model_config,
        config.objective,
        n_tracks=len(train_data),
        views=config.data.crops.views,
        teacher=teacher,
    )
    begun = any((Path(config.run_dir) / "checkpoints").glob("step-*"))
    if config.init_from is not None and not begun:
        start_from(config.init_from, module.encoder)
    steps_per_epoch = max(1, len(train_data) // batch // config.trainer.grad_accumulation)
    trainer = Trainer(
        module,
        optimizer=optimizer(module, config.optim),
        schedule=config.schedule.by_step(config.optim.lr, config.trainer.max_steps, steps_per_epoch),
        train_dataset=train_data,
        val_dataset=val_data if config.trainer.val_every else None,
        batch_size=config.data.batch_size,
        collate=train_data.collate,
        num_workers=config.data.num_workers,
        config=config.trainer,
        run_dir=Path(config.run_dir),
        resolved_config=config_yaml(config),
        on_save=partial(write_model_config, model_config),
    )
    return trainer.fit()


def check_crops(model: EncoderConfig, crops: CropConfig) -> None:
    """Refuse crops that the model's positions or patches cannot take.

    Raises:
        ConfigError: They do not fit.
    """
    widest = max(patch.frames for patch in model.patches.values())
    if crops.frames < widest:
        raise ConfigError(
            f"data.crops.frames is {crops.frames}, and a patch has {widest}; allowed: as many or more"
        )
    lengths = {crops.frames, crops.max_frames or crops.frames}
    if (part := absolute_time(model)) and lengths != {model.train_frames}:
        raise ConfigError(
            f"data.crops gives crops of {' to '.join(map(str, sorted(lengths)))} frames, and the positions {part!r} of "
            f"the model hold for {model.train_frames} alone"
        )


def start_from(name_or_path: str, encoder: MynaEncoder) -> None:
    """Give an encoder the weights of a model of the same architecture.

    Frames of crops and chunks may differ, where no part of the positions is absolute in time.

    Raises:
        ConfigError: The architectures differ; the message says in what.
        HubError, CheckpointError, WeightsError: The model cannot be loaded.
    """
    model = from_pretrained(name_or_path)
    theirs, ours = _flat(model.config.to_dict()), _flat(encoder.config.to_dict())
    free = () if absolute_time(encoder.config) else ("train_frames", "chunk_frames")
    differing = [
        f"{name} is {theirs.get(name)} there and {ours.get(name)} here"
        for name in sorted(theirs.keys() | ours.keys())
        if name not in free and theirs.get(name) != ours.get(name)
    ]
    if differing:
        raise ConfigError(
            f"init_from={name_or_path} is not the architecture of model: {'; '.join(differing)}"
        )
    encoder.load_state_dict(model.state_dict())


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def optimizer(module: nn.Module, config: OptimizerConfig) -> Optimizer:
    """Return the optimizer over a module's parameters; a learned temperature has no weight decay."""
    temperatures = {id(each.logarithm) for each in module.modules() if isinstance(each, LearnedTemperature)}
    groups: list[dict[str, Any]] = [{"params": [p for p in module.parameters() if id(p) not in temperatures]}]
    if temperatures:
        free = [p for p in module.parameters() if id(p) in temperatures]
        groups.append({"params": free, "weight_decay": 0.0})
    if config.name == "adam":
        return Adam(groups, lr=config.lr, weight_decay=config.weight_decay)
    return adamw(module, lr=config.lr, weight_decay=config.weight_decay, groups=groups)


def write_model_config(config: EncoderConfig, folder: Path, _module: nn.Module) -> None:
    """Put ``config.json`` into a checkpoint, so that it loads as a model."""
    (folder / "config.json").write_text(f"{json.dumps(config.to_dict(), indent=1)}\n", encoding="utf-8")


def main(overrides: Sequence[str]) -> TrainResult:
    """Run with Hydra overrides, such as ``experiment=tiny data.root=data/music``."""
    config = compose_config("myna_rpe.conf", overrides, TrainConfig, config_name="train")
    make_output_folder(Path(config.run_dir), "run_dir=")
    return report_run(train(config), config.run_dir)
