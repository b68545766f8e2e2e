"""What a call of the Triton kernels costs on the host: everything but the launches and the GPU's own time.

    python benchmarks/attention_host_time.py

Runs on any machine with Triton: launches are counted and left out, and tensors are small, in bfloat16 on the CPU. A GPU
adds about 5 microseconds for each launch, and for each operation of PyTorch what its driver takes. ``prepared`` gives
the bias to :func:`pentatonic.attention.prepare_bias` beforehand, once for all layers of a forward pass, instead of
with each call. Times are medians of 300 calls. The last line is one line of JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any
from unittest import mock

import torch
import triton

from pentatonic.attention import Alibi2D, SlidingWindow, alibi_slopes, attention, dispatch, prepare_bias
from pentatonic.attention import prepared as prepared_module

CALLS = 300


def microseconds(call: Callable[[], object], calls: int = CALLS) -> float:
    """Median time of a call on the host."""
    for _ in range(20):
        call()
    times = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e3)
    return median(times)


def measure(calls: int = CALLS) -> list[dict[str, Any]]:
    """One row for each kind of call."""
    tokens, heads = 257, 6
    q, k, v = (torch.randn(1, tokens, heads, 64, dtype=torch.bfloat16).transpose(1, 2) for _ in range(3))
    grid = torch.arange(tokens)
    slopes = alibi_slopes(heads)
    bias = Alibi2D(torch.stack((grid // 8, grid % 8), dim=-1), slopes, slopes)
    with mock.patch.object(prepared_module, "why_not", lambda q, k, v: None):
        prepared = prepare_bias(bias, k)
    cases: dict[str, dict[str, Any]] = {
        "2D ALiBi": {"bias": bias},
        "2D ALiBi, prepared": {"bias": prepared},
        "window": {"mask": SlidingWindow(64, 64)},
    }
    launches = 0

    def count(*args: Any, **options: Any) -> None:
        nonlocal launches
        launches += 1

    rows = []
    with (
        mock.patch.object(triton.JITFunction, "run", count),
        mock.patch.object(dispatch, "KERNEL_DEVICE", "cpu"),
        mock.patch.object(dispatch, "why_not", lambda q, k, v: None),
    ):
        for name, options in cases.items():
            for training in (False, True):
                leaves = [x.detach().requires_grad_(training) for x in (q, k, v)]
                gradient = torch.ones_like(q)

                def call(
                    leaves: list[torch.Tensor] = leaves,
                    options: dict[str, Any] = options,
                    training: bool = training,
                    gradient: torch.Tensor = gradient,
                ) -> None:
                    o = attention(*leaves, **options)
                    if training:
                        torch.autograd.grad(o, leaves, gradient)

                launches = 0
                call()
                row = {"call": name, "direction": "forward+backward" if training else "forward"}
                rows.append(row | {"launches": launches, "host_us": round(microseconds(call, calls), 1)})
    return rows


def main() -> None:
    torch.set_num_threads(1)
    rows = measure()
    for row in rows:
        print(f"{row['call']:22} {row['direction']:17} {row['launches']:2} launches {row['host_us']:8.1f} us")
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
