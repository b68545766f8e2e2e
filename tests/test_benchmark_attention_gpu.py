"""The GPU script of the attention kernels, tried without a GPU: its parts, their order, time and files."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        patch.setenv("TRITON_CACHE_DIR", "unused")
        yield importlib.import_module("attention_gpu")
    for name in [name for name in sys.modules if name.split(".")[0] in ("attention_gpu", "machine")]:
        del sys.modules[name]


class Clock:
    """Seconds that pass only while a part runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_parts_run_in_order_and_within_their_time(script: ModuleType, tmp_path: Path) -> None:
    clock, seen = Clock(), []

    def runner(part, seconds):
        seen.append((part.name, seconds))
        clock.now += seconds

    assert script.run_parts(script.PARTS, script.Results(tmp_path), runner, script.BUDGET_S, clock)
    assert (
        [name for name, _ in seen]
        == ["accuracy", "sanitizer", "comparison", "tuning", "host"]
        == list(script.WORKS)
    )
    # Each may overrun by 15 seconds before it is killed, and twelve minutes are all that there is.
    assert (
        sum(seconds for _, seconds in seen)
        == sum(part.seconds for part in script.PARTS)
        <= script.BUDGET_S
        <= 720
    )


def test_a_part_that_fails_costs_the_others_nothing_and_is_the_only_one_to_run_again(
    script: ModuleType, tmp_path: Path
) -> None:
    seen: list[str] = []
    broken = {"accuracy": "exit status 1", "comparison": None}

    def runner(part, seconds):
        seen.append(part.name)
        with script.Results(tmp_path).rows_path(part.name).open("a") as file:
            file.write(json.dumps({"case": "a", "ok": True}) + '\n{"case": "cut')
        if part.name == "comparison" and "comparison" in broken:
            raise OSError("no more processes")
        return broken.get(part.name)

    assert not script.run_parts(script.PARTS, script.Results(tmp_path), runner, script.BUDGET_S)
    written = json.loads((tmp_path / "attention_gpu.json").read_text())
    assert {name: part["status"] for name, part in written["parts"].items()} == {
        "accuracy": "failed",
        "sanitizer": "done",
        "comparison": "failed",
        "tuning": "done",
        "host": "done",
    }
    assert written["parts"]["comparison"]["note"] == "OSError: no more processes"
    assert written["parts"]["accuracy"]["rows"] == [{"case": "a", "ok": True}]
    seen.clear()
    broken.clear()
    assert script.run_parts(script.PARTS, script.Results(tmp_path), runner, script.BUDGET_S)
    assert seen == ["accuracy", "comparison"]


def test_what_the_budget_does_not_reach_is_left_out_and_said(script: ModuleType, tmp_path: Path) -> None:
    clock = Clock()

    def runner(part, seconds):
        clock.now += seconds

    assert not script.run_parts(script.PARTS, script.Results(tmp_path), runner, 160.0, clock)
    parts = json.loads((tmp_path / "attention_gpu.json").read_text())["parts"]
    assert [part["status"] for part in parts.values()] == ["done", *["left out"] * 4]
    assert parts["host"]["note"] == "the budget was spent"


def test_a_wrong_row_is_a_failure(script: ModuleType, tmp_path: Path) -> None:
    def runner(part, seconds):
        script.Results(tmp_path).rows_path(part.name).write_text('{"case": "a", "ok": false}\n')

    assert not script.run_parts(script.PARTS[:1], script.Results(tmp_path), runner, 100.0)


def test_a_part_that_hangs_is_killed(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command, timeout, check, env):
        assert command[-6:-2] == ["--part", "host", "--seconds", "30"]
        assert command[1] == "-P" and env["PYTHONPATH"].startswith(str(BENCHMARKS))
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(script.subprocess, "run", run)
    runner = script.in_child([], script.Results(tmp_path))
    assert runner(script.PARTS[-1], 30.0) == "killed after 45 s"


def test_cases_are_those_that_were_asked_for(script: ModuleType) -> None:
    cases = list(script.accuracy_cases(False))
    assert len(cases) == len({name for name, _, _ in cases}) == 44
    variants = [variant for _, variant, _ in cases]
    assert {str(variant.dtype) for variant in variants} == {"torch.bfloat16", "torch.float16"}
    assert {tokens for _, _, tokens in cases} >= {1, 127, 1025}
    assert any(variant.packed and variant.rope for variant in variants)
    assert any(variant.tolerance and variant.gradients for variant in variants)
    assert sum(not variant.gradients for variant in variants) == 4  # decoding


@pytest.mark.slow  # two processes, each of which compiles
def test_children_write_rows_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    """The whole program on the CPU: Triton's interpreter runs the kernels."""
    pytest.importorskip("triton")
    words = [
        sys.executable,
        str(BENCHMARKS / "attention_gpu.py"),
        "--quick",
        "--device",
        "cpu",
        "--out",
        str(tmp_path),
    ]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}

    def run() -> tuple[list[str], dict]:
        done = subprocess.run(
            [*words, "--parts", "accuracy", "sanitizer"],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines(), json.loads(done.stdout.splitlines()[-1])

    lines, summary = run()
    assert summary["parts"] == {"accuracy": "done", "sanitizer": "done"}
    assert summary["wrong"] == []
    path = Path(summary["json"])
    rows = json.loads(path.read_text())["parts"]["accuracy"]["rows"]
    assert [row["case"] for row in rows] == ["2D ALiBi, CLS, 33, bfloat16", "2D ALiBi, CLS, 33, float16"]
    for row in rows:
        assert row["ok"]
        assert set(row["errors"]) >= {"the output", "the gradient of q", "the gradient of v"}
        assert 0 < row["errors"]["the output"] < row["allowed"]
    path.unlink()  # as if killed before the part was recorded, its rows are there
    lines, _ = run()
    assert not any(line.startswith('{"case": "2D ALiBi') for line in lines)


def test_without_a_gpu_it_says_so() -> None:
    if importlib.import_module("torch").cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "attention_gpu.py")], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {"reason": "no CUDA device: nothing was run"}


@pytest.mark.slow  # a minute of launches
def test_the_host_time_benchmark_counts_launches(script: ModuleType) -> None:
    """In a process without the interpreter, whose kernels are not launched but run."""
    code = "import json, attention_host_time; print(json.dumps(attention_host_time.measure(2)))"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment | {"PYTHONPATH": str(BENCHMARKS)},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(done.stdout)
    assert [(row["launches"], row["direction"]) for row in rows] == [
        (1, "forward"),
        (3, "forward+backward"),
    ] * 3
    assert all(row["host_us"] > 0 for row in rows)
