"""Ctrl-C reaches all processes of a terminal: the command ends with status 130, and no process shows a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="the system has no process groups"),
]

N_INPUTS = 60
TUNE = "X:1\nT:Scale\nL:1/8\nM:4/4\nK:C\n" + "CDEF GABc|" * 60 + "c8|]\n"
ONE_AT_A_TIME = "out/[0-9]*"

# Package, words, what shows that the work has begun, and whether a report is written.
COMMANDS = [
    ("omar_rq", "embed audio --out out --device cpu", ONE_AT_A_TIME, True),
    ("omar_rq", "prepare input=audio output=out", "out/manifest.jsonl.partial", True),
    ("notagen", "convert scores --to svg --out out --jobs 2", ONE_AT_A_TIME, False),
    ("notagen", "preprocess data.source=scores data.out=out jobs=2", "out/interleaved/*", True),
]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    soundfile = pytest.importorskip("soundfile")
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 20 * 16000)
    for folder in ("audio", "scores", "temporary"):
        (tmp_path / folder).mkdir()
    for number in range(N_INPUTS):
        soundfile.write(tmp_path / "audio" / f"{number:03}.wav", noise, 16000)
        (tmp_path / "scores" / f"{number:03}.abc").write_text(TUNE.replace("Scale", f"Scale {number}"))
    return tmp_path


def interrupt(here: Path, package: str, words: str, begun: str) -> tuple[int, str]:
    """Send Ctrl-C to a command and its children as soon as a file is there; return status and standard error."""
    program = f"from {package}.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", program, *words.split()],
        cwd=here,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(here / "temporary")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 240
        while not list(here.glob(begun)) and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=120)
    return process.returncode, error


@pytest.mark.parametrize(("package", "words", "begun", "reported"), COMMANDS)
def test_an_interrupted_command_says_what_is_not_done(
    here: Path, package: str, words: str, begun: str, reported: bool
) -> None:
    pytest.importorskip("hydra")
    pytest.importorskip("verovio")
    status, error = interrupt(here, package, words, begun)
    assert status == 130, error
    assert "Traceback" not in error and "Exception" not in error and "KeyboardInterrupt" not in error
    lines = error.splitlines()
    assert lines[-1].endswith(" not done") and not any(line.endswith(", done") for line in lines), error
    if reported:
        report = json.loads((here / "out" / "report.json").read_text())
        assert report["counts"]["not done"] > 0 and len(report["inputs"]) == N_INPUTS
    assert list((here / "temporary").iterdir()) == []


def test_an_interrupted_trainer_saves(here: Path) -> None:
    pytest.importorskip("accelerate")
    words = (
        "train experiment=debug data.root=audio run_dir=out data.num_workers=2 trainer.max_steps=100000 "
        "trainer.val_every=0"
    )
    status, error = interrupt(here, "omar_rq", words, "out/metrics.jsonl")
    assert status == 130, error
    assert "Traceback" not in error and "KeyboardInterrupt" not in error
    assert (here / "out" / "interrupted.json").is_file()
