"""A series of numbered checkpoint directories: find the newest intact one, remove old ones.

A run folder, as a trainer writes it, holds them in its folder ``checkpoints``.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

from pentatonic.checkpoint.atomic import finish_interrupted_replacement, temporary_sibling
from pentatonic.checkpoint.manifest import check_size, read_manifest, verify_directory
from pentatonic.errors import CheckpointError, CorruptCheckpoint, UsageError

CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints in a run folder."""


def newest_verified(
    run_dir: str | Path, *, prefix: str = "step-"
) -> tuple[Path | None, list[CorruptCheckpoint]]:
    """Find the checkpoint with the highest number whose files are all intact.

    Args:
        run_dir: Directory of the checkpoints; it may be missing.
        prefix: Part of their names before the number.

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


def model_directory(path: str | Path) -> Path:
    """Return the directory to load a model from, where ``path`` may be the folder of a training run.

    Args:
        path: A run folder, which holds ``checkpoints/``, or any other directory.

    Returns:
        The newest intact checkpoint of a run; any other directory as it is.

    Raises:
        CheckpointError: It is a run folder, but none of its checkpoints is intact, or they cannot be listed.
    """
    checkpoints = Path(path) / CHECKPOINTS
    if not checkpoints.is_dir():
        return Path(path)
    newest, rejected = newest_verified(checkpoints)
    if newest is None:
        reasons = "".join(f"; {error}" for error in rejected)
        raise CheckpointError(f"{checkpoints} has no complete checkpoint{reasons}")
    return newest


def prune(run_dir: str | Path, keep: int, *, prefix: str = "step-") -> None:
    """Remove all but the newest checkpoints, and the temporary directories of interrupted saves.

    A checkpoint with missing or truncated files does not count as kept, so intact older ones stay where newer ones
    are damaged. (Contents are not hashed here; :func:`newest_verified` does that.) Only the process that writes
    checkpoints into ``run_dir`` may call this, between two saves.

    Args:
        run_dir: Directory of the checkpoints; it may be missing.
        keep: Number of checkpoints to keep, at least 1.
        prefix: Part of their names before the number.

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
        with suppress(OSError):  # a reader may not have permission to rename
            finish_interrupted_replacement(root / backup.name[1 : -len(".old")])
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
    """Remove a directory; it is renamed first, so that no partly removed one keeps its name."""
    doomed = temporary_sibling(directory)
    try:
        directory.rename(doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        raise CheckpointError(f"cannot remove {directory}: {error.strerror}") from error
