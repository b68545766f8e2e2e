"""The manifest of a directory: sizes and hashes of its files, which show damage before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict

from pentatonic.errors import CheckpointError, CorruptCheckpoint
from pentatonic.untrusted.files import regular_file_size

MANIFEST = "manifest.json"
"""Name of the manifest inside a directory."""

_MAX_MANIFEST_BYTES = 16 * 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FileRecord(TypedDict):
    """Size in bytes and SHA-256, in lower-case hexadecimal, of one file."""

    bytes: int
    sha256: str


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, in lower-case hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(directory: Path) -> list[str]:
    """Names of everything in a directory and below that is not a directory, as POSIX paths, sorted."""
    entries = (entry for entry in directory.rglob("*") if entry.is_symlink() or not entry.is_dir())
    return sorted(entry.relative_to(directory).as_posix() for entry in entries)


def write_manifest(directory: Path) -> None:
    """Describe all files of a directory in its manifest.

    Raises:
        CheckpointError: A file has the manifest's name, or is not a regular file.
        OSError: A file cannot be read, or the manifest cannot be written.
    """
    files: dict[str, FileRecord] = {}
    for name in list_files(directory):
        path = directory / name
        if name == MANIFEST or path.is_symlink() or not path.is_file():
            raise CheckpointError(
                f"{path} cannot be part of a checkpoint: only regular files, none named {MANIFEST}"
            )
        files[name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    (directory / MANIFEST).write_bytes(_canonical(files))


def verify_directory(path: str | Path) -> dict[str, FileRecord]:
    """Compare every file of a directory with its manifest.

    Files that are not in the manifest are ignored.

    Args:
        path: A directory made by :func:`pentatonic.checkpoint.atomic_directory`.

    Returns:
        The manifest: file name, as a POSIX path relative to ``path``, to size and hash.

    Raises:
        CorruptCheckpoint: A file is missing, unreadable or altered; the message names it.
    """
    directory = Path(path)
    files = read_manifest(directory)
    for name, record in files.items():
        check_size(directory, name, record)
        try:
            digest = file_sha256(directory / name)
        except OSError as error:
            raise CorruptCheckpoint(f"{directory / name}: cannot be read: {error.strerror}") from error
        if digest != record["sha256"]:
            raise CorruptCheckpoint(
                f"{directory / name}: the content was altered: its SHA-256 is not the manifest's"
            )
    return files


def read_manifest(directory: Path) -> dict[str, FileRecord]:
    """Read a manifest without checking the files it lists.

    Raises:
        CorruptCheckpoint: The manifest is missing, unreadable or altered.
    """
    path = directory / MANIFEST
    regular_file_size(path, error=CorruptCheckpoint)
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise CorruptCheckpoint(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > _MAX_MANIFEST_BYTES:
        raise CorruptCheckpoint(f"{path}: is larger than {_MAX_MANIFEST_BYTES} bytes")
    try:
        files = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{path}: is not JSON, so it was truncated or altered") from error
    # Writing it again finds changes that are still valid JSON, such as in white space or a repeated key.
    if not _is_manifest(files) or _canonical(files) != content:
        raise CorruptCheckpoint(f"{path}: is not a manifest as it was written, so it was altered")
    return files


def check_size(directory: Path, name: str, record: FileRecord) -> None:
    """Compare the size of one file with its record.

    Raises:
        CorruptCheckpoint: The file is missing or has another size.
    """
    path = directory / name
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise CorruptCheckpoint(f"{path}: cannot be read: {error.strerror}") from error
    if size is None:
        raise CorruptCheckpoint(f"{path}: is missing")
    if size != record["bytes"]:
        raise CorruptCheckpoint(f"{path}: has {size} bytes, the manifest says {record['bytes']}")


def _canonical(files: Any) -> bytes:
    return f"{json.dumps(files, indent=1, sort_keys=True)}\n".encode()


def _is_manifest(files: Any) -> bool:
    return isinstance(files, dict) and all(_is_inside(name) and _is_record(files[name]) for name in files)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name and path.as_posix() == name


def _is_record(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and record.keys() == {"bytes", "sha256"}
        and type(record["bytes"]) is int
        and isinstance(record["sha256"], str)
        and _SHA256.fullmatch(record["sha256"]) is not None
    )
