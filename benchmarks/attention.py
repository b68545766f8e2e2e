"""Attention side by side: ours and every other implementation that this machine has, in one run.

    python benchmarks/attention.py                     # the GPU if there is one: bfloat16, eight minutes
    python benchmarks/attention.py --device cpu        # float32 on one thread, six minutes; Linux
    python benchmarks/attention.py --tune              # the same with tile sizes found first, in a third of the time

Every opponent gets the same tensors. Times are medians (with 10th and 90th percentile) over iterations in which the
opponents take turns: by events on a GPU, processor time on the CPU. ``backward`` is timed alone, directly after a
forward pass that keeps what it needs; ``host`` is what the host spends on a call. Rates count 4 N^2 D operations for
each head forward and 2.5 times that backward, half for causal masks, visible scores only for windows and packed
batches; with a tolerance they count skipped scores too, and ``live`` says how many were not skipped. ``memory_mb`` is
what a pass adds to the peak, results included. ``error`` is the norm of the difference to float64 over its norm, in a
sample of rows; that of a backward pass is of the worst gradient. Opponents without bias or without rope compute
something easier, are compared with the float64 result of that, and stand for speed only: ``sdpa``, ``sdpa flash`` and
the like, ``flash-attn``, ``varlen_attn, no rope``.

Results are written after each case, to ``benchmarks/results/<GPU or processor>/attention.{json,md,svg}``. The last line
is one line of JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is loaded; a GPU does not mind

import torch
from attention_matrix.cases import Case, cpu_cases, gpu_cases, quick_cases
from attention_matrix.goals import CPU_GOALS, GPU_GOALS, evaluate
from attention_matrix.measuring import Bench, Budget, child_command, one_call
from attention_matrix.report import draw, print_rows
from attention_matrix.rows import Row, not_run, why
from attention_matrix.timing import ceilings
from machine import RESULTS, describe_machine, results_folder, write_results

from pentatonic.child_process import python_environment

FLEX_MODES = ("eager", "default", "max-autotune-no-cudagraphs")


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    gpu = torch.cuda.is_available()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if gpu else "cpu")
    parser.add_argument("--budget", type=float, help="seconds for everything: 420 on a GPU, else 350")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to try the program itself")
    parser.add_argument("--flex", choices=FLEX_MODES, help="how FlexAttention is compiled")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the folders of the machines")
    parser.add_argument("--tune", action="store_true", help="find the kernels' tile sizes first; needs a GPU")
    parser.add_argument("--carry-on", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one-call", nargs=2, metavar=("CASE", "OPPONENT"), help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.budget is None:
        args.budget = 420.0 if args.device == "cuda" else 350.0
    args.flex = args.flex or ("eager" if args.quick else "default")
    known = {case.name: case for case in choose(args)}
    if args.tune and args.device != "cuda":
        parser.error("only a GPU can say which tile sizes are fastest: --tune needs --device cuda")
    unknown = [name for name in args.cases or () if name not in known]
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(known)}")
    args.cases = [known[name] for name in args.cases or known]
    return args


def choose(args: argparse.Namespace) -> list[Case]:
    """The cases of a device."""
    if args.quick:
        return list(quick_cases())
    return list(gpu_cases() if args.device == "cuda" else cpu_cases())


class Results:
    """What has been measured, and the files that hold it."""

    def __init__(self, args: argparse.Namespace, command: str) -> None:
        self.args, self.command, self.gpu = args, command, args.device == "cuda"
        self.goals = GPU_GOALS if self.gpu else CPU_GOALS
        self.ceilings: dict[str, float] = {}
        self.rows: list[Row] = []
        self.path: Path | None = None

    def carry_on(self) -> None:
        """Take up what the process before this one wrote."""
        path = results_folder(gpu=self.gpu, root=self.args.out) / "attention.json"
        written = json.loads(path.read_text(encoding="utf-8"))
        self.rows, self.command, self.path = written["rows"], written["command"], path
        self.ceilings = written.get("ceilings", [{}])[0]

    def add(self, rows: list[Row]) -> None:
        """Keep rows and write all that there are."""
        self.rows += rows
        self._write(None)

    def illustrate(self) -> None:
        """Add the picture, which takes as long to draw as a small case to measure."""
        picture = results_folder(gpu=self.gpu, root=self.args.out) / "attention.svg"
        device = describe_machine()["gpu"] if self.gpu else "CPU, one thread, float32"
        if draw(self.rows, choose(self.args), picture, device):
            self._write(picture.name)

    def _write(self, picture: str | None) -> None:
        self.path = write_results(
            "attention",
            self.rows,
            command=self.command,
            gpu=self.gpu,
            root=self.args.out,
            tables={"ceilings": [self.ceilings] if self.ceilings else [], "goals": self.judged()},
            picture=picture,
        )

    def judged(self) -> list[dict[str, Any]]:
        """The goals that the rows so far speak of."""
        return evaluate(self.goals, self.rows, self.ceilings)

    def summary(self) -> dict[str, Any]:
        """What a log's last line should say."""
        judged = self.judged()
        return {
            "cases": len({row["case"] for row in self.rows}),
            "rows": len(self.rows),
            "rows_with_reason": sum(row["reason"] is not None for row in self.rows),
            "goals_met": sum(line["met"] is True for line in judged),
            "goals_missed": sum(line["met"] is False for line in judged),
            "goals": {
                f"{goal['case']} {goal['direction']} {goal['goal']}": _short(goal["got"]) for goal in judged
            },
            "json": str(self.path),
        }


def _short(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.3g}")


def run(args: argparse.Namespace, command: str) -> Results:
    """All cases, as far as the budget goes."""
    device = torch.device(args.device)
    budget, results = Budget(args.budget), Results(args, command)
    limit_s, most = (0.3, 100) if device.type == "cuda" else (10.0, 10)
    if args.quick:
        limit_s, most = 0.02, 3
    words = ("--device", args.device, *(["--quick"] if args.quick else []))
    describe_machine(gpu=results.gpu)  # it remembers the GPU, in case a kernel takes the driver down
    bench = Bench(device, limit_s, most, args.flex, budget, child_command(Path(__file__), *words))
    if args.carry_on:
        results.carry_on()
    else:
        results.ceilings = ceilings(device)
    try:
        for number, case in enumerate(args.cases, 1):
            rows = bench.rows(case) if budget.left > 0 else not_run(case, "left out: the budget was spent")
            results.add(rows)
            print_rows(rows, f"{case.name}, {budget.left:.0f} s left")
            if args.cases[number:] and not bench.alive():
                start_again(args, args.cases[number:], budget.left)
    finally:
        results.illustrate()
    return results


def start_again(args: argparse.Namespace, cases: Sequence[Case], left_s: float) -> NoReturn:
    """Replace this process, whose device no longer answers, by one that goes on with the next case."""
    print(f"the device no longer answers; going on with {cases[0].name} in a new process")
    words = [
        "--device",
        args.device,
        "--budget",
        f"{max(1.0, left_s):.0f}",
        "--flex",
        args.flex,
        "--out",
        str(args.out),
    ]
    words += ["--quick"] if args.quick else []
    words += ["--carry-on", "--cases", *(case.name for case in cases)]
    sys.stdout.flush()
    command = [sys.executable, "-P", __file__, *words]
    os.execve(command[0], command, python_environment(Path(__file__).parent))


def tune(args: argparse.Namespace) -> None:
    """Let the kernels find their tile sizes in a third of the budget, and keep the table beside the results."""
    from attention_tuning.tuning import TABLE
    from attention_tuning.tuning import tune as search

    seconds, start = args.budget / 3, time.monotonic()
    try:
        search(torch.device(args.device), seconds, lambda line: print(line, flush=True))
    except Exception as error:  # the entries found so far are written, and the others serve as they are
        print(f"tuning ended early: {why(error)}")
    args.budget -= time.monotonic() - start
    keep = results_folder(gpu=True, root=args.out) / "table.json"
    keep.write_bytes(TABLE.read_bytes())
    print(f"tile sizes: {TABLE}, copied to {keep}")


def main() -> None:
    args = parse()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a run that is cut leaves what it said
    torch.set_num_threads(1)
    if args.one_call:
        name, opponent = args.one_call
        print(json.dumps(one_call(next(case for case in args.cases if case.name == name), opponent)))
        return
    if args.tune:
        tune(args)
    command = " ".join(["python benchmarks/attention.py", *sys.argv[1:]])
    results = run(args, command)
    if judged := results.judged():
        print_rows(judged, "goals", tuple(judged[0]))
    print(json.dumps(results.summary()))


if __name__ == "__main__":
    main()
