"""Training: configurations, schedules, an exactly resumable loader, and the loop that every trainer here uses."""

from __future__ import annotations

from pentatonic.training.config import (
    OptimConfig,
    ScheduleConfig,
    TrainerConfig,
    compose_config,
    config_yaml,
)
from pentatonic.training.loader import ItemKey, KeyedDataset, TrainLoader
from pentatonic.training.loop import Trainer, TrainResult, report_run
from pentatonic.training.schedules import Schedule, constant, warmup_cosine, warmup_linear
from pentatonic.training.seeding import StepContext, mix_seed

__all__ = [
    "ItemKey",
    "KeyedDataset",
    "OptimConfig",
    "Schedule",
    "ScheduleConfig",
    "StepContext",
    "TrainLoader",
    "TrainResult",
    "Trainer",
    "TrainerConfig",
    "compose_config",
    "config_yaml",
    "constant",
    "mix_seed",
    "report_run",
    "warmup_cosine",
    "warmup_linear",
]
