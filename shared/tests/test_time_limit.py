"""Endless Python code is stopped, by either clock, and only in time."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from pentatonic.processes.time_limit import TimeLimitExceeded, time_limit


@pytest.mark.parametrize("clock", ["wall", "cpu"])
def test_endless_code_is_stopped(clock) -> None:
    number = signal.SIGALRM if clock == "wall" else signal.SIGVTALRM
    before = signal.getsignal(number)
    with pytest.raises(TimeLimitExceeded, match=r"^took longer than 0\.05 s$"), time_limit(0.05, clock=clock):
        while True:
            pass
    assert signal.getsignal(number) is before


def test_sleep_costs_no_cpu_time() -> None:
    with time_limit(0.05, clock="cpu"):
        time.sleep(0.2)
    with pytest.raises(TimeLimitExceeded), time_limit(0.05):
        time.sleep(20)


def test_the_timer_ends_with_the_block() -> None:
    with time_limit(0.05):
        pass
    time.sleep(0.1)


def test_other_threads_have_no_limit() -> None:
    ended = []

    def work() -> None:
        with time_limit(0.01):
            time.sleep(0.1)
        ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [True]
