"""Streams that are closed, or that nobody reads any more: no traceback, no lost work, the status of the work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="descriptors are those of POSIX")

PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from pentatonic.cli import PartialFailure, make_app, run

app = make_app("toy", "A toy.")

@app.command()
def work(out: Path, fail: bool = False) -> None:
    with out.open("w") as file:  # gets the lowest descriptor that is free
        for number in range(8000):
            print("message", number, file=sys.stderr)
            print("result", number)
        os.write(2, b"of native code\\n")
        subprocess.run([sys.executable, "-P", "-S", "-c", "import sys; print(1, file=sys.stderr)"], check=True)
        file.write("whole")
    if fail:
        raise PartialFailure("1 of 2 inputs failed")

run(app, sys.argv[1:])
"""


def command(out: Path, *words: str) -> list[str]:
    return [sys.executable, "-P", "-c", PROGRAM, "work", str(out), *words]


@pytest.mark.parametrize(
    ("closed", "words", "status"),
    [("2>&-", [], 0), (">&-", ["--fail"], 3), (">&- 2>&-", ["--fail"], 3), ("<&- >&- 2>&-", [], 0)],
)
def test_closed_streams_change_nothing(tmp_path: Path, closed: str, words: list[str], status: int) -> None:
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command(tmp_path / "out", *words)]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=120)
    assert done.returncode == status
    assert (tmp_path / "out").read_text() == "whole"
    for text, name, redirection in (
        (done.stdout, "result", " >&-"),
        (done.stderr, "message", "2>&-"),
    ):
        expected = [] if redirection in f" {closed}" else [f"{name} {number}" for number in range(8000)]
        assert text.splitlines()[: len(expected)] == expected
        assert bool(text) == bool(expected) and "Traceback" not in text and "Exception" not in text


@pytest.mark.parametrize(
    ("stream", "words", "status"), [("stdout", [], 0), ("stderr", ["--fail"], 3), ("both", [], 0)]
)
def test_a_reader_that_goes_away_changes_nothing(
    tmp_path: Path, stream: str, words: list[str], status: int
) -> None:
    kept = tmp_path / "kept"
    with kept.open("wb") as file:
        process = subprocess.Popen(
            command(tmp_path / "out", *words),
            stdout=file if stream == "stderr" else subprocess.PIPE,
            stderr={"stdout": file, "stderr": subprocess.PIPE, "both": subprocess.STDOUT}[stream],
        )
    read = process.stderr if stream == "stderr" else process.stdout
    assert read is not None
    first = read.readline()
    read.close()
    assert process.wait(120) == status
    assert first.split()[0] in (b"result", b"message")
    assert (tmp_path / "out").read_text() == "whole"
    assert b"Traceback" not in kept.read_bytes() and b"Exception" not in kept.read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
@pytest.mark.parametrize("n_results", [1, 8000])
def test_results_that_do_not_fit_on_the_disk_are_an_error(tmp_path: Path, n_results: int) -> None:
    program = PROGRAM.replace("range(8000)", f"range({n_results})").replace("message", "")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, "work", str(tmp_path / "out")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: [Errno 28]")
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
