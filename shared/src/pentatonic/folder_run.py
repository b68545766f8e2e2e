"""A run over a folder of files: mirrored outputs, a folder that belongs to one kind of run, skip and resume, a report.

The work has three stages, which are plain functions: ``read(source)`` gives an item, ``compute(items)`` gives a result
for each item, and ``write(result, target)`` writes one and returns what the report says about it. They share nothing
but these values, so another driver may call them from other threads or on other machines; :func:`run_files` is the
driver for one process, in which the stages overlap. Loading this module does not import torch.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, json_text, progress
from pentatonic.errors import PentatonicError, UsageError
from pentatonic.pipeline import overlapped, side_by_side

if TYPE_CHECKING:
    from torch import Tensor

RUN_FILE, REPORT_FILE = "run.json", "report.json"

Item = TypeVar("Item")
Result = TypeVar("Result")
About = Mapping[str, object]
"""What the report says about an input that was processed."""

# Which inputs there are, and what their outputs are called


@dataclass(frozen=True)
class FoundFiles:
    """What a search found.

    Attributes:
        files: Sorted paths without duplicates. What cannot be read is kept, so that a batch can report it: missing
            paths, dangling links and folders without permission.
        passed_over: Suffix in lower case, or ``""`` -> how many files of the folders were left out for it, the most
            frequent one first.
    """

    files: list[Path]
    passed_over: dict[str, int]


def search_files(
    paths: Iterable[str | Path], suffixes: Collection[str], *, recursive: bool = True
) -> FoundFiles:
    """Find files of some kinds among files and folders, and count the others.

    Args:
        paths: Files, which are kept whatever their suffix, and folders, which are searched. Links to folders are
            followed, every folder is visited once, so loops of links end. Names that start with a dot are left out,
            and not counted.
        suffixes: What folders are searched for, in lower case, such as ``.wav``.
        recursive: Search folders inside folders.
    """
    found: set[Path] = set()
    others: set[Path] = set()
    for path in map(Path, paths):
        if _is_folder(path):
            _search_folder(path, suffixes, recursive, found, others)
        else:
            found.add(path)
    counts = Counter(path.suffix.lower() for path in others - found)
    return FoundFiles(sorted(found), dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))))


def find_files(
    paths: Iterable[str | Path], suffixes: Collection[str], *, recursive: bool = True
) -> list[Path]:
    """Return the files that :func:`search_files` finds."""
    return search_files(paths, suffixes, recursive=recursive).files


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a parent without permission
        return False


def _search_folder(
    folder: Path, suffixes: Collection[str], recursive: bool, found: set[Path], others: set[Path]
) -> None:
    visited: set[tuple[int, int]] = set()
    walk = os.walk(folder, onerror=lambda error: found.add(Path(error.filename)), followlinks=True)
    for root, folders, names in walk:
        status = Path(root).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in visited:
            folders.clear()
            continue
        visited.add(identity)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if recursive else []
        for name in names:
            if not name.startswith("."):
                kept = Path(name).suffix.lower() in suffixes
                (found if kept else others).add(Path(root, name))


def mirrored(paths: Sequence[str | Path], files: Iterable[Path]) -> dict[Path, PurePosixPath]:
    """Place files relative to the folder that all ``paths`` share, so that outputs mirror the inputs.

    Args:
        paths: What the user named: files and folders.
        files: What :func:`find_files` found there.

    Returns:
        File -> its place.
    """
    # By name and not by what links point to: the tree that a user sees is the tree that is mirrored.
    absolute = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 - resolves `..`, but no links
    root = os.path.commonpath([path if path.is_dir() else path.parent for path in absolute] or ["."])
    return {file: PurePosixPath(Path(os.path.relpath(file, root)).as_posix()) for file in files}


def without_suffixes(places: Mapping[Path, PurePosixPath]) -> dict[Path, PurePosixPath]:
    """Leave out the suffix of each place, unless two files would then have the same name.

    Args:
        places: File -> place, from :func:`mirrored`.

    Returns:
        File -> place: ``a/b`` for ``a/b.mxl``, or ``a/b.mxl`` where there is another ``a/b``, in any case of letters.
    """
    short = {file: place.with_suffix("") for file, place in places.items()}
    # Some file systems take names of different case for the same.
    uses = Counter(str(name).casefold() for name in (*short.values(), *places.values()))
    return {file: name if uses[str(name).casefold()] == 1 else places[file] for file, name in short.items()}


# What an output was made from


def fingerprint(config: object, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of what decides a model's outputs: its configuration and its weights, in their dtype.

    Fields of dataclasses count where they are not at their defaults, so that a field that a later version adds changes
    no fingerprint.
    """
    import torch

    digest = hashlib.sha256(json.dumps(_chosen(config), sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _chosen(value: Any) -> Any:
    """Plain values of a configuration, of dataclasses their names and the fields that are not at their defaults."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
        chosen = {field.name: _chosen(item) for field, item in found if not _is_default(field, item)}
        return {"": type(value).__name__, **chosen}
    if isinstance(value, Mapping):
        return {name: _chosen(item) for name, item in value.items()}
    return [_chosen(item) for item in value] if isinstance(value, list | tuple) else value


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return value == field.default_factory()
    return value == field.default


def made_from(settings: Mapping[str, object], source: Path) -> str:
    """Return what an output is made from, as JSON text: the settings, and size and time of its source.

    Raises:
        OSError: There is no such source.
    """
    status = source.stat()
    stamp = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    return json.dumps({"settings": settings, "source": stamp}, sort_keys=True)


def claim_folder(file: Path, settings: Mapping[str, object], *, advice: str, overwrite: bool = False) -> None:
    """Make a folder, unless a run with other settings wrote to it. The caller then writes ``file``.

    Args:
        file: Where the folder says what made it, a JSON object with ``settings``.
        settings: JSON values that decide the outputs.
        advice: What the user can do about a folder of another run, such as ``choose another folder``.
        overwrite: Take the folder of another run.

    Raises:
        UsageError: The folder cannot be made, belongs to a run with other settings, or the file to another program.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{file.parent} is not a folder that can be written: {error.strerror}") from error
    if file.is_file() and not overwrite:
        try:
            found = dict(json.loads(file.read_text(encoding="utf-8"))["settings"])
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{file} was not written by this command; {advice}") from None
        refuse_other_settings(file.parent, found, settings, advice=advice)


def refuse_other_settings(
    path: Path | str, found: Mapping[str, Any], wanted: Mapping[str, object], *, advice: str
) -> None:
    """Refuse to overwrite what other settings have made.

    Args:
        path: The output or the folder.
        found: Settings that it was made with.
        wanted: Settings of this run.
        advice: As for :func:`claim_folder`.

    Raises:
        UsageError: They differ.
    """
    if different := list(_differences(found, json.loads(json.dumps(wanted)))):
        raise UsageError(f"{path} was made with {'; '.join(different)}; {advice}")


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Name the values that differ, such as ``top_k 9, not 3``."""
    for key, value in wanted.items():
        before = found.get(key)
        if before == value:
            continue
        if key == "model":  # its fingerprint says nothing to a reader
            yield "another model"
        elif isinstance(before, dict) and isinstance(value, dict):
            yield from _differences(before, value)
        elif before is None:
            yield f"no {key}, now {value}"
        elif value is None:
            yield f"{key} {before}, now without"
        else:
            yield f"{key} {before}, not {value}"


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON, whole or not at all.

    Raises:
        CheckpointError: The file cannot be written.
    """
    with atomic_file(path) as file:
        file.write(f"{json_text(value)}\n".encode())


# The driver


class OutputError(PentatonicError):
    """Outputs cannot be written, for instance because the disk is full: a run over a folder ends at the first one.

    Args:
        reason: What cannot be written, and why.
        report: What became of the files before.
    """

    def __init__(self, reason: str, report: BatchReport | None = None) -> None:
        self.report = report or BatchReport()
        super().__init__(reason)


# Of an error in any stage: what a batch needs is used up, and the next file would fail as well.
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Of an error in writing: the name of this output is to blame, and other outputs can be written.
_OF_ONE_NAME = (
    *(errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ELOOP),
    *(errno.EEXIST, errno.EISDIR, errno.ENOTDIR),
)
_ERRORS = (PentatonicError, OSError)


def run_files(
    targets: Mapping[Path, Path],
    read: Callable[[Path], Item],
    compute: Callable[[Sequence[Item]], Sequence[Result]],
    write: Callable[[Result, Path], About],
    *,
    description: str,
    is_done: Callable[[Path, Path], bool] | None = None,
    share: Callable[[Item], float] = lambda item: 1.0,
    workers: int = 1,
) -> BatchReport:
    """Make one output of each file. An error of one file is recorded, and does not affect the others.

    With one worker the stages overlap: see :func:`pentatonic.pipeline.overlapped`.

    Args:
        targets: Source -> output; its folder is made.
        read: First stage.
        compute: Second stage, for consecutive items of which the shares add up to 1 at most. It may be called again
            for some of them.
        write: Last stage.
        description: What is being done, for the progress line.
        is_done: Says whether an output needs no work.
        share: Which part of a batch an item takes; infinity: it is still being read while it is computed.
        workers: Files at a time; with more than one, each goes through its stages in a thread of its own, alone.

    Returns:
        What became of each file, in the order of ``targets``.

    Raises:
        Interrupted: Ctrl-C; its report says which files are not done.
        OutputError: Outputs cannot be written, or the disk is full.
    """
    report = BatchReport()
    ended = threading.Event()  # an output cannot be written: its turn to be reported may come much later

    def read_what_is_not_done(source: Path) -> Item | None:
        return None if is_done is not None and is_done(source, targets[source]) else read(source)

    def make_folder_and_write(result: Result, source: Path) -> About:
        try:
            targets[source].parent.mkdir(parents=True, exist_ok=True)
            return write(result, targets[source])
        except _ERRORS as error:
            if _number(error) in (None, *_OF_ONE_NAME):
                raise
            ended.set()
            raise _output_error(targets[source], error) from error

    stages = (read_what_is_not_done, compute, make_folder_and_write)
    sources = takewhile(lambda _: not ended.is_set(), targets)
    entries = (
        overlapped(sources, *stages, share=share, errors=_ERRORS)
        if workers == 1
        else side_by_side(targets, *stages, workers=workers)
    )
    with report.interruptible(targets), progress(len(targets), description) as bar, closing(entries):
        for entry in entries:
            try:
                about = entry.outcome()
            except OutputError as error:
                raise OutputError(str(error), report) from error
            except _ERRORS as error:
                if _number(error) in _FULL:
                    raise OutputError(str(_output_error(targets[entry.source], error)), report) from error
                report.failed(entry.source, error)
            else:
                if about is None:
                    report.skipped(entry.source)
                else:
                    warned = [text.removeprefix(f"{entry.source}: ") for text in entry.warnings]
                    more = {"warnings": warned} if warned else {}
                    report.done(entry.source, **{"output": targets[entry.source], **about, **more})
            bar.advance(1, note=entry.source.name)
    return report


def _number(error: Exception) -> int | None:
    """Return the ``errno`` of the system's error behind an error, if there is one."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return cause.errno if isinstance(cause, OSError) else None


def _output_error(target: Path, error: Exception) -> OutputError:
    reason = f"cannot write {target}: {error.strerror or error}" if isinstance(error, OSError) else str(error)
    return OutputError(f"{reason}; what was written before stays, and the same command continues from there")
