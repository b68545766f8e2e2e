"""Files and directories that get their name only when they are complete and on the disk.

The order is always: write a hidden sibling, fsync it, rename it, fsync the parent. If the process is killed at any
moment, the earlier file or directory remains, and possibly a hidden ``.<name>.tmp-*`` sibling, which the next process
that writes into the same folder removes (:mod:`pentatonic.processes.leftovers`). Names of siblings are cut where the
file system would refuse them as too long.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from pentatonic.checkpoint.manifest import MANIFEST, list_files, read_manifest, write_manifest
from pentatonic.errors import CheckpointError, CorruptCheckpoint, UsageError
from pentatonic.processes.leftovers import owner, remove_leftovers

_TEMPORARY = r"\..*\.tmp-"
# Bytes of a name, where the system does not say how many it allows.
_LONGEST_NAME = 255
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def atomic_file(path: str | Path, mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    """Open a file for writing that replaces ``path`` when the block ends without an error.

    Args:
        path: The file; its folder must exist. A symbolic link is kept, and the file it points to is replaced.
        mode: ``"wb"`` for bytes or ``"w"`` for UTF-8 text.

    Yields:
        The open file, under a temporary name beside ``path``.

    Raises:
        CheckpointError: The file cannot be written, its name is too long, or ``path`` exists and is not a regular
            file. Then, as after any other error in the block, ``path`` is unchanged and the temporary file is removed.
        UsageError: Another mode.
    """
    if mode not in ("wb", "w"):
        raise UsageError(f"mode must be 'wb' or 'w', got {mode!r}")
    with _named_errors(path):
        target = _real_path(path)
        # A device, such as /dev/null, must not be replaced by a file.
        if target.exists() and not target.is_file():
            raise CheckpointError(f"cannot write {path}: it exists and is not a regular file")
        temporary = temporary_sibling(target)
        try:
            with temporary.open("xb") if mode == "wb" else temporary.open("x", encoding="utf-8") as file:
                yield file
            _fsync(temporary)
            temporary.replace(target)
            _fsync_directory(target.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Fill a directory that replaces ``path`` when the block ends without an error.

    At the end, a manifest with the size and SHA-256 of every file is added, for
    :func:`pentatonic.checkpoint.verify_directory`. An existing directory is replaced as a whole: in one step where
    the file system can exchange two names (Linux), otherwise by renames that the next save or search completes or
    undoes if they are interrupted.

    Args:
        path: The directory to make or replace; its parents are made.

    Yields:
        An empty temporary directory beside ``path``. Close all files in it before the block ends.

    Raises:
        CheckpointError: The directory cannot be written, or its name is too long; or the existing one holds a file
            that is neither listed in its manifest nor written again, and that would be lost. Then, as after any other
            error in the block, ``path`` is unchanged and the temporary directory is removed.
    """
    with _named_errors(path):
        target = _real_path(path)
        if target.exists() and not target.is_dir():
            raise CheckpointError(f"cannot write {path}: it exists and is not a directory")
        target.parent.mkdir(parents=True, exist_ok=True)
        finish_interrupted_replacement(target)
        temporary = temporary_sibling(target)
        temporary.mkdir()
        try:
            yield temporary
            write_manifest(temporary)
            _fsync_tree(temporary)
            _publish(temporary, target)
        finally:
            # After success, the temporary name holds the replaced directory.
            shutil.rmtree(temporary, ignore_errors=True)


def temporary_sibling(target: Path) -> Path:
    """A new hidden name beside ``target``, of the form that :func:`pentatonic.checkpoint.prune` removes."""
    remove_leftovers(target.parent, _TEMPORARY)
    ending = f".tmp-{owner()}-{secrets.token_hex(4)}"
    return target.with_name(f".{_cut(target.name, _longest_name(target.parent) - 1 - len(ending))}{ending}")


def finish_interrupted_replacement(target: Path) -> None:
    """Complete or undo a replacement by renames during which the process was killed.

    Raises:
        OSError: The file system refuses.
    """
    backup = _backup(target)
    if backup.is_dir():
        if target.exists():
            shutil.rmtree(backup, ignore_errors=True)
        else:
            backup.rename(target)


def _publish(temporary: Path, target: Path) -> None:
    """Give a complete directory its name; if ``target`` existed, ``temporary`` is then the old content."""
    replaces = target.exists()
    if replaces:
        _refuse_to_lose_files(target, replaced_by=temporary)
        _swap(temporary, target)
    else:
        temporary.rename(target)
    try:
        _fsync_directory(target.parent)
    except BaseException:
        if replaces:
            _swap(temporary, target)
        else:
            target.rename(temporary)
        raise


def _refuse_to_lose_files(target: Path, *, replaced_by: Path) -> None:
    known = {MANIFEST, *list_files(replaced_by)}
    with suppress(CorruptCheckpoint):
        known |= read_manifest(target).keys()
    for name in list_files(target):
        if name not in known:
            raise CheckpointError(
                f"cannot write {target}: it holds {name!r}, which is not part of a checkpoint and would be lost; "
                "give a new directory, or move the file away"
            )


def _swap(temporary: Path, target: Path) -> None:
    """Exchange the names of two directories."""
    if _exchange(temporary, target):
        return
    backup = _backup(target)
    target.rename(backup)
    try:
        temporary.rename(target)
    except BaseException:
        backup.rename(target)
        raise
    backup.rename(temporary)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system (NFS) does not support it."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if renameat2 is None:
        return False
    return renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def _backup(target: Path) -> Path:
    """The name of a directory while it is replaced; always the same, and that of no other one."""
    longest = _longest_name(target.parent)
    name = f".{target.name}.old"
    if len(os.fsencode(name)) > longest:
        ending = f"-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}.old"
        name = f".{_cut(target.name, longest - 1 - len(ending))}{ending}"
    return target.with_name(name)


def _longest_name(folder: Path) -> int:
    """Bytes that a name in this folder may have."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return _LONGEST_NAME


def _cut(name: str, n_bytes: int) -> str:
    """The start of a name that fits into so many bytes, without parts of characters."""
    while len(os.fsencode(name)) > n_bytes:
        name = name[:-1]
    return name


def _real_path(path: str | Path) -> Path:
    length, longest = len(os.fsencode(Path(path).name)), _longest_name(Path(path).parent)
    if length > longest:
        raise CheckpointError(f"cannot write {path}: its name has {length} bytes, and {longest} are allowed")
    try:
        return Path(path).resolve()
    except RuntimeError as error:  # a cycle of symbolic links, before Python 3.13
        raise CheckpointError(f"cannot write {path}: {error}") from error


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync_directory(path: Path) -> None:
    if os.name == "posix":  # on other systems directories cannot be opened
        _fsync(path)


def _fsync_tree(directory: Path) -> None:
    for name in list_files(directory):
        _fsync(directory / name)
    for entry in (*directory.rglob("*"), directory):
        if entry.is_dir():
            _fsync_directory(entry)


@contextmanager
def _named_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}{where}") from error
