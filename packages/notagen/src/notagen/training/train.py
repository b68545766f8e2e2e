"""``notagen train``: pre-training and fine-tuning.

    notagen train experiment=debug data.train=data/notagen/augmented_train.jsonl
    notagen train experiment=pretrain-small data.train=… data.val=…
    notagen train experiment=finetune init_from=notagen-large data.train=… data.val=…
    accelerate launch --config_file configs/accelerate/ddp.yaml -m notagen train experiment=pretrain-large data.train=…

A run that was stopped, at any moment, goes on from its newest complete checkpoint when the same command is given. How
a run ends on a signal, and how launchers learn of it, is in :mod:`pentatonic.training.interruption`.

Every checkpoint, and ``best`` (the one with the lowest validation loss), is a directory that
:func:`notagen.from_pretrained` loads.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim import AdamW

from notagen.model import NotaGen, NotaGenConfig
from notagen.prompts import PROMPTS_FILE, model_prompts, prompt_table
from notagen.training.best import BEST_FILE, best_so_far
from notagen.training.data import Keys, PieceDataset, collate
from notagen.training.index import Index, index_prompts
from notagen.training.objective import NotaGenTraining
from notagen.weights import from_pretrained, save_pretrained, write_config, write_notes
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
class TrainingDataConfig:
    """The training data.

    Args:
        train: Index of the pieces, as ``notagen preprocess`` writes it.
        val: Index for validation, in the original key and from the start of each piece; None: no validation.
        keys: ``uniform``: any of the 15 keys; ``near``: at most three semitones from the piece's own, near ones more
            often; ``original``: the piece's own.
        batch_size: Pieces per process and forward pass.
        num_workers: Loader processes.
    """

    train: str = "???"
    val: str | None = None
    keys: str = "uniform"
    batch_size: int = 4
    num_workers: int = 2


@dataclass
class TrainConfig:
    """Everything that decides a run.

    Args:
        model: Values of a :class:`notagen.model.NotaGenConfig`.
        init_from: Model to start from: whatever :func:`notagen.from_pretrained` loads; of the sizes in ``model``.
        sampled_patches: Target patches of a batch that count for the loss, drawn at random to save memory; 0: all.
        checkpoint_blocks: Compute activations a second time in the backward pass, to save memory.
        epochs: Passes over the data; if given, they decide the number of steps in place of ``trainer.max_steps``.
        data: Pieces.
        optim: Optimizer; biases, norms and embeddings do not decay.
        schedule: Learning rate.
        trainer: The loop.
        run_dir: Where the run is written.
    """

    model: dict[str, Any] = field(default_factory=dict)
    init_from: str | None = None
    sampled_patches: int = 0
    checkpoint_blocks: bool = False
    epochs: float | None = None
    data: TrainingDataConfig = field(default_factory=TrainingDataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(max_steps=100_000))
    run_dir: str = "???"


def train(config: TrainConfig) -> TrainResult:
    """Train, or go on training, in ``config.run_dir``.

    Raises:
        ConfigError: The model or the options contradict each other.
        InputError: An index cannot be read.
    """
    model_config = NotaGenConfig.from_dict(config.model)
    data, run_dir = config.data, Path(config.run_dir)
    pieces = partial(
        PieceDataset,
        patch_length=model_config.patch_length,
        seed=config.trainer.seed,
        keys=cast(Keys, data.keys),
    )
    index = Index(data.train)
    train_data = pieces(index)
    val_data = pieces(Index(data.val), random=False) if data.val else None
    if val_data is None:
        config.trainer.val_every = 0
    if config.epochs is not None:
        config.trainer.max_steps = _steps(config, len(train_data))
    torch.manual_seed(config.trainer.seed)  # the fresh weights
    module = NotaGenTraining(
        model_config, sampled_patches=config.sampled_patches, checkpoint_blocks=config.checkpoint_blocks
    )
    if config.init_from is not None:
        _start_from(config.init_from, module)
    trainer = Trainer(
        module,
        optimizer=optimizer(module, config.optim),
        schedule=config.schedule.schedule(config.optim.lr, config.trainer.max_steps),
        train_dataset=train_data,
        val_dataset=val_data,
        batch_size=data.batch_size,
        collate=collate,
        num_workers=data.num_workers,
        config=config.trainer,
        run_dir=run_dir,
        resolved_config=config_yaml(config),
        on_save=partial(
            _complete_checkpoint, run_dir, config.trainer, _known_prompts(index, config.init_from)
        ),
    )
    return trainer.fit()


def optimizer(module: nn.Module, config: OptimConfig) -> AdamW:
    """Return AdamW with weight decay for matrices only, not for biases, norms and embeddings."""
    matrices = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Linear)}
    parameters = list(module.parameters())
    groups = [
        {"params": [p for p in parameters if id(p) in matrices], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if id(p) not in matrices], "weight_decay": 0.0},
    ]
    return adamw(module, lr=config.lr, weight_decay=config.weight_decay, groups=groups)


def _steps(config: TrainConfig, pieces: int) -> int:
    """Optimizer steps of ``config.epochs``; the launcher says how many processes there are."""
    if config.epochs is None or config.epochs <= 0:
        raise ConfigError(f"epochs is {config.epochs}, but must be above 0")
    batch = config.data.batch_size * int(os.environ.get("WORLD_SIZE", "1"))
    return max(1, math.ceil(config.epochs * max(1, pieces // batch) / config.trainer.grad_accumulation))


def _start_from(name_or_path: str, module: NotaGenTraining) -> None:
    model = from_pretrained(name_or_path)
    if replace(model.config, dropout=module.config.dropout) != module.config:
        raise ConfigError(
            f"init_from={name_or_path} has the sizes {model.config}, and model says {module.config}"
        )
    module.load_state_dict(model.state_dict())


def _known_prompts(index: Index, init_from: str | None) -> dict[str, Any]:
    """Prompts of the training pieces and of the model that the run starts from, as the content of ``prompts.json``."""
    earlier = () if init_from is None else model_prompts(init_from)
    return prompt_table(dict.fromkeys((*earlier, *index_prompts(index))))


def _complete_checkpoint(
    run_dir: Path, trainer: TrainerConfig, known_prompts: dict[str, Any], folder: Path, module: nn.Module
) -> None:
    """Make a checkpoint loadable as a model, and keep a copy when its validation loss is the lowest so far."""
    assert isinstance(module, NotaGen)
    write_config(module.config, folder)
    write_notes({PROMPTS_FILE: known_prompts}, folder)
    best = run_dir / "best"
    if (record := best_so_far(folder, best, trainer)) is not None:
        save_pretrained(module, best, notes={BEST_FILE: record, PROMPTS_FILE: known_prompts})


def main(overrides: Sequence[str]) -> TrainResult:
    """Run with Hydra overrides, such as ``experiment=tiny data.train=data/notagen/augmented_train.jsonl``."""
    config = compose_config("notagen.conf", overrides, TrainConfig, config_name="train")
    make_output_folder(Path(config.run_dir), "run_dir=")
    return report_run(train(config), config.run_dir)
