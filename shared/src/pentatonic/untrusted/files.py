"""Files that a stranger may have made: only regular files are opened, of a bounded size, and inside a given folder.

A device, a named pipe or a socket in the place of a file would block the reader or fill the memory; it is refused
before it is opened.
"""

from __future__ import annotations

import json
import reprlib
import stat
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pentatonic.errors import ConfigError, PentatonicError

MAX_TEXT_BYTES = 1 << 20
"""Largest text file that is read, unless the caller allows more."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_MOST_DIGIT_BITS = 128


class _Shortened(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        bits = x.bit_length()  # printing a number takes time in the square of its digits
        return repr(x) if bits <= _MOST_DIGIT_BITS else f"a whole number of {bits} bits"


_SHORTENED = _Shortened()
_SHORTENED.maxstring = _SHORTENED.maxother = 80


def shortened(value: object) -> str:
    """Show a value of a stranger in a message: as ``repr``, in at most some hundred characters."""
    return _SHORTENED.repr(value)


def local_path(name_or_path: str | Path) -> Path | None:
    """Return the path of a file or folder that a name stands for, or None where there is none.

    Args:
        name_or_path: Any text; ``~`` stands for the home folder. A device or a named pipe is not a file.
    """
    if not str(name_or_path):  # Path("") is the working directory
        return None
    try:
        path = Path(name_or_path).expanduser()
        return path if path.is_dir() or path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # too long, an unknown user's home, a NUL
        return None


def regular_file_size(path: str | Path, *, error: type[PentatonicError] = ConfigError) -> int:
    """Return the size in bytes of a regular file, without opening it.

    Args:
        path: The file; a symbolic link is followed.
        error: Class of the error to raise.

    Raises:
        PentatonicError: Of class ``error``: there is no such file, its name cannot be one, or it is a folder, a
            device, a named pipe or a socket.
    """
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        raise error(f"{path}: is missing") from None
    except (OSError, ValueError) as problem:  # too long, a NUL
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{shortened(str(path))}: cannot be read: {reason}") from None
    if not stat.S_ISREG(status.st_mode):
        kind = next((kind for test, kind in _KINDS if test(status.st_mode)), "not a file")
        raise error(f"{path}: cannot be read: it is {kind}; allowed: a regular file")
    return status.st_size


def read_text(
    path: str | Path, *, max_bytes: int = MAX_TEXT_BYTES, error: type[PentatonicError] = ConfigError
) -> str:
    """Read a UTF-8 text file.

    Args:
        path: The file.
        max_bytes: Largest file that is read.
        error: Class of the error to raise.

    Raises:
        PentatonicError: Of class ``error``: as :func:`regular_file_size`, or the file is too large, unreadable or
            not UTF-8.
    """
    path = Path(path)
    size = regular_file_size(path, error=error)
    try:
        with path.open("rb") as file:  # files of a virtual file system may hold more than their size
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise error(f"{path}: has {max(size, len(content))} bytes or more; at most {max_bytes} are read")
        return content.decode("utf-8")
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    except UnicodeDecodeError as problem:
        raise error(f"{path}: is not UTF-8 text ({problem.reason} at byte {problem.start})") from problem


def read_json(
    path: str | Path, *, max_bytes: int = MAX_TEXT_BYTES, error: type[PentatonicError] = ConfigError
) -> Any:
    """Read a JSON file; arguments and errors as :func:`read_text`, also where the text is not JSON."""
    return parse_json(read_text(path, max_bytes=max_bytes, error=error), where=str(path), error=error)


def parse_json(text: str, *, where: str, error: type[PentatonicError] = ConfigError) -> Any:
    """Parse JSON text.

    Args:
        text: The text.
        where: Its origin, for the message.
        error: Class of the error to raise.

    Raises:
        PentatonicError: Of class ``error``: it is not JSON, is nested too deeply, or has a number of thousands of
            digits.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise error(f"{where}: not JSON ({problem})") from problem


def file_inside(folder: str | Path, name: str, *, where: str) -> Path:
    """Return the path of a file or folder that a stranger's configuration names.

    The files of a repository in the cache of the hub's client are links into its folder ``blobs``; these are allowed.

    Args:
        folder: Folder of the configuration.
        name: Name relative to ``folder``.
        where: Key of the configuration, for the message.

    Returns:
        ``folder / name``, which may be missing.

    Raises:
        ConfigError: The name is absolute, has ``..``, cannot be a file's, or leads out of the folder by a link.
    """
    folder = Path(folder)
    allowed = f"allowed: a name inside {folder}, without '..' and without links to other places"
    windows = PureWindowsPath(name)
    if not name or PurePosixPath(name).is_absolute() or windows.anchor or ".." in windows.parts:
        raise ConfigError(f"{where} is {shortened(name)}; {allowed}")
    try:
        root, target = folder.resolve(), (folder / name).resolve()
        with suppress(FileNotFoundError, NotADirectoryError):
            target.lstat()
    except (OSError, RuntimeError, ValueError) as problem:  # too long, a circle of links, a NUL
        raise ConfigError(
            f"{where} is {shortened(name)}, which cannot be a file's name; {allowed}"
        ) from problem
    blobs = root.parent.parent / "blobs"
    cached = root.parent.name == "snapshots" and target.parent == blobs
    if not cached and not target.is_relative_to(root):
        raise ConfigError(f"{where} is {shortened(name)}, which leads to {target}; {allowed}")
    return folder / name
