"""Places that a command reads and writes: checked before any work, in all commands in the same way."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pentatonic.errors import UsageError


def check_inputs(paths: Sequence[Path]) -> None:
    """Refuse a command line that names what does not exist, before any work: it is a mistake in typing.

    Args:
        paths: Files and folders that the user named.

    Raises:
        UsageError: One of them does not exist.
    """
    missing = [path for path in paths if not os.path.lexists(path)]
    if missing:
        raise UsageError(f"no such file or folder: {', '.join(map(str, missing))}")


def check_output_folder(path: Path, option: str = "--out") -> None:
    """Fail fast where a folder for outputs cannot be written; in all commands with the same status.

    Args:
        path: The folder; it need not exist.
        option: What the user gave it with: ``--out``, or ``output=``.

    Raises:
        UsageError: It is not a folder, or cannot be made or written.
    """
    if reason := _why_not_writable(path):
        raise UsageError(f"{_named(option, path)} is not a folder that can be written: {reason}")


def make_output_folder(path: Path, option: str = "--out") -> None:
    """Make a folder for outputs, after :func:`check_output_folder`.

    Raises:
        UsageError: As there.
    """
    check_output_folder(path, option)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # permissions alone do not say it, of /proc for example
            pass
    except OSError as error:
        reason = error.strerror
        raise UsageError(f"{_named(option, path)} is not a folder that can be written: {reason}") from error


def make_output_place(
    path: Path,
    option: str = "--out",
    kind: Literal["file", "folder"] = "file",
    *,
    inputs: Iterable[str | Path | None] = (),
) -> None:
    """Make the folder around a file, or around a folder that is written as a whole; fail fast where it is not writable.

    Args:
        path: What will be written.
        option: As for :func:`check_output_folder`.
        kind: What it will be.
        inputs: What is read; names of models that are no paths are passed over.

    Raises:
        UsageError: It is one of the inputs, which would be lost; there is something of another kind; or the folder
            around it cannot be made or written.
    """
    keep_inputs(path, inputs, option, kind)
    if os.path.lexists(path) and path.is_dir() != (kind == "folder"):
        reason = f"it is a {'file' if kind == 'folder' else 'folder'}"
    else:
        reason = _why_not_writable(path.parent)
    if reason:
        raise UsageError(f"{_named(option, path)} is not a {kind} that can be written: {reason}")
    make_output_folder(path.parent, option)


def keep_inputs(
    path: Path,
    inputs: Iterable[str | Path | None],
    option: str = "--out",
    kind: Literal["file", "folder"] = "file",
) -> None:
    """Refuse to write what is read.

    Args:
        path: What will be written.
        inputs: As for :func:`make_output_place`.
        option: As for :func:`check_output_folder`.
        kind: What will be written.

    Raises:
        UsageError: It is one of the inputs.
    """
    if any(_is_same(path, each) for each in inputs):
        raise UsageError(f"{_named(option, path)} is an input, which would be lost; allowed: another {kind}")


def _is_same(path: Path, other: str | Path | None) -> bool:
    try:
        return other is not None and path.samefile(other)
    except (OSError, ValueError):  # one of them is not there, or cannot be a path
        return False


def _why_not_writable(folder: Path) -> str:
    """Return why new files cannot be written into a folder, which may have to be made; or an empty text."""
    place = next((each for each in (folder, *folder.parents) if os.path.lexists(each)), Path())
    if not place.is_dir():
        return f"{place} is not a folder"
    return "" if os.access(place, os.W_OK | os.X_OK) else f"no permission to write into {place}"


def _named(option: str, path: Path) -> str:
    return f"{option}{'' if option.endswith('=') else ' '}{path}"
