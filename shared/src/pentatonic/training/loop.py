"""The training loop: accumulation, clipping, schedules, metrics, validation, and exact resume after a kill."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pentatonic.checkpoint import (
    atomic_directory,
    atomic_file,
    model_directory,
    prune,
    rng_state,
    set_rng_state,
)
from pentatonic.cli import ProgressBar, progress, run_manifest
from pentatonic.errors import ConfigError, PentatonicError, RunFolderInUse
from pentatonic.processes.run_lock import locked_run_folder
from pentatonic.provenance import distribution_version
from pentatonic.training import state as checkpoints
from pentatonic.training.acceleration import Processes
from pentatonic.training.averaging import WeightAverage, load_trained
from pentatonic.training.config import TrainerConfig, config_yaml
from pentatonic.training.interruption import StopRequest, clear_interruption, record_interruption
from pentatonic.training.loader import Collate, KeyedDataset, TrainLoader
from pentatonic.training.metrics import MetricsLog
from pentatonic.training.schedules import Schedule
from pentatonic.training.seeding import StepContext, mix_seed, opaque_context, seed_global_generators

logger = logging.getLogger(__name__)

_VALIDATION_STREAM = 0x56414C  # keeps the randomness of validation apart from that of training


@dataclass(frozen=True)
class TrainResult:
    """Where a call of :meth:`Trainer.fit` ended.

    Attributes:
        step: Optimizer steps done in the whole run.
        metrics: The latest value of each metric, as logged; names of validation metrics start with ``val_``.
        interrupted: Whether a signal stopped the run early; a new run goes on from there.
        first_step: Optimizer steps that were done before this call.
    """

    step: int
    metrics: dict[str, float]
    interrupted: bool
    first_step: int = field(default=0, compare=False)  # of the call, not of the run


class _Forward(nn.Module):
    """What Accelerate wraps, so that the user's module itself stays as it is."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: Any, context: StepContext) -> dict[str, Tensor]:
        return self.module(batch, context)


class Trainer:
    """Trains a module that computes its own loss.

    ``module(batch, context)`` returns a dictionary of scalar tensors: ``"loss"``, and any further metrics, with the
    same names at every call. It should draw its random numbers from ``context.generator()``; global generators are
    saved and restored as well.

    The run directory gets ``run.json`` and ``config.yaml`` before the first step, ``metrics.jsonl``,
    ``checkpoints/step-XXXXXXXX`` (see :mod:`pentatonic.training.state`) and at the end ``bad_items.json``; after a
    signal, ``interrupted.json`` until the next start. One launch may train there at a time. Where there are
    checkpoints already, the run goes on from the newest intact one; on the CPU, parameters and metrics are then
    bit-identical to those of a run that was never interrupted. After a change of the number of processes the order
    of the data stays the same as long as the global batch does, and the generators are seeded again.

    Args:
        module: It is moved to the device of this process, and put into training mode except for validation; parts
            that must stay in evaluation mode override ``train``.
        optimizer: Over the module's parameters. A parameter group may carry ``"lr_scale"``, a factor on its rate.
        schedule: Learning rate of the next step, given the number of steps done.
        train_dataset: Items by :class:`~pentatonic.training.loader.ItemKey`.
        val_dataset: Likewise; read in order, with epoch 0. What does not fill a global batch is left out.
        batch_size: Items per process and forward pass.
        collate: Makes a batch of a list of items; by default stacks tensors.
        num_workers: Processes that read ahead.
        config: Settings of the loop.
        run_dir: Directory of the run; created when missing. Processes on several machines must share it.
        resolved_config: Text for ``config.yaml``; by default ``config`` itself.
        on_save: Called on the first process with a checkpoint's unfinished directory and the module, to add files,
            such as an export, that are published together with it. Where weights are averaged, the module then holds
            the average.

    Attributes:
        processes: Device, rank and number of processes.
        step: Optimizer steps done.

    Raises:
        ConfigError: If validation is asked for without a data set, or the launcher asks for a sharded back end.
        MissingExtra: If Accelerate or a tracker is not installed.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        optimizer: Optimizer,
        schedule: Schedule,
        train_dataset: KeyedDataset,
        val_dataset: KeyedDataset | None = None,
        batch_size: int,
        collate: Collate | None = None,
        num_workers: int = 0,
        config: TrainerConfig,
        run_dir: Path,
        resolved_config: str | None = None,
        on_save: Callable[[Path, nn.Module], None] | None = None,
    ) -> None:
        if config.val_every and val_dataset is None:
            raise ConfigError(f"trainer.val_every is {config.val_every}, but there is no validation set")
        self.module, self.optimizer, self.schedule = module, optimizer, schedule
        self.config, self.run_dir, self.on_save = config, Path(run_dir), on_save
        self.config_text = config_yaml(config) if resolved_config is None else resolved_config
        self.processes = Processes(config, self.run_dir)

        def loader(dataset: KeyedDataset, shuffle: bool) -> TrainLoader:
            return TrainLoader(
                dataset,
                batch_size=batch_size,
                seed=config.seed,
                rank=self.processes.rank,
                world_size=self.processes.world_size,
                num_workers=num_workers,
                shuffle=shuffle,
                collate=collate,
                pin_memory=self.processes.device.type == "cuda",
            )

        self.train_loader = loader(train_dataset, shuffle=True)
        self.val_loader = None if val_dataset is None else loader(val_dataset, shuffle=False)
        forward = _Forward(module)
        self._context = StepContext
        if config.compile:
            forward.compile()
            self._context = opaque_context()
        self._forward = self.processes.prepare(forward)
        # The parameters are now on their device, and the same in all processes.
        self._average = None if config.ema_decay is None else WeightAverage(module, config.ema_decay)
        self.step = self._saved_step = 0
        self._items = 0
        self._validation_due = False
        self._latest: dict[str, float] = {}
        self._log: MetricsLog | None = None

    def fit(self) -> TrainResult:
        """Trains until ``max_steps``, or until SIGINT or SIGTERM, which end the run after the current step.

        Returns:
            Where the run ended.

        Raises:
            RunFolderInUse: If another process trains in the run folder; nothing there is touched.
            PentatonicError: If the loss or the gradient is not finite; nothing of that step is written.
            InputError: If the data set has a long stretch without a usable item.
            CheckpointError: If a checkpoint does not fit the module or optimizer, cannot be written, or if there are
                checkpoints but none is intact.
        """
        with StopRequest() as stop, ExitStack() as held:
            self._lock(held)
            try:
                self._start()
                first_step = self.step
                with progress(self.config.max_steps, "training", done=first_step) as bar:
                    interrupted = self._run(stop, bar)
                if interrupted:
                    self._record_interruption(stop)
                self._write_bad_items()
            finally:
                self.train_loader.close()
                if self._log is not None:
                    self._log.close()
                self.processes.stop_trackers()
        return TrainResult(self.step, dict(self._latest), interrupted, first_step)

    # Setting up

    def _lock(self, held: ExitStack) -> None:
        """Locks the run folder in the first process, for all of them."""
        problem = None
        if self.processes.is_main:
            try:
                held.enter_context(locked_run_folder(self.run_dir))
            except RunFolderInUse as error:
                problem = str(error)
        if (problem := self.processes.from_main(problem)) is not None:
            raise RunFolderInUse(problem)

    def _start(self) -> None:
        """Describes the run, and goes to the newest checkpoint, or to the beginning."""
        if self.processes.is_main:
            clear_interruption(self.run_dir)
            self._describe_run()
        self.processes.start_trackers()
        self._forward.train()
        # The first process chooses for all: each on its own could find another checkpoint damaged.
        found = checkpoints.find_checkpoint(self.run_dir / "checkpoints") if self.processes.is_main else None
        checkpoint = self.processes.from_main(found)
        position = 0
        if checkpoint is None:
            self.train_loader.start()
            seed_global_generators(mix_seed(self.config.seed, self.processes.rank))
        else:
            position = self._restore(checkpoint)
        if self.processes.is_main:
            self._log = MetricsLog(self.run_dir / "metrics.jsonl", position)

    def _describe_run(self) -> None:
        """Writes ``run.json`` and ``config.yaml``."""
        description = run_manifest() | {
            "trainer": asdict(self.config),
            "batch_size": self.train_loader.batch_size,
            "world_size": self.processes.world_size,
            "device": str(self.processes.device),
            "precision": self.processes.precision,
        }
        self._write_text("run.json", json.dumps(description, indent=2) + "\n")
        self._write_text("config.yaml", self.config_text)

    def _write_text(self, name: str, text: str) -> None:
        with atomic_file(self.run_dir / name) as file:
            file.write(text.encode())

    def _restore(self, directory: Path) -> int:
        """Loads a checkpoint and returns the position of the metrics log."""
        state = checkpoints.read_state(directory)
        checkpoints.restore_module(directory, self.module)
        trained = checkpoints.read_trained(directory)
        if self._average is not None:
            self._average.resume(trained)
        elif trained is not None:
            load_trained({n: p for n, p in self.module.named_parameters() if p.requires_grad}, trained)
        checkpoints.restore_optimizer(directory, self.optimizer)
        self.step = self._saved_step = state["step"]
        self._items = state["items"]
        self._validation_due = state["validation_due"]
        self._latest = state["metrics"]
        warn = logger.warning if self.processes.is_main else logger.debug
        if state["config_sha256"] != self._config_sha256():
            warn("the configuration is not the one that %s was made with", directory)
        # The first process carries on the counts that were added up over all processes.
        counts = {} if self.processes.is_main else {"replaced": 0, "bad_items": {}}
        for name, loader in self._loaders().items():
            if name in state["loaders"]:
                loader.load_state_dict(state["loaders"][name] | counts)
        self.train_loader.start()
        # Last, so that nothing draws random numbers between here and the next step.
        if state["world_size"] == self.processes.world_size:
            set_rng_state(checkpoints.read_generators(directory, self.processes.rank))
        else:
            warn(
                "%s was made by %d processes, now there are %d: the random generators are seeded again",
                directory,
                state["world_size"],
                self.processes.world_size,
            )
            seed_global_generators(mix_seed(self.config.seed, self.processes.rank, self.step))
        return state["metrics_bytes"]

    def _record_interruption(self, stop: StopRequest) -> None:
        """Writes ``interrupted.json``; the signal may have come to any of the processes."""
        names = [name for name in self.processes.gather(stop.signal_name) if name is not None]
        if self.processes.is_main:
            record_interruption(self.run_dir, step=self.step, signal_name=names[0])

    # Running

    def _run(self, stop: StopRequest, bar: ProgressBar) -> bool:
        """Steps until the end or a signal; returns whether work is left."""
        config = self.config
        logged_items, stepping_s = self._items, 0.0
        while True:
            if self._validation_due:
                self._validate(stop)
            stopping = self.processes.any(stop.received)
            done = self.step >= config.max_steps
            if stopping or done or self.step % config.save_every == 0:
                self._save()
            if stopping or done:
                return self._validation_due or not done
            began_s = time.perf_counter()
            metrics = self._train_step()
            stepping_s += time.perf_counter() - began_s
            last, note = self.step == config.max_steps, ""
            self._validation_due = config.val_every > 0 and (last or self.step % config.val_every == 0)
            if last or self.step % config.log_every == 0:
                items_per_s = (self._items - logged_items) / stepping_s
                logged_items, stepping_s = self._items, 0.0
                metrics["replaced_items"] = self.processes.total(self.train_loader.replaced)
                self._write(metrics, {"items_per_s": items_per_s})
                note = f"loss {metrics['loss']:.4g}, lr {metrics['lr']:.3g}, {items_per_s:.4g} items/s"
            bar.advance(note=note)

    def _train_step(self) -> dict[str, float]:
        """One optimizer step; returns its metrics, averaged over accumulation and processes."""
        rate = self.schedule(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        self.optimizer.zero_grad()
        count = self.config.grad_accumulation
        totals: dict[str, Tensor] = {}
        for micro_step in range(count):
            batch = self.processes.to_device(next(self.train_loader))
            context = self._context(self.config.seed, self.processes.rank, self.step, micro_step)
            last = micro_step == count - 1
            with nullcontext() if last else self.processes.without_averaging(self._forward):
                outputs = self._forward(batch, context)
                (outputs["loss"] / count).backward()
            _accumulate(totals, outputs)
        metrics = self._mean(totals, count)
        norm = self._clip_gradients()
        if not (math.isfinite(metrics["loss"]) and math.isfinite(norm)):
            raise PentatonicError(
                f"step {self.step + 1}: loss {metrics['loss']}, gradient norm {norm}; the step was not taken. The "
                "last checkpoint is good; a lower learning rate or trainer.max_grad_norm may help"
            )
        self.optimizer.step()
        self.step += 1
        if self._average is not None:
            self._average.update(self.step)
        self._items += count * self.train_loader.global_batch
        return {"loss": metrics.pop("loss"), "lr": rate, "grad_norm": norm} | metrics

    def _clip_gradients(self) -> float:
        """Scales gradients down to the limit; returns their L2 norm before."""
        parameters = [parameter for parameter in self.module.parameters() if parameter.grad is not None]
        if self.config.max_grad_norm is not None:
            return float(nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm))
        return float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))

    def _validate(self, stop: StopRequest) -> None:
        """Logs the mean metrics of the validation set; a signal leaves validation due for the next run.

        Where weights are averaged, it is the average that is validated.

        The randomness is the same at every validation, and that of training is not touched.
        """
        assert self.val_loader is not None
        seed = mix_seed(self.config.seed, _VALIDATION_STREAM)
        size = self.val_loader.batches_per_epoch
        count = min(size, self.config.val_batches or size)
        totals: dict[str, Tensor] = {}
        generators = rng_state()
        seed_global_generators(mix_seed(seed, self.processes.rank))
        self._forward.eval()
        try:
            with torch.no_grad(), self._averaged():
                for index in range(count):
                    if self.processes.any(stop.received):
                        return
                    batch = self.processes.to_device(next(self.val_loader))
                    context = self._context(seed, self.processes.rank, index, 0)
                    _accumulate(totals, self._forward(batch, context))
            self._write({f"val_{name}": value for name, value in self._mean(totals, count).items()})
            self._validation_due = False
        finally:
            self.val_loader.close()
            self.val_loader.epoch = self.val_loader.batch = 0
            self._forward.train()
            set_rng_state(generators)

    def _mean(self, totals: Mapping[str, Tensor], count: int) -> dict[str, float]:
        """Means over ``count`` batches and all processes."""
        means = self.processes.mean(torch.stack(list(totals.values())) / count)
        return dict(zip(totals, means, strict=True))

    def _write(self, metrics: Mapping[str, float], only_tracked: Mapping[str, float] | None = None) -> None:
        """Logs metrics; times go to trackers only, so that resuming does not change the file."""
        self._latest.update(metrics)
        if self._log is not None:
            self._log.write({"step": self.step, **metrics})
        self.processes.track({**metrics, **(only_tracked or {})}, self.step)

    # Saving

    def _save(self) -> None:
        """Publishes a checkpoint, unless there is one of this step."""
        if self.step == self._saved_step:
            return
        own_generators = rng_state()
        generators = self.processes.gather(own_generators)
        loaders = {name: self._merged_state(loader) for name, loader in self._loaders().items()}
        if self.processes.is_main:
            assert self._log is not None
            state = {
                "step": self.step,
                "items": self._items,
                "world_size": self.processes.world_size,
                "config_sha256": self._config_sha256(),
                "versions": {"pentatonic": distribution_version("pentatonic"), "torch": torch.__version__},
                "loaders": loaders,
                "validation_due": self._validation_due,
                "metrics": self._latest,
                "metrics_bytes": self._log.sync(),
            }
            root = self.run_dir / "checkpoints"
            name = checkpoints.checkpoint_name(self.step)
            with self._averaged() as trained, atomic_directory(root / name) as directory:
                checkpoints.write_checkpoint(
                    directory,
                    module=self.module,
                    trained=trained,
                    optimizer=self.optimizer,
                    generators=generators,
                    state=state,
                )
                if self.on_save is not None:
                    self.on_save(directory, self.module)
            prune(root, self.config.keep_checkpoints, prefix=checkpoints.PREFIX)
        # ``on_save`` may have drawn random numbers or changed the mode; a resumed run would then differ.
        set_rng_state(own_generators)
        self._forward.train()
        self._saved_step = self.step
        self.processes.wait()

    def _averaged(self) -> AbstractContextManager[Mapping[str, Tensor] | None]:
        """Context in which the module holds the average of its weights, where there is one."""
        return nullcontext() if self._average is None else self._average.in_place()

    def _loaders(self) -> dict[str, TrainLoader]:
        loaders = {"train": self.train_loader, "validation": self.val_loader}
        return {name: loader for name, loader in loaders.items() if loader is not None}

    def _merged_state(self, loader: TrainLoader) -> dict[str, Any]:
        """State of a loader, with the bad items of all processes."""
        states = self.processes.gather(loader.state_dict())
        bad_items = {index: reason for state in states for index, reason in state["bad_items"].items()}
        return states[0] | {"replaced": sum(state["replaced"] for state in states), "bad_items": bad_items}

    def _write_bad_items(self) -> None:
        found = {name: self._merged_state(loader)["bad_items"] for name, loader in self._loaders().items()}
        if self.processes.is_main:
            listed = {
                name: [{"index": index, "reason": items[str(index)]} for index in sorted(map(int, items))]
                for name, items in found.items()
            }
            self._write_text("bad_items.json", json.dumps(listed, indent=1) + "\n")

    def _config_sha256(self) -> str:
        return hashlib.sha256(self.config_text.encode()).hexdigest()


def report_run(result: TrainResult, run_dir: str | Path) -> TrainResult:
    """Print where a run ended and which model it left: ``best``, where the run keeps it, or the newest checkpoint.

    Returns:
        ``result``.
    """
    run_dir = Path(run_dir)
    if os.environ.get("RANK", "0") != "0":
        return result
    if result.interrupted:
        stopped = f"{run_dir} was stopped at step {result.step}, which is saved; the same command continues"
        print(stopped, file=sys.stderr)
        return result
    best = run_dir / "best"
    model = best if best.is_dir() else model_directory(run_dir)
    state = "was finished already" if result.first_step == result.step else "is finished"
    print(f"{run_dir} {state}, at step {result.step}; the model is {model}")
    return result


def _accumulate(totals: dict[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
    for name, value in outputs.items():
        totals[name] = totals.get(name, 0.0) + value.detach().float()
