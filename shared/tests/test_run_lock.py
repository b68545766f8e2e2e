"""The lock on a run folder, held and lost by real processes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pentatonic.errors import RunFolderInUse
from pentatonic.processes.run_lock import LOCK_FILE, locked_run_folder

# Holds the lock until its standard input ends, or until it is killed; its child, as a loader worker, lives on.
HOLDER = """
import os, sys, time
from pathlib import Path
from pentatonic.processes.run_lock import locked_run_folder
with locked_run_folder(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock, with a forked child."""
    command = [sys.executable, "-P", "-c", HOLDER, str(run_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process
        finally:
            os.kill(child, signal.SIGKILL)
            process.kill()


def test_a_second_process_is_told_who_has_the_folder(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(RunFolderInUse) as refused, locked_run_folder(tmp_path):
            pytest.fail("two processes have the lock")
        who = f"process {process.pid} on {socket.gethostname()} since "
        assert str(refused.value).startswith(f"{tmp_path} is in use by {who}")
        assert re.search(r"since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00; wait", str(refused.value))
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0
        with locked_run_folder(tmp_path):
            assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
        assert (tmp_path / LOCK_FILE).read_text() == ""


def test_a_killed_process_leaves_no_lock_though_its_workers_live(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait(timeout=30)
        with locked_run_folder(tmp_path):
            assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


def test_other_folders_are_free(tmp_path: Path) -> None:
    with holder(tmp_path / "a"), locked_run_folder(tmp_path / "b"):
        assert (tmp_path / "b" / LOCK_FILE).is_file()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_file_locks_there_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", unsupported)
    with locked_run_folder(tmp_path):
        pass
    assert f"{tmp_path} cannot be locked ({os.strerror(number)})" in caplog.text


def test_a_lock_file_that_says_nothing_still_counts(tmp_path: Path) -> None:
    with holder(tmp_path):
        (tmp_path / LOCK_FILE).write_text("")
        with pytest.raises(RunFolderInUse, match="in use by another process"), locked_run_folder(tmp_path):
            pytest.fail("two processes have the lock")
