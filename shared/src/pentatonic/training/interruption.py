"""Ctrl-C and SIGTERM as a request to stop at the end of the step, and the file that records such a stop.

Launchers do not pass on the exit status of a trainer, so a job script cannot tell from it whether to queue the job
again. The file ``interrupted.json`` says so: it is in the run folder from when a signal has stopped the run until the
run is started again. A job script, which does not know the run folder, names a second place for the file in the
environment variable ``PENTATONIC_INTERRUPTED_FILE``.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, ClassVar, Self

from pentatonic.checkpoint import atomic_file

INTERRUPTED_FILE = "interrupted.json"
INTERRUPTED_FILE_VARIABLE = "PENTATONIC_INTERRUPTED_FILE"


def record_interruption(run_dir: Path, *, step: int, signal_name: str) -> None:
    """Write ``interrupted.json`` into the run folder, and where the environment variable says.

    Args:
        run_dir: Folder of the run.
        step: Optimizer steps done, all of them saved.
        signal_name: Such as ``SIGTERM``.

    Raises:
        CheckpointError: A file cannot be written.
    """
    record = json.dumps({"step": step, "signal": signal_name}) + "\n"
    for path in _interrupted_files(run_dir):
        with atomic_file(path) as file:
            file.write(record.encode())


def clear_interruption(run_dir: Path) -> None:
    """Remove what :func:`record_interruption` wrote."""
    for path in _interrupted_files(run_dir):
        path.unlink(missing_ok=True)


def _interrupted_files(run_dir: Path) -> list[Path]:
    named = os.environ.get(INTERRUPTED_FILE_VARIABLE)
    return [run_dir / INTERRUPTED_FILE, *([Path(named)] if named else [])]


class StopRequest:
    """Context within which SIGINT and SIGTERM set a flag in place of their usual effect.

    A second Ctrl-C stops at once. Outside the main thread, where Python allows no handlers, signals are
    left alone.

    Attributes:
        signal_name: Name of the first signal that came, such as ``SIGTERM``; None before that.
    """

    REPEAT_S: ClassVar[float] = 2.0
    """A SIGINT within this time after the first one is not a second Ctrl-C: launchers pass the signal on to processes
    that have it from the terminal already."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._interrupted_s: float | None = None
        self._previous: dict[int, Any] = {}

    @property
    def received(self) -> bool:
        """Whether a signal came."""
        return self.signal_name is not None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal_name = self.signal_name or signal.Signals(number).name
        if number == signal.SIGINT:
            now_s = time.monotonic()
            if self._interrupted_s is not None and now_s - self._interrupted_s >= self.REPEAT_S:
                raise KeyboardInterrupt
            self._interrupted_s = self._interrupted_s or now_s
