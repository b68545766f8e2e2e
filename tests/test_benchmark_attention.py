"""The attention benchmark runs from end to end on any machine and leaves a row for whoever took part."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
OURS = "pentatonic"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Folder of the results and lines of the output of a quick run on the CPU."""
    out = tmp_path_factory.mktemp("results")
    command = [sys.executable, BENCHMARKS / "attention.py", "--quick", "--device", "cpu", "--out", out]
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    (folder,) = out.iterdir()
    return folder, done.stdout.splitlines()


@pytest.fixture(scope="module")
def result(finished: tuple[Path, list[str]]) -> dict[str, Any]:
    return json.loads((finished[0] / "attention.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script as a module, its parts as attributes of ``sys.modules``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("attention")
    for name in [
        name for name in sys.modules if name.split(".")[0] in ("attention", "attention_matrix", "machine")
    ]:
        del sys.modules[name]


@pytest.fixture
def goals(script: ModuleType) -> ModuleType:
    return sys.modules["attention_matrix.goals"]


def test_every_opponent_has_a_time_or_a_reason(result: dict[str, Any]) -> None:
    rows = result["rows"]
    for row in rows:
        assert (row["time_ms"] is None) != (row["reason"] is None), row
        if row["time_ms"] is not None:
            assert 0 < row["p10_ms"] <= row["time_ms"] <= row["p90_ms"] and row["runs"] >= 1, row
    opponents = {(row["case"], row["opponent"]) for row in rows}
    for name in (OURS, "flex", "sdpa flash", "sdpa math", "sdpa bias built", "flash-attn 2", "flash-attn 3"):
        assert ("alibi2d-65", name) in opponents
    assert len({frozenset(row) for row in rows}) == 1  # the same columns


def test_ours_and_its_rivals_compute_what_float64_says(result: dict[str, Any]) -> None:
    errors = {(row["case"], row["direction"], row["opponent"]): row["error"] for row in result["rows"]}
    for key in (
        ("alibi2d-65", "forward", OURS),
        ("alibi2d-65", "backward", OURS),
        ("learned-65", "backward", OURS),
        ("skip-press-513", "forward", "pentatonic dense"),
        ("skip-press-513", "forward", "flex live blocks"),
        ("varlen-window", "forward+backward", OURS),
        ("varlen-window", "backward", "sdpa per sequence"),
        ("varlen-global", "forward", "flex"),
        ("patchout-33", "forward", "flex"),
        ("decode-b2-64", "forward", OURS),
        ("omar-rq-64", "forward", "flex"),
        ("alibi1d-64", "forward", "sdpa bias math"),
    ):
        assert 0 < errors[key] < 1e-5, key
    assert all(error is None or error < 1e-3 for error in errors.values())


def test_an_opponent_that_cannot_is_reported_and_stops_nobody(result: dict[str, Any]) -> None:
    found = {row["opponent"]: row for row in result["rows"] if row["case"] == "varlen-window"}
    assert found["varlen_attn"]["reason"].startswith("NotImplementedError")  # it needs a GPU
    assert found[OURS]["time_ms"] > 0


def test_rows_hold_rates_and_memory(result: dict[str, Any]) -> None:
    rows = {(row["case"], row["direction"], row["opponent"]): row for row in result["rows"]}
    forward = rows["alibi2d-65", "forward", OURS]
    assert forward["tflops"] == pytest.approx(4 * 2 * 2 * 65**2 * 16 / forward["time_ms"] / 1e9)
    backward = rows["alibi2d-65", "backward", OURS]
    assert backward["tflops"] == pytest.approx(2.5 * 4 * 2 * 2 * 65**2 * 16 / backward["time_ms"] / 1e9)
    causal = rows["omar-rq-64", "forward", OURS]
    assert causal["tflops"] == pytest.approx(4 * 2 * 64**2 / 2 * 16 / causal["time_ms"] / 1e9)
    decode = rows["decode-b2-64", "forward", OURS]
    assert decode["gb_s"] == pytest.approx(2 * 2 * 2 * 64 * 16 * 4 / decode["time_ms"] / 1e6)
    assert rows["alibi2d-129", "forward", "sdpa bias built"]["memory_mb"] >= 0  # from a process of its own
    assert 0 < rows["skip-press-513", "forward", OURS]["live"] <= 1
    assert forward["times_ours"] == 1


def test_goals_are_judged(result: dict[str, Any]) -> None:
    assert {(goal["case"], goal["direction"]) for goal in result["goals"]} >= {
        ("skip-press-513", "forward"),
        ("dispatch-16", "host"),
    }
    for goal in result["goals"]:
        assert (goal["met"] is None) == (goal["got"] is None)
        assert goal["met"] in (True, False) or goal["note"]


def test_page_and_picture_are_written(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    page = (folder / "attention.md").read_text(encoding="utf-8")
    assert "![attention](attention.svg)" in page and "| skip-press-513 | forward | flex |" in page
    picture = (folder / "attention.svg").read_text(encoding="utf-8")
    assert picture.count(OURS) and "tokens" in picture
    assert {path.name for path in folder.iterdir()} == {"attention.json", "attention.md", "attention.svg"}


def test_last_line_sums_up(finished: tuple[Path, list[str]], result: dict[str, Any]) -> None:
    summary = json.loads(finished[1][-1])
    assert summary["rows"] == len(result["rows"])
    assert summary["rows_with_reason"] == sum(row["reason"] is not None for row in result["rows"])
    assert len(summary["goals"]) == len(result["goals"])
    assert summary["goals_met"] == sum(goal["met"] is True for goal in result["goals"])
    assert Path(summary["json"]).is_file()


def row(opponent: str, time_ms: float | None, **known: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("memory_mb", "error", "live", "gb_s", "reason"))
    return empty | {"case": "a-1", "direction": "forward", "opponent": opponent, "time_ms": time_ms} | known


@pytest.mark.parametrize(
    ("quantity", "rivals", "wanted", "got", "met"),
    [
        ("speed", ("flex",), 1.3, 2.0, True),
        ("speed", ("flex", "fast"), 1.3, 0.5, False),  # the fastest rival counts
        ("speed", ("wrong",), 1.3, None, None),
        ("speed", ("absent", "failed"), 1.3, None, None),
        ("memory", ("flex",), 1.1, 1.25, False),
        ("memory_mb", (), 12.0, 10.0, True),
        ("skipping", ("pentatonic dense",), 0.1, 0.05, True),
        ("bandwidth", (), 0.8, 0.75, False),
        ("overhead_us", ("flex",), 5.0, -2000.0, True),
        ("share", ("part",), 0.03, 0.025, True),
    ],
)
def test_a_goal_compares_rows(
    goals: ModuleType,
    quantity: str,
    rivals: tuple[str, ...],
    wanted: float,
    got: float | None,
    met: bool | None,
) -> None:
    rows = [
        row(OURS, 2.0, memory_mb=10.0, live=0.45, gb_s=3000.0, error=1e-3),
        row("flex", 4.0, memory_mb=8.0, error=1e-3),
        row("fast", 1.0),
        row("wrong", 0.1, error=0.5),
        row("failed", None, reason="out of memory"),
        row("pentatonic dense", 4.0),
        row("part", 0.1),
        row("flex", 0.1) | {"direction": "backward"},
    ]
    goal = goals.Goal("a-*", "forward", quantity, rivals, wanted)
    (line,) = goals.evaluate([goal], rows, {"copy_gb_s": 4000.0})
    assert line["got"] == (None if got is None else pytest.approx(got))
    assert line["met"] is met
    if met is None:
        assert rivals[-1] in line["note"]


def test_ours_meets_no_goal_with_a_wrong_result(goals: ModuleType) -> None:
    rows = [row(OURS, 1.0, error=0.3), row("flex", 4.0)]
    (line,) = goals.evaluate([goals.Goal("a-*", "forward", "speed", ("flex",), 1.3)], rows, {})
    assert line["met"] is False and "0.3" in line["note"]


def test_one_call_reports_time_memory_and_error(script: ModuleType) -> None:
    cases = {case.name: case for case in script.quick_cases()}
    found = script.one_call(cases["alibi2d-129"], "sdpa bias built")
    assert found["memory_mb"] >= 0 and found["time_ms"] > 0 and found["runs"] == 1
    assert 0 < found["error"] < 1e-5


def test_what_the_budget_leaves_out_is_said(script: ModuleType, tmp_path: Path) -> None:
    words = [
        "--quick",
        "--device",
        "cpu",
        "--out",
        str(tmp_path),
        "--budget",
        "1e-9",
        "--cases",
        "learned-65",
    ]
    results = script.run(script.parse(words), "test")
    assert [row["opponent"] for row in results.rows] == [OURS, "flex"]
    assert all("budget" in row["reason"] for row in results.rows)
    assert json.loads(results.path.read_text(encoding="utf-8"))["rows"] == results.rows


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_case_and_goal_names_what_exists(script: ModuleType, goals: ModuleType, device: str) -> None:
    known = sys.modules["attention_matrix.opponents"].OPPONENTS
    cases = list(script.cpu_cases() if device == "cpu" else script.gpu_cases())
    assert len({case.name for case in cases}) == len(cases)
    assert {name for case in cases for name in case.opponents} <= set(known)
    for goal in goals.CPU_GOALS if device == "cpu" else goals.GPU_GOALS:
        matching = [case for case in cases if fnmatch(case.name, goal.cases)]
        assert matching, goal
        for case in matching:
            assert not goal.rivals or set(goal.rivals) & set(case.opponents), (goal, case.name)


def test_a_case_that_does_not_exist_is_refused(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        script.parse(["--device", "cpu", "--cases", "alibi3d"])
    said = capsys.readouterr().err
    assert "alibi3d" in said and "alibi2d-2048" in said
