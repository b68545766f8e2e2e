"""Progress of long work on standard error: a bar on a terminal, plain lines elsewhere.

Use :func:`progress` through :mod:`pentatonic.cli`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, overload

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

__all__ = ["ProgressBar", "printable", "progress", "show_detail"]

T = TypeVar("T")


class ProgressBar(Generic[T]):
    """Progress of one piece of work; made by :func:`progress`.

    Use it as a context manager with :meth:`advance`, or iterate over it. A bar that is opened while another
    is shown is drawn below it. In a distributed job, only the process with rank 0 prints.

    Attributes:
        total: Number of steps, or None where it is not known.
        done: Steps so far.
        description: What is being done.
    """

    PLAIN_INTERVAL_S: ClassVar[float] = 10.0
    """Without a terminal a line is printed at most this often, apart from the first and the last one."""

    _display: ClassVar[RichProgress | None] = None  # a terminal has one live display, which all bars share
    _open: ClassVar[list[ProgressBar[Any]]] = []  # in the order in which they were opened

    def __init__(self, work: Iterable[T] | int | None, description: str, done: int = 0) -> None:
        self._items: Iterable[Any] | None = range(work) if isinstance(work, int) else work
        self.total = len(self._items) if isinstance(self._items, Sized) else None
        self.description = description
        self.done = done
        self._note = ""
        self._silent = os.environ.get("RANK", "0") != "0"
        self._task: Any = None
        self._owns_display = False

    def __enter__(self) -> Self:
        self._started_s = self._printed_s = time.monotonic()
        ProgressBar._open.append(self)
        if self._silent:
            return self
        if ProgressBar._display is None and (display := _terminal_display()) is not None:
            ProgressBar._display, self._owns_display = display, True
            display.start()
        if ProgressBar._display is not None:
            text = one_line(self.description)
            self._task = ProgressBar._display.add_task(text, total=self.total, completed=self.done, note="")
        else:
            self._print_line("continued" if self.done else "started")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ProgressBar._open.remove(self)
        display = ProgressBar._display
        if self._owns_display and display is not None:
            display.stop()
            ProgressBar._display = None
        elif self._task is not None and display is not None:
            display.remove_task(self._task)
        elif self._task is None and not self._silent:
            complete = kind is None and (self.total is None or self.done >= self.total)
            self._print_line("done" if complete else "stopped")
        self._task, self._owns_display = None, False

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count ``n`` more steps as done.

        Args:
            n: Number of steps.
            note: Text beside the bar, such as ``"loss 1.23"``; an empty note keeps the last one.
        """
        self.done += n
        self._note = note or self._note
        self._refresh()

    def detail(self, note: str) -> None:
        """Show how far the current step is, without counting it as done.

        Args:
            note: Text beside the bar, such as ``"song.wav: 120 s of audio"``.
        """
        self._note = note
        self._refresh()

    def describe(self, description: str) -> None:
        """Change the description, for instance between the phases of one job."""
        self.description = description
        self._refresh()

    def __iter__(self) -> Iterator[T]:
        if self._items is None:
            raise TypeError("this progress has no items: open it with 'with' and call advance()")
        with self:
            for item in self._items:
                yield item
                self.advance()

    def _refresh(self) -> None:
        if self._silent:
            return
        if self._task is not None and ProgressBar._display is not None:
            text, note = one_line(self.description), one_line(self._note)
            ProgressBar._display.update(self._task, completed=self.done, description=text, note=note)
        elif time.monotonic() - self._printed_s >= self.PLAIN_INTERVAL_S:
            self._print_line()

    def _print_line(self, state: str = "") -> None:
        self._printed_s = time.monotonic()
        count = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
        if self.total:
            count += f" ({100 * self.done // self.total}%)"
        elapsed = "" if state in ("started", "continued") else f"{self._printed_s - self._started_s:.1f} s"
        parts = [part for part in (count, elapsed, self._note, state) if part]
        print(one_line(f"{self.description}: {', '.join(parts)}"), file=sys.stderr, flush=True)


@overload
def progress(work: int | None, description: str, *, done: int = 0) -> ProgressBar[int]: ...
@overload
def progress(work: Iterable[T], description: str) -> ProgressBar[T]: ...
def progress(work: Iterable[T] | int | None, description: str, *, done: int = 0) -> ProgressBar[Any]:
    """Show progress on standard error: a bar on a terminal, plain lines elsewhere.

    Args:
        work: What to iterate over, or a number of steps, or None where the number is not known.
        description: A few words, such as ``"embedding"``.
        done: Steps that were done before.

    Returns:
        The bar. Iterate over it, ``for path in progress(paths, "embedding")``, or call its methods:
        ``with progress(1000, "training") as bar: bar.advance(1, note="loss 1.23")``.
    """
    return ProgressBar(work, description, done)


def show_detail(note: str) -> None:
    """Call :meth:`ProgressBar.detail` of the bar that was opened last; without an open bar nothing happens.

    For work that does not know the bar it is a step of, such as the reading of one file of a folder.
    """
    if ProgressBar._open:
        ProgressBar._open[-1].detail(note)


def printable(text: str) -> str:
    r"""Escape control characters, so that the name or a tag of an untrusted file cannot control the terminal.

    Args:
        text: Any text; line feeds stay.

    Returns:
        The text with each other non-printing character as its Python escape, such as ``\x1b``.
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    r"""Escape control characters as :func:`printable` does, and line feeds too, as ``\n``."""
    return printable(text).replace("\n", "\\n")


def _terminal_display() -> RichProgress | None:
    if not sys.stderr.isatty():
        return None
    from rich import progress as rich_progress
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_interactive:
        return None
    return rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[note]}", markup=False),
        console=console,
        # Results that go to a file or a pipe must not be printed into the display.
        redirect_stdout=sys.stdout.isatty(),
    )
