"""One piece of work for each row of a manifest: several at a time, results in order, failures by name."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from pentatonic.child_process import ClosedAtEnd
from pentatonic.cli import BatchReport, progress
from pentatonic.errors import AudioError, PentatonicError
from pentatonic.folder_run import OutputError
from pentatonic.pipeline import side_by_side
from rc_audioldm.data.manifest import ManifestRow

if TYPE_CHECKING:
    from pentatonic.audio import DecodingProcess

Result = TypeVar("Result")
# What every further row would meet as well.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Skipped:
    """Result of a row for which there is nothing to make, and that is no failure.

    Args:
        reason: Why.
    """

    reason: str


@dataclass(frozen=True)
class AlreadyDone(Generic[Result]):
    """Result of a row whose outputs an earlier run has made.

    Args:
        result: As if they had been made now.
    """

    result: Result


def run_rows(
    rows: Sequence[ManifestRow],
    work: Callable[[ManifestRow], Result | AlreadyDone[Result] | Skipped],
    *,
    description: str,
    workers: int = 1,
) -> tuple[list[Result | None], BatchReport]:
    """Call a function for each row. An error of one row is recorded, and does not affect the others.

    Args:
        rows: Of a manifest.
        work: Called from several threads. What it raises about a file is reported under the path of the row.
        description: What is being done, for the progress line.
        workers: Rows at a time.

    Returns:
        Results in the order of the rows, None for those that failed or were skipped, and what became of each row.

    Raises:
        Interrupted: Ctrl-C; its report says which rows are not done.
        OutputError: The disk is full or cannot be written.
    """
    report = BatchReport()
    results: list[Result | None] = []
    entries = side_by_side(
        rows, lambda row: row, lambda items: [work(items[0])], lambda result, _: result, workers=workers
    )
    names = [row.path for row in rows]
    with report.interruptible(names), progress(len(rows), description) as bar, closing(entries):
        for entry in entries:
            row = entry.source
            result = None
            try:
                outcome = entry.outcome()
            except (PentatonicError, OSError) as error:
                cause = error if isinstance(error, OSError) else error.__cause__
                if isinstance(cause, OSError) and cause.errno in _FULL:
                    raise OutputError(f"{error}; the same command continues from there", report) from error
                if isinstance(error, AudioError):
                    error.args = (error.reason,)
                report.failed(row.path, error)
            else:
                if isinstance(outcome, Skipped):
                    report.skipped(row.path, outcome.reason)
                elif isinstance(outcome, AlreadyDone):
                    result = outcome.result
                    report.skipped(row.path)
                else:
                    result = outcome
                    report.done(row.path, **({"warnings": entry.warnings} if entry.warnings else {}))
            report.entries[-1]["id"] = row.id
            results.append(result)
            bar.advance(1, note=row.path)
    return results, report


class DecoderPool(ClosedAtEnd):
    """Processes that decode audio; each thread borrows one that is idle.

    Args:
        size: Number of processes.
    """

    def __init__(self, size: int) -> None:
        from pentatonic.audio import (
            DecodingProcess,
        )  # with torch, which the processes of other steps do without

        self._processes = [DecodingProcess() for _ in range(size)]
        self._idle: SimpleQueue[DecodingProcess] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)

    def close(self) -> None:
        """Stop all processes, also those at work."""
        for process in self._processes:
            process.close()

    @contextmanager
    def borrow(self) -> Iterator[DecodingProcess]:
        """Lend an idle process to this thread for the block; waits for one."""
        process = self._idle.get()
        try:
            yield process
        finally:
            self._idle.put(process)
