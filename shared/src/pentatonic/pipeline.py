"""Three stages that overlap: reading ahead of the computation, and writing behind it.

One thread reads ahead, the calling thread computes, and a few threads write. What waits between them is bounded. An
error belongs to the item in whose stage it was raised, and so does a warning.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

from pentatonic.child_process import ClosedAtEnd

Source = TypeVar("Source")
Item = TypeVar("Item")
Result = TypeVar("Result")
Written = TypeVar("Written")

# A write mostly waits until the disk has the file: several at a time take little longer than one.
_WRITERS = 4
# Results that wait for a writer, or are in its hands.
_MOST_BEHIND = 2 * _WRITERS
# What cannot be read, or needs no work, still takes this part of a batch, so that a queue never grows without bound.
_LEAST_SHARE = 1 / 256
# How long the end of a run waits for the item that is being read. Its thread ends with the item.
_END_S = 2.0


@dataclass
class Entry(Generic[Source, Item, Written]):
    """What becomes of one source.

    Args:
        source: As given.
        item: What was read; None before that, after it was computed, and where there is nothing to do.
        share: Which part of a batch the item takes.
        error: What a stage raised.
        warnings: Texts of the warnings that the stages issued.
        written: What the last stage returns.
    """

    source: Source
    item: Item | None = None
    share: float = _LEAST_SHARE
    error: BaseException | None = None
    warnings: list[str] = field(default_factory=list)
    written: Future[Written | None] | None = None

    def outcome(self) -> Written | None:
        """Return what the last stage returned, when it has; None where there was nothing to do.

        Raises:
            BaseException: What a stage raised.
        """
        if self.error is not None:
            raise self.error
        return None if self.written is None else self.written.result()

    @property
    def finished(self) -> bool:
        """Whether :meth:`outcome` returns at once."""
        return self.written is None or self.written.done()


def overlapped(
    sources: Iterable[Source],
    read: Callable[[Source], Item | None],
    compute: Callable[[Sequence[Item]], Sequence[Result]],
    write: Callable[[Result, Source], Written],
    *,
    share: Callable[[Item], float],
    errors: tuple[type[Exception], ...],
) -> Generator[Entry[Source, Item, Written], None, None]:
    """Send sources through three stages. Close the generator to end early: results that exist are written.

    Args:
        sources: What to read.
        read: First stage, in a thread of its own, one source after the other; None: there is nothing to do.
        compute: Second stage, in the calling thread. Batches are consecutive items, and depend on nothing but the
            items. Where it fails for a batch, it is called again for each item of the batch alone.
        write: Last stage, in several threads.
        share: Which part of a batch an item takes; 1 or more: it is computed alone. Infinity: it is read on while it is
            computed, so no other is read meanwhile.
        errors: What a stage may raise because of one item; anything else ends the run at that item.

    Yields:
        An entry for each source, in their order.
    """
    room = threading.BoundedSemaphore(_MOST_BEHIND)
    behind: deque[Entry[Source, Item, Written]] = deque()
    with (
        WarningsByThread() as caught,
        ThreadPoolExecutor(_WRITERS, "write") as writers,
        ReadAhead(sources, read, share, caught) as ahead,
    ):

        def note_and_write(entry: Entry[Source, Item, Written], result: Result) -> Written:
            with caught.into(entry.warnings):
                return write(result, entry.source)

        for batch in _batches(ahead):
            behind.extend(batch)
            for entry, result in _computed(batch, compute, caught, errors):
                room.acquire()
                entry.written = writers.submit(note_and_write, entry, result)
                entry.written.add_done_callback(lambda _: room.release())
            while behind and behind[0].finished:
                yield behind.popleft()
        while behind:
            yield behind.popleft()


def _batches(
    entries: Iterable[Entry[Source, Item, Written]],
) -> Iterator[list[Entry[Source, Item, Written]]]:
    """Group consecutive entries. An item with a share of 1 or more never waits for those that follow it."""
    batch: list[Entry[Source, Item, Written]] = []
    filled = 0.0
    for entry in entries:
        # Entries without an item do not count: a file that cannot be read does not change the batches of the others.
        share = 0.0 if entry.item is None else entry.share
        if filled and filled + share > 1:
            yield batch
            batch, filled = [], 0.0
        batch.append(entry)
        filled += share
        if not 0 < filled < 1:
            yield batch
            batch, filled = [], 0.0
    if batch:
        yield batch


def _computed(
    batch: Sequence[Entry[Source, Item, Written]],
    compute: Callable[[Sequence[Item]], Sequence[Result]],
    caught: WarningsByThread,
    errors: tuple[type[Exception], ...],
) -> Iterator[tuple[Entry[Source, Item, Written], Result]]:
    """Yield the entries that could be computed, with their results; note the errors of the others."""
    entries = [entry for entry in batch if entry.item is not None]
    if not entries:
        return
    texts: list[str] = []
    try:
        with caught.into(texts):
            results = compute([entry.item for entry in entries if entry.item is not None])
    except errors as error:
        if len(entries) == 1:
            entries[0].error, entries[0].item = error, None
            return
        for entry in entries:
            yield from _computed([entry], compute, caught, errors)
        return
    for entry in entries:
        entry.item = None
        entry.warnings += _texts_about(entry, entries, texts)
    yield from zip(entries, results, strict=True)


def _texts_about(
    entry: Entry[Any, Any, Any], entries: Sequence[Entry[Any, Any, Any]], texts: Sequence[str]
) -> list[str]:
    """Return the warnings about one item of a batch: those that name it, and those that name none."""
    others = tuple(f"{other.source}: " for other in entries if other is not entry)
    return [text for text in texts if not text.startswith(others)]


def side_by_side(
    sources: Iterable[Source],
    read: Callable[[Source], Item | None],
    compute: Callable[[Sequence[Item]], Sequence[Result]],
    write: Callable[[Result, Source], Written],
    *,
    workers: int,
) -> Generator[Entry[Source, Item, Written], None, None]:
    """Send each source through the stages in a thread of its own, several at a time; for stages that mostly wait.

    Close the generator to end early: nobody waits for the sources in work, and those that wait are left.

    Args:
        sources: What to read.
        read: As for :func:`overlapped`, called from several threads.
        compute: As for :func:`overlapped`, for one item at a time.
        write: As for :func:`overlapped`.
        workers: Number of threads.

    Yields:
        As for :func:`overlapped`.
    """

    def process(entry: Entry[Source, Item, Written]) -> Written | None:
        with caught.into(entry.warnings):
            item = read(entry.source)
            if item is None:
                return None
            (result,) = compute([item])
            return write(result, entry.source)

    pool = ThreadPoolExecutor(workers)
    with WarningsByThread() as caught:
        try:
            entries: list[Entry[Source, Item, Written]] = [Entry(source) for source in sources]
            for entry in entries:
                entry.written = pool.submit(process, entry)
            yield from entries
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class ReadAhead(ClosedAtEnd, Generic[Source, Item, Written]):
    """Reads sources in a thread, one batch ahead of who iterates over the entries; use it as a context manager.

    Args:
        sources: What to read.
        read: As for :func:`overlapped`.
        share: As for :func:`overlapped`.
        caught: Collects the warnings of ``read``.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        read: Callable[[Source], Item | None],
        share: Callable[[Item], float],
        caught: WarningsByThread,
    ) -> None:
        self._sources, self._read, self._share, self._caught = sources, read, share, caught
        self._waiting: deque[Entry[Source, Item, Written]] = deque()
        self._changed = threading.Condition()
        self._in_use = False  # the item that was taken last is still being read
        self._closed = self._complete = False
        # A thread that must not keep the program alive: an interrupt may come while a file is decoded.
        self._thread = threading.Thread(target=self._run, name="read ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def close(self) -> None:
        """Read no further source, and forget those that wait."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(_END_S)

    def __iter__(self) -> Iterator[Entry[Source, Item, Written]]:
        while True:
            with self._changed:
                self._in_use = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._complete)
                if not self._waiting:
                    return
                entry = self._waiting.popleft()
                self._in_use = math.isinf(entry.share)
                self._changed.notify_all()
            yield entry

    def _has_room(self) -> bool:
        return not self._in_use and sum(entry.share for entry in self._waiting) < 1

    def _run(self) -> None:
        for source in self._sources:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._has_room())
                if self._closed:
                    return
            entry = self._entry(source)
            with self._changed:
                self._waiting.append(entry)
                self._changed.notify_all()
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def _entry(self, source: Source) -> Entry[Source, Item, Written]:
        entry: Entry[Source, Item, Written] = Entry(source)
        try:
            with self._caught.into(entry.warnings):
                entry.item = self._read(source)
            if entry.item is not None:
                entry.share = max(self._share(entry.item), _LEAST_SHARE)
        except BaseException as error:  # raised again where the outcome is asked for
            entry.error = error
        return entry


class WarningsByThread:
    """Collects the warnings of each thread in a list of its own, all of them; use it as a context manager.

    ``warnings.catch_warnings`` alone cannot tell threads apart. Threads without a list show warnings as before.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> Self:
        self._caught.__enter__()
        warnings.simplefilter("always")
        self._show = warnings.showwarning
        warnings.showwarning = self._note
        return self

    def __exit__(self, *exception: Any) -> None:
        self._caught.__exit__(*exception)

    @contextmanager
    def into(self, texts: list[str]) -> Iterator[None]:
        """Add the text of every warning that this thread issues in the block to a list."""
        before = getattr(self._local, "texts", None)
        self._local.texts = texts
        try:
            yield
        finally:
            self._local.texts = before

    def _note(self, message: Warning | str, *arguments: Any) -> None:
        texts: list[str] | None = getattr(self._local, "texts", None)
        if texts is None:
            self._show(message, *arguments)
        else:
            texts.append(str(message))
