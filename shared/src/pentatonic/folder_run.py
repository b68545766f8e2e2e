"""A run over a folder of files: mirrored outputs, a folder that belongs to one kind of run, skip and resume, a report.

The work has three stages, which are plain functions: ``read(source)`` gives an item, ``compute(items)`` gives a result
for each item, and ``write(result, target)`` writes one and returns what the report says about it. They share nothing
but these values, so another driver may call them from other threads or on other machines; :func:`run_files` is the
driver for one process. Loading this module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, json_text, progress
from pentatonic.errors import PentatonicError, UsageError

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


def fingerprint(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of what decides a model's outputs: its configuration and its weights, in their dtype."""
    import torch

    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
        UsageError: The folder belongs to a run with other settings, or the file to another program.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.is_file() and not overwrite:
        try:
            found = dict(json.loads(file.read_text(encoding="utf-8"))["settings"])
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{file} was not written by this command; {advice}") from None
        refuse_other_settings(file.parent, found, settings, advice=advice)


def refuse_other_settings(
    path: Path, found: Mapping[str, Any], wanted: Mapping[str, object], *, advice: str
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
        else:
            was, now = ("none" if each is None else each for each in (before, value))
            yield f"{key} {was}, not {now}"


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON, whole or not at all.

    Raises:
        CheckpointError: The file cannot be written.
    """
    with atomic_file(path) as file:
        file.write(f"{json_text(value)}\n".encode())


# The driver


def run_files(
    targets: Mapping[Path, Path],
    read: Callable[[Path], Item],
    compute: Callable[[Sequence[Item]], Sequence[Result]],
    write: Callable[[Result, Path], About],
    *,
    description: str,
    is_done: Callable[[Path, Path], bool] | None = None,
    workers: int = 1,
) -> BatchReport:
    """Make one output of each file. An error of one file is recorded, and does not affect the others.

    Args:
        targets: Source -> output; its folder is made.
        read: First stage.
        compute: Second stage, for one item at a time.
        write: Last stage.
        description: What is being done, for the progress line.
        is_done: Says whether an output needs no work.
        workers: Files at a time, each in a thread of its own. Only with one are the warnings of the stages caught, as
            ``warnings`` of the report.

    Returns:
        What became of each file, in the order of ``targets``.

    Raises:
        Interrupted: Ctrl-C; its report says which files are not done.
    """
    report = BatchReport()

    def process(source: Path, target: Path) -> About | None:
        if is_done is not None and is_done(source, target):
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        (result,) = compute([read(source)])
        return write(result, target)

    def caught(source: Path, target: Path) -> About | None:
        with warnings.catch_warnings(record=True) as messages:
            warnings.simplefilter("always")
            about = process(source, target)
        texts = [str(message.message).removeprefix(f"{source}: ") for message in messages]
        return {**about, "warnings": texts} if about is not None and texts else about

    stages = caught if workers == 1 else process
    with (
        report.interruptible(targets),
        progress(len(targets), description) as bar,
        closing(_outcomes(stages, targets, workers)) as outcomes,
    ):
        for source, outcome in outcomes:
            try:
                about = outcome()
            except (PentatonicError, OSError) as error:
                report.failed(source, error)
            else:
                if about is None:
                    report.skipped(source)
                else:
                    report.done(source, **{"output": targets[source], **about})
            bar.advance(1, note=source.name)
    return report


def _outcomes(
    process: Callable[[Path, Path], About | None], targets: Mapping[Path, Path], workers: int
) -> Generator[tuple[Path, Callable[[], About | None]], None, None]:
    """Yield each source with a function that returns its outcome or raises its error."""
    if workers == 1:
        for source, target in targets.items():
            yield source, lambda source=source, target=target: process(source, target)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        futures = {source: pool.submit(process, source, target) for source, target in targets.items()}
        for source, future in futures.items():
            yield source, future.result
    finally:  # after an interrupt, files that wait are left, and nobody waits for those in work
        pool.shutdown(wait=False, cancel_futures=True)
