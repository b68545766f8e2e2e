"""How long work takes and how much memory it needs, on a GPU by events and on the CPU by its clock of this process.

On an idle machine one thread spends processor time as fast as the clock runs; on a busy one only the former says what
the work costs.

On a GPU all iterations are queued without waiting, each behind a write over a buffer far larger than the L2 cache:
the work starts with cold inputs, and the host has queued it by the time it starts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WARM_UP, TIMED = 20, 100
FLUSH_BYTES = 1 << 30
Mark = Callable[[], Any]
# One pass of the work; marks its beginning, its end, and what lies between.
Work = Callable[[Mark], list[Any]]


def forward_work(forward: Callable[[], Any]) -> Work:
    """Inference: one stage."""

    def work(mark: Mark) -> list[Any]:
        with torch.no_grad():
            start = mark()
            forward()
            return [start, mark()]

    return work


def training_work(forward: Callable[[], Tensor], inputs: Sequence[Tensor], grad: Tensor) -> Work:
    """Forward and backward, marked apart: the backward pass is timed alone, in its place after the forward one."""

    def work(mark: Mark) -> list[Any]:
        start = mark()
        o = forward()
        between = mark()
        torch.autograd.grad(o, list(inputs), grad)
        return [start, between, mark()]

    return work


class Stopwatch:
    """Times work on one device.

    Args:
        device: Where the work runs.
        most: Iterations at most.
    """

    def __init__(self, device: torch.device, most: int = TIMED) -> None:
        self.device, self.most = device, most
        self._flush = (
            torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device) if device.type == "cuda" else None
        )

    def first(self, work: Work) -> float:
        """Seconds of a call, compilation and all."""
        self.wait()
        start_s = time.perf_counter()
        work(lambda: None)
        self.wait()
        return time.perf_counter() - start_s

    def time(self, works: Sequence[Work], limits_s: Sequence[float]) -> list[list[list[float]]]:
        """Warm up, then run the works in turns until each has had its time or its iterations.

        Args:
            works: What to time; each has been called before.
            limits_s: Seconds for each of them, warm-up included; one iteration is always timed.

        Returns:
            For each work and stage, milliseconds of every iteration.
        """
        estimates = [self.first(work) for work in works]
        counts = [
            max(1, min(self.most, int(limit_s / seconds / 1.2)))
            for limit_s, seconds in zip(limits_s, estimates, strict=True)
        ]
        for work, count in zip(works, counts, strict=True):
            self._run(work, min(WARM_UP, count // 5))
        turns = 5
        marks: list[list[list[Any]]] = [[] for _ in works]
        for turn in range(turns):
            for number, (work, count) in enumerate(zip(works, counts, strict=True)):
                share = (turn + 1) * count // turns - turn * count // turns
                marks[number] += self._run(work, share)
        self.wait()
        return [[list(stage) for stage in zip(*map(self._stages, taken), strict=True)] for taken in marks]

    def _run(self, work: Work, count: int) -> list[list[Any]]:
        marks = []
        for _ in range(count):
            if self._flush is not None:
                self._flush.zero_()
            marks.append(work(self._mark))
        return marks

    def _mark(self) -> Any:
        if self._flush is None:
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _stages(self, marks: list[Any]) -> list[float]:
        pairs = list(pairwise(marks))
        if self._flush is None:
            return [1e3 * (end - start) for start, end in pairs]
        return [start.elapsed_time(end) for start, end in pairs]

    def wait(self) -> None:
        """Until the device has nothing left to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def host_ms(self, works: Sequence[Work], count: int) -> list[list[float]]:
        """Processor milliseconds that the host spends on a call, for each work, without waiting for the device."""
        taken: list[list[float]] = [[] for _ in works]
        for _ in range(20):
            for work, milliseconds in zip(works, taken, strict=True):
                self.wait()
                start_s = time.process_time()
                for _ in range(count):
                    work(lambda: None)
                milliseconds.append(1e3 * (time.process_time() - start_s) / count)
        self.wait()
        return taken

    def peak_mb(self, work: Work) -> float | None:
        """What one pass adds to the memory of a GPU, results included; ``None`` on the CPU, see ``added_mb``."""
        if self.device.type != "cuda":
            return None
        self.wait()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work(lambda: None)
        self.wait()
        return (torch.cuda.max_memory_allocated(self.device) - before) / 2**20


def added_mb(work: Callable[[], Any]) -> float:
    """What a call adds to the peak memory of this process, which must have done nothing else; Linux."""
    # Not getrusage: after fork and exec it still reports the peak of the parent.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _peak_mb()
    work()
    return _peak_mb() - before


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def spread(milliseconds: Sequence[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile."""
    ordered = sorted(milliseconds)
    last = len(ordered) - 1
    return {
        "time_ms": statistics.median(ordered),
        "p10_ms": ordered[round(0.1 * last)],
        "p90_ms": ordered[round(0.9 * last)],
    }


def ceilings(device: torch.device) -> dict[str, float]:
    """What this device reaches in a large copy and a large matrix product: the marks for rates."""
    if device.type != "cuda":
        return {}
    watch = Stopwatch(device, most=20)
    source = torch.randn(1 << 30, device=device, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    side = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    works = [forward_work(lambda: target.copy_(source)), forward_work(lambda: side @ side)]
    copy_ms, product_ms = (statistics.median(stages[0]) for stages in watch.time(works, (0.2, 0.2)))
    moved = 2 * source.numel() * source.element_size()
    return {"copy_gb_s": moved / copy_ms / 1e6, "bf16_tflops": 2 * 8192**3 / product_ms / 1e9}
