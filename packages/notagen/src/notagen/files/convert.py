"""``notagen convert``: folders of scores become folders of ABC, MusicXML, MIDI, pages or sound.

The content of every file is converted in a child process, so that a parser that hangs, crashes or runs out of
memory fails one file and not the run. The stages are :func:`read_request`, :func:`convert_requests` and
:func:`write_output`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from notagen.files.formats import FORMATS, ExportPiece, check_formats
from notagen.files.reading import (
    ABC_SUFFIXES,
    MUSICXML_SUFFIXES,
    is_musicxml,
    piece_text,
    read_content,
)
from notagen.files.writing import write_files
from notagen.score.losses import losses
from pentatonic.child_process import ChildFailure, ChildPool, Message
from pentatonic.cli import BatchReport
from pentatonic.errors import FormatError, InputError, UsageError
from pentatonic.folder_run import mirrored, run_files, search_files, without_suffixes

#: Memory of one child, in bytes; a piece of a hundred pages needs a tenth of it.
MEMORY_LIMIT = 4 << 30

# Suffixes that folders are searched for, by kind; those of the kind that is written are left out.
_SUFFIXES = {"abc": ABC_SUFFIXES, "musicxml": MUSICXML_SUFFIXES}
_CHILD = f"{__name__}:convert_content"


@dataclass(frozen=True)
class Converted:
    """A converted piece.

    Args:
        files: End of the name, such as ``.mid`` or ``-1.svg`` -> content.
        losses: Kind of what the format cannot keep -> number; see :mod:`notagen.score.losses`.
    """

    files: Mapping[str, bytes]
    losses: Mapping[str, int]


def convert(
    sources: Sequence[Path], out: Path, *, to: str, jobs: int = 0, timeout_s: float = 60.0
) -> BatchReport:
    """Convert files and folders of ABC and MusicXML.

    The folders below what the sources have in common are mirrored. ``a/b.mxl`` becomes ``a/b.abc``, or
    ``a/b.mxl.abc`` where another source would have that name too. An output appears whole or not at all.

    Args:
        sources: Files, which are read whatever their suffix, and folders, which are searched for ABC and MusicXML
            (what is of the target's format already is left out); see :func:`pentatonic.folder_run.search_files`.
        out: Folder to write; files in it with the names of outputs are replaced.
        to: Of :data:`notagen.files.formats.FORMATS`.
        jobs: Processes at a time; 0 stands for one per core.
        timeout_s: Seconds that one file may take.

    Returns:
        What became of each file, in the order of their names; a bad one is named with its reason. What a good one lost
        is counted by kind under ``losses``.

    Raises:
        UsageError: Nothing to convert was found, or an argument is out of range.
        MissingExtra: The format needs what is not installed.
    """
    check_formats([to], "to")
    if jobs < 0:
        raise UsageError(f"jobs is {jobs}; allowed are 0, for one per core, and more")
    if not 0 < timeout_s <= threading.TIMEOUT_MAX:
        raise UsageError(f"timeout_s is {timeout_s:g}; allowed is any number of seconds above 0")
    suffixes = [suffix for kind, of_kind in _SUFFIXES.items() if kind != to for suffix in of_kind]
    found = search_files(sources, suffixes)
    places = without_suffixes(mirrored(sources, found.files))
    if not places:
        raise UsageError(f"no {', '.join(suffixes)} files in {', '.join(map(str, sources))}")
    workers = min(jobs or _cores(), len(places))
    targets = {source: out / place for source, place in places.items()}
    with ChildPool(_CHILD, workers, seconds=timeout_s, memory_bytes=MEMORY_LIMIT) as children:
        report = run_files(
            targets,
            partial(read_request, to=to),
            partial(convert_requests, children=children),
            write_output,
            description=f"converting to {to}",
            workers=workers,
        )
    report.passed_over = found.passed_over
    return report


def read_request(source: Path, *, to: str) -> Message:
    """Read one file; the first stage.

    Raises:
        InputError: It cannot be read, or is of the format ``abc`` already.
    """
    if to == "abc" and not is_musicxml(source.suffix):
        raise FormatError(
            f"this is ABC already; ABC is made of {', '.join(MUSICXML_SUFFIXES)} files, and of ABC can be "
            f"made {', '.join(name for name in FORMATS if name != 'abc')}"
        )
    if source.is_fifo():  # reading it would wait forever
        raise InputError(f"{source}: this is a named pipe; allowed are files")
    return Message({"suffix": source.suffix, "to": to}, read_content(source))


def convert_requests(requests: Sequence[Message], *, children: ChildPool) -> list[Converted]:
    """Convert pieces by :func:`convert_content` in a child process; the second stage.

    Raises:
        InputError: A piece cannot be converted, or the process crashed or took too long.
    """
    try:
        return [_converted(children.answers(request)) for request in requests]
    except ChildFailure as failure:
        raise InputError(f"the converter {failure}") from failure


def _converted(answers: Sequence[Message]) -> Converted:
    files = {answer.value: bytes(answer.data) for answer in answers if isinstance(answer.value, str)}
    counts = (answer.value["losses"] for answer in answers if isinstance(answer.value, dict))
    return Converted(files, next(counts, {}))


def write_output(piece: Converted, stem: Path) -> dict[str, object]:
    """Write the files of one piece and return their paths and its losses for the report; the last stage.

    Raises:
        CheckpointError: A file cannot be written.
    """
    return {"output": write_files(piece.files, stem), "losses": dict(piece.losses)}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def convert_content(request: Message) -> Iterator[Message]:
    """Convert one piece in the child process.

    Args:
        request: Content of a file; its ``value`` has the ``suffix`` of the file and the format ``to``.

    Yields:
        The files of the format: end of the name, such as ``.mid`` or ``-1.svg``, and content; last an object with the
        ``losses``.

    Raises:
        InputError: It cannot be read, or not be written in this format.
    """
    with losses() as found:
        text = piece_text(bytes(request.data), request.value["suffix"])
        if not any(line.lstrip().startswith("K:") for line in text.splitlines()):
            raise FormatError("this is not a tune: it has no K: line, which ends the header of ABC")
        files = FORMATS[request.value["to"]].files(ExportPiece(text))
    for end, content in files.items():
        yield Message(end, content)
    yield Message({"losses": dict(found)})
