"""Interrupts around native code that swallows them, and while weights load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from pentatonic.checkpoint import load_tensors, save_tensors
from pentatonic.processes.interrupts import delayed_interrupts, sigterm_as_interrupt


def swallowing(*_args: object) -> None:
    """As native code that calls back into Python: an interrupt within it becomes an error of another kind."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        raise ValueError("could not determine the shape of an object") from None


def test_an_interrupt_takes_effect_at_the_end_of_the_block() -> None:
    before = signal.getsignal(signal.SIGINT)
    reached = False
    with pytest.raises(KeyboardInterrupt), delayed_interrupts():
        swallowing()
        reached = True
    assert reached
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_takes_the_place_of_an_error() -> None:
    with pytest.raises(KeyboardInterrupt), delayed_interrupts():
        swallowing()
        raise ValueError


def test_without_an_interrupt_nothing_changes() -> None:
    with delayed_interrupts():
        pass
    with pytest.raises(ValueError, match="other"), delayed_interrupts():
        raise ValueError("other")


def test_a_handler_of_the_program_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: called.append(number))
    try:
        with delayed_interrupts():
            os.kill(os.getpid(), signal.SIGTERM)
            assert called == []
        assert called == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_default_or_ignored_signal_stays_so() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with delayed_interrupts():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sigterm_is_an_interrupt_within_the_block() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with sigterm_as_interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


FORK = """
import os, signal, time
from pentatonic.processes.interrupts import sigterm_as_interrupt

ready, tell = os.pipe()
with sigterm_as_interrupt():
    child = os.fork()
    if not child:
        os.write(tell, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)  # the signal is lost on a process that is just being forked
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_worker_ends_by_sigterm_without_a_word() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", FORK], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{-signal.SIGTERM}\n", "")


def test_other_threads_change_no_handlers() -> None:
    seen: list[object] = []

    def work() -> None:
        with delayed_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


def test_an_interrupt_while_weights_load_is_no_damaged_file(tmp_path: Path, monkeypatch) -> None:
    save_tensors(tmp_path / "a.safetensors", {"w": torch.zeros(1)})
    monkeypatch.setattr("pentatonic.checkpoint.tensors.load_file", swallowing)
    with pytest.raises(KeyboardInterrupt):
        load_tensors(tmp_path / "a.safetensors")


PROGRAM = """
import os, signal, sys
from pathlib import Path
from pentatonic.checkpoint import load_tensors, tensors
from pentatonic.cli import make_app, run

app = make_app("pentatonic", "Load weights.")

@app.command()
def load(path: Path) -> None:
    load_tensors(path)

def swallowing(path):
    try:
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
    except KeyboardInterrupt:
        raise ValueError("could not determine the shape of an object")

tensors.load_file = swallowing
run(app, ["load", sys.argv[1]])
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_command_that_is_interrupted_while_weights_load_exits_with_130(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"w": torch.zeros(1)})
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(path), name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")
