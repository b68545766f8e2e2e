"""A lock on a run folder, so that two trainers never write to the same run."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pentatonic.errors import RunFolderInUse

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"
_HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN)


@contextmanager
def locked_run_folder(run_dir: Path) -> Iterator[None]:
    """Hold the lock of a run folder; other processes that ask for it fail until the block ends.

    The lock ends with the process, however that ends, and loader workers do not inherit it. The file ``.lock`` stays,
    and only says who holds the lock. Where the file system or the operating system has no locks, a warning is logged
    and the block runs without one.

    Args:
        run_dir: Folder of the run; created when missing.

    Raises:
        RunFolderInUse: Another process holds the lock; the message gives its number, its host and the time.
        OSError: The folder or the file cannot be written.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / LOCK_FILE).open("a+", encoding="utf-8") as file:
        if not _acquire(file, run_dir):
            file.seek(0)
            raise RunFolderInUse(
                f"{run_dir} is in use by {_holder(file.read())}; wait until that process has ended, or choose another "
                "run_dir"
            )
        file.truncate(0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _acquire(file: IO[str], run_dir: Path) -> bool:
    """Take the lock unless another process has it; True also where there are no locks."""
    if fcntl is None:
        reason = "this operating system has no file locks"
    else:
        try:
            # A record lock, unlike one by flock(2), is not inherited by forked loader workers, which outlive a killed
            # trainer by seconds; and network file systems know it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in _HELD_BY_ANOTHER:
                return False
            reason = error.strerror or str(error)
    logger.warning(
        "%s cannot be locked (%s); nothing stops a second trainer from writing to it", run_dir, reason
    )
    return True


def _holder(text: str) -> str:
    try:
        found = json.loads(text)
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (ValueError, KeyError, TypeError):  # the other process has not written it yet
        return "another process"
