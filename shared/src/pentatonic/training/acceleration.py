"""Devices, processes and trackers, as Hugging Face Accelerate sets them up."""

from __future__ import annotations

import atexit
import importlib.util
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from pentatonic.errors import ConfigError, MissingExtra
from pentatonic.precision import Precision, resolve_precision
from pentatonic.training.config import TrainerConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")

_TRACKER_EXTRAS = {"tensorboard": "pentatonic[train]", "wandb": "pentatonic[wandb]"}


class Processes:
    """This process among those of the run.

    Device and number of processes come from the launcher (``accelerate launch``, ``torchrun``, or neither);
    precision and trackers come from the configuration alone. The methods that combine values must be called by every
    process.

    Args:
        config: Settings of the loop.
        run_dir: Where local trackers write.

    Attributes:
        rank: Number of this process, from 0.
        world_size: Number of processes.
        is_main: Whether this is the process that writes files.
        device: Where this process computes.
        precision: ``"fp32"`` or ``"bf16"``.

    Raises:
        ConfigError: If the launcher asks for a sharded back end (FSDP, DeepSpeed, Megatron).
        MissingExtra: If Accelerate or a tracker is not installed.
    """

    def __init__(self, config: TrainerConfig, run_dir: Path) -> None:
        accelerator = None if config.cpu else torch.accelerator.current_accelerator(check_available=True)
        self.precision = resolve_precision(config.precision, accelerator or "cpu")
        self._accelerator = _make_accelerator(config, self.precision, run_dir)
        self._run_dir = run_dir.resolve()
        self.rank = self._accelerator.process_index
        self.world_size = self._accelerator.num_processes
        self.is_main = self._accelerator.is_main_process
        self.device = self._accelerator.device

    def prepare(self, module: nn.Module) -> nn.Module:
        """Moves a module to the device, and wraps it for autocast and for the averaging of gradients."""
        return self._accelerator.prepare(module)

    def without_averaging(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Context in which gradients of a prepared module are not averaged over the processes (accumulation)."""
        return self._accelerator.no_sync(module)

    def to_device(self, batch: T) -> T:
        """Copies the tensors of a nested batch to the device."""
        from accelerate.utils import send_to_device

        moved: Any = send_to_device(batch, self.device, non_blocking=True)
        return moved

    def mean(self, values: Tensor) -> list[float]:
        """Means over the processes of a (n,) tensor on the device."""
        means: Any = self._accelerator.reduce(values, reduction="mean")
        return means.tolist()

    def total(self, value: int) -> int:
        """Sum over the processes."""
        total: Any = self._accelerator.reduce(torch.tensor(value, device=self.device), reduction="sum")
        return int(total)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return bool(self.total(int(flag))) if self.world_size > 1 else flag

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        from accelerate.utils import gather_object

        return gather_object([value])

    def from_main(self, value: T) -> T:
        """The value of the main process."""
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def wait(self) -> None:
        """Waits until all processes have called this."""
        self._accelerator.wait_for_everyone()

    def start_trackers(self) -> None:
        """Opens the trackers of the configuration."""
        if self._accelerator.log_with:
            wandb = {"name": self._run_dir.name, "dir": str(self._run_dir)}
            self._accelerator.init_trackers("pentatonic", init_kwargs={"wandb": wandb})

    def track(self, metrics: Mapping[str, float], step: int) -> None:
        """Sends metrics to the trackers that are open."""
        if self._accelerator.trackers:
            self._accelerator.log(dict(metrics), step=step)

    def stop_trackers(self) -> None:
        """Closes the trackers, but not the process group, which a later run in this program uses again."""
        for tracker in self._accelerator.trackers:
            tracker.finish()
        self._accelerator.trackers = []


def _make_accelerator(config: TrainerConfig, precision: Precision, run_dir: Path) -> Accelerator:
    try:
        from accelerate import Accelerator, DistributedType
        from accelerate.state import AcceleratorState
        from accelerate.utils import ProjectConfiguration
    except ImportError as error:
        raise MissingExtra("Training", "pentatonic[train]") from error
    for tracker in config.trackers:
        if importlib.util.find_spec(tracker) is None:
            raise MissingExtra(f"Logging to {tracker}", _TRACKER_EXTRAS[tracker])

    joined_before = torch.distributed.is_initialized()
    # Accelerate would keep the precision and device of the first run in this program; a later one may want others.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        mixed_precision="bf16" if precision == "bf16" else "no",
        cpu=config.cpu,
        log_with=list(config.trackers) or None,
        project_config=ProjectConfiguration(project_dir=str(run_dir), logging_dir=str(run_dir)),
    )
    if torch.distributed.is_initialized() and not joined_before:
        atexit.register(torch.distributed.destroy_process_group)
    sharded = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)
    if accelerator.distributed_type in sharded:
        raise ConfigError(
            f"the launcher asks for {accelerator.distributed_type.value}; this trainer runs on one device or with "
            "distributed data parallelism"
        )
    return accelerator
