"""Everything that the attention kernels have to show on a GPU, in one run of at most twelve minutes.

    python benchmarks/attention_gpu.py --fill-cache 90     # without a GPU: compile for capability 9.0 beforehand
    python benchmarks/attention_gpu.py                     # on the GPU
    python benchmarks/attention_gpu.py --parts accuracy    # only these; --again repeats what is done

Parts, in this order, each a process of its own with a share of the time, so that one that crashes, hangs or finds
something wrong costs the others nothing:

    accuracy    20 cases in bfloat16 and float16, forward and backward, against float64
    sanitizer   tiny cases under compute-sanitizer, where it is installed
    comparison  2D ALiBi at 32 x 1,025 and 4 x 9,369 tokens, packed windows: ours, FlexAttention, SDPA, varlen_attn
    tuning      launch parameters for head dimension 64, written to the table and copied beside the results
    host        host time of a call, and decoding

``benchmarks/results/<GPU>/attention_gpu.json`` is written after each part, and rows of an unfinished part one by one; a
second run goes on with the parts and cases that are missing. The compiled kernels lie in ``benchmarks/.triton-cache``
(ignored by git; carry it to the machine with the GPU), or where TRITON_CACHE_DIR says. The last line is one line of
JSON; the exit status is 1 if a part failed or a case was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRITON_CACHE_DIR", str(Path(__file__).resolve().parent / ".triton-cache"))

import torch
from machine import RESULTS, results_folder

from pentatonic.child_process import python_environment

SCRIPT = Path(__file__).resolve()

Row = dict[str, Any]
BUDGET_S = 690.0
# What a part needs at least to be worth starting: Python, PyTorch and the first kernel.
SHORTEST_S = 20.0
# Exit status of a part that ran out of time.
UNFINISHED = 3


@dataclass(frozen=True)
class Part:
    """One part of the run.

    Attributes:
        name: Of the part.
        seconds: Its share of the time; what earlier parts leave is not added.
    """

    name: str
    seconds: float


PARTS = (
    Part("accuracy", 150.0),
    Part("sanitizer", 60.0),
    Part("comparison", 230.0),
    Part("tuning", 170.0),
    Part("host", 70.0),
)


# --- the run --------------------------------------------------------------------------------------------------------


class Results:
    """The file of the results, and one file of rows for each part that has begun.

    Args:
        folder: Of both.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "attention_gpu.json"
        try:
            self.parts: dict[str, Row] = json.loads(self.path.read_text(encoding="utf-8"))["parts"]
        except (OSError, ValueError, KeyError):
            self.parts = {}

    def rows_path(self, part: str) -> Path:
        """Where a part appends its rows, one line of JSON each."""
        return self.folder / f".attention_gpu.{part}.jsonl"

    def rows(self, part: str) -> list[Row]:
        """The rows of a part; a last line that was cut is left out."""
        try:
            lines = self.rows_path(part).read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def clear(self, part: str) -> None:
        """Begin a part from the start."""
        self.parts.pop(part, None)
        self.rows_path(part).unlink(missing_ok=True)

    def write(self, part: str, status: str, seconds: float, note: str | None) -> None:
        """Record how a part ended, with the rows that it left."""
        rows = self.rows(part)
        self.parts[part] = {"status": status, "seconds": round(seconds, 1), "note": note, "rows": rows}
        sibling = self.path.with_suffix(".tmp")
        sibling.write_text(
            json.dumps({"machine": machine(), "parts": self.parts}, indent=1) + "\n", encoding="utf-8"
        )
        sibling.replace(self.path)


def machine() -> Row:
    """The GPU and the versions that all rows depend on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"gpu": gpu, "torch": torch.__version__, "cuda": torch.version.cuda}


# Runs a part within some seconds; returns None, or why it did not end well.
Runner = Callable[[Part, float], str | None]


def run_parts(
    parts: Sequence[Part],
    results: Results,
    runner: Runner,
    budget_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Run what is not done yet, in order, and write the results after each part.

    Args:
        parts: What to run.
        results: Where the results go.
        runner: Runs one part.
        budget_s: Seconds for everything.
        clock: Seconds.

    Returns:
        Whether all parts are done and none of their rows is wrong.
    """
    end = clock() + budget_s
    for part in parts:
        if results.parts.get(part.name, {}).get("status") == "done":
            print(f"{part.name}: done before")
            continue
        start = clock()
        seconds = min(part.seconds, end - start)
        if seconds < SHORTEST_S:
            results.write(part.name, "left out", 0.0, "the budget was spent")
        else:
            try:
                problem = runner(part, seconds)
            except Exception as error:  # whatever happens to one part, the others run
                problem = f"{type(error).__name__}: {error}"
            results.write(part.name, "failed" if problem else "done", clock() - start, problem)
        ended = results.parts[part.name]
        print(
            f"{part.name}: {ended['status']} in {ended['seconds']} s, {len(ended['rows'])} rows, {ended['note']}"
        )
    ended = [results.parts[part.name] for part in parts]
    return all(part["status"] == "done" and not any(wrong(row) for row in part["rows"]) for part in ended)


def wrong(row: Row) -> bool:
    """Whether a row says that a result of ours is not right."""
    return row.get("ok") is False


def in_child(words: Sequence[str], results: Results) -> Runner:
    """Runs parts as ``python attention_gpu.py --part NAME`` with these words, and kills what overruns by 15 seconds."""

    def run(part: Part, seconds: float) -> str | None:
        command = [sys.executable, "-P", str(SCRIPT), *words, "--part", part.name]
        command += ["--seconds", f"{seconds:.0f}", "--rows", str(results.rows_path(part.name))]
        try:
            environment = python_environment(SCRIPT.parent)
            done = subprocess.run(command, timeout=seconds + 15.0, check=False, env=environment)
        except subprocess.TimeoutExpired:
            return f"killed after {seconds + 15.0:.0f} s"
        if done.returncode == UNFINISHED:
            return "its time was over before its last case"
        return None if done.returncode == 0 else f"exit status {done.returncode}"

    return run


# --- the parts ------------------------------------------------------------------------------------------------------


@dataclass
class Work:
    """What a part gets.

    Attributes:
        device: Where it computes.
        seconds: How long it may take.
        rows: The file for its rows.
        quick: Tiny shapes and few cases, to try the program itself.
    """

    device: torch.device
    seconds: float
    rows: Path
    quick: bool

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.seconds

    @property
    def left(self) -> float:
        """Seconds left."""
        return self._end - time.monotonic()

    def done(self) -> set[str]:
        """Names of the cases whose rows an earlier process has written."""
        results = Results(self.rows.parent)
        return {row["case"] for row in results.rows(self.rows.name.split(".")[2])}

    def add(self, row: Row) -> None:
        """Append a row and print it."""
        with self.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def accuracy_cases(quick: bool) -> Iterator[tuple[str, Any, int]]:
    """Name, variant and tokens of each case."""
    from pentatonic.attention.trust.variant import Variant

    train: dict[str, Any] = {"gradients": "inputs"}
    alibi = {"bias": "Alibi2D", "cls_tokens": 1, **train}
    window = {"left": True, "right": True, **train}
    options: dict[str, tuple[dict[str, Any], int]] = {
        "one token": (train, 1),
        "127 tokens": (train, 127),
        "1,025 tokens": (train, 1025),
        "causal": ({"right": True, **train}, 1025),
        "log-sum-exp": ({"lse": True, **train}, 300),
        "head 128": ({"head_dim": 128, "right": True, **train}, 300),
        "2D ALiBi, CLS, 1": (alibi, 1),
        "2D ALiBi, CLS, 127": (alibi, 127),
        "2D ALiBi, CLS, 1,025": (alibi, 1025),
        "2D ALiBi, learned": ({**alibi, "gradients": "all"}, 1025),
        "2D ALiBi, skipping": ({**alibi, "tolerance": True}, 1025),
        "1D ALiBi": ({"bias": "Alibi1D", **train}, 300),
        "directional, learned": ({"bias": "Directional", "cls_tokens": 1, "gradients": "all"}, 300),
        "key bias, lengths": ({"bias": "KeyBias", "lengths": True, **train}, 300),
        "window": (window, 1025),
        "window, rope half": ({**window, "rope": "half", "rotary_dim": 64}, 300),
        "rope interleaved": ({"rope": "interleaved", "rotary_dim": 64, **train}, 300),
        "packed, one of them empty": ({"packed": "same", **train}, 0),
        "packed, window, rope half": ({**window, "packed": "same", "rope": "half", "rotary_dim": 64}, 0),
        "packed, 2D ALiBi, CLS": ({**alibi, "packed": "same"}, 0),
        "decoding": ({"few_queries": True, "right": True}, 0),
        "decoding, lengths": ({"few_queries": True, "right": True, "lengths": True, "aligned": True}, 0),
    }
    if quick:
        options = {"2D ALiBi, CLS, 33": (alibi, 33)}
    for name, (chosen, tokens) in options.items():
        for dtype in (torch.bfloat16, torch.float16):
            yield f"{name}, {str(dtype)[6:]}", Variant(dtype, **{"head_dim": 64} | chosen), tokens


def accuracy(work: Work) -> bool:
    """Forward and backward against float64."""
    from pentatonic.attention.trust.check import TOLERANCES
    from pentatonic.attention.trust.small_problem import SmallProblem

    done = work.done()
    for name, variant, tokens in accuracy_cases(work.quick):
        if name in done:
            continue
        if work.left <= 0:
            return False
        row: Row = {"case": name, "variant": str(variant), "tokens": tokens or None}
        start = time.monotonic()
        try:
            errors = SmallProblem(variant, work.device, tokens or None).errors()
            allowed = TOLERANCES[variant.dtype]
            row |= {
                "ok": all(error <= allowed for error in errors.values()),
                "errors": errors,
                "allowed": allowed,
            }
        except (
            torch.AcceleratorError
        ):  # the device of this process is gone: another process goes on with the next case
            work.add(row | {"ok": False, "reason": "the device no longer answers"})
            raise
        except Exception as error:  # the compiler raises errors of many types
            row |= {"ok": False, "reason": f"{type(error).__name__}: {error}"[:500]}
        work.add(row | {"seconds": round(time.monotonic() - start, 2)})
    return True


def sanitizer(work: Work) -> bool:
    """Reads and writes outside of tensors, and races: the first cases under compute-sanitizer."""
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        work.add({"case": "memcheck", "ok": None, "reason": "compute-sanitizer is not installed"})
        return True
    command = [
        tool,
        "--tool",
        "memcheck",
        "--error-exitcode",
        "9",
        *(sys.executable, "-P", str(SCRIPT)),
    ]
    command += [
        "--part",
        "accuracy",
        "--quick",
        "--seconds",
        f"{work.left:.0f}",
        "--device",
        str(work.device),
    ]
    rows = work.rows.with_name(".attention_gpu.sanitized.jsonl")
    rows.unlink(missing_ok=True)
    try:
        found = subprocess.run(
            [*command, "--rows", str(rows)],
            capture_output=True,
            text=True,
            timeout=max(1.0, work.left),
            check=False,
            env=python_environment(SCRIPT.parent),
        )
    except subprocess.TimeoutExpired:
        work.add({"case": "memcheck", "ok": None, "reason": f"not finished within {work.seconds:.0f} s"})
        return True
    last = "\n".join(found.stdout.splitlines()[-12:])
    work.add({"case": "memcheck", "ok": found.returncode == 0, "status": found.returncode, "output": last})
    return True


def comparison(work: Work) -> bool:
    """The shapes of the models, side by side."""
    from attention_matrix.cases import gpu_cases, quick_cases

    cases = {case.name: case for case in gpu_cases()}
    opponents = (
        "pentatonic",
        "flex",
        "flex flash",
        "sdpa flash",
        "sdpa cudnn",
        "sdpa bias efficient",
        "flash-attn 2",
    )
    track = replace(cases["alibi2d-1025"], opponents=opponents)
    chosen = [
        replace(track, name="alibi2d-b32-1025", batch=32),
        replace(track, name="alibi2d-b4-9369", batch=4, tokens=9369),
        cases["varlen-window"],
    ]
    return _bench(work, [next(quick_cases())] if work.quick else chosen)


def host(work: Work) -> bool:
    """Host time of a call, and a step of a decoder."""
    import attention_host_time
    from attention_matrix.cases import gpu_cases

    done = work.done()
    for row in attention_host_time.measure(20 if work.quick else attention_host_time.CALLS):
        name = f"{row['call']}, {row['direction']}"
        if name not in done:
            work.add({"case": name, "launches": row["launches"], "host_us": row["host_us"]})
    return _bench(work, [case for case in gpu_cases() if (case.dispatch or case.decode) and not work.quick])


def _bench(work: Work, cases: Sequence[Any]) -> bool:
    from attention_matrix.measuring import Bench, Budget

    done = work.done()
    limit_s, most, mode = (0.02, 3, "eager") if work.quick else (0.3, 100, "default")
    bench = Bench(work.device, limit_s, most, mode, Budget(work.seconds), [])
    for case in cases:
        if case.name in done:
            continue
        if work.left <= 0:
            return False
        for row in bench.rows(case):
            work.add(row)
        if not bench.alive():
            raise RuntimeError(f"the device no longer answers after {case.name}")
    return True


def tuning(work: Work) -> bool:
    """Launch parameters for head dimension 64, measured."""
    from attention_tuning.tuning import TABLE, tune

    def report(line: str) -> None:
        work.add({"case": line.split(":", maxsplit=1)[0], "found": line.split(": ", 1)[-1]})

    tune(work.device, work.seconds, report, head_dims=(64,))
    shutil.copyfile(TABLE, work.rows.with_name("table.json"))
    return True


# Each says whether it reached all of its cases.
WORKS: dict[str, Callable[[Work], bool]] = {
    "accuracy": accuracy,
    "sanitizer": sanitizer,
    "comparison": comparison,
    "tuning": tuning,
    "host": host,
}


# --- compiled beforehand --------------------------------------------------------------------------------------------


def fill_cache(arch: int, quick: bool) -> int:
    """Compile what the part ``accuracy`` launches for a GPU that is not there, into Triton's cache.

    Args:
        arch: Compute capability times ten.
        quick: Only a few.

    Returns:
        Number of binaries.
    """
    from attention_tuning.offline import compile_only, launch_parameters_of

    from pentatonic.attention.trust.small_problem import SmallProblem

    count = 0
    for name, variant, tokens in accuracy_cases(quick):
        with compile_only(arch) as binaries, launch_parameters_of(arch):
            SmallProblem(variant, torch.device("cpu"), tokens or None).by_kernels()
        count += len(binaries)
        print(f"{name}: {len(binaries)}", flush=True)
    return count


# --- command line ---------------------------------------------------------------------------------------------------


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [part.name for part in PARTS]
    parser.add_argument("--parts", nargs="+", choices=names, default=names, metavar="NAME", help="only these")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds for everything")
    parser.add_argument("--again", action="store_true", help="repeat parts that are done")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to try the program itself")
    parser.add_argument("--device", default="cuda", help="cpu tries the program without a GPU")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the folders of the machines")
    parser.add_argument(
        "--fill-cache", type=int, metavar="ARCH", help="compile for this capability times ten"
    )
    parser.add_argument("--part", choices=names, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main() -> int:
    args = parse()
    if args.fill_cache:
        print(json.dumps({"binaries": fill_cache(args.fill_cache, args.quick)}))
        return 0
    if args.device == "cuda" and not torch.cuda.is_available():
        print(json.dumps({"reason": "no CUDA device: nothing was run"}))
        return 0
    if args.part:
        complete = WORKS[args.part](Work(torch.device(args.device), args.seconds, args.rows, args.quick))
        return 0 if complete else UNFINISHED
    results = Results(results_folder(gpu=args.device == "cuda", root=args.out))
    if args.again:
        for name in args.parts:
            results.clear(name)
    words = ["--device", args.device, *(["--quick"] if args.quick else [])]
    parts = [part for part in PARTS if part.name in args.parts]
    good = run_parts(parts, results, in_child(words, results), args.budget)
    statuses = {name: part["status"] for name, part in results.parts.items()}
    mistaken = [row["case"] for part in results.parts.values() for row in part["rows"] if wrong(row)]
    print(json.dumps({"parts": statuses, "wrong": mistaken, "json": str(results.path)}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
