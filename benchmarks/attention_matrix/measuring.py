"""One case after another into rows; whoever fails gets a row with the reason, and the others go on."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from attention_matrix.cases import Case
from attention_matrix.judge import Judge
from attention_matrix.opponents import OPPONENTS
from attention_matrix.ours import live_fraction, path
from attention_matrix.problem import Forward, Problem
from attention_matrix.rows import BACKWARD, BOTH, FORWARD, HOST, Row, compared, new_row, rated, why
from attention_matrix.timing import Stopwatch, Work, added_mb, forward_work, spread, training_work
from pentatonic.child_process import python_environment

# For preparing and compiling one opponent.
PATIENCE_S = 90.0


@dataclass
class Budget:
    """Seconds that the whole run may take."""

    seconds: float
    _start: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds left, negative when overdrawn."""
        return self.seconds - (time.monotonic() - self._start)


@dataclass
class Entrant:
    """An opponent that has shown that it can.

    Attributes:
        name: Of the opponent.
        work: One stage, the forward pass, or two if it can train.
        measured: Of each stage, before it is timed: first call, memory, error.
        path: The back end that ours chose.
        untrained: Why there is no backward pass although the case asks for one.
    """

    name: str
    work: Work
    measured: tuple[Row, ...]
    path: str | None
    untrained: str | None = None


@dataclass
class Bench:
    """Settings of a run.

    Attributes:
        device: Where everything runs.
        limit_s: Timed seconds for each opponent and direction.
        most: Timed iterations at most.
        flex_mode: How FlexAttention is compiled, ``"eager"`` for not at all.
        budget: For the whole run.
        child: Command line that measures one opponent in a process of its own, without case and opponent.
    """

    device: torch.device
    limit_s: float
    most: int
    flex_mode: str
    budget: Budget
    child: list[str]

    def __post_init__(self) -> None:
        self.watch = Stopwatch(self.device, self.most)

    def rows(self, case: Case) -> list[Row]:
        """Measure a case."""
        try:
            if case.only_in_child:
                return [self._in_child(case, name) for name in case.opponents]
            torch.compiler.reset()
            return self._measure(case)
        except Exception as error:
            return [new_row(case, name, FORWARD, reason=why(error)) for name in case.opponents]
        finally:
            self._release()

    def alive(self) -> bool:
        """Whether the device still answers: a kernel that leaves its memory takes all later work of a process down."""
        try:
            self.watch.wait()
        except RuntimeError:
            return False
        return True

    def _release(self) -> None:
        """Give back what the allocator keeps, so that the next one finds all memory free."""
        if self.device.type == "cuda" and self.alive():
            torch.cuda.empty_cache()

    def _measure(self, case: Case) -> list[Row]:
        problem = Problem(case, self.device, self.flex_mode)
        judge, entrants, rows = Judge(problem), [], []
        for name in case.opponents:
            try:
                with _deadline(min(PATIENCE_S, self.budget.left)):
                    entrants.append(self._enter(name, judge))
            except Exception as error:
                rows.append(new_row(case, name, FORWARD, reason=why(error)))
            self._release()
        if case.dispatch:
            return self._host(case, entrants) + rows
        live = _live(problem) if case.tolerance is not None else None
        limits = [self.limit_s * (3 if len(entrant.measured) > 1 else 1) for entrant in entrants]
        times = self.watch.time([entrant.work for entrant in entrants], limits)
        timed = [_timed(*pair, problem, live) for pair in zip(entrants, times, strict=True)]
        rows = [*(row for some in timed for row in some), *rows]
        for name in case.in_child:
            memory = self._in_child(case, name)
            for row in rows:
                if (row["opponent"], row["direction"]) == (name, FORWARD):
                    row |= {key: memory[key] for key in ("memory_mb", "reason")}
        return compared(rows)

    def _enter(self, name: str, judge: Judge) -> Entrant:
        """Run an opponent once, with its backward pass if it has one, compare it with float64, and read its memory."""
        problem, opponent = judge.problem, OPPONENTS[name]
        forward = opponent.prepare(problem)
        used, untrained = path(name, problem), None
        if problem.case.backward and opponent.whole:
            try:
                return Entrant(name, *self._train(forward, judge, opponent.omits), used)
            except TimeoutError:
                raise
            except Exception as error:
                untrained = why(error)
        work = forward_work(forward)
        measured: Row = {"first_call_s": self.watch.first(work), "memory_mb": self.watch.peak_mb(work)}
        if opponent.whole:
            with torch.no_grad():
                measured["error"] = _finite(judge.errors(forward(), [], opponent.omits)[0])
        return Entrant(name, work, (measured,), used, untrained)

    def _train(self, forward: Forward, judge: Judge, omits: frozenset[str]) -> tuple[Work, tuple[Row, ...]]:
        problem = judge.problem
        work = training_work(forward, problem.inputs, problem.grad)
        first_s = self.watch.first(work)
        memory_mb = [self.watch.peak_mb(lambda mark: [forward()]), self.watch.peak_mb(work)]
        o = forward()
        grads = torch.autograd.grad(o, problem.inputs, judge.checked_grad)
        errors = judge.errors(o, grads, omits)
        return work, tuple(
            {"first_call_s": first_s, "memory_mb": memory, "error": _finite(error)}
            for memory, error in zip(memory_mb, errors, strict=True)
        )

    def _host(self, case: Case, entrants: Sequence[Entrant]) -> list[Row]:
        times = self.watch.host_ms([entrant.work for entrant in entrants], 5 * self.most)
        return [
            new_row(case, entrant.name, HOST, path=entrant.path, **entrant.measured[0])
            | spread(milliseconds)
            | {"runs": 5 * self.most * len(milliseconds)}
            for entrant, milliseconds in zip(entrants, times, strict=True)
        ]

    def _in_child(self, case: Case, name: str) -> Row:
        """One call in a process of its own, which reports its time and what it adds to the peak memory."""
        limit_s = max(1.0, self.budget.left)
        try:
            done = subprocess.run(
                [*self.child, case.name, name],
                capture_output=True,
                text=True,
                timeout=limit_s,
                check=False,
                env=python_environment(Path(__file__).parents[1]),
            )
            if done.returncode:
                raise RuntimeError(done.stderr.strip().rsplit("\n", 1)[-1] or f"status {done.returncode}")
            found = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            return new_row(case, name, FORWARD, reason=f"TimeoutError: gave up after {limit_s:.0f} s")
        except Exception as error:
            return new_row(case, name, FORWARD, reason=why(error))
        return new_row(case, name, FORWARD, **found)


def one_call(case: Case, name: str) -> Row:
    """What the child reports: time, error and added peak memory of one call, after a small one has loaded libraries."""
    device, prepare = torch.device("cpu"), OPPONENTS[name].prepare
    with torch.no_grad():
        prepare(Problem(replace(case, tokens=min(case.tokens, 257)), device, "default"))()
    problem = Problem(case, device, "default")
    forward = prepare(problem)
    seconds: list[float] = []

    def call() -> None:
        with torch.no_grad():
            start_s = time.process_time()
            outputs.append(forward())
            seconds.append(time.process_time() - start_s)

    outputs: list[torch.Tensor] = []
    memory_mb = added_mb(call)
    error, _ = Judge(problem).errors(outputs[0], [], OPPONENTS[name].omits)
    row: Row = {"memory_mb": memory_mb, **spread([1e3 * seconds[0]]), "runs": 1, "error": error}
    live = _live(problem) if case.tolerance is not None else None
    return rated(row | {"opponent": name}, problem, live, 1.0) | {"path": path(name, problem)}


def _timed(entrant: Entrant, stages: list[list[float]], problem: Problem, live: float | None) -> list[Row]:
    """Rows of one opponent: forward and, if it can train, backward and both."""

    def row(direction: str, milliseconds: list[float], measured: Row, cost: float) -> Row:
        timed = spread(milliseconds) | {"runs": len(milliseconds)}
        found = new_row(problem.case, entrant.name, direction, path=entrant.path, **measured, **timed)
        return rated(found, problem, live, cost)

    rows = [row(FORWARD, stages[0], entrant.measured[0], 1.0)]
    if len(stages) > 1:
        backward_measured = {"error": entrant.measured[1]["error"]}
        both_ms = [sum(pair, 0.0) for pair in zip(*stages, strict=True)]
        rows.append(row(BACKWARD, stages[1], backward_measured, 2.5))
        rows.append(row(BOTH, both_ms, entrant.measured[1], 3.5))
    if entrant.untrained is not None:
        rows.append(new_row(problem.case, entrant.name, BOTH, path=entrant.path, reason=entrant.untrained))
    return rows


def _finite(error: float | None) -> float | None:
    """Refuse results that hold NaN or infinity: their time means nothing."""
    if error is not None and not math.isfinite(error):
        raise ArithmeticError("the result is not finite")
    return error


def _live(problem: Problem) -> float | None:
    try:
        return live_fraction(problem)
    except Exception:
        return None  # the row of key_intervals says why


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer, such as a compilation; Unix, main thread."""

    def interrupt(number: int, frame: object) -> None:
        raise TimeoutError(f"gave up after {max(0.0, seconds):.0f} s")

    if seconds <= 0:
        interrupt(0, None)
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def child_command(script: Path, *words: str) -> list[str]:
    """This interpreter on the script, as a command to which case and opponent are added."""
    return [sys.executable, "-P", str(script), *words, "--one-call"]
