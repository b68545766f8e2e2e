"""Several computations at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from pentatonic.processes.cores import map_over_cores


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def threads_of_a_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize(("items", "each"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_items_in_work_share_the_threads(items: int, each: int) -> None:
    found = map_over_cores(lambda item: (item, torch.get_num_threads()), range(items))
    assert found == [(item, each) for item in range(items)]
    assert torch.get_num_threads() == threads_of_a_new_thread() == 4


def test_items_are_in_work_at_the_same_time() -> None:
    together = threading.Barrier(4)

    def wait(item: int) -> int:
        together.wait(60)
        return item

    assert map_over_cores(wait, range(8)) == list(range(8))


def test_there_may_be_no_items() -> None:
    assert map_over_cores(str, []) == []


def test_an_error_reaches_the_caller_and_later_items_are_left() -> None:
    seen: list[int] = []

    def fail(item: int) -> None:
        seen.append(item)
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        map_over_cores(fail, range(1000))
    assert len(seen) < 1000
    assert torch.get_num_threads() == threads_of_a_new_thread() == 4
