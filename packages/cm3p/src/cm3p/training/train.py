"""``cm3p train``: contrastive, masked-token and classification training on beatmaps.

    cm3p train experiment=debug dataset.train_dataset_paths=[maps]
    cm3p train experiment=v7 dataset.train_dataset_paths=[data/ranked,data/unranked]
    accelerate launch --config_file configs/accelerate/ddp.yaml -m cm3p train experiment=v7 …

A run that was stopped, at any moment, goes on from its newest complete checkpoint when the same command is given. A run
folder, and each of its checkpoints, loads as a model.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from huggingface_hub import HfApi
from transformers import TrainerState, TrainingArguments, set_seed
from transformers.utils.logging import disable_progress_bar

from cm3p.processor import CM3PProcessor
from cm3p.publishing.upload import PushOptions, create_repository, push
from cm3p.training import run_folder
from cm3p.training.batches import collate
from cm3p.training.building import build_model, build_optimizer, loss_options, training_arguments
from cm3p.training.data import LoaderState, Sharing, WindowLoader
from cm3p.training.example_data import write_example_data_set
from cm3p.training.masking import Masking
from cm3p.training.options import DatasetConfig, TrainConfig
from cm3p.training.processor_options import build_processor
from cm3p.training.tables import filtered, read_tables, sets_between
from cm3p.training.trainer import (
    BeatmapTrainer,
    DueEvaluation,
    EvaluationStopped,
    Freezing,
    Log,
    Stopping,
)
from cm3p.training.vocabulary import read_tags, vocabulary_tables
from cm3p.training.windows import SetReader
from pentatonic.cli import make_output_folder
from pentatonic.errors import InputError, MissingExtra, RunFolderInUse
from pentatonic.processes.run_lock import locked_run_folder
from pentatonic.training import compose_config, config_yaml
from pentatonic.training.interruption import StopRequest, clear_interruption, record_interruption
from pentatonic.training.metrics import MetricsLog

logger = logging.getLogger(__name__)

_TASK = "contrastive-beatmap-metadata-modeling"


@dataclass(frozen=True)
class TrainResult:
    """Where a run ended.

    Attributes:
        step: Optimiser steps done.
        metrics: Metrics of the last evaluation, and of training.
        left_out: Map to the reason why it could not be read.
        interrupted: Whether a signal stopped the run; the same command continues it.
    """

    step: int
    metrics: dict[str, float]
    left_out: dict[str, str]
    interrupted: bool = False


def train(config: TrainConfig) -> TrainResult:
    """Train, or go on training, in ``config.run_dir``.

    Raises:
        ConfigError: The options contradict each other or the data.
        InputError: There are no maps, or none that fill a batch.
        RunFolderInUse: Another process trains in the run folder.
    """
    run_dir = Path(config.run_dir)
    with ExitStack() as held:
        _weights_and_biases(config)
        if not (interactive := sys.stderr.isatty()):
            disable_progress_bar()
        arguments = training_arguments(config, interactive=interactive)
        main = arguments.process_index == 0
        processes = PartialState()
        _lock(run_dir, held, main)
        # Before the work, so that what the hub refuses is known at once.
        hub = _Hub(config, arguments) if config.training.push_to_hub and main else None
        if config.training.overwrite_output_dir and main:
            run_folder.remove_checkpoints(run_dir)
        processes.wait_for_everyone()
        # The first process chooses for all of them.
        newest = (
            run_folder.newest_checkpoint(run_dir, config.training.resume_from_checkpoint) if main else None
        )
        resume: Path | None = broadcast_object_list([newest])[0]

        paths = config.dataset.train_dataset_paths
        if not paths:
            paths = [str(run_dir / run_folder.EXAMPLE_DATA)]
            if main:
                write_example_data_set(Path(paths[0]), config.dataset.example_sets)
            processes.wait_for_everyone()
        set_seed(config.training.seed)
        processor, readers, failures = _data(config, paths)
        train_loader, eval_loader = _loaders(config, processor, readers, arguments)
        model = build_model(config, processor)
        position = 0
        evaluation_due = False
        if resume is not None and (state := run_folder.read_loader_state(resume, arguments.process_index)):
            train_loader.load_state(LoaderState.from_dict(state))
            position = state.get("metrics_bytes", 0)
            evaluation_due = bool(state.get("evaluation_due"))
        if main:
            clear_interruption(run_dir)
            run_folder.describe_run(
                run_dir,
                config_yaml(config),
                {
                    "world_size": arguments.world_size,
                    "device": str(arguments.device),
                    "parameters": sum(each.numel() for each in model.parameters()),
                    "sets": {name: len(reader) for name, reader in readers.items()},
                    "resumed_from": None if resume is None else resume.name,
                },
            )
            processor.save_pretrained(run_dir)
        log = MetricsLog(run_dir / run_folder.METRICS_FILE, position) if main else None
        # Before this there is nothing to save, so that a signal ends the program at once.
        stop = held.enter_context(StopRequest())
        stopping = Stopping(stop, arguments.world_size)
        callbacks: list[Any] = [Log(log), stopping]
        if config.freeze_beatmap_model and config.unfreeze_beatmap_model_at_step is not None:
            callbacks.append(Freezing(model.beatmap_model, config.unfreeze_beatmap_model_at_step))  # type: ignore[arg-type]
        trainer = BeatmapTrainer(
            model,
            arguments,
            train_loader=train_loader,
            eval_loader=eval_loader,
            losses=loss_options(config),
            save_total_limit=config.training.save_total_limit,
            stopping=stopping,
            build_optimizer=partial(build_optimizer, config),
            processing_class=processor,
            callbacks=callbacks,
        )
        trainer.metrics_log, trainer.evaluation_due = log, evaluation_due
        trainer.add_callback(DueEvaluation(trainer))
        try:
            result = _run(config, trainer, resume, stopping)
            if hub is not None and not stopping.stopped:
                trainer.create_model_card(tasks=_TASK)
                hub.push()
        finally:
            left_out = dict(failures) | train_loader.failures | (eval_loader.failures if eval_loader else {})
            if main:
                run_folder.write_left_out(run_dir, left_out)
            if log is not None:
                log.close()
        if stopping.stopped and main:
            record_interruption(
                run_dir, step=trainer.state.global_step, signal_name=stop.signal_name or "SIGTERM"
            )
    return TrainResult(trainer.state.global_step, result, left_out, stopping.stopped)


def _run(
    config: TrainConfig, trainer: BeatmapTrainer, resume: Path | None, stopping: Stopping
) -> dict[str, float]:
    """Train, save and evaluate; nothing but a checkpoint after a signal."""
    try:
        return _run_to_the_end(config, trainer, resume, stopping)
    except EvaluationStopped:
        stopping.stopped = True
        return {}


def _run_to_the_end(
    config: TrainConfig, trainer: BeatmapTrainer, resume: Path | None, stopping: Stopping
) -> dict[str, float]:
    metrics: dict[str, float] = {}
    run_dir = Path(config.run_dir)
    done = (
        0 if resume is None else TrainerState.load_from_json(str(resume / "trainer_state.json")).global_step
    )
    if config.training.do_train and done < config.training.max_steps:
        metrics |= trainer.train(resume_from_checkpoint=None if resume is None else str(resume)).metrics
    elif resume is not None:  # nothing is left to train
        _restore(trainer, resume)
    if stopping.stopped:
        return metrics
    if config.training.do_train:
        trainer.save_model()
        trainer.save_state()
    if config.training.do_eval:
        metrics |= trainer.evaluate()
    if trainer.is_world_process_zero():
        text = json.dumps(metrics, indent=2) + "\n"
        (run_dir / "all_results.json").write_text(text, encoding="utf-8")
    return metrics


def _restore(trainer: BeatmapTrainer, checkpoint: Path) -> None:
    """Load the best model of a run whose last step is done."""
    trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    trainer._load_from_checkpoint(str(checkpoint))
    trainer.evaluate_if_due()
    best = trainer.state.best_model_checkpoint
    if trainer.state.best_global_step == trainer.state.global_step:
        best = str(checkpoint)
    if trainer.args.load_best_model_at_end and best and Path(best).is_dir():
        trainer._load_from_checkpoint(best)


class _Hub:
    """The repository of a run, which gets the files of its model when training is finished.

    Raises:
        HubError: The hub refuses or cannot be reached.
    """

    def __init__(self, config: TrainConfig, arguments: TrainingArguments) -> None:
        self.run_dir, self.revision = config.run_dir, arguments.hub_revision or "main"
        self.client: Any = HfApi(token=arguments.hub_token)  # whose protocol is a part of its own signatures
        self.private = config.training.hub_private_repo
        name = config.training.hub_model_id or Path(config.run_dir).absolute().name
        self.repo_id = create_repository(self.client, name, self.private)

    def push(self) -> None:
        """Upload model, processor and card; nothing else of the run folder."""
        options = PushOptions(self.repo_id, private=self.private, revision=self.revision, as_is=True)
        push(self.run_dir, options, self.client)


def _weights_and_biases(config: TrainConfig) -> None:
    """Pass the options on, by the variables that its integration reads.

    Raises:
        MissingExtra: It is not installed.
    """
    if config.wandb_mode == "disabled":
        return
    try:
        import_module("wandb")
    except ImportError as error:
        raise MissingExtra(f"wandb_mode={config.wandb_mode}", "cm3p[wandb]") from error
    os.environ["WANDB_MODE"] = config.wandb_mode
    os.environ["WANDB_PROJECT"] = config.wandb_project
    os.environ["WANDB_DIR"] = config.run_dir
    if config.wandb_entity is not None:
        os.environ["WANDB_ENTITY"] = config.wandb_entity


def _lock(run_dir: Path, held: ExitStack, main: bool) -> None:
    """Lock the run folder in the first process, for all of them."""
    problem = None
    if main:
        try:
            held.enter_context(locked_run_folder(run_dir))
        except RunFolderInUse as error:
            problem = str(error)
    if (problem := broadcast_object_list([problem])[0]) is not None:
        raise RunFolderInUse(problem)


def _data(
    config: TrainConfig, train_paths: Sequence[str]
) -> tuple[CM3PProcessor, dict[str, SetReader], dict[str, str]]:
    """The processor, readers of ``train`` and ``test``, and what could not be read."""
    data = config.dataset
    test_paths = data.test_dataset_paths or train_paths
    table, failed = read_tables(train_paths, data.format)
    test_table, test_failed = (
        (table, []) if test_paths == train_paths else read_tables(test_paths, data.format)
    )
    maps = {"train": _counted(table, data, "train")}
    if config.training.do_eval:
        maps["test"] = _counted(test_table, data, "test")
    if config.processor_from_pretrained is not None:
        processor = CM3PProcessor.from_pretrained(config.processor_from_pretrained)
        processor.apply_speed_to_audio = not data.reproduce_original
    else:
        tags = read_tags(data.tags_file, train_paths)
        tables = vocabulary_tables(maps["train"], tags)
        processor = build_processor(
            config.processor, tables, apply_speed_to_audio=not data.reproduce_original
        )
    masking = Masking.of(
        processor.beatmap_tokenizer,
        data.masked_lm_prob,
        data.masked_lm_split,
        random_special_tokens=data.masked_lm_random_special_tokens,
    )
    readers = {
        name: SetReader(
            rows,
            processor,
            data,
            seed=config.training.seed,
            training=name == "train",
            masking=masking,
        )
        for name, rows in maps.items()
    }
    return processor, readers, dict([*failed, *test_failed])


def _counted(table: Any, data: DatasetConfig, what: str) -> Any:
    """The maps of a part that count."""
    start, end = getattr(data, f"{what}_dataset_start"), getattr(data, f"{what}_dataset_end")
    rows = filtered(
        sets_between(table, start, end, what=what),
        subset_ids=data.subset_ids,
        gamemodes=data.gamemodes,
        years=(data.min_year, data.max_year),
        difficulty=(data.min_difficulty, data.max_difficulty),
    )
    if not len(rows):
        raise InputError(
            f"no map of the sets {start} to {end} ({what}) passes the filters: modes {data.gamemodes}, years "
            f"{data.min_year} to {data.max_year}, {data.min_difficulty} to {data.max_difficulty} stars"
        )
    return rows


def _loaders(
    config: TrainConfig, processor: CM3PProcessor, readers: dict[str, SetReader], arguments: Any
) -> tuple[WindowLoader, WindowLoader | None]:
    data = config.dataset
    length = (
        processor.default_kwargs["beatmap_kwargs"]["max_length"] if data.padding == "max_length" else None
    )
    stack = partial(
        collate,
        pad_token_id=processor.beatmap_tokenizer.pad_token_id,
        metadata_pad_token_id=processor.metadata_tokenizer.pad_token_id,
        length=length,
        with_source=data.include_source_metadata,
    )

    def loader(name: str, batch_size: int, drop_last: bool) -> WindowLoader:
        sharing = Sharing(
            batch_size,
            data.cycle_length * data.buffer_cycles,
            by_length=data.bucket_by_length,
            drop_last=drop_last,
            seed=config.training.seed,
            endless=name == "train",
            rank=arguments.process_index,
            world_size=arguments.world_size,
        )
        return WindowLoader(
            readers[name],
            sharing,
            stack,
            workers=config.training.dataloader_num_workers,
            pin_memory=arguments.device.type == "cuda",
        )

    drop_last = config.training.dataloader_drop_last
    training = loader("train", config.training.per_device_train_batch_size, drop_last and data.drop_last)
    if "test" not in readers:
        return training, None
    return training, loader("test", config.training.per_device_eval_batch_size, drop_last)


def main(overrides: Sequence[str]) -> TrainResult:
    """Run with Hydra overrides, such as ``experiment=v7 dataset.train_dataset_paths=[data]``."""
    config = compose_config("cm3p.conf", overrides, TrainConfig, config_name="train")
    make_output_folder(Path(config.run_dir), "run_dir=")
    try:
        result = train(config)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if os.environ.get("RANK", "0") == "0":
        _report(result, config.run_dir)
    return result


def _report(result: TrainResult, run_dir: str) -> None:
    """Say where the run ended and what was left out."""
    if result.left_out:
        print(
            f"{len(result.left_out)} maps were left out; see {run_dir}/{run_folder.LEFT_OUT_FILE}:",
            file=sys.stderr,
        )
        for where, reason in list(result.left_out.items())[:20]:
            print(f"  {where}: {reason}", file=sys.stderr)
    if result.interrupted:
        stopped = f"{run_dir} was stopped at step {result.step}, which is saved; the same command continues"
        print(stopped, file=sys.stderr)
        return
    loss = result.metrics.get("eval_loss")
    note = "" if loss is None else f", evaluation loss {loss:.4g}"
    print(f"{run_dir} is finished, at step {result.step}{note}; it loads as a model")
