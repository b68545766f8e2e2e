"""Batches of windows for the Trainer: endless for training, one pass for evaluation, resumable exactly.

The sets are shared out over *streams*: each loader worker of each process is one. A stream goes through its sets in
chunks: all windows of a chunk are read, mixed and grouped into batches. What comes next is a function of the seed and
of three numbers, the epoch, the chunk in it and the batch in that, so a run is continued by reading one chunk again.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, multiprocessing
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from cm3p.training.batches import grouped
from cm3p.training.windows import Failures, SetReader, Window
from pentatonic.child_process import safe_path
from pentatonic.errors import ConfigError, InputError
from pentatonic.processes.interrupts import signals_held_back
from pentatonic.training import mix_seed

log = logging.getLogger(__name__)

Batch = dict[str, Tensor]
Position = tuple[int, int, int]
"""Epoch, chunk and batch that come next in a stream."""

_ORDER, _MIXING = 0x6F72646572, 0x6D6978  # keep the random streams apart


@dataclass(frozen=True)
class Sharing:
    """How batches are made and shared out.

    Args:
        batch_size: Windows of a batch.
        sets_per_chunk: Sets that are in memory at a time in a stream.
        by_length: Put windows of like length together.
        drop_last: Leave out windows that do not fill a batch.
        seed: Of the order.
        endless: Begin again after the last set, in another order; else one pass in the order of the table.
        rank: Number of this process.
        world_size: Number of processes.
    """

    batch_size: int
    sets_per_chunk: int
    by_length: bool = True
    drop_last: bool = True
    seed: int = 0
    endless: bool = True
    rank: int = 0
    world_size: int = 1


@dataclass
class _Delivery:
    """A batch on its way from a worker; without one there are only failures, or the reason why the worker stops."""

    batch: Batch
    worker: int
    next: Position
    failures: Failures
    problem: str = ""


@dataclass
class LoaderState:
    """How far a process has come.

    Attributes:
        workers: Loader workers; 1 without.
        world_size: Processes.
        batches: Batches that this process has taken.
        next: Worker to what comes next in its stream.
    """

    workers: int
    world_size: int
    batches: int = 0
    next: dict[int, Position] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {
            "workers": self.workers,
            "world_size": self.world_size,
            "batches": self.batches,
            "next": {str(worker): list(position) for worker, position in self.next.items()},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LoaderState:
        """The inverse of :meth:`to_dict`."""
        positions = {int(worker): tuple(position) for worker, position in content["next"].items()}
        return cls(
            content["workers"],
            content["world_size"],
            content["batches"],
            cast(dict[int, Position], positions),
        )


class _Stream(IterableDataset[_Delivery]):
    """What the workers of a process run; each takes its own share of the sets."""

    def __init__(
        self,
        reader: SetReader,
        sharing: Sharing,
        collate: Callable[[Sequence[Window]], Batch],
        state: LoaderState,
    ) -> None:
        super().__init__()
        self.reader, self.sharing, self.collate, self.state = reader, sharing, collate, state

    def __iter__(self) -> Iterator[_Delivery]:
        info = get_worker_info()
        workers = self.state.workers
        # The loader asks its workers in turn, beginning with the first: after a resume that one takes over from the
        # worker whose turn it was.
        worker = ((info.id if info else 0) + self.state.batches) % workers
        stream = self.sharing.rank * workers + worker
        epoch, chunk, batch = self.state.next.get(worker, (0, 0, 0))
        failures: Failures = []
        begun = chunk or batch
        while True:
            order = self._order(epoch)[stream :: self.sharing.world_size * workers]
            size = self.sharing.sets_per_chunk
            chunks = [order[first : first + size] for first in range(0, len(order), size)]
            made = 0
            for number in range(chunk, len(chunks)):
                batches, failed = self._chunk(chunks[number], epoch, stream, number)
                failures += failed
                for place in range(batch, len(batches)):
                    following = (epoch, number, place + 1)
                    yield _Delivery(self.collate(batches[place]), worker, following, failures)
                    failures = []
                    made += 1
                batch = 0
            epoch, chunk = epoch + 1, 0
            problem = ""
            if self.sharing.endless and not made and not begun:
                reasons = "; ".join(f"{where}: {reason}" for where, reason in failures[:3])
                problem = (
                    f"{len(order)} sets do not fill a batch of {self.sharing.batch_size} windows; allowed: more sets, "
                    f"fewer loader workers, smaller batches ({reasons or 'no file failed'})"
                )
            if problem or not self.sharing.endless:
                yield _Delivery({}, worker, (epoch, 0, 0), failures, problem)
                return
            begun = False

    def _order(self, epoch: int) -> np.ndarray:
        count = len(self.reader)
        if not self.sharing.endless:
            return np.arange(count)
        return np.random.default_rng(mix_seed(self.sharing.seed, _ORDER, epoch)).permutation(count)

    def _chunk(
        self, sets: np.ndarray, epoch: int, stream: int, number: int
    ) -> tuple[list[list[Window]], Failures]:
        windows, failures = [], []
        for index in sets.tolist():
            read, failed = self.reader.read(index, epoch)
            windows.append(read)
            failures += failed
        seed = mix_seed(self.sharing.seed, _MIXING, epoch, stream, number)
        rng = np.random.default_rng(seed) if self.sharing.endless else None
        batches = grouped(
            windows,
            self.sharing.batch_size,
            rng,
            by_length=self.sharing.by_length,
            drop_last=self.sharing.drop_last,
        )
        return batches, failures


class WindowLoader:
    """Batches of this process.

    Args:
        reader: Reads sets.
        sharing: How batches are made.
        collate: Stacks windows.
        workers: Loader workers; no more are started than there are sets for them.
        pin_memory: For copies to a GPU.

    Attributes:
        failures: Map to the reason why it was left out, of all batches so far.

    Raises:
        ConfigError: There are fewer sets than processes.
    """

    def __init__(
        self,
        reader: SetReader,
        sharing: Sharing,
        collate: Callable[[Sequence[Window]], Batch],
        *,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        most = len(reader) // sharing.world_size
        if not most:
            raise ConfigError(
                f"there are {len(reader)} sets for {sharing.world_size} processes; allowed: as many or more"
            )
        self.reader, self.sharing, self.collate = reader, sharing, collate
        self._processes, self._pin_memory = min(workers, most), pin_memory
        self.state = LoaderState(max(1, self._processes), sharing.world_size)
        self.failures: dict[str, str] = {}

    def load_state(self, state: LoaderState) -> None:
        """Go on where another loader was.

        With another number of processes or workers the sets are shared out anew, and an epoch begins.
        """
        same = (state.workers, state.world_size) == (self.state.workers, self.state.world_size)
        if not same:
            log.warning(
                "the data were shared by %d processes with %d workers, and now by %d with %d: a new epoch begins",
                state.world_size,
                state.workers,
                self.state.world_size,
                self.state.workers,
            )
            epoch = 1 + max((position[0] for position in state.next.values()), default=-1)
            positions: dict[int, Position] = {worker: (epoch, 0, 0) for worker in range(self.state.workers)}
            state = LoaderState(self.state.workers, self.state.world_size, 0, positions)
        self.state = state

    def __iter__(self) -> Iterator[Batch]:
        if not self.sharing.endless:
            self.state = LoaderState(self.state.workers, self.state.world_size)
        state, signals = self.state, _WorkerSignals()
        loader = DataLoader(
            _Stream(
                self.reader,
                self.sharing,
                self.collate,
                LoaderState(state.workers, state.world_size, state.batches, dict(state.next)),
            ),
            batch_size=None,
            num_workers=self._processes,
            pin_memory=self._pin_memory,
            worker_init_fn=signals,
            generator=torch.Generator(),  # else each pass would draw from the global one
        )
        with safe_path(), signals_held_back():
            deliveries = cast(Iterator[_Delivery], iter(loader))
        try:
            while (delivery := self._agreed(self._next(deliveries))) is not None:
                state.batches += 1
                state.next[delivery.worker] = delivery.next
                yield delivery.batch
        finally:
            signals.closing.set()

    def _next(self, deliveries: Iterator[_Delivery]) -> _Delivery | None:
        """The next batch; notes what failed on the way to it."""
        for delivery in deliveries:
            for where, reason in delivery.failures:
                if where not in self.failures:
                    log.warning("left out: %s: %s", where, reason)
                    self.failures[where] = reason
            if delivery.problem:
                raise InputError(delivery.problem)
            if delivery.batch:
                return delivery
        return None

    def _agreed(self, delivery: _Delivery | None) -> _Delivery | None:
        """End one pass over the data in all processes at the same batch, and with the same number of windows."""
        if self.sharing.endless or self.sharing.world_size == 1:
            return delivery
        import torch.distributed as dist

        own = 0 if delivery is None else len(delivery.batch["input_ids"])
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        least = torch.tensor(own, device=device)
        dist.all_reduce(least, op=dist.ReduceOp.MIN)
        if delivery is None or not int(least):
            return None
        delivery.batch = {
            name: value[: int(least) * len(value) // own] for name, value in delivery.batch.items()
        }
        return delivery


class _WorkerSignals:
    """What a loader worker does with signals: nothing, until the loader is closed.

    Ctrl-C goes to all processes of a terminal, and SIGTERM of ``timeout`` or Slurm to all processes of a job; the
    trainer then takes the batches that it still needs for its step. A later SIGTERM, from the loader itself, ends the
    worker, which else would first read the whole chunk that it is at.

    Attributes:
        closing: Set when no further batch is wanted.
    """

    def __init__(self) -> None:
        self.closing = multiprocessing.get_context().Event()

    def __call__(self, _worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._terminated)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))

    def _terminated(self, _number: int, _frame: FrameType | None) -> None:
        if self.closing.is_set():
            os._exit(0)
