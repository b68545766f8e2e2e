"""An endless data loader whose order is a pure function of the seed and whose position can be saved exactly."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Self

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from pentatonic.child_process import safe_path
from pentatonic.errors import InputError, UsageError
from pentatonic.processes.interrupts import signals_held_back
from pentatonic.training.seeding import mix_seed

logger = logging.getLogger(__name__)

Collate = Callable[[list[Any]], Any]

MAX_BAD_ITEMS_IN_A_ROW = 100
"""After this many bad items in a row loading fails: then the data as a whole is bad, as when a disk is not mounted."""


@dataclass(frozen=True)
class ItemKey:
    """What a data set is asked for.

    Attributes:
        epoch: Pass over the data, from 0; a data set draws crops and augmentations from it and ``index``, for
            instance with ``numpy.random.default_rng(mix_seed(seed, key.epoch, key.index))``.
        index: Item, in [0, ``len(dataset)``).
    """

    epoch: int
    index: int


class KeyedDataset(Protocol):
    """Items as a pure function of their key; unusable ones raise :class:`~pentatonic.errors.InputError`."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: ItemKey, /) -> Any: ...


BadItems = list[tuple[int, str]]


@dataclass(frozen=True)
class _Fetched:
    """An item read for a batch, with the bad items that were skipped to find it."""

    item: Any
    bad: BadItems
    exhausted: bool = False


class _Substituting(Dataset):
    """Replaces a bad item by the next one that can be read."""

    def __init__(self, dataset: KeyedDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: ItemKey) -> _Fetched:
        size = len(self.dataset)
        bad: BadItems = []
        for offset in range(min(size, MAX_BAD_ITEMS_IN_A_ROW)):
            index = (key.index + offset) % size
            try:
                return _Fetched(self.dataset[ItemKey(key.epoch, index)], bad)
            except InputError as error:
                bad.append((index, str(error)))
        return _Fetched(None, bad, exhausted=True)


def _collate_fetched(collate: Collate, fetched: list[_Fetched]) -> tuple[Any, BadItems, bool]:
    """The batch, the bad items met for it, and whether it failed because there were too many in a row."""
    bad = [entry for one in fetched for entry in one.bad]
    if any(one.exhausted for one in fetched):
        return None, bad, True
    return collate([one.item for one in fetched]), bad, False


def _leave_signals_to_the_parent(worker: int) -> None:
    """Lets workers survive Ctrl-C and SIGTERM, so that the trainer can finish its step; they end with their parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class TrainLoader:
    """Endless batches of a data set, for one process of a distributed run.

    The order of an epoch is a permutation that depends on ``(seed, epoch)`` alone. A global batch is a run of
    ``batch_size * world_size`` entries of it, of which process ``rank`` takes its slice. What is left at the end of
    an epoch is dropped; a data set that is smaller than one global batch is repeated to fill it. No number is drawn
    from the global generators.

    An item that raises :class:`~pentatonic.errors.InputError` is replaced by the next usable index.

    Args:
        dataset: Map from :class:`ItemKey` to items. With workers it is copied to other processes.
        batch_size: Items per batch and process.
        seed: Decides the order.
        rank: This process, from 0.
        world_size: Number of processes.
        num_workers: Processes that read ahead; 0 reads in this one.
        shuffle: Whether to permute; otherwise the order is that of the data set, in each epoch.
        collate: Makes a batch of a list of items; by default stacks tensors as PyTorch does.
        pin_memory: Whether to place batches in page-locked memory, for asynchronous copies to a CUDA device.

    Attributes:
        epoch: Epoch of the next batch.
        batch: Position of the next batch within its epoch.
        batches_per_epoch: Number of batches of an epoch, for each process.
        bad_items: Index and reason of every item that could not be used so far.
        replaced: How many reads were replaced so far; a bad item counts again in each epoch.

    Raises:
        UsageError: If the data set is empty, or a number is out of its range.
    """

    def __init__(
        self,
        dataset: KeyedDataset,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        shuffle: bool = True,
        collate: Collate | None = None,
        pin_memory: bool = False,
    ) -> None:
        if len(dataset) == 0:
            raise UsageError("the data set has no items")
        if batch_size < 1 or num_workers < 0 or not 0 <= rank < world_size:
            raise UsageError(
                f"batch_size {batch_size} must be at least 1, num_workers {num_workers} at least 0, "
                f"and rank {rank} in [0, world_size {world_size})"
            )
        self.size = len(dataset)
        self.batch_size, self.seed, self.rank, self.shuffle = batch_size, seed, rank, shuffle
        self.global_batch = batch_size * world_size
        self.batches_per_epoch = max(1, self.size // self.global_batch)
        self.epoch = self.batch = self.replaced = 0
        self.bad_items: dict[int, str] = {}
        self._batches: Iterator[tuple[Any, BadItems, bool]] | None = None
        self._data_loader = DataLoader(
            _Substituting(dataset),
            batch_sampler=_KeyBatches(self),
            num_workers=num_workers,
            collate_fn=partial(_collate_fetched, collate or default_collate),
            worker_init_fn=_leave_signals_to_the_parent,
            # A loader without a generator of its own draws its workers' seed from the global one.
            generator=torch.Generator().manual_seed(mix_seed(seed, rank)),
            pin_memory=pin_memory,
        )

    def start(self) -> None:
        """Starts the workers at the current position; done by the first batch otherwise."""
        if self._batches is None:
            with safe_path(), signals_held_back():
                self._batches = iter(self._data_loader)

    def close(self) -> None:
        """Stops the workers. The position stays, so that iteration can go on later."""
        self._batches = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """The next batch.

        Raises:
            InputError: If no usable item was found near one of the batch's.
        """
        self.start()
        assert self._batches is not None
        batch, bad, exhausted = next(self._batches)
        if exhausted:
            count = min(self.size, MAX_BAD_ITEMS_IN_A_ROW)
            raise InputError(f"{count} items in a row cannot be used; the last is {bad[-1][0]}: {bad[-1][1]}")
        self.replaced += len(bad)
        self.bad_items.update(bad)
        self.batch += 1
        if self.batch == self.batches_per_epoch:
            self.epoch, self.batch = self.epoch + 1, 0
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Position and bad items, as JSON values.

        The position is that of the batches handed out, whatever the workers have read ahead.
        """
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "global_batch": self.global_batch,
            "size": self.size,
            "replaced": self.replaced,
            "bad_items": {str(index): reason for index, reason in self.bad_items.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to a saved position without reading the items before it.

        After a change of the global batch the position is the same number of items into the epoch, rounded down to
        a whole batch.

        Args:
            state: From :meth:`state_dict`; of this or another process of the run.
        """
        self.close()
        if state["size"] != self.size and self.rank == 0:
            logger.warning(
                "the data set has %d items, but had %d when the checkpoint was made: its order differs",
                self.size,
                state["size"],
            )
        self.epoch = state["epoch"]
        self.batch = min(
            state["batch"] * state["global_batch"] // self.global_batch, self.batches_per_epoch - 1
        )
        self.replaced = state["replaced"]
        self.bad_items = {int(index): reason for index, reason in state["bad_items"].items()}

    def keys(self, epoch: int, batch: int, order: torch.Tensor | None = None) -> list[ItemKey]:
        """Keys of this process's batch at a position, before any replacement.

        Args:
            epoch: Epoch, from 0.
            batch: Batch of the epoch, in [0, ``batches_per_epoch``).
            order: The epoch's order, if the caller has it already.

        Returns:
            ``batch_size`` keys.
        """
        order = self.order(epoch) if order is None else order
        start = batch * self.global_batch + self.rank * self.batch_size
        return [ItemKey(epoch, int(order[at % self.size])) for at in range(start, start + self.batch_size)]

    def order(self, epoch: int) -> torch.Tensor:
        """Order of the items in an epoch, for all processes together: (size,) int64."""
        if not self.shuffle:
            return torch.arange(self.size)
        return torch.randperm(self.size, generator=torch.Generator().manual_seed(mix_seed(self.seed, epoch)))


class _KeyBatches:
    """Endless keys of batches, from the position of the loader."""

    def __init__(self, loader: TrainLoader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[list[ItemKey]]:
        epoch, batch = self.loader.epoch, self.loader.batch
        while True:
            order = self.loader.order(epoch)
            for position in range(batch, self.loader.batches_per_epoch):
                yield self.loader.keys(epoch, position, order)
            epoch, batch = epoch + 1, 0
