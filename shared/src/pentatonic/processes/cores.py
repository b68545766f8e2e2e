"""Several computations at a time on the cores of a processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_over_cores(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply a function that computes with torch on the CPU to each item, several at a time, in threads.

    The threads of torch are divided among the items in work. Where each operation is short this is faster than one
    item after the other on all cores, as a core does not wait for the others at the end of each operation.

    Args:
        function: Called in other threads, which know nothing of the caller's ``torch.inference_mode`` or autocast.
        items: What it is applied to.

    Returns:
        The results, in the order of the items.

    Raises:
        Exception: What the function raises for the first item that fails; items in work are finished before.
    """
    threads = torch.get_num_threads()
    at_a_time = min(threads, len(items))
    if at_a_time < 2:
        return [function(item) for item in items]
    each = threads // at_a_time
    with ThreadPoolExecutor(at_a_time, initializer=torch.set_num_threads, initargs=(each,)) as pool:
        try:
            return list(pool.map(function, items))
        finally:
            pool.shutdown(cancel_futures=True)
            # The number holds for the thread that sets it, and for threads that begin later: here as before.
            torch.set_num_threads(threads)
