"""Folders of MusicXML become folders of ABC, and back.

Every file is converted in a process that may be killed, so that a file on which a parser hangs or runs out of memory
costs that file and not the run. Paths go to that process as JSON, never through a shell.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from notagen.files.reading import MUSICXML_SUFFIXES, read_keyed_piece
from pentatonic import errors
from pentatonic.cli import BatchReport, progress
from pentatonic.errors import FormatError, InputError, PentatonicError, UsageError

Target = Literal["abc", "musicxml"]

#: What a folder is searched for: target -> suffixes in lower case.
SOURCE_SUFFIXES = {"abc": MUSICXML_SUFFIXES, "musicxml": (".abc",)}

# -P: a file of the working directory must not take the place of a module.
_COMMAND = (sys.executable, "-P", "-c", f"from {__name__} import _serve; _serve()")


def convert(
    sources: Sequence[Path], out: Path, *, to: Target, jobs: int = 0, timeout_s: float = 60.0
) -> BatchReport:
    """Convert files and folders between MusicXML and ABC.

    The folders below what the sources have in common are mirrored. ``a/b.mxl`` becomes ``a/b.abc``, or
    ``a/b.mxl.abc`` where another source would have that name too. An output appears whole or not at all.

    Args:
        sources: Files, which are read whatever their suffix, and folders, which are searched for
            :data:`SOURCE_SUFFIXES`. Names that start with a dot are left out, links to folders not followed.
        out: Folder to write; files in it with the names of outputs are replaced.
        to: What to write.
        jobs: Processes at a time; 0 stands for one per core.
        timeout_s: Seconds that one file may take.

    Returns:
        What became of each file, in the order of their names; a bad one is named with its reason.

    Raises:
        UsageError: Nothing to convert was found, or an argument is out of range.
    """
    if to not in SOURCE_SUFFIXES:
        raise UsageError(f"to is {to!r}; allowed are {' and '.join(SOURCE_SUFFIXES)}")
    if jobs < 0:
        raise UsageError(f"jobs is {jobs}; allowed are 0, for one per core, and more")
    if not 0 < timeout_s <= threading.TIMEOUT_MAX:
        raise UsageError(f"timeout_s is {timeout_s:g}; allowed is any number of seconds above 0")
    names = _output_names(sources, to)
    if not names:
        raise UsageError(f"no {' or '.join(SOURCE_SUFFIXES[to])} files in {', '.join(map(str, sources))}")
    return _run(names, out, to, jobs or _cores(), timeout_s, _COMMAND)


def _run(
    names: dict[Path, PurePosixPath],
    out: Path,
    to: Target,
    jobs: int,
    timeout_s: float,
    command: Sequence[str],
) -> BatchReport:
    report = BatchReport()
    workers = threading.local()
    started: list[_Worker] = []

    def work(source: Path) -> Path:
        if not hasattr(workers, "own"):
            workers.own = _Worker(command, timeout_s)
            started.append(workers.own)
        return _write(out / names[source], workers.own.convert(source, to))

    pool = ThreadPoolExecutor(min(jobs, len(names)))
    try:
        futures = {source: pool.submit(work, source) for source in names}
        with progress(len(names), f"converting to {to}") as bar:
            for source, future in futures.items():
                try:
                    report.done(source, output=future.result())
                except (PentatonicError, OSError) as error:
                    report.failed(source, error)
                bar.advance(1, note=source.name)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in list(started):
            worker.close()
        pool.shutdown()
    return report


def _write(target: Path, content: str) -> Path:
    from pentatonic.checkpoint import atomic_file  # slow to import, and a worker has no use for it

    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(target) as file:
        file.write(content.encode())
    return target


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _output_names(sources: Sequence[Path], to: Target) -> dict[Path, PurePosixPath]:
    """Return the files to convert, sorted, each with its output relative to the output folder."""
    found = sorted({file for source in sources for file in _files(source, to)})
    # By name and not by what links point to: the tree that a user sees is the tree that is mirrored.
    absolute = [Path(os.path.abspath(source)) for source in sources]  # noqa: PTH100 - resolves `..`, but no links
    root = os.path.commonpath([path if path.is_dir() else path.parent for path in absolute] or ["."])
    places = {file: PurePosixPath(Path(os.path.relpath(file, root)).as_posix()) for file in found}
    short = {file: place.with_suffix(f".{to}") for file, place in places.items()}
    long = {file: place.with_name(f"{place.name}.{to}") for file, place in places.items()}
    # Some file systems take names of different case for the same.
    uses = Counter(str(name).casefold() for name in (*short.values(), *long.values()))
    return {file: short[file] if uses[str(short[file]).casefold()] == 1 else long[file] for file in found}


def _files(source: Path, to: Target) -> Iterator[Path]:
    if not source.is_dir():
        yield source
        return
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in SOURCE_SUFFIXES[to]:
                yield Path(folder, name)


class _Worker:
    """A process that converts one file after the other; started anew after it was killed."""

    def __init__(self, command: Sequence[str], timeout_s: float) -> None:
        self.command, self.timeout_s = command, timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def close(self) -> None:
        """Kill the process, whatever it is doing."""
        self._closed = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def convert(self, source: Path, to: Target) -> str:
        """Convert one file.

        Raises:
            InputError: The file is bad, or the process took too long or died of it.
        """
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        guard = threading.Timer(self.timeout_s, stop)
        guard.start()
        try:
            process.stdin.write(json.dumps({"path": os.fspath(source), "to": to}).encode() + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        finally:
            guard.cancel()
        if not answer.endswith(b"\n"):
            self._discard(process)
            if late.is_set():
                raise InputError(f"{source}: not converted within {self.timeout_s:g} s")
            raise InputError(f"{source}: the converter died of it with status {process.returncode}")
        return _content(source, json.loads(answer))

    def _running(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise InputError("the conversion was stopped")
        if self._process is None:
            self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._process

    def _discard(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.communicate()
        self._process = None


def _content(source: Path, answer: dict[str, Any]) -> str:
    if "content" in answer:
        return answer["content"]
    kind = getattr(errors, answer["error"])
    if kind is FormatError:
        raise FormatError(answer["reason"], path=source, line=answer["line"], column=answer["column"])
    raise kind(answer["reason"])


def _serve() -> None:
    """Answer requests until there are no more; runs in the worker process."""
    answers = sys.stdout.buffer
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            answer = {"content": _converted(Path(request["path"]), request["to"])}
        except FormatError as error:
            where = {"line": error.line, "column": error.column}
            answer = {"error": "FormatError", "reason": error.reason, **where}
        except PentatonicError as error:
            answer = {"error": type(error).__name__, "reason": str(error)}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _converted(path: Path, to: Target) -> str:
    from notagen.musicxml import abc_to_musicxml, musicxml_to_abc

    if to == "musicxml":
        return abc_to_musicxml(read_keyed_piece(path)).decode()
    if path.suffix.lower() == ".abc":
        raise FormatError(
            f"this is ABC already; ABC is made of {', '.join(MUSICXML_SUFFIXES)} files, "
            "and of ABC can be made musicxml, midi, svg, pdf or wav"
        )
    return musicxml_to_abc(path)
