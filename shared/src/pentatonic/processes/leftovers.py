"""Names of temporary files and folders that say which process made them, and removal of those that a killed one left.

Such a name ends with :func:`owner` and eight random characters: ``.song.npz.tmp-1f0c66a2-4711-9d3be07a``. Only what
this user owns, and what was made on this host by a process that no longer runs, is ever removed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

_OWNER = r"(?P<host>[0-9a-f]{8})-(?P<process>[1-9][0-9]{0,8})-[0-9a-z_]{8}"
# Numbers of processes count in a namespace; this is the one of a system that is not a container.
_FIRST_NAMESPACE = "pid:[4026531836]"


def owner() -> str:
    """Return the part of a temporary name that stands for this process, ``<host>-<process>``."""
    return f"{_host()}-{os.getpid()}"


@cache
def remove_leftovers(folder: Path, start: str) -> None:
    """Remove what killed processes left in a folder; the first call for a folder does so, later ones do nothing.

    What cannot be listed or removed stays.

    Args:
        folder: The folder; those inside it are not searched.
        start: Regular expression of a name up to its :func:`owner`.
    """
    pattern = re.compile(f"(?s:{start}){_OWNER}")
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            found = pattern.fullmatch(entry.name)
            if found and found["host"] == _host() and not _runs(int(found["process"])):
                _remove(entry)


def _remove(entry: os.DirEntry[str]) -> None:
    with suppress(OSError):
        if entry.stat(follow_symlinks=False).st_uid != os.geteuid():
            return
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry.path).unlink()


def _runs(process: int) -> bool:
    """Whether there is a process with this number, also one of another user."""
    if os.name != "posix":  # signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@cache
def _host() -> str:
    """Eight hexadecimal digits for all processes that see each other's numbers."""
    facts = [socket.gethostname(), _content("/etc/machine-id")]
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
        if namespace != _FIRST_NAMESPACE:  # its number means something until the host starts again
            facts += [namespace, _content("/proc/sys/kernel/random/boot_id")]
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:8]


def _content(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
