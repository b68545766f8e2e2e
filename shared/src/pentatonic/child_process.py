"""Run a risky step in a Python process of its own: a crash, a hang or a lack of memory fails one input, not the run.

A child runs one function, named ``"module:function"``. The function takes a :class:`Message` and returns one, or
yields several. Messages are JSON and raw bytes over pipes, and never pickles. An error of the kinds in
:mod:`pentatonic.errors` is raised again in this process; anything else ends the child, and a later request starts it
again.

A child works in an empty folder of its own, which a later run removes if this process is killed. Its module search path
is the one of this process without the current folder: files that lie where the user works are never imported. Loading
this module imports neither torch nor numpy.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from pentatonic import errors
from pentatonic.errors import InputError, PentatonicError, UsageError, restore_error
from pentatonic.processes.leftovers import owner, remove_leftovers

if TYPE_CHECKING:
    from concurrent.futures import Executor

_SAFE_PATH = "PYTHONSAFEPATH"
# Set in every child.
_CHILD = "PENTATONIC_CHILD"
_FOLDER = "pentatonic-child-"
_MOST_SAID = 200
# Most that Linux allows without privileges.
_PIPE_BYTES = 1 << 20
# Time that a process may take to end.
_END_S = 5.0
# A child whose parent was killed ends so long after its time limit.
_ORPHAN_S = 10.0
_LONGEST_ALARM_S = 1 << 30


class ChildFailure(InputError):
    """A child crashed, ended, or was stopped at its time limit; the message completes "the process …".

    Args:
        reason: Such as ``crashed (SIGSEGV)``, with the last line that the child wrote to standard error.
        timed_out: It was stopped at its time limit.
    """

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        self.timed_out = timed_out
        super().__init__(reason)


@dataclass(frozen=True)
class Message:
    """A request to a child, or an answer.

    Args:
        value: JSON value.
        data: Raw bytes; those that were received belong to the receiver, who may change them.
    """

    value: Any = None
    data: bytes | bytearray = b""


class ClosedAtEnd(ABC):
    """A context manager that closes itself."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """End what is open."""


def run_in_child(
    function: str, request: Message, *, seconds: float, memory_bytes: int | None = None
) -> Message:
    """Call a function once, in a new process; in a process that is a child already, call it there.

    Args:
        function: ``"module:function"``; takes and returns a :class:`Message`.
        request: Its argument.
        seconds: Time limit, start of the process included.
        memory_bytes: As for :class:`ChildProcess`.

    Returns:
        What the function returns.

    Raises:
        ChildFailure: The process crashed or reached the time limit.
        PentatonicError: What the function raises.
    """
    if os.environ.get(_CHILD):
        return _find(function)(request)
    with ChildProcess(function, seconds=seconds, memory_bytes=memory_bytes) as child:
        return child.ask(request)


class ChildProcess(ClosedAtEnd):
    """A process that answers one request after the other; the first request starts it, or the first after a crash.

    Use it as a context manager, from one thread at a time; only :meth:`close` may be called from another one.

    Args:
        function: ``"module:function"``; takes a :class:`Message`, and returns one or yields any number of them.
        seconds: Time limit for each answer; the first includes the start of the process.
        memory_bytes: Memory that the process may allocate, where the system can limit it; None: as much as there is.
    """

    def __init__(self, function: str, *, seconds: float, memory_bytes: int | None = None) -> None:
        self.function, self.seconds, self.memory_bytes = function, seconds, memory_bytes
        self._running: _Running | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Number of the process, while there is one."""
        return None if self._running is None else self._running.process.pid

    def start(self) -> None:
        """Start the process ahead of the first request, so that it imports its modules meanwhile."""
        self._start()

    def close(self) -> None:
        """Kill the process and what it started, also at work; later requests fail."""
        self._closed = True
        self._stop()

    def ask(self, request: Message) -> Message:
        """Return the answer of a function that gives one.

        Raises:
            ChildFailure: The process crashed, reached the time limit, or was closed.
            PentatonicError: What the function raises.
        """
        (answer,) = self.stream(request)
        return answer

    def stream(self, request: Message) -> Generator[Message, None, None]:
        """Yield the answers to a request as they come. An iteration that is left early stops the process.

        Raises:
            ChildFailure: As for :meth:`ask`.
            PentatonicError: What the function raises.
        """
        running = self._start()
        complete = False
        try:
            running.send(request, self.seconds)
            while (answer := running.receive(self.seconds)) is not None:
                yield answer
            complete = True
        except PentatonicError as error:
            complete = not isinstance(error, ChildFailure)
            raise
        finally:
            if not complete:  # the rest of this answer must not be taken for the answer to the next request
                self._stop()

    def _start(self) -> _Running:
        with self._lock:
            if self._closed:
                raise ChildFailure("was closed")
            if self._running is not None and self._running.process.poll() is not None:
                self._running.end()  # it was killed while it had nothing to do
                self._running = None
            if self._running is None:
                self._running = _Running(self.function, self.memory_bytes)
            return self._running

    def _stop(self) -> None:
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.end()


class ChildPool(ClosedAtEnd):
    """Several child processes of one function; each thread that asks gets one that is idle.

    Args:
        function: As for :class:`ChildProcess`.
        size: Number of processes. More threads than that wait.
        seconds: As for :class:`ChildProcess`.
        memory_bytes: As for :class:`ChildProcess`, for each process.
    """

    def __init__(self, function: str, size: int, *, seconds: float, memory_bytes: int | None = None) -> None:
        self._children = [
            ChildProcess(function, seconds=seconds, memory_bytes=memory_bytes) for _ in range(size)
        ]
        self._idle: SimpleQueue[ChildProcess] = SimpleQueue()
        for child in self._children:
            self._idle.put(child)

    def close(self) -> None:
        """Close all processes, also those at work."""
        for child in self._children:
            child.close()

    def answers(self, request: Message) -> list[Message]:
        """Return what an idle process answers; errors as for :meth:`ChildProcess.ask`."""
        child = self._idle.get()
        try:
            return list(child.stream(request))
        finally:
            self._idle.put(child)


@contextmanager
def safe_path() -> Iterator[None]:
    """Make Python processes that are started inside the block ignore modules that lie in the working folder.

    For pools and loaders of other libraries, which start processes by ``multiprocessing``.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_SAFE_PATH, None)
        else:
            os.environ[_SAFE_PATH] = before


@contextmanager
def process_pool(workers: int | None = None) -> Iterator[Executor]:
    """Run functions of trusted code in other processes, which ignore modules that lie in the working folder.

    For tools and benchmarks: arguments and results are pickled, and nothing limits time or memory. Library code takes a
    :class:`ChildPool`. The processes are started anew, not forked, so each imports the module of its function. Ctrl-C
    is left to this process: calls that wait are cancelled, and those at work are awaited. If it is killed, the others
    end, too.

    Args:
        workers: Number of processes; None: one per core.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with safe_path():
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin_worker)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that started it has ended: it would wait for calls forever."""
    from multiprocessing import parent_process

    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def python_environment(*places: Path) -> dict[str, str]:
    """Environment for ``[sys.executable, "-P", …]``: nothing is imported from the folder where the user works.

    Args:
        places: Folders to import from, before those of this process; such as that of a script and its modules.
    """
    try:
        here = os.path.realpath(".")
    except OSError:  # the folder was removed
        here = ""
    # A relative entry stands for a place in the current folder.
    own = [entry for entry in sys.path if Path(entry).is_absolute() and os.path.realpath(entry) != here]
    return os.environ | {_SAFE_PATH: "1", "PYTHONPATH": os.pathsep.join([*map(str, places), *own])}


class _Running:
    """One started process, with its pipes, its working folder and its standard error."""

    def __init__(self, function: str, memory_bytes: int | None) -> None:
        self._watchdog = _Watchdog(self._kill)
        self._lock = threading.Lock()
        self._reaped = False
        remove_leftovers(Path(tempfile.gettempdir()), _FOLDER)
        self._folder = tempfile.TemporaryDirectory(prefix=f"{_FOLDER}{owner()}-", ignore_cleanup_errors=True)
        self._stderr = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by end()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"),
                *(function, str(memory_bytes or 0)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=self._folder.name,
            env=python_environment() | {_CHILD: "1"},
            start_new_session=True,
        )
        for pipe in (self.process.stdin, self.process.stdout):
            _widen(pipe)

    def send(self, request: Message, seconds: float) -> None:
        """Write a request."""
        assert self.process.stdin is not None
        with self._watchdog.time_limit(seconds):
            try:
                _write(self.process.stdin, {"value": request.value, "seconds": seconds}, request.data)
            except (OSError, ValueError):  # ValueError: another thread closed the pipe
                raise self._failure(seconds) from None

    def receive(self, seconds: float) -> Message | None:
        """Return the next answer; None after the last one."""
        assert self.process.stdout is not None
        with self._watchdog.time_limit(seconds):
            try:
                header, data = _read(self.process.stdout)
            except (EOFError, OSError, ValueError):
                raise self._failure(seconds) from None
        if "value" in header:
            return Message(header["value"], data)
        # The process waits, and shares the position in the file: its next line will be about the next request.
        self._stderr.seek(0)
        self._stderr.truncate()
        if "error" in header:
            raise _restored(header["error"])
        return None

    def end(self) -> None:
        """Kill the process and all that it started, and clean up."""
        self._watchdog.stop()
        self._kill()
        with self._lock:
            self.process.wait()
            self._reaped = True
            for stream in (self.process.stdin, self.process.stdout, self._stderr):
                with suppress(OSError):  # a request that was not read
                    if stream is not None:
                        stream.close()
        self._folder.cleanup()

    def _kill(self) -> None:
        with self._lock:
            if self._reaped:  # its number may be that of another process by now
                return
            if hasattr(os, "killpg"):
                with suppress(ProcessLookupError, PermissionError):  # it has ended
                    os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()

    def _failure(self, seconds: float) -> ChildFailure:
        """Say why the process does not answer any more."""
        with suppress(subprocess.TimeoutExpired):  # it closed its pipes, and may be about to end
            self.process.wait(_END_S)
        self._kill()
        status = self.process.wait()
        with self._lock:  # another thread may close the files
            self._reaped = True
            said = None
            if not self._stderr.closed:
                self._stderr.seek(0)
                said = self._stderr.read().decode(errors="replace")
        if self._watchdog.expired:
            return ChildFailure(f"was stopped after {seconds:g} s", timed_out=True)
        if said is None:
            return ChildFailure("was closed")
        lines = said.strip().splitlines()
        return ChildFailure(": ".join((_end(status), *(line[:_MOST_SAID] for line in lines[-1:]))))


class _Watchdog:
    """Calls a function when a piece of work takes too long; one thread for any number of pieces, one at a time.

    Args:
        expire: What to call.
    """

    def __init__(self, expire: Callable[[], None]) -> None:
        self.expired = False
        self._expire = expire
        self._deadline_s = math.inf
        self._changed = threading.Condition()
        self._wakes_s = math.inf
        self._thread: threading.Thread | None = None
        self._stopped = False

    @contextmanager
    def time_limit(self, seconds: float) -> Iterator[None]:
        """Watch over the block."""
        with self._changed:
            self._deadline_s = time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="time limit", daemon=True)
                self._thread.start()
            elif self._deadline_s < self._wakes_s:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._deadline_s = math.inf

    def stop(self) -> None:
        """Watch no more."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._stopped:
                now_s = time.monotonic()
                if now_s >= self._deadline_s:
                    self.expired = True
                    self._expire()
                    return
                # A deadline that was met meanwhile does not shorten the sleep: the next one is seldom earlier.
                if self._deadline_s < math.inf or self._wakes_s <= now_s:
                    self._wakes_s = self._deadline_s
                self._changed.wait(min(self._wakes_s - now_s, threading.TIMEOUT_MAX))


def _end(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"crashed ({signal.Signals(-status).name})"
    except ValueError:
        return f"crashed (signal {-status})"


# What follows is the protocol, and the side of the child.


def _widen(pipe: IO[bytes] | None) -> None:
    """Let a pipe hold seconds of audio, where the system can do that: each process seldom waits for the other."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        assert pipe is not None
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _write(stream: IO[bytes], header: dict[str, Any], data: bytes | bytearray = b"") -> None:
    stream.write(json.dumps(header | {"bytes": len(data)}, default=str).encode() + b"\n")
    stream.write(data)
    stream.flush()


def _read(stream: IO[bytes]) -> tuple[dict[str, Any], bytearray]:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    header = json.loads(line)
    data = bytearray(header["bytes"])
    if data and stream.readinto(data) != len(data):  # type: ignore[attr-defined]
        raise EOFError
    return header, data


def _described(error: PentatonicError) -> dict[str, Any]:
    kind = next(each for each in type(error).__mro__ if each.__module__ == errors.__name__)
    return {"kind": kind.__name__, "message": str(error), "state": error.__dict__}


def _restored(described: dict[str, Any]) -> PentatonicError:
    return restore_error(getattr(errors, described["kind"]), (described["message"],), described["state"])


def _find(function: str) -> Any:
    module, _, name = function.partition(":")
    found = getattr(importlib.import_module(module), name, None)
    if found is None:
        raise UsageError(f"{function!r} is not the name of a function, module:function")
    return found


def _limit_memory(memory_bytes: int) -> None:
    with suppress(ImportError, OSError, ValueError):  # this system has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def serve() -> None:
    """Answer requests until there are no more; what a child process runs."""
    name, memory_bytes = sys.argv[1], int(sys.argv[2])
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What libraries print must not get between the answers.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    if memory_bytes:
        _limit_memory(memory_bytes)
    try:
        function = _find(name)
        while True:
            header, data = _read(requests)
            _end_after(header["seconds"])
            try:
                result = function(Message(header["value"], data))
                for answer in result if isinstance(result, Iterator) else [result]:
                    _write(answers, {"value": answer.value}, answer.data)
                    _end_after(header["seconds"])
                _write(answers, {"end": True})
            except PentatonicError as error:
                _write(answers, {"error": _described(error)})
            _end_after(0)
    except EOFError:  # there are no more requests; where the other process was killed, nobody else cleans up
        with suppress(OSError):
            Path.cwd().rmdir()


def _end_after(seconds: float) -> None:
    """Let the system end this process a while after its time limit, in case that nobody is left to do so."""
    if hasattr(signal, "alarm"):
        signal.alarm(min(math.ceil(seconds + _ORPHAN_S), _LONGEST_ALARM_S) if seconds else 0)
