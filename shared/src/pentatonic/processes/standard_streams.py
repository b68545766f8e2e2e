"""Standard output and error that are closed, or that nobody reads any more, end no program and lose no work.

``omar-rq embed … | head -1`` and ``2>&-`` are no errors: what cannot be delivered is dropped, the work goes on, and the
exit status is that of the work. A result that cannot be written for another reason, such as a full disk, is an error.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO


def make_lasting() -> None:
    """Replace the standard streams of this process by ones that drop what cannot be delivered.

    A descriptor that is closed is opened as the null device, or else the next file that is opened would get its number,
    and messages. Streams that another program has put in their place, such as a test, are left alone.
    """
    if os.name != "posix":
        return
    for descriptor in (0, 1, 2):
        _open_if_closed(descriptor)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _lasting(sys.stdout, 1, BrokenPipeError)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _lasting(sys.stderr, 2, OSError)


def flush_results() -> None:
    """Write what standard output still holds.

    Raises:
        OSError: It cannot be written; it is then dropped.
    """
    try:
        sys.stdout.flush()
    except OSError:
        if sys.stdout.fileno() == 1:
            _discard(1)  # or else the interpreter would fail again, with a traceback
        raise


def _open_if_closed(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


def _lasting(stream: TextIO | None, descriptor: int, dropped: type[OSError]) -> TextIO:
    if stream is not None:
        stream.flush()
    assert stream is None or isinstance(stream, io.TextIOWrapper)
    return io.TextIOWrapper(
        io.BufferedWriter(_Outlet(descriptor, dropped)),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace",
        # Where Python was told not to buffer (-u), it does not set line_buffering.
        line_buffering=stream is None or stream.line_buffering or stream.write_through or descriptor == 2,
    )


class _Outlet(io.FileIO):
    """A descriptor that turns into the null device at an error of the kind ``dropped``."""

    def __init__(self, descriptor: int, dropped: type[OSError]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._dropped = dropped

    def write(self, data: Any, /) -> int | None:
        try:
            return super().write(data)
        except self._dropped:
            _discard(self.fileno())
            return len(data)


def _discard(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
