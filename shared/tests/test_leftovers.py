"""What killed processes left is removed, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pentatonic.checkpoint import atomic_directory, atomic_file
from pentatonic.child_process import ChildProcess
from pentatonic.processes import leftovers
from pentatonic.processes.leftovers import owner, remove_leftovers
from pentatonic.server import serving

START = r"\..*\.tmp-"


@pytest.fixture(autouse=True)
def first_call() -> Iterator[None]:
    """Each test is a process that has not looked into any folder."""
    remove_leftovers.cache_clear()
    yield
    remove_leftovers.cache_clear()


@pytest.fixture(scope="module")
def ended() -> int:
    """Number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-P", "-S", "-c", ""]) as process:
        process.wait()
    return process.pid


def of(process: int, host: str | None = None) -> str:
    return f"{host or owner().partition('-')[0]}-{process}-0123abcd"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_only_what_a_dead_process_of_this_host_left_is_removed(tmp_path: Path, ended: int) -> None:
    kept = [
        f".a.npz.tmp-{of(os.getpid())}",
        f".a.npz.tmp-{of(os.getppid())}",
        f".a.npz.tmp-{of(1)}",  # of another user, where the tests do not run as root
        f".a.npz.tmp-{of(ended, '00000000')}",
        f".a.npz.tmp-{of(ended)}.npz",
        f"a.npz.tmp-{of(ended)}",
        ".a.npz.tmp-0123abcd",
        ".a.npz",
    ]
    for name in (*kept, f".a.npz.tmp-{of(ended)}", f".line\nend.npz.tmp-{of(ended)}"):
        (tmp_path / name).touch()
    (tmp_path / f".model.tmp-{of(ended)}" / "inside").mkdir(parents=True)
    (tmp_path / f".link.tmp-{of(ended)}").symlink_to(tmp_path / ".a.npz")
    remove_leftovers(tmp_path, START)
    assert names(tmp_path) == sorted(kept)


def test_what_another_user_owns_stays(tmp_path: Path, ended: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f".a.tmp-{of(ended)}").touch()
    monkeypatch.setattr(leftovers.os, "geteuid", lambda: os.getuid() + 1)
    remove_leftovers(tmp_path, START)
    assert len(names(tmp_path)) == 1


def test_a_folder_is_searched_once(tmp_path: Path, ended: int) -> None:
    remove_leftovers(tmp_path, START)
    (tmp_path / f".a.tmp-{of(ended)}").touch()
    remove_leftovers(tmp_path, START)
    assert len(names(tmp_path)) == 1


def test_a_folder_that_cannot_be_listed_is_left_alone(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "missing", START)
    (tmp_path / "file").touch()
    remove_leftovers(tmp_path / "file", START)
    assert names(tmp_path) == ["file"]


KILLED = """
import os, signal, sys
from pathlib import Path
from pentatonic.checkpoint import atomic_directory, atomic_file
from pentatonic.child_process import ChildProcess
from pentatonic.server import serving
with (
    serving("up-"), atomic_file(Path(sys.argv[1], "a.npz")), atomic_directory(Path(sys.argv[1], "model")) as folder
):
    (folder / "weights").touch()
    child = ChildProcess("json:loads", seconds=60)
    child._start()
    child._running.process.kill()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_process_removes_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, temporary = tmp_path / "out", tmp_path / "temporary"
    out.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    subprocess.run([sys.executable, "-P", "-c", KILLED, str(out)], timeout=120)
    assert len(names(out)) == 2 and len(names(temporary)) == 2
    with atomic_file(out / "b.npz"):
        assert len(names(out)) == 1
    with atomic_directory(out / "model"):
        pass
    assert names(out) == ["b.npz", "model"]
    with ChildProcess("pentatonic.errors:UsageError", seconds=60) as child:
        child._start()
        assert len(names(temporary)) == 2  # the upload folder of the server, and that of this child
    with serving("up-"):
        assert len(names(temporary)) == 1
    assert names(temporary) == []
