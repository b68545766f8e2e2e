"""A catalogue on a local Ray: the data set of the run without it, with workers that are killed, and what Ray may do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from omar_rq.catalogue.parts import DATA_SET
from omar_rq.catalogue.ray_engine import RayOptions
from omar_rq.catalogue.run import embed_catalogue
from omar_rq.weights import from_pretrained
from pentatonic import audio
from pentatonic.errors import MissingExtra, UsageError

START = [sys.executable, "-P", "-m", "omar_rq", "embed"]
BLOCK = "0.05"  # minutes: a recording or two


@pytest.fixture
def corpus(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for i in range(24):
        samples = 0.1 * torch.randn(round((2.0 + 0.1 * i) * 16000), generator=generator)
        audio.save(folder / f"{i:02}.wav", samples, 16000)
    (folder / "bad.wav").write_text("not audio")
    return folder


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """A folder with a short name, as sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        yield Path(folder)


def content(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (out / DATA_SET).glob("*.parquet")}


def children_of(pid: int) -> list[tuple[int, str]]:
    """Process number and title of all descendants."""
    found: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, ValueError, IndexError):
            continue
        found[int(folder.name)] = parent, title
    chosen = {pid}
    while more := {each for each, (parent, _) in found.items() if parent in chosen} - chosen:
        chosen |= more
    return [(each, found[each][1]) for each in chosen - {pid} if each in found]


def run(words: list[str], cwd: Path, meanwhile: Callable[[int], None] | None = None) -> dict:
    """Run ``omar-rq embed`` with ``--json``; ``meanwhile`` is called with its process number in a thread."""
    with subprocess.Popen(
        [*START, *words, "--json"], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        thread = threading.Thread(target=meanwhile or (lambda pid: None), args=(process.pid,))
        thread.start()
        out, error = process.communicate(timeout=500)
        thread.join()
    assert process.returncode == 3, error  # one file is bad
    return json.loads(out)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_killed_workers_lose_nothing_and_write_nothing_twice(corpus, ray_folder, tmp_path):
    pytest.importorskip("ray")
    pytest.importorskip("pyarrow")
    words = [str(corpus), "--block", BLOCK]
    plain = run([*words, "--format", "parquet", "--threads", "1", "--out", str(tmp_path / "plain")], tmp_path)
    out = tmp_path / "out"
    killed: list[str] = []

    def kill(pid: int) -> None:
        """One actor, when a first block is written, and then one task that decodes."""
        for _ in range(30_000):
            if list((out / DATA_SET).glob("part-*.parquet")):
                for wanted in ("_Embedder", "_decode"):
                    workers = [(each, title) for each, title in children_of(pid) if wanted in title]
                    if workers and wanted not in killed:
                        os.kill(workers[0][0], signal.SIGKILL)
                        killed.append(wanted)
            if "_Embedder" in killed:
                return
            time.sleep(0.005)

    planted = tmp_path / "here"
    planted.mkdir()
    trace = tmp_path / "trace"
    for name in ("numpy", "torch", "omar_rq", "pyarrow", "sitecustomize"):
        (planted / f"{name}.py").write_text(f"open({str(trace)!r}, 'a').write({name!r})\n")
    words += ["--engine", "ray", "--workers", "2", "--ray-folder", str(ray_folder), "--out", str(out)]
    report = run(words, planted, kill)
    assert "_Embedder" in killed
    assert not trace.exists(), trace.read_text()
    assert content(out) == content(tmp_path / "plain")
    assert report == plain
    assert list(ray_folder.glob("session_*/logs")), "the logs are where the user says"
    again = run(words, tmp_path)
    assert again["counts"] == {"done": 0, "skipped": 24, "failed": 1}
    assert content(out) == content(tmp_path / "plain")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="open ports are found in /proc")
def test_a_local_cluster_listens_on_the_loopback_interface_alone(corpus, ray_folder, tmp_path):
    pytest.importorskip("ray")
    pytest.importorskip("pyarrow")
    open_to_all: set[str] = set()
    seen: list[int] = []

    def look(pid: int) -> None:
        for _ in range(2000):
            sockets = listening()
            children = children_of(pid)
            for child, title in children:
                for inode in inodes(child) & set(sockets):
                    seen.append(child)
                    if not sockets[inode]:
                        open_to_all.add(title[:60])
            if seen and any("_Embedder" in title for _, title in children):
                return
            time.sleep(0.05)

    words = [
        str(corpus),
        "--block",
        BLOCK,
        "--engine",
        "ray",
        "--workers",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    run([*words, "--ray-folder", str(ray_folder)], tmp_path, look)
    assert seen
    assert open_to_all == set()


def listening() -> dict[str, bool]:
    """Inode of each socket that listens -> whether it does so on the loopback interface alone."""
    found = {}
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                address = words[1].partition(":")[0]
                loopback = address.endswith("7F") or address == "0" * 24 + "01000000"
                found[words[9]] = loopback or address.endswith("FFFF00000100007F")
    return found


def inodes(pid: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def test_without_ray_there_is_one_sentence_before_any_work(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    audio.save(tmp_path / "a.wav", torch.zeros(16000), 16000)
    monkeypatch.setitem(sys.modules, "ray", None)
    model = from_pretrained("omar-rq-tiny")
    with pytest.raises(MissingExtra, match=r"omar-rq\[ray\]"):
        embed_catalogue(model, [tmp_path / "a.wav"], tmp_path / "out", ray=RayOptions())
    assert not (tmp_path / "out").exists()


def test_options_that_cannot_work_are_named(tmp_path):
    with pytest.raises(UsageError, match="allowed: 1 and more"):
        RayOptions(workers=0)
    with pytest.raises(UsageError, match="names of sockets"):
        RayOptions(folder=tmp_path / ("x" * 60))
    with pytest.raises(UsageError, match="running cluster"):
        RayOptions(address="auto", folder=Path("/tmp/r"))
