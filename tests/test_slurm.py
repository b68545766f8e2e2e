"""The job script for Slurm, run by bash with stand-ins for Slurm's commands: what is queued again and what is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "configs" / "launcher" / "slurm.sbatch"

SCONTROL = """#!/bin/bash
case $1 in
  show) echo 127.0.0.1; for ((node = 2; node < 20000; node++)); do echo "node-$node"; done ;;  # more than a pipe holds
  *) echo "$@" >> scontrol.calls ;;
esac
"""
# Starts the tasks on this machine and ends with their highest exit status, as Slurm's does.
SRUN = """#!/bin/bash
[[ $1 == --kill-on-bad-exit=1 ]] && shift
for ((task = 0; task < SLURM_NTASKS; task++)); do
  SLURM_PROCID=$task SLURM_LOCALID=$task "$@" &
  tasks+=($!)
done
echo "${tasks[@]}" > srun.tasks
highest=0
for task in "${tasks[@]}"; do
  status=0
  wait "$task" || status=$?
  ((status > highest)) && highest=$status
done
exit "$highest"
"""
# Notes how it was started. OUTCOME: a mark (interrupted or none) and an exit status.
TRAINER = """#!/bin/bash
echo "$RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $*" >> trainer.calls
read -r mark status <<< "$OUTCOME"
[[ $mark == interrupted && $RANK == 0 ]] && touch "$PENTATONIC_INTERRUPTED_FILE"
exit "$status"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder to submit jobs from, with Slurm's commands in ``bin``."""
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN)):
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(text)
        command.chmod(0o755)
    (tmp_path / "runs").mkdir()
    return tmp_path


@pytest.fixture
def stand_in_trainer(place: Path) -> None:
    python = place / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(TRAINER)
    python.chmod(0o755)


def start(place: Path, *words: str, tasks: int = 2, **variables: str) -> subprocess.Popen[str]:
    slurm = {
        "SLURM_JOB_ID": "40007",
        "SLURM_JOB_NODELIST": "node-[1-2]",
        "SLURM_NTASKS": str(tasks),
        "SLURM_NTASKS_PER_NODE": str(tasks),
        "SLURM_CPUS_PER_TASK": "8",
    }
    return subprocess.Popen(
        ["bash", str(SCRIPT), *words],
        cwd=place,
        env=os.environ | slurm | variables | {"PATH": f"{place / 'bin'}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
        text=True,
    )


def requeued(place: Path) -> list[str]:
    calls = place / "scontrol.calls"
    return calls.read_text().splitlines() if calls.exists() else []


@pytest.mark.parametrize(
    ("outcome", "status", "requests"),
    [
        ("interrupted 130", 0, ["requeue 40007"]),
        ("interrupted 143", 0, ["requeue 40007"]),  # killed after it had saved
        ("none 0", 0, []),
        ("none 1", 1, []),
        ("none 130", 130, []),  # a second Ctrl-C, which saves nothing
    ],
)
@pytest.mark.usefixtures("stand_in_trainer")
def test_only_an_interrupted_run_is_queued_again(
    place: Path, outcome: str, status: int, requests: list[str]
) -> None:
    assert start(place, "omar_rq", "train", OUTCOME=outcome).wait(timeout=60) == status
    assert requeued(place) == requests


@pytest.mark.usefixtures("stand_in_trainer")
def test_a_failure_after_an_interruption_is_not_queued_again(place: Path) -> None:
    assert start(place, "omar_rq", "train", OUTCOME="interrupted 130").wait(timeout=60) == 0
    assert start(place, "omar_rq", "train", OUTCOME="none 1").wait(timeout=60) == 1
    assert requeued(place) == ["requeue 40007"]


@pytest.mark.usefixtures("stand_in_trainer")
def test_each_task_knows_its_rank_and_gets_the_arguments_as_they_are(place: Path) -> None:
    words = ("omar_rq", "train", "experiment=debug", "run_dir=a b")
    assert start(place, *words, OUTCOME="none 0").wait(timeout=60) == 0
    calls = sorted((place / "trainer.calls").read_text().splitlines())
    assert calls == [f"{rank} {rank} 2 127.0.0.1 -m {' '.join(words)}" for rank in "01"]


@pytest.mark.slow
def test_a_real_run_goes_on_after_its_job_was_queued_again(place: Path) -> None:
    pytest.importorskip("accelerate")
    (place / ".venv").symlink_to(sys.prefix)
    small = ["model.net.embed_dim=16", "model.net.depth=1", "data.crop_s=1.0", "data.batch_size=1"]
    words = ["omar_rq", "train", "experiment=debug", f"data.root={ROOT / 'packages/omar-rq/demo'}", *small]
    run, one_thread = place / "run", {"OMP_NUM_THREADS": "1"}
    job = start(place, *words, f"run_dir={run}", "trainer.max_steps=100000", **one_thread)
    deadline = time.monotonic() + 240
    while not list((run / "checkpoints").glob("step-*")) and time.monotonic() < deadline:
        assert job.poll() is None, job.communicate()[1]
        time.sleep(0.1)
    for task in (place / "srun.tasks").read_text().split():
        os.kill(int(task), signal.SIGTERM)
    assert job.wait(timeout=120) == 0, job.communicate()[1]
    assert requeued(place) == ["requeue 40007"]
    stopped = json.loads((run / "interrupted.json").read_text())
    assert stopped["signal"] == "SIGTERM"

    job = start(place, *words, f"run_dir={run}", f"trainer.max_steps={stopped['step'] + 2}", **one_thread)
    assert job.wait(timeout=240) == 0, job.communicate()[1]
    assert requeued(place) == ["requeue 40007"] and not (run / "interrupted.json").exists()
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == stopped["step"] + 2 and set(range(1, steps[-1] + 1)) == set(steps)
