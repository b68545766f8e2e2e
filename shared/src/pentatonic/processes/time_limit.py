"""A time limit for Python code in this process; native code is only stopped in a child process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal


class TimeLimitExceeded(Exception):
    """A step took too long.

    It is not a :class:`~pentatonic.errors.PentatonicError`: a reader that skips damaged parts must not catch it.
    """


@contextmanager
def time_limit(seconds: float, *, clock: Literal["wall", "cpu"] = "wall") -> Iterator[None]:
    """Stop the block when it takes too long.

    Only in the main thread of a process, and where the system has timers; elsewhere there is no limit.

    Args:
        seconds: Limit.
        clock: ``cpu`` counts the time that this process computes, which other programs do not change.

    Raises:
        TimeLimitExceeded: In the block, wherever it is.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    timer, number = (
        (signal.ITIMER_REAL, signal.SIGALRM) if clock == "wall" else (signal.ITIMER_VIRTUAL, signal.SIGVTALRM)
    )

    def expire(_number: int, _frame: object) -> None:
        raise TimeLimitExceeded(f"took longer than {seconds:g} s")

    before = signal.signal(number, expire)
    signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(number, before)
