from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pentatonic.errors import InputError, UsageError
from pentatonic.training import ItemKey, TrainLoader, mix_seed


class Numbers:
    """Items that tell their key, with a random crop that depends on it."""

    def __init__(self, size: int, bad: tuple[int, ...] = ()) -> None:
        self.size, self.bad = size, bad
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: ItemKey) -> tuple[int, int, float]:
        self.read.append(key.index)
        if key.index in self.bad:
            raise InputError(f"item {key.index} is broken")
        return key.epoch, key.index, float(np.random.default_rng(mix_seed(1, key.epoch, key.index)).random())


def as_list(items: list) -> list:
    return items


def take(loader: TrainLoader, count: int) -> list[list[tuple[int, int, float]]]:
    return [next(loader) for _ in range(count)]


def indices(batches: list) -> list[int]:
    return [index for batch in batches for _, index, _ in batch]


def make(size: int = 10, batch_size: int = 3, bad: tuple[int, ...] = (), **settings) -> TrainLoader:
    return TrainLoader(Numbers(size, bad), batch_size=batch_size, seed=5, collate=as_list, **settings)


@given(
    size=st.integers(1, 40),
    batch_size=st.integers(1, 7),
    world_size=st.integers(1, 4),
    before=st.integers(0, 12),
    seed=st.integers(0, 2**40),
)
@settings(deadline=None, max_examples=60)
def test_first_batches_and_the_rest_are_all_batches(size, batch_size, world_size, before, seed) -> None:
    def loader(rank: int) -> TrainLoader:
        return TrainLoader(
            Numbers(size), batch_size=batch_size, seed=seed, rank=rank, world_size=world_size, collate=as_list
        )

    for rank in range(world_size):
        whole = take(loader(rank), before + 9)
        first = loader(rank)
        assert take(first, before) == whole[:before]
        second = loader(rank)
        second.load_state_dict(first.state_dict())
        assert take(second, 9) == whole[before:]


@given(size=st.integers(1, 50), batch_size=st.integers(1, 6), world_size=st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_ranks_together_are_the_one_process_run(size, batch_size, world_size) -> None:
    single = TrainLoader(Numbers(size), batch_size=batch_size * world_size, seed=9, collate=as_list)
    parts = [
        TrainLoader(
            Numbers(size), batch_size=batch_size, seed=9, rank=rank, world_size=world_size, collate=as_list
        )
        for rank in range(world_size)
    ]
    for _ in range(2 * single.batches_per_epoch + 1):
        assert [item for part in parts for item in next(part)] == next(single)


def test_an_epoch_is_a_permutation_without_the_incomplete_batch() -> None:
    loader = make(size=10, batch_size=3)
    epochs = [indices(take(loader, 3)) for _ in range(4)]
    assert [(len(epoch), len(set(epoch))) for epoch in epochs] == [(9, 9)] * 4
    assert len(set(map(tuple, epochs))) == 4
    assert (loader.epoch, loader.batch) == (4, 0)
    assert indices(take(make(seed_shift := 10, 3), 3)) == epochs[0], seed_shift


def test_small_data_is_repeated_to_fill_a_batch() -> None:
    (batch,) = take(make(size=2, batch_size=5), 1)
    assert sorted(index for _, index, _ in batch) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])


def test_without_shuffling_the_order_is_that_of_the_data() -> None:
    assert indices(take(make(size=7, batch_size=2, shuffle=False), 4)) == [0, 1, 2, 3, 4, 5, 0, 1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_change_nothing_and_read_ahead_does_not_count(num_workers: int) -> None:
    whole = take(make(bad=(2, 3)), 12)
    first = make(bad=(2, 3), num_workers=num_workers)
    assert take(first, 5) == whole[:5]
    state = first.state_dict()
    assert (state["epoch"], state["batch"]) == (1, 2)
    second = make(bad=(2, 3), num_workers=num_workers)
    second.load_state_dict(state)
    assert take(second, 7) == whole[5:]
    first.close()
    assert take(first, 1) == whole[5:6]
    second.close()
    first.close()


def test_skipped_items_are_not_read() -> None:
    loader = make(size=100, batch_size=10)
    loader.load_state_dict(loader.state_dict() | {"epoch": 3, "batch": 8})
    dataset = loader._data_loader.dataset.dataset
    take(loader, 2)
    assert len(dataset.read) == 20
    assert loader.epoch == 4


@pytest.mark.parametrize("num_workers", [0, 2])
def test_global_generators_are_left_alone(num_workers: int) -> None:
    states = lambda: (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: E731
    before = states()
    loader = make(num_workers=num_workers)
    loader.start()
    take(loader, 8)
    loader.close()
    assert states() == before


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_items_are_replaced_counted_and_explained(num_workers: int) -> None:
    loader = make(size=8, batch_size=4, bad=(2, 3, 7), shuffle=False, num_workers=num_workers)
    assert indices(take(loader, 2)) == [0, 1, 4, 4, 4, 5, 6, 0]
    assert loader.replaced == 4
    assert loader.bad_items == {index: f"item {index} is broken" for index in (2, 3, 7)}
    again = make(size=8, batch_size=4, bad=(2, 3, 7), shuffle=False)
    again.load_state_dict(loader.state_dict())
    take(again, 1)
    assert again.replaced == 7
    loader.close()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_data_without_a_usable_item_stop_the_run(num_workers: int) -> None:
    loader = make(size=300, bad=tuple(range(300)), shuffle=False, num_workers=num_workers)
    with pytest.raises(
        InputError, match="100 items in a row cannot be used; the last is 101: item 101 is broken"
    ):
        next(loader)
    loader.close()


def test_another_global_batch_keeps_the_place_in_the_epoch(caplog: pytest.LogCaptureFixture) -> None:
    one = make(size=40, batch_size=4)
    take(one, 3)
    two = make(size=40, batch_size=3, world_size=2)
    two.load_state_dict(one.state_dict())
    assert (two.epoch, two.batch) == (0, 2)
    assert not caplog.messages
    shrunk = make(size=9, batch_size=4)
    shrunk.load_state_dict(one.state_dict())
    assert (shrunk.epoch, shrunk.batch) == (0, 1)
    assert "9 items, but had 40" in caplog.text


@pytest.mark.parametrize(
    "arguments", [{"size": 0}, {"batch_size": 0}, {"rank": 2, "world_size": 2}, {"num_workers": -1}]
)
def test_unusable_arguments(arguments: dict) -> None:
    with pytest.raises(UsageError):
        make(**arguments)


def test_default_collation_stacks() -> None:
    loader = TrainLoader(Numbers(4), batch_size=2, seed=0)
    epoch, index, crop = next(loader)
    assert (epoch.dtype, index.shape, crop.dtype) == (torch.int64, (2,), torch.float64)
    assert isinstance(iter(loader), Iterator)


@pytest.mark.slow
def test_spawned_workers_ignore_the_working_folder(tmp_path):
    """A spawned worker starts as `python -c`, which takes modules from the working folder."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "numbers_data.py").write_text("""
class Numbers:
    def __len__(self):
        return 4

    def __getitem__(self, key):
        return key.index
""")
    (tmp_path / "here").mkdir()
    for name in ("multiprocessing", "encodings"):
        (tmp_path / "here" / f"{name}.py").write_text(f"open({str(tmp_path / 'planted')!r}, 'w')\n")
    program = f"""
import multiprocessing, os, sys
sys.path[:] = [{str(tmp_path / "modules")!r}, *filter(None, sys.path)]
from numbers_data import Numbers
from pentatonic.training.loader import TrainLoader
multiprocessing.set_start_method("spawn")
os.chdir({str(tmp_path / "here")!r})
loader = TrainLoader(Numbers(), batch_size=4, seed=0, num_workers=1)
print(sorted(next(loader).tolist()), flush=True)
loader.close()
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[0, 1, 2, 3]\n", done.stderr
    assert not (tmp_path / "planted").exists()


class SignalMask:
    """Items are the signals that the process that reads them has blocked."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, key):
        return torch.tensor([number in signal.pthread_sigmask(signal.SIG_BLOCK, ()) for number in SIGNALS])


SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="the system cannot block signals")
def test_workers_never_get_the_signals_of_the_terminal():
    loader = TrainLoader(SignalMask(), batch_size=2, seed=0, num_workers=1)
    assert next(loader).all()
    loader.close()
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(SIGNALS)
