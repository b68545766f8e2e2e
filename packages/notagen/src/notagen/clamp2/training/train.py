"""``notagen train-encoder``: train M3, CLaMP 2, or a small scorer of music.

    notagen train-encoder experiment=scorer data.train=data/notagen/augmented_train.jsonl
    notagen train-encoder experiment=m3 data.train=scores/
    notagen train-encoder experiment=clamp2 data.train=pieces.jsonl init_music_from=m3

A run that was stopped, at any moment, goes on from its newest complete checkpoint when the same command is given. Every
checkpoint, and ``best`` (the one with the lowest validation loss), is a directory that
:func:`notagen.clamp2.weights.from_pretrained` loads (M3: :func:`notagen.clamp2.weights.m3_from_pretrained`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from notagen.clamp2.config import ClampConfig, M3Config
from notagen.clamp2.model import M3, Clamp
from notagen.clamp2.tokens import DEFAULT_TOKENIZER, TextTokenizer
from notagen.clamp2.training.data import (
    MaskedDataset,
    PairDataset,
    ScoreTexts,
    collate_masked,
    collate_pairs,
    read_descriptions,
)
from notagen.clamp2.training.objective import ClampTraining, M3Training, ScorerTraining
from notagen.clamp2.training.views import ViewDataset, collate_views
from notagen.clamp2.weights import from_pretrained, m3_from_pretrained, save_pretrained, write_config
from notagen.training.best import BEST_FILE, best_so_far
from notagen.training.index import Index
from notagen.training.train import optimizer
from pentatonic.cli import make_output_folder
from pentatonic.errors import ConfigError
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

_TASKS = ("masked", "pairs", "parts")


@dataclass
class EncoderDataConfig:
    """The training data.

    Args:
        train: ``masked``: a folder of ``.abc`` and ``.mtf``, or an index of ``notagen preprocess``; ``pairs``: JSON
            lines as CLaMP 2 documents them; ``parts``: an index.
        val: Likewise for validation; None: no validation.
        batch_size: Pieces per process and forward pass.
        num_workers: Loader processes.
        tokenizer: ``pairs``: tokenizer of the text encoder; ``tokenizer.json``, its folder, or a hub id.
    """

    train: str = "???"
    val: str | None = None
    batch_size: int = 16
    num_workers: int = 2
    tokenizer: str = DEFAULT_TOKENIZER


@dataclass
class TrainEncoderConfig:
    """Everything that decides a run.

    Args:
        task: ``masked``: M3 guesses hidden patches; ``pairs``: CLaMP 2 matches texts and music; ``parts``: a scorer
            matches the halves of pieces.
        model: Values of a :class:`notagen.clamp2.config.M3Config` (``masked``) or a
            :class:`notagen.clamp2.config.ClampConfig`.
        init_from: Model to start from, of the sizes in ``model``.
        init_music_from: ``pairs`` and ``parts``: an M3 whose encoder to start from.
        temperature: ``parts``: what cosines are divided by.
        data: Pieces.
        optim: Optimizer; biases, norms and embeddings do not decay.
        schedule: Learning rate.
        trainer: The loop.
        run_dir: Where the run is written.
    """

    task: str = "parts"
    model: dict[str, Any] = field(default_factory=dict)
    init_from: str | None = None
    init_music_from: str | None = None
    temperature: float = 0.07
    data: EncoderDataConfig = field(default_factory=EncoderDataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(max_steps=100_000))
    run_dir: str = "???"


def train(config: TrainEncoderConfig) -> TrainResult:
    """Train, or go on training, in ``config.run_dir``.

    Raises:
        ConfigError: The model or the options contradict each other.
        InputError: Data cannot be read.
    """
    if config.task not in _TASKS:
        raise ConfigError(f"task is {config.task!r}; allowed: {', '.join(_TASKS)}")
    if not config.temperature > 0:
        raise ConfigError(f"temperature is {config.temperature}, but must be above 0")
    data = config.data
    torch.manual_seed(config.trainer.seed)  # the fresh weights
    module, read, collate = _TASK_PARTS[config.task](config)
    _start_from(config, module)
    val_data = None if data.val is None else read(data.val, random=False)
    if val_data is None:
        config.trainer.val_every = 0
    run_dir = Path(config.run_dir)
    trainer = Trainer(
        module,
        optimizer=optimizer(module, config.optim),
        schedule=config.schedule.schedule(config.optim.lr, config.trainer.max_steps),
        train_dataset=read(data.train, random=True),
        val_dataset=val_data,
        batch_size=data.batch_size,
        collate=collate,
        num_workers=data.num_workers,
        config=config.trainer,
        run_dir=run_dir,
        resolved_config=config_yaml(config),
        on_save=partial(_complete_checkpoint, run_dir, config.trainer),
    )
    return trainer.fit()


_Parts = tuple[nn.Module, Callable[..., Any], Callable[..., Any]]


def _masked(config: TrainEncoderConfig) -> _Parts:
    sizes = M3Config.from_dict(config.model)

    def read(source: str, *, random: bool) -> MaskedDataset:
        return MaskedDataset(
            ScoreTexts(source), patch_length=sizes.encoder.length, seed=config.trainer.seed, random=random
        )

    return M3Training(sizes), read, collate_masked


def _pairs(config: TrainEncoderConfig) -> _Parts:
    sizes = ClampConfig.from_dict(config.model)
    if sizes.text is None:
        raise ConfigError("task=pairs needs a text encoder: the section model.text is missing")
    tokenizer, text = TextTokenizer(config.data.tokenizer), sizes.text
    if len(tokenizer) > text.vocabulary:
        raise ConfigError(
            f"the tokenizer has {len(tokenizer)} tokens, and model.text.vocabulary is {text.vocabulary}"
        )

    def read(source: str, *, random: bool) -> PairDataset:
        return PairDataset(
            read_descriptions(source),
            tokenizer,
            patch_length=sizes.music.length,
            text_length=text.length,
            seed=config.trainer.seed,
            random=random,
        )

    return ClampTraining(sizes), read, collate_pairs


def _parts(config: TrainEncoderConfig) -> _Parts:
    sizes = ClampConfig.from_dict(config.model)
    if sizes.text is not None or sizes.audio is not None:
        raise ConfigError("task=parts trains on music alone: leave model.text and model.audio out")

    def read(source: str, *, random: bool) -> ViewDataset:
        return ViewDataset(
            Index(source), patch_length=sizes.music.length, seed=config.trainer.seed, random=random
        )

    return ScorerTraining(sizes, config.temperature), read, collate_views


_TASK_PARTS: dict[str, Callable[[TrainEncoderConfig], _Parts]] = {
    "masked": _masked,
    "pairs": _pairs,
    "parts": _parts,
}


def _start_from(config: TrainEncoderConfig, module: nn.Module) -> None:
    if config.init_from is not None:
        model: Clamp | M3 = (
            m3_from_pretrained(config.init_from)
            if isinstance(module, M3)
            else from_pretrained(config.init_from)
        )
        _load(module, model, config.init_from)
    if config.init_music_from is not None:
        if not isinstance(module, Clamp):
            raise ConfigError("init_music_from is for task=pairs and task=parts; task=masked has init_from")
        _load(module.music, m3_from_pretrained(config.init_music_from).encoder, config.init_music_from)


def _load(part: nn.Module, other: nn.Module, name: str) -> None:
    mine, theirs = part.state_dict(), other.state_dict()
    shapes = {key: (tuple(mine[key].shape), tuple(theirs[key].shape)) for key in mine.keys() & theirs.keys()}
    unequal = [f"{key}: {own} and {given}" for key, (own, given) in sorted(shapes.items()) if own != given]
    if unequal or mine.keys() != theirs.keys():
        what = unequal[0] if unequal else "other layers"
        raise ConfigError(f"{name} has other sizes than model says ({what})")
    part.load_state_dict(theirs)


def _complete_checkpoint(run_dir: Path, trainer: TrainerConfig, folder: Path, module: nn.Module) -> None:
    """Make a checkpoint loadable as a model, and keep a copy when its validation loss is the lowest so far."""
    assert isinstance(module, Clamp | M3)
    write_config(module.config, folder)
    best = run_dir / "best"
    if (record := best_so_far(folder, best, trainer)) is not None:
        save_pretrained(module, best, notes={BEST_FILE: record})


def main(overrides: Sequence[str]) -> TrainResult:
    """Run with Hydra overrides, such as ``experiment=scorer data.train=data/notagen/augmented_train.jsonl``."""
    config = compose_config(
        "notagen.conf.encoder", overrides, TrainEncoderConfig, config_name="train_encoder"
    )
    make_output_folder(Path(config.run_dir), "run_dir=")
    return report_run(train(config), config.run_dir)
