from __future__ import annotations

import ctypes
import errno
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pentatonic.checkpoint import (
    MANIFEST,
    atomic_directory,
    atomic_file,
    model_directory,
    newest_verified,
    prune,
    save_tensors,
    verify_directory,
)
from pentatonic.checkpoint import atomic as atomic_module
from pentatonic.errors import CheckpointError, CorruptCheckpoint, UsageError


def write_checkpoint(path: Path, value: float = 1.0) -> None:
    with atomic_directory(path) as directory:
        save_tensors(directory / "model.safetensors", {"w": torch.full((5,), value)})
        (directory / "state.json").write_text(f'{{"step": {value}}}')
        (directory / "ranks").mkdir()
        (directory / "ranks" / "0.json").write_text("[]")


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def rejection(path: Path) -> str:
    with pytest.raises(CorruptCheckpoint) as caught:
        verify_directory(path)
    return str(caught.value)


@pytest.fixture(params=["exchange", "renames"])
def swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Replace directories in one step, and as on file systems that cannot."""
    if request.param == "renames":
        monkeypatch.setattr(atomic_module, "_exchange", lambda *_: False)
    return request.param


# --- files


def test_a_file_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


def test_text_files_are_utf8(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a.txt", "w") as file:
        file.write("für Élise\n")
    assert (tmp_path / "a.txt").read_bytes() == "für Élise\n".encode()


def test_files_get_the_permissions_of_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    save_tensors(tmp_path / "a.safetensors", {})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_error_in_the_block_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_file(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_symbolic_link_to_a_file_stays(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    with atomic_file(tmp_path / "link.txt") as file:
        file.write(b"new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_what_is_not_a_regular_file_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(CheckpointError, match="not a regular file"), atomic_file(path):
            pass
    assert (tmp_path / "pipe").is_fifo()


def test_links_in_a_circle_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(CheckpointError, match="cannot write"), atomic_file(tmp_path / "a" / "c"):
        pass


def test_a_missing_folder_and_a_wrong_mode_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot write .*b\.bin: No such file"):
        save_tensors(tmp_path / "a" / "b.bin", {})
    with pytest.raises(UsageError, match="mode must be"), atomic_file(tmp_path / "a", "r"):  # type: ignore[arg-type]
        pass


def test_a_write_that_the_system_refuses_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"w": torch.zeros(2)})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"cannot write .*a\.safetensors: File too large"):
            save_tensors(path, {"w": torch.zeros(5000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["a.safetensors"]


# --- directories


def test_a_directory_gets_a_manifest_of_all_files(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "runs" / "step-1")
    manifest = verify_directory(tmp_path / "runs" / "step-1")
    assert list(manifest) == ["model.safetensors", "ranks/0.json", "state.json"]
    assert manifest["ranks/0.json"] == {
        "bytes": 2,
        "sha256": "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",
    }
    assert names(tmp_path / "runs") == ["step-1"]


def test_a_directory_is_replaced_as_a_whole(tmp_path: Path, swap: str) -> None:
    path = tmp_path / "model"
    write_checkpoint(path, 1)
    with atomic_directory(path) as directory:
        (directory / "other.json").write_text("{}")
        assert "state.json" in names(path)
    assert names(path) == [MANIFEST, "other.json"]
    assert names(tmp_path) == ["model"]
    verify_directory(path)


def test_an_empty_directory_and_one_with_a_damaged_manifest_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "step-1").mkdir()
    write_checkpoint(tmp_path / "step-1")
    (tmp_path / "step-1" / MANIFEST).write_bytes(b"{")
    write_checkpoint(tmp_path / "step-1", 2)
    (tmp_path / "step-1" / MANIFEST).unlink()
    write_checkpoint(tmp_path / "step-1", 3)
    assert (tmp_path / "step-1" / "state.json").read_text() == '{"step": 3}'
    verify_directory(tmp_path / "step-1")


@pytest.mark.parametrize("saved_before", [False, True])
def test_a_file_that_would_be_lost_prevents_the_replacement(tmp_path: Path, saved_before: bool) -> None:
    path = tmp_path / "model"
    if saved_before:
        write_checkpoint(path)
    path.mkdir(exist_ok=True)
    (path / "thesis.tex").write_text("years of work")
    before = names(path)
    with pytest.raises(CheckpointError, match=r"holds 'thesis\.tex'"):
        write_checkpoint(path)
    assert names(path) == before
    assert names(tmp_path) == ["model"]


def test_a_link_to_a_directory_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "model").symlink_to("disk")
    write_checkpoint(tmp_path / "model")
    assert (tmp_path / "model").is_symlink()
    verify_directory(tmp_path / "disk")


def test_a_file_is_not_replaced_by_a_directory(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("a file")
    with pytest.raises(CheckpointError, match="not a directory"):
        write_checkpoint(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "a file"


@pytest.mark.parametrize(
    "make", [lambda d: (d / MANIFEST).write_text("{}"), lambda d: (d / "x").symlink_to("/etc/hosts")]
)
def test_a_directory_holds_regular_files_only(tmp_path: Path, make) -> None:
    with (
        pytest.raises(CheckpointError, match="only regular files"),
        atomic_directory(tmp_path / "model") as directory,
    ):
        make(directory)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "error", [ValueError("no"), OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_an_error_in_the_block_leaves_the_old_directory(tmp_path: Path, error: BaseException) -> None:
    write_checkpoint(tmp_path / "model")
    expected = CheckpointError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as caught, atomic_directory(tmp_path / "model") as directory:
        (directory / "model.safetensors").write_bytes(b"half")
        raise error
    if isinstance(error, OSError):
        assert str(caught.value) == f"cannot write {tmp_path / 'model'}: No space left on device"
    assert names(tmp_path) == ["model"]
    verify_directory(tmp_path / "model")


def test_a_read_only_directory_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path, *_args, **_kwargs):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    (tmp_path / "runs").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refuse)
        with pytest.raises(CheckpointError, match=r"cannot write .*step-1: Read-only file system"):
            write_checkpoint(tmp_path / "runs" / "step-1")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(CheckpointError, match=r"cannot write .*a\.bin: Read-only file system"):
            save_tensors(tmp_path / "runs" / "a.bin", {})
    assert names(tmp_path / "runs") == []


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_at_any_fsync_leaves_the_old_state(
    tmp_path: Path, swap: str, existing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs" / "step-1"
    path.parent.mkdir()
    if existing:
        write_checkpoint(path, 1)
    fsync, moments = os.fsync, iter(())

    def failing_fsync(descriptor: int) -> None:
        if next(moments) == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing_fsync)
    failures = 0
    while True:
        moments = itertools.count(-failures)
        try:
            write_checkpoint(path, 2)
        except CheckpointError as error:
            assert "No space left on device" in str(error)
        else:
            break
        failures += 1
        assert names(path.parent) == (["step-1"] if existing else [])
        if existing:
            verify_directory(path)
            assert (path / "state.json").read_text() == '{"step": 1}'
    assert failures > 5  # files, folders, the parent
    assert (path / "state.json").read_text() == '{"step": 2}'


def test_a_failing_rename_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path / "model", 1)
    rename, moments = Path.rename, itertools.count()

    def failing_rename(self: Path, target: Path) -> Path:
        if next(moments) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())  # a C library without renameat2
    monkeypatch.setattr(Path, "rename", failing_rename)
    with pytest.raises(CheckpointError, match=r"cannot write .*model: Input/output error"):
        write_checkpoint(tmp_path / "model", 2)
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "state.json").read_text() == '{"step": 1}'


@pytest.mark.parametrize("published", [False, True])
def test_the_next_save_settles_what_a_killed_one_left(tmp_path: Path, published: bool) -> None:
    write_checkpoint(tmp_path / "model", 1)
    (tmp_path / "model").rename(tmp_path / ".model.old")
    if published:
        shutil.copytree(tmp_path / ".model.old", tmp_path / "model")
    with pytest.raises(ValueError, match="stop"), atomic_directory(tmp_path / "model"):
        raise ValueError("stop")
    assert names(tmp_path) == ["model"]
    verify_directory(tmp_path / "model")


_KILLED_SAVES = """
import itertools, os, sys
from pathlib import Path
import torch
from pentatonic.checkpoint import atomic_directory, save_tensors, atomic

os.fsync = lambda descriptor: None  # slow, and nothing that a killed process could lose

def save(path, value):
    with atomic_directory(path) as directory:
        save_tensors(directory / "model.safetensors", {"w": torch.full((5,), value)})
        (directory / "state.json").write_text(str(value))

def die_at(moment):
    # Each file operation that Python reports is a moment to die at.
    count = itertools.count()
    def hook(event, args):
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "ctypes.dlopen"):
            if next(count) == moment:
                os._exit(9)
    sys.addaudithook(hook)

def kill_at_every_moment(root):
    for moment in itertools.count():
        path = root / f"{moment:03d}" / "step-1"
        save(path, 1.0)
        child = os.fork()
        if child == 0:
            die_at(moment)
            save(path, 2.0)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            break

kill_at_every_moment(Path(sys.argv[1]) / "exchange")
atomic._exchange = lambda *_: False
kill_at_every_moment(Path(sys.argv[1]) / "renames")
"""


def test_a_process_that_is_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _KILLED_SAVES, str(tmp_path)], check=True, timeout=120)
    for way in ("exchange", "renames"):
        seen, leftovers = [], 0
        for run_dir in sorted((tmp_path / way).iterdir()):
            newest, rejected = newest_verified(run_dir)
            assert newest == run_dir / "step-1"
            assert rejected == []
            seen.append((newest / "state.json").read_text())
            leftovers += names(run_dir) != ["step-1"]
            prune(run_dir, 1)
            assert names(run_dir) == ["step-1"]
        assert seen == sorted(seen)  # first always the old state, then always the new one
        assert seen.count("1.0") > 10
        assert seen.count("2.0") > 2  # killed while the old files were removed, and not killed
        assert leftovers > 10


def test_a_reader_that_may_not_rename_still_gets_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "step-1")
    write_checkpoint(tmp_path / "step-2")
    (tmp_path / "step-2").rename(tmp_path / ".step-2.old")

    def refuse(*_args):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        assert newest_verified(tmp_path) == (tmp_path / "step-1", [])
    assert newest_verified(tmp_path) == (tmp_path / "step-2", [])


# --- damage


def damaged_copies(good: Path, scratch: Path):
    """Each way to damage each file: the damaged copy, and the name that must be reported."""
    for name in [MANIFEST, *verify_directory(good)]:
        content = (good / name).read_bytes()
        for damaged in [
            *(content[:size] for size in range(len(content))),
            *(
                content[:i] + bytes([byte ^ bit]) + content[i + 1 :]
                for i, byte in enumerate(content)
                for bit in (1, 32)
            ),
            content + b"\0",
            None,
        ]:
            target = scratch / name
            target.unlink()
            if damaged is not None:
                target.write_bytes(damaged)
            yield name, damaged
        (scratch / name).write_bytes(content)


def test_every_cut_flipped_or_deleted_file_is_found_and_the_older_checkpoint_used(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "step-9", 1)
    write_checkpoint(tmp_path / "step-10", 2)
    shutil.copytree(tmp_path / "step-10", tmp_path / "good")
    trials = 0
    for name, _ in damaged_copies(tmp_path / "good", tmp_path / "step-10"):
        newest, rejected = newest_verified(tmp_path)
        assert newest == tmp_path / "step-9"
        assert len(rejected) == 1
        # A manifest with another size or hash in it is indistinguishable from a damaged file.
        assert str(tmp_path / "step-10" / name) in str(rejected[0]) or name == MANIFEST
        trials += 1
    assert trials > 1000
    assert newest_verified(tmp_path) == (tmp_path / "step-10", [])


def test_the_reason_of_a_rejection_is_told(tmp_path: Path) -> None:
    path = tmp_path / "step-1"
    write_checkpoint(path)
    state = path / "state.json"
    content = state.read_text()
    state.write_text(content.replace("1", "2", 1))
    assert rejection(path) == f"{state}: the content was altered: its SHA-256 is not the manifest's"
    state.write_text(content + " ")
    assert rejection(path) == f"{state}: has {len(content) + 1} bytes, the manifest says {len(content)}"
    state.unlink()
    assert rejection(path) == f"{state}: is missing"
    state.mkdir()
    assert rejection(path) == f"{state}: is missing"
    assert rejection(tmp_path / "none") == f"{tmp_path / 'none' / MANIFEST}: is missing"


_RECORD = {"bytes": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "manifest",
    [
        [],
        {"../secret": _RECORD},
        {"/etc/hosts": _RECORD},
        {"a/./b": _RECORD},
        {"a\0": _RECORD},
        {"a": _RECORD | {"bytes": True}},
        {"a": _RECORD | {"bytes": 1.0}},
        {"a": _RECORD | {"sha256": "A" * 64}},
        {"a": _RECORD | {"sha256": 7}},
        {"a": _RECORD | {"more": 1}},
        {"a": {"bytes": 1}},
        {"a": None},
    ],
)
def test_a_forged_manifest_is_rejected(tmp_path: Path, manifest) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    assert rejection(tmp_path).startswith(f"{tmp_path / MANIFEST}: is not a manifest as it was written")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 200_000, "is not JSON"),
        (b"\xff", "is not JSON"),
        (b" " * (16 * 2**20 + 1), "is larger than 16777216 bytes"),
    ],
    ids=["nested", "not UTF-8", "large"],
)
def test_a_manifest_that_is_not_json_is_rejected(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    assert reason in rejection(tmp_path)


def test_an_unreadable_file_is_a_rejection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path / "step-1")
    path_open = Path.open

    def fail(blocked: str):
        def open_or_fail(self, *args, **kwargs):
            if self.name == blocked:
                raise OSError(errno.EIO, "Input/output error")
            return path_open(self, *args, **kwargs)

        return open_or_fail

    for blocked in (MANIFEST, "state.json"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", fail(blocked))
            assert f"{blocked}: cannot be read: Input/output error" in rejection(tmp_path / "step-1")
    stat = Path.stat

    def stat_or_fail(self, **kwargs):
        if self.name == "state.json":
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(self, **kwargs)

    monkeypatch.setattr(Path, "stat", stat_or_fail)
    monkeypatch.setattr(Path, "is_file", lambda self: bool(self.stat()))
    assert "state.json: cannot be read: Permission denied" in rejection(tmp_path / "step-1")


# --- series


def test_the_highest_number_wins_and_other_names_are_ignored(tmp_path: Path) -> None:
    for name in ("step-9", "step-0100", "step-20", "step-x", "epoch-900", "old-step-500"):
        write_checkpoint(tmp_path / name)
    (tmp_path / "step-300").write_text("a file")
    (tmp_path / ".step-200.tmp-0123").mkdir()
    assert newest_verified(tmp_path) == (tmp_path / "step-0100", [])
    assert newest_verified(tmp_path, prefix="epoch-") == (tmp_path / "epoch-900", [])
    assert newest_verified(tmp_path / "none") == (None, [])


def test_without_an_intact_checkpoint_every_rejection_is_reported(tmp_path: Path) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path / f"step-{step}")
        (tmp_path / f"step-{step}" / "state.json").unlink()
    newest, rejected = newest_verified(tmp_path)
    assert newest is None
    assert ["step-2" in str(error) for error in rejected] == [True, False]


def test_a_run_directory_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot list"):
        newest_verified(tmp_path / "file")


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    for step in (1, 2, 10, 9):
        write_checkpoint(tmp_path / f"step-{step}")
    (tmp_path / ".step-11.tmp-0123").mkdir()
    (tmp_path / "notes").mkdir()
    prune(tmp_path, 2)
    assert names(tmp_path) == ["notes", "step-10", "step-9"]
    prune(tmp_path / "none", 2)


def test_prune_does_not_count_damaged_checkpoints(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        write_checkpoint(tmp_path / f"step-{step}")
    (tmp_path / "step-4" / MANIFEST).unlink()
    (tmp_path / "step-3" / "state.json").write_text("cut")
    prune(tmp_path, 1)
    assert names(tmp_path) == ["step-2", "step-3", "step-4"]
    assert newest_verified(tmp_path)[0] == tmp_path / "step-2"


def test_prune_reports_what_it_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="at least 1, got 0"):
        prune(tmp_path, 0)
    for step in (1, 2):
        write_checkpoint(tmp_path / f"step-{step}")

    def refuse(*_args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(CheckpointError, match=r"cannot remove .*step-1: Permission denied"):
        prune(tmp_path, 1)


def test_a_run_folder_leads_to_its_newest_intact_checkpoint(tmp_path: Path) -> None:
    assert model_directory(tmp_path) == tmp_path  # not a run
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match=r"checkpoints has no complete checkpoint$"):
        model_directory(tmp_path)
    for step in (9, 10):
        write_checkpoint(tmp_path / "checkpoints" / f"step-{step}", step)
    assert model_directory(str(tmp_path)) == tmp_path / "checkpoints" / "step-10"
    assert model_directory(tmp_path / "checkpoints" / "step-9") == tmp_path / "checkpoints" / "step-9"
    for step in (10, 9):
        (tmp_path / "checkpoints" / f"step-{step}" / "state.json").write_text("{}")
        if step == 10:
            assert model_directory(tmp_path) == tmp_path / "checkpoints" / "step-9"
    with pytest.raises(CheckpointError, match=r"step-10.*state\.json.*step-9.*state\.json"):
        model_directory(tmp_path)


# --- long names

LONG = ["x" * 255, "ü" * 127, "音" * 85, "\udce9" * 255, "音" * 84 + "abc"]


@pytest.mark.parametrize("name", LONG, ids=["ascii", "two-bytes", "three-bytes", "not-utf8", "mixed"])
def test_the_longest_names_can_be_written_and_replaced(tmp_path: Path, swap: str, name: str) -> None:
    path = tmp_path / name
    for content in (b"one", b"two"):
        with atomic_file(path) as file:
            assert all(len(os.fsencode(entry)) <= 255 for entry in names(tmp_path))
            file.write(content)
        assert path.read_bytes() == content
    path.unlink()
    for value in (1.0, 2.0):
        write_checkpoint(path, value)
        verify_directory(path)
        assert json.loads((path / "state.json").read_text()) == {"step": value}
    assert names(tmp_path) == [name]


def test_an_interrupted_replacement_of_a_long_name_is_undone(tmp_path: Path) -> None:
    paths = [tmp_path / ("x" * 254 + end) for end in "ab"]
    for path in paths:
        path.mkdir()
        (path / "which").write_text(path.name[-1])
        path.rename(atomic_module._backup(path))
    for path in paths:
        atomic_module.finish_interrupted_replacement(path)
        assert (path / "which").read_text() == path.name[-1]
    assert names(tmp_path) == [path.name for path in paths]


@pytest.mark.parametrize("name", ["x" * 256, "ü" * 128])
def test_a_name_that_is_too_long_is_refused(tmp_path: Path, name: str) -> None:
    for write in (atomic_file, atomic_directory):
        with (
            pytest.raises(CheckpointError, match=r"its name has 256 bytes, and 255 are allowed"),
            write(tmp_path / name),
        ):
            pass
    assert names(tmp_path) == []
