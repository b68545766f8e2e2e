"""``omar-rq train``: pre-training by masked token prediction, or one of the contrastive objectives.

    omar-rq train experiment=debug
    omar-rq train experiment=simclr data.root=data/music
    omar-rq train experiment=text-audio objective.encoder=runs/omar-rq/base data.root=…
    omar-rq train experiment=base data.root=data/music trainer.max_steps=400000
    accelerate launch --config_file configs/accelerate/ddp.yaml -m omar_rq train experiment=base data.root=…

A run that was stopped, at any moment, goes on from its newest complete checkpoint when the same command is given. How
a run ends on a signal, and how launchers learn of it, is in :mod:`pentatonic.training.interruption`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING
from torch import nn

from omar_rq.config import ModelConfig
from omar_rq.training.augment import AugmentConfig
from omar_rq.training.contrastive.build import build_contrastive
from omar_rq.training.contrastive.options import ObjectiveConfig
from omar_rq.training.data import CropDataset, collate_taught, default_filelist, open_tracks
from omar_rq.training.distillation import DistillationConfig, DistilledPrediction
from omar_rq.training.objective import MaskedPrediction
from omar_rq.training.teacher import Teacher
from pentatonic.cli import make_output_folder
from pentatonic.errors import ConfigError
from pentatonic.optim import adamw
from pentatonic.training import (
    OptimConfig,
    ScheduleConfig,
    Trainer,
    TrainerConfig,
    TrainResult,
    compose_config,
    config_yaml,
    report_run,
)


@dataclass
class DataConfig:
    """Where the audio is, and how it is cut.

    Args:
        root: Data folder; see :mod:`omar_rq.training.data` for what it may hold.
        filelist_train: List of the tracks; by default ``train.jsonl`` or ``train.txt`` in ``root``, else all tracks.
        filelist_val: The same for validation; by default ``val.jsonl`` or ``val.txt``, else no validation.
        raw_sample_rate: Samples per second of headerless files without a manifest.
        crop_s: Seconds of one training item.
        augment: How crops are changed for training.
        batch_size: Items per process and forward pass.
        num_workers: Loader processes.
    """

    root: str = MISSING
    filelist_train: str | None = None
    filelist_val: str | None = None
    raw_sample_rate: int = 16000
    crop_s: float = 30.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    batch_size: int = 32
    num_workers: int = 4


@dataclass
class TrainConfig:
    """Everything that decides a pre-training run; ``model`` is a :class:`omar_rq.config.ModelConfig`."""

    model: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(
        default_factory=lambda: ScheduleConfig(warmup_steps=30_000, decay="cosine", min_lr=1e-7)
    )
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(max_steps=400_000))
    run_dir: str = MISSING


def train(config: TrainConfig) -> TrainResult:
    """Train, or go on training, in ``config.run_dir``.

    Raises:
        ConfigError: The model or the options contradict each other.
        InputError: The data folder cannot be used.
    """
    config.objective.check()
    if config.objective.name != "masked":
        return train_contrastive(config)
    model_config = ModelConfig.from_dict(config.model)
    teacher = Teacher(config.data.root, config.distillation.teacher) if config.distillation.weight else None
    train_data = crops(config, "train", random=True, teacher=teacher)
    val_data = crops(config, "val", random=False, teacher=teacher)
    if train_data is None:
        raise ConfigError("data.filelist_train names no tracks")
    if val_data is None:
        config.trainer.val_every = 0
    torch.manual_seed(config.trainer.seed)  # the fresh weights
    module = (
        MaskedPrediction(model_config)
        if teacher is None
        else DistilledPrediction(model_config, config.distillation, teacher.targets)
    )
    trainer = Trainer(
        module,
        optimizer=adamw(module, lr=config.optim.lr, weight_decay=config.optim.weight_decay),
        schedule=config.schedule.schedule(config.optim.lr, config.trainer.max_steps),
        train_dataset=train_data,
        val_dataset=val_data,
        batch_size=config.data.batch_size,
        collate=None if teacher is None else collate_taught,
        num_workers=config.data.num_workers,
        config=config.trainer,
        run_dir=Path(config.run_dir),
        resolved_config=config_yaml(config),
        on_save=partial(write_model_config, model_config),
    )
    return trainer.fit()


def train_contrastive(config: TrainConfig) -> TrainResult:
    """Train, or go on training, by SimCLR or with texts.

    Raises:
        ConfigError: The model or the options contradict each other.
        InputError: The data folder or the metadata cannot be used.
        HubError, CheckpointError, WeightsError: A model that the options name cannot be loaded.
    """
    for name, asked in (
        ("distillation", config.distillation.weight > 0),
        ("data.augment", config.data.augment.active),
    ):
        if asked:
            raise ConfigError(f"{name} is for objective.name=masked, and it is {config.objective.name}")
    train_data, val_data = crops(config, "train", random=True), crops(config, "val", random=False)
    if train_data is None:
        raise ConfigError("data.filelist_train names no tracks")
    if val_data is None:
        config.trainer.val_every = 0
    torch.manual_seed(config.trainer.seed)  # the fresh weights
    parts = build_contrastive(
        config.objective,
        ModelConfig.from_dict(config.model),
        root=Path(config.data.root),
        train_tracks=train_data.tracks,
        val_tracks=None if val_data is None else val_data.tracks,
        crop_s=config.data.crop_s,
        seed=config.trainer.seed,
    )
    trainer = Trainer(
        parts.module,
        optimizer=adamw(parts.module, lr=config.optim.lr, weight_decay=config.optim.weight_decay),
        schedule=config.schedule.schedule(config.optim.lr, config.trainer.max_steps),
        train_dataset=parts.train_data,
        val_dataset=parts.val_data,
        batch_size=config.data.batch_size,
        collate=parts.collate,
        num_workers=config.data.num_workers,
        config=config.trainer,
        run_dir=Path(config.run_dir),
        resolved_config=config_yaml(config),
        on_save=partial(write_model_config, parts.config),
    )
    return trainer.fit()


def crops(
    config: TrainConfig, split: str, *, random: bool, teacher: Teacher | None = None
) -> CropDataset | None:
    """Return the crops of one split, or None when validation has no list; those of validation are not changed."""
    data, root = config.data, Path(config.data.root)
    listed = data.filelist_train if split == "train" else data.filelist_val
    filelist = Path(listed) if listed else default_filelist(root, split)
    if filelist is None and split != "train":
        return None
    if filelist is not None and not filelist.read_text().strip():
        return None
    return CropDataset(
        open_tracks(root, filelist, raw_sample_rate=data.raw_sample_rate),
        crop_s=data.crop_s,
        sample_rate=ModelConfig.from_dict(config.model).sample_rate,
        seed=config.trainer.seed,
        random=random,
        teacher=teacher,
        augmentation=data.augment if random else None,
    )


def write_model_config(config: ModelConfig, folder: Path, _module: nn.Module) -> None:
    """Put ``config.json`` into a checkpoint, so that ``omar-rq export`` needs nothing else."""
    (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=1))


def main(overrides: Sequence[str]) -> TrainResult:
    """Run with Hydra overrides, such as ``experiment=tiny data.root=data/music``."""
    config = compose_config("omar_rq.conf", overrides, TrainConfig, config_name="train")
    make_output_folder(Path(config.run_dir), "run_dir=")
    return report_run(train(config), config.run_dir)
