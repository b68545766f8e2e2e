"""Ctrl-C and SIGTERM as a request to stop at the end of the step."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, ClassVar, Self


class StopRequest:
    """Context within which SIGINT and SIGTERM set a flag in place of their usual effect.

    An impatient second Ctrl-C stops at once. Outside the main thread, where Python allows no handlers, signals are
    left alone.

    Attributes:
        received: Whether a signal came.
    """

    REPEAT_S: ClassVar[float] = 2.0
    """Launchers pass on to each process the signal that the terminal has sent it already; only a SIGINT that comes
    later than this after the first one is a second request."""

    def __init__(self) -> None:
        self.received = False
        self._interrupted_s: float | None = None
        self._previous: dict[int, Any] = {}

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
        self.received = True
        if number == signal.SIGINT:
            now_s = time.monotonic()
            if self._interrupted_s is not None and now_s - self._interrupted_s >= self.REPEAT_S:
                raise KeyboardInterrupt
            self._interrupted_s = self._interrupted_s or now_s
