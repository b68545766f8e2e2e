"""A series of numbered checkpoint directories: find the newest good one, remove old ones."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

from pentatonic.checkpoint.atomic import settle, temporary_sibling
from pentatonic.checkpoint.manifest import check_size, read_manifest, verify_directory
from pentatonic.errors import CheckpointError, CorruptCheckpoint, UsageError


def newest_verified(
    run_dir: str | Path, *, prefix: str = "step-"
) -> tuple[Path | None, list[CorruptCheckpoint]]:
    """Find the checkpoint with the highest number whose files are all intact.

    Args:
        run_dir: Directory of the checkpoints; it may be missing.
        prefix: What comes before the number in their names.

    Returns:
        The directory, or None where there is no intact one; and why each newer one was rejected, newest first.

    Raises:
        CheckpointError: ``run_dir`` cannot be listed.
    """
    rejected: list[CorruptCheckpoint] = []
    for directory in _numbered(Path(run_dir), prefix):
        try:
            verify_directory(directory)
        except CorruptCheckpoint as error:
            rejected.append(error)
        else:
            return directory, rejected
    return None, rejected


def prune(run_dir: str | Path, keep: int, *, prefix: str = "step-") -> None:
    """Remove all but the newest checkpoints, and what killed saves left behind.

    A checkpoint with missing or cut files does not count as kept, so that damage to new ones never costs the good
    old ones. (Contents are not hashed here, that is for :func:`newest_verified`.) Only the process that writes
    checkpoints into ``run_dir`` may call this, between two saves.

    Args:
        run_dir: Directory of the checkpoints; it may be missing.
        keep: How many to keep, at least 1.
        prefix: What comes before the number in their names.

    Raises:
        UsageError: ``keep`` is below 1.
        CheckpointError: ``run_dir`` cannot be listed, or a directory cannot be removed.
    """
    if keep < 1:
        raise UsageError(f"the number of checkpoints to keep must be at least 1, got {keep}")
    root = Path(run_dir)
    kept = 0
    for directory in _numbered(root, prefix):
        if kept == keep:
            _remove(directory)
        elif _is_complete(directory):
            kept += 1
    for entry in _matching(root, rf"\.{re.escape(prefix)}[0-9]+\.tmp-.*"):
        shutil.rmtree(entry, ignore_errors=True)


def _numbered(root: Path, prefix: str) -> list[Path]:
    """The checkpoint directories, highest number first."""
    name = rf"{re.escape(prefix)}([0-9]+)"
    for backup in _matching(root, rf"\.{name}\.old"):
        with suppress(OSError):  # a reader may have no right to rename
            settle(root / backup.name[1 : -len(".old")])
    return sorted(
        _matching(root, name), key=lambda entry: (int(entry.name[len(prefix) :]), entry.name), reverse=True
    )


def _matching(root: Path, pattern: str) -> list[Path]:
    try:
        return [entry for entry in root.iterdir() if re.fullmatch(pattern, entry.name) and entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"cannot list {root}: {error.strerror}") from error


def _is_complete(directory: Path) -> bool:
    try:
        for name, record in read_manifest(directory).items():
            check_size(directory, name, record)
    except CorruptCheckpoint:
        return False
    return True


def _remove(directory: Path) -> None:
    """Remove a directory; where this is cut short, no half of it stays under its name."""
    doomed = temporary_sibling(directory)
    try:
        directory.rename(doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        raise CheckpointError(f"cannot remove {directory}: {error.strerror}") from error
