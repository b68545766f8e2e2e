"""``notagen convert``: folders of scores become folders of ABC, MusicXML, MIDI, pages or sound.

The content of every file is converted in a child process, so that a parser that hangs, crashes or runs out of
memory fails one file and not the run. The stages are :func:`read_request`, :func:`convert_requests` and
:func:`write_output`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from notagen.files.check import Dialect, reading_notes, require_key
from notagen.files.formats import FORMATS, ExportPiece, check_formats
from notagen.files.output_record import OutputRecord
from notagen.files.reading import (
    ABC_SUFFIXES,
    MUSICXML_SUFFIXES,
    Tune,
    is_musicxml,
    read_content,
    tunes_of,
)
from notagen.files.writing import write_files
from notagen.score.losses import losses, lost
from pentatonic.child_process import ChildFailure, ChildPool, Message
from pentatonic.cli import BatchReport
from pentatonic.errors import FormatError, InputError, UsageError
from pentatonic.folder_run import mirrored, run_files, search_files, without_suffixes

if TYPE_CHECKING:
    from notagen.yue2.conversion import Choice

#: Memory of one child, in bytes; a piece of a hundred pages needs a tenth of it.
MEMORY_LIMIT = 4 << 30

# Suffixes that folders are searched for, by kind; those of the kind that is written are left out.
_SUFFIXES = {"abc": ABC_SUFFIXES, "musicxml": MUSICXML_SUFFIXES}
_CHILD = f"{__name__}:convert_content"


def convert(
    sources: Sequence[Path],
    out: Path,
    *,
    to: str,
    jobs: int = 0,
    timeout_s: float = 60.0,
    overwrite: bool = False,
    dialect: Dialect = "notagen",
    soundfont: Path | None = None,
    choice: Choice | None = None,
) -> BatchReport:
    """Convert files and folders of ABC and MusicXML.

    The folders below what the sources have in common are mirrored. ``a/b.mxl`` becomes ``a/b.abc``, or
    ``a/b.mxl.abc`` where another source would have that name too; of a book of tunes, each tune becomes a file of its
    own, ``book-7.musicxml`` for ``X:7``. An output appears whole or not at all.

    Args:
        sources: Files, which are read whatever their suffix, and folders, which are searched for ABC and MusicXML
            (what is of the target's format already is left out); see :func:`pentatonic.folder_run.search_files`.
        out: Folder to write. A file in it that has the name of an output, and is not as this command wrote it, fails
            its source.
        to: Of :data:`notagen.files.formats.FORMATS`.
        jobs: Processes at a time; 0 stands for one per core.
        timeout_s: Seconds that one file may take.
        overwrite: Replace any file with the name of an output.
        dialect: Of the ABC that is written. With ``yue2`` (:mod:`notagen.yue2`) ABC is read too; what is in that
            dialect already is copied, and what it cannot hold of a piece is counted under its ``losses``.
        soundfont: Of the sound that is written; from :func:`pentatonic.audio.soundfont.find_soundfont`. None: the
            built-in synthesiser.
        choice: With ``yue2``: the voices that are taken, and a grid for the times.

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
    if dialect == "yue2" and to != "abc":
        raise UsageError(f"the dialect yue2 is one of ABC; to is {to!r}")
    if choice is not None and dialect != "yue2":
        raise UsageError(f"a choice of voices or a grid is for the dialect yue2; dialect is {dialect!r}")
    rewritten = dialect == "yue2"
    suffixes = [
        suffix for kind, of_kind in _SUFFIXES.items() if rewritten or kind != to for suffix in of_kind
    ]
    found = search_files(sources, suffixes)
    places = without_suffixes(mirrored(sources, found.files))
    if not places:
        raise UsageError(f"no {', '.join(suffixes)} files in {', '.join(map(str, sources))}")
    workers = min(jobs or _cores(), len(places))
    targets = {source: out / place for source, place in places.items()}
    record = OutputRecord(out, overwrite=overwrite)
    try:
        with ChildPool(_CHILD, workers, seconds=timeout_s, memory_bytes=MEMORY_LIMIT) as children:
            report = run_files(
                targets,
                partial(read_request, to=to, dialect=dialect, soundfont=soundfont, choice=choice),
                partial(convert_requests, children=children),
                partial(write_output, record=record),
                description=f"converting to {to}",
                workers=workers,
            )
    finally:
        record.save()
    report.passed_over = found.passed_over
    return report


def read_request(
    source: Path,
    *,
    to: str,
    dialect: Dialect = "notagen",
    soundfont: Path | None = None,
    choice: Choice | None = None,
) -> Message:
    """Read one file; the first stage.

    Raises:
        InputError: It cannot be read, or is of the format ``abc`` already.
    """
    if to == "abc" and dialect == "notagen" and not is_musicxml(source.suffix):
        raise FormatError(
            f"this is ABC already; ABC is made of {', '.join(MUSICXML_SUFFIXES)} files, and of ABC can be "
            f"made {', '.join(name for name in FORMATS if name != 'abc')}"
        )
    if source.is_fifo():  # reading it would wait forever
        raise InputError(f"{source}: this is a named pipe; allowed are files")
    font = None if soundfont is None else str(soundfont.absolute())
    value = {"suffix": source.suffix, "to": to, "dialect": dialect, "soundfont": font}
    value |= {"choice": asdict(choice)} if choice is not None else {}
    return Message(value, read_content(source))


@dataclass
class Converted:
    """What became of one source.

    Args:
        files: End of the name, such as ``.mid``, ``-1.svg`` or, of the third tune of a book, ``-3.mid`` -> content.
        failures: Why tunes of a book could not be converted.
        notes: What a reader should know about how the source was understood.
        losses: Kind of what the format cannot keep -> number; see :mod:`notagen.score.losses`.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    losses: dict[str, int] = field(default_factory=dict)


def convert_requests(requests: Sequence[Message], *, children: ChildPool) -> list[Converted]:
    """Convert the pieces of files by :func:`convert_content` in a child process; the second stage.

    Raises:
        InputError: A piece cannot be converted, or the process crashed or took too long.
    """
    try:
        return [_collected(children.answers(request)) for request in requests]
    except ChildFailure as failure:
        raise InputError(f"the converter {failure}") from failure


def _collected(messages: Iterable[Message]) -> Converted:
    converted = Converted()
    for message in messages:
        if isinstance(message.value, str):
            converted.files[message.value] = bytes(message.data)
        elif "failed" in message.value:
            converted.failures.append(message.value["failed"])
        elif "note" in message.value:
            converted.notes.append(message.value["note"])
        else:
            converted.losses = message.value["losses"]
    return converted


def write_output(converted: Converted, stem: Path, *, record: OutputRecord) -> dict[str, object]:
    """Write the files of one source; return their paths and its losses for the report; the last stage.

    Raises:
        InputError: Tunes of a book could not be converted (the others are written), or a file exists that the record
            does not allow to replace.
        CheckpointError: A file cannot be written.
    """
    files = {stem.with_name(stem.name + end): content for end, content in converted.files.items()}
    record.check(files)
    paths = write_files(converted.files, stem)
    record.add(files)
    if failures := converted.failures:
        others = f"; the other {len(paths)} files were written" if paths else ""
        raise InputError(f"{len(failures)} tunes of the book failed: {'; '.join(failures)}{others}")
    flags = {"flags": list(dict.fromkeys(converted.notes))} if converted.notes else {}
    return {"output": paths, "losses": converted.losses, **flags}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def convert_content(request: Message) -> Iterator[Message]:
    """Convert one piece in the child process.

    Args:
        request: Content of a file; its ``value`` has the ``suffix`` of the file and the format ``to``, and may have a
            ``dialect``, a ``soundfont`` and a ``choice``.

    Yields:
        The files of the format: end of the name, such as ``.mid`` or ``-1.svg``, and content; last an object with the
        ``losses``.

    Raises:
        InputError: It cannot be read, or not be written in this format.
    """
    with losses() as found:
        tunes = tunes_of(bytes(request.data), request.value["suffix"])
        for tune in tunes:
            try:
                if request.value.get("dialect") == "yue2":
                    yield from _yue2_files(tune, request.value.get("choice", {}))
                else:
                    yield from _tune_files(tune, request.value["to"], request.value.get("soundfont"))
            except InputError as error:
                if len(tunes) == 1:
                    raise
                yield Message({"failed": f"tune {tune.name}: {error}"})
    yield Message({"losses": dict(found)})


def _yue2_files(tune: Tune, choice: Mapping[str, Any]) -> Iterator[Message]:
    from notagen.yue2 import check
    from notagen.yue2.conversion import Choice, convert_to_yue2

    suffix = f"{tune.suffix}.abc"
    if not check(tune.text)[1]:
        yield Message(suffix, tune.text.encode())
        if choice:
            yield Message({"note": "this is in the dialect already, and was copied without a change"})
        return
    require_key(tune.text)
    converted = convert_to_yue2(tune.text, Choice(**choice))
    yield Message(suffix, converted.text.encode())
    for what, count in converted.losses.items():
        lost(what, count)


def _tune_files(tune: Tune, to: str, soundfont: str | None) -> Iterator[Message]:
    try:
        require_key(tune.text)
        files = FORMATS[to].files(ExportPiece(tune.text, Path(soundfont) if soundfont else None))
    except FormatError as error:
        notes = "".join(f" ({note})" for note in tune.notes)
        raise FormatError(error.reason + notes, line=error.line, column=error.column) from error
    for end, content in files.items():
        yield Message(tune.suffix + end, content)
    with losses():  # reading the piece once more loses nothing more
        notes = (*tune.notes, *reading_notes(tune.text))
    for note in notes:
        yield Message({"note": f"tune {tune.name}: {note}" if tune.name else note})
