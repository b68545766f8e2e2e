"""Stages that overlap: what waits is bounded, and errors and warnings belong to one item."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from pentatonic.errors import InputError
from pentatonic.pipeline import Entry, overlapped, side_by_side

WAIT_S = 30


def run(
    sources: Sequence[Any],
    *,
    read: Callable[[Any], Any] = lambda source: source,
    compute: Callable[[Sequence[Any]], Sequence[Any]] = list,
    write: Callable[[Any, Any], Any] = lambda result, source: result,
    share: Callable[[Any], float] = lambda item: 1.0,
) -> Generator[Entry[Any, Any, Any], None, None]:
    return overlapped(sources, read, compute, write, share=share, errors=(InputError,))


def outcomes(entries: Generator[Entry[Any, Any, Any], None, None]) -> list[Any]:
    found = []
    with closing(entries):
        for entry in entries:
            try:
                found.append(entry.outcome())
            except InputError as error:
                found.append(str(error))
    return found


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT_S)
    assert set(threading.enumerate()) <= before


def test_reading_and_writing_overlap_with_computing() -> None:
    read_second, computed_second = threading.Event(), threading.Event()

    def read(source: int) -> int:
        if source == 1:
            read_second.set()
        return source

    def compute(items: Sequence[int]) -> Sequence[int]:
        if items == [0]:
            assert read_second.wait(WAIT_S)
        else:
            computed_second.set()
        return items

    def write(result: int, source: int) -> int:
        return result + 10 if computed_second.wait(WAIT_S) else -1

    assert outcomes(run([0, 1], read=read, compute=compute, write=write)) == [10, 11]


def test_batches_are_consecutive_and_depend_on_the_items_alone() -> None:
    shares = {"a": 0.5, "b": 0.4, "c": 0.2, "d": 2.0, "e": 0.3, "f": 0.7, "g": 0.1}
    batches: list[str] = []

    def compute(items: Sequence[str]) -> Sequence[str]:
        batches.append("".join(items))
        return [item.upper() for item in items]

    def read(source: str) -> str | None:
        if source == "x":
            raise InputError("bad")
        return None if source == "-" else source

    assert outcomes(run("abxcde-fg", read=read, compute=compute, share=shares.__getitem__)) == [
        *("A", "B", "bad", "C", "D", "E", None, "F", "G")
    ]
    assert batches == ["ab", "c", "d", "ef", "g"]


def test_an_error_belongs_to_the_item_that_caused_it() -> None:
    def compute(items: Sequence[str]) -> Sequence[str]:
        if "b" in items:
            raise InputError(f"in {len(items)}")
        return list(items)

    def write(result: str, source: str) -> str:
        if result == "c":
            raise InputError("not written")
        return result

    entries = run("abcd", compute=compute, write=write, share=lambda item: 0.25)
    assert outcomes(entries) == ["a", "in 1", "not written", "d"]


@pytest.mark.parametrize("stage", ["read", "compute", "write"])
def test_unexpected_errors_end_the_run(stage: str) -> None:
    def fail(*values: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        outcomes(run("ab", **{stage: fail}))


def test_reading_is_at_most_a_batch_ahead() -> None:
    seen = threading.Semaphore(0)

    def read(source: int) -> int:
        seen.release()
        return source

    def compute(items: Sequence[int]) -> Sequence[int]:
        if items[0] == 0:
            assert items == [0, 1, 2, 3]
            for _ in range(8):  # this batch and the next one
                assert seen.acquire(timeout=WAIT_S)
            assert not seen.acquire(timeout=0.2)
        return items

    assert len(outcomes(run(range(40), read=read, compute=compute, share=lambda item: 0.25))) == 40


def test_results_that_wait_to_be_written_are_few() -> None:
    release = threading.Event()
    n_computed = 0

    def compute(items: Sequence[int]) -> Sequence[int]:
        nonlocal n_computed
        n_computed += 1
        return items

    def write(result: int, source: int) -> int:
        release.wait(WAIT_S)
        return result

    def let_go() -> None:
        deadline = time.monotonic() + WAIT_S
        while n_computed < 9 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        most.append(n_computed)
        release.set()

    most: list[int] = []
    thread = threading.Thread(target=let_go)
    thread.start()
    assert outcomes(run(range(30), compute=compute, write=write)) == list(range(30))
    thread.join()
    assert most == [9]  # eight that wait, and the one that waits for room


def test_nothing_else_is_read_while_an_item_is_read_on() -> None:
    log: list[str] = []

    def read(source: str) -> str:
        log.append(f"read {source}")
        return source

    def compute(items: Sequence[str]) -> Sequence[str]:
        if "L" in items:
            time.sleep(0.1)
        log.append(f"computed {''.join(items)}")
        return items

    share = {"a": 0.4, "L": math.inf}.get
    entries = run("aLLa", read=read, compute=compute, share=lambda item: share(item, 1.0))
    assert outcomes(entries) == ["a", "L", "L", "a"]
    assert log == [
        *("read a", "read L", "computed a", "computed L", "read L", "computed L", "read a", "computed a")
    ]


def test_warnings_are_noted_where_they_belong() -> None:
    def read(source: str) -> str:
        warnings.warn(f"read {source}", stacklevel=1)
        return source

    def compute(items: Sequence[str]) -> Sequence[str]:
        for item in items:
            warnings.warn(f"{item}: computed", stacklevel=1)
        warnings.warn("computed", stacklevel=1)
        return items

    def write(result: str, source: str) -> None:
        warnings.warn(f"written {source}", DeprecationWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for entries in (
            run("abcd", read=read, compute=compute, write=write, share=lambda item: 0.5),
            side_by_side("abcd", read, compute, write, workers=3),
        ):
            for entry in entries:
                entry.outcome()
                name = entry.source
                assert entry.warnings == [f"read {name}", f"{name}: computed", "computed", f"written {name}"]
        with pytest.raises(UserWarning, match="afterwards"):
            warnings.warn("afterwards", stacklevel=1)


def test_an_interrupt_leaves_what_is_computed_written_and_no_thread() -> None:
    written: list[int] = []

    def compute(items: Sequence[int]) -> Sequence[int]:
        if items == [3]:
            raise KeyboardInterrupt
        return items

    def write(result: int, source: int) -> None:
        time.sleep(0.05)
        written.append(result)

    with pytest.raises(KeyboardInterrupt):
        outcomes(run(range(9), compute=compute, write=write))
    assert sorted(written) == [0, 1, 2]


def test_an_early_end_does_not_wait_for_a_read_that_hangs() -> None:
    release = threading.Event()

    def read(source: int) -> int:
        if source == 1:
            release.wait(WAIT_S)
        return source

    started = time.monotonic()
    with closing(run(range(3), read=read)) as entries:
        assert next(entries).outcome() == 0
    assert time.monotonic() - started < WAIT_S / 2
    release.set()
