"""Files in the folder where a user works are never executed, also not by the processes that a command starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PLANTED = (
    *("pentatonic", "notagen", "omar_rq", "verovio", "torch", "numpy", "soundfile"),
    *("json", "subprocess", "multiprocessing", "encodings", "tempfile", "sitecustomize", "usercustomize"),
)
TUNE = "X:1\nT:Scale\nL:1/8\nM:4/4\nK:C\nCDEF GABc|c8|CDEF GABc|c8|CDEF GABc|c8|CDEF GABc|c8|]\n"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with modules that leave a trace, and with something to work on."""
    folder = tmp_path / "here"
    folder.mkdir()
    for name in PLANTED:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'a').write({name!r})\n")
    (folder / "scores").mkdir()
    for name in ("one", "two"):
        (folder / "scores" / f"{name}.abc").write_text(TUNE.replace("Scale", name))
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(folder / "a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 16000), 16000)
    return folder


@pytest.mark.parametrize(
    ("package", "needs", "words", "output"),
    [
        ("omar_rq", "torch", "embed a.wav --out out --device cpu", "out/a.wav.npz"),
        ("notagen", "verovio", "convert scores --to svg --out out --jobs 2", "out/one-1.svg"),
        ("notagen", "hydra", "preprocess data.source=scores data.out=out jobs=2", "out/augmented.jsonl"),
    ],
)
def test_planted_modules_are_not_executed(
    here: Path, package: str, needs: str, words: str, output: str
) -> None:
    pytest.importorskip(needs)
    program = f"from {package}.cli import main; main()"  # what the console script does
    # An empty entry stands for the current folder.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    environment.pop("PYTHONSAFEPATH", None)
    command = [sys.executable, "-P", "-c", program, *words.split()]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (here / output).is_file()
    assert not (here.parent / "trace").exists(), (here.parent / "trace").read_text()


def test_the_trap_works(here: Path) -> None:
    """Without the protection a child process executes what is planted."""
    subprocess.run([sys.executable, "-c", "import tempfile"], cwd=here, check=True)
    assert (here.parent / "trace").read_text() == "tempfile"
