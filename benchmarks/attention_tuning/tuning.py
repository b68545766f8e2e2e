"""Choosing the launch parameters of the attention kernels, and writing them to the table.

Without a GPU the first candidate is taken whose binaries neither spill registers nor exceed shared memory; candidates
are in the order in which they did best in the published kernels closest to ours (FlexAttention and FlashAttention-2 on
the A100 and H100). With a GPU the candidates that fit are timed.

In the folder ``benchmarks``, ``python -m attention_tuning.tuning [ARCH ...]`` chooses without a GPU;
``python benchmarks/attention.py --tune`` measures.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, wait
from contextlib import nullcontext
from dataclasses import astuple, replace
from functools import partial
from itertools import product
from math import inf, isfinite
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch

from attention_tuning.offline import SHARED_LIMITS, compile_workload
from attention_tuning.workload import Workload
from pentatonic.attention.kernels import configs
from pentatonic.attention.kernels.configs import ARCHS, HEAD_DIMS, KERNELS, KINDS, Config, Entry, Key, Kind
from pentatonic.child_process import process_pool
from pentatonic.errors import BackendUnavailable

TABLE = Path(configs.__file__).with_name("table.json")
MOST = 12
"""Candidates per key."""
ROPES: tuple[Literal["half", "interleaved"], ...] = ("half", "interleaved")

# (query rows, keys, warps), best first. The gradient of the keys walks along rows: its keys are the long side.
_SHAPES: dict[str, tuple[tuple[int, int, int], ...]] = {
    # (64, 128, 4): small enough for two programs on each processor.
    "forward": ((128, 128, 8), (128, 64, 8), (128, 64, 4), (64, 128, 4), (64, 64, 4), (64, 32, 4)),
    "forward wide": ((128, 64, 8), (128, 32, 8), (64, 64, 4), (64, 32, 4), (32, 32, 4)),
    "query_gradient": ((128, 64, 8), (64, 64, 4), (64, 32, 4), (32, 32, 4)),
    "query_gradient wide": ((128, 64, 8), (64, 64, 4), (64, 64, 8), (64, 32, 4), (32, 32, 4)),
    "key_gradient": ((64, 128, 8), (64, 64, 4), (32, 128, 8), (32, 64, 4), (32, 32, 4)),
    "key_gradient wide": ((64, 128, 8), (64, 64, 4), (32, 128, 8), (64, 64, 8), (32, 64, 4), (32, 32, 4)),
    "decode": ((16, 128, 4), (16, 64, 4), (16, 32, 4)),
    "window": ((64, 64, 4), (64, 64, 8), (64, 32, 4), (32, 64, 8), (32, 32, 4), (32, 32, 8)),
    "float32": ((64, 32, 8), (32, 32, 8), (16, 32, 8), (16, 16, 8)),
    "float32 wide": ((32, 32, 8), (16, 32, 8), (16, 16, 8), (16, 16, 4)),
    "float32 decode": ((16, 64, 4), (16, 32, 4), (16, 32, 8), (16, 16, 8)),
}


def keys(arch: int) -> Iterator[Key]:
    """Every key of the table for an architecture."""
    for kernel, head_dim, half, kind in product(KERNELS, HEAD_DIMS, (True, False), KINDS):
        if half or kind != "distance":
            yield Key(arch, kernel, head_dim, half, kind)


def candidates(key: Key) -> list[Config]:
    """At most twelve configurations to try, the most promising first."""
    wide = " wide" if key.head_dim > 64 else ""
    if key.kernel == "decode":
        name = "decode" if key.half else "float32 decode"
    elif not key.half:
        name = f"float32{wide}"
    else:
        name = "window" if key.kind == "window" else f"{key.kernel}{wide}"
    # float32 runs without tensor cores, which are what a deep pipeline keeps busy.
    stages = (2, 1) if not key.half else (3, 2, 1) if key.kernel == "decode" else (3, 2)
    return [Config(*shape, depth) for shape, depth in product(_SHAPES[name], stages)][:MOST]


def workloads(key: Key) -> list[Workload]:
    """The launches that share one configuration, the most demanding first."""
    decode = key.kernel == "decode"
    plain = Workload(key.kernel, "bfloat16" if key.half else "float32", key.head_dim)
    track = replace(plain, bias="alibi_2d", cls=True)
    window = replace(plain, left=64, right=64, packed="apart")
    options: dict[str, Any] = {"right": 0, "lengths": True, "packed": "same"}
    if decode:
        options |= {"packed": None, "aligned": True, "splits": 2, "queries": 16}
        window = replace(plain, **options)
    # Entries serve smaller heads too, whose halves of a rope do not fill a block.
    small = {"head_dim": key.head_dim // 2 if key.head_dim == 64 else 96}
    match key.kind:
        case "none":
            # Decoding rotates keys on load, as windows do.
            rotated = [] if decode else [replace(plain, right=0, rope=style) for style in ROPES]
            partial_rope = [] if decode else [replace(plain, **small, right=0, rope="half")]
            return [replace(plain, **options), *rotated, *partial_rope, plain]
        case "distance":
            skipping = [] if decode else [replace(track, intervals=True)]
            line = replace(plain, bias="alibi_1d", **options)
            return [replace(track, **options), line, *skipping, replace(track, dtype="float16"), track]
        case "weighted":
            learned = key.kernel == "query_gradient"
            directional = replace(plain, bias="directional", cls=True, learned=learned)
            signed = replace(
                directional, bias="directional_signed", dtype="float16" if key.half else "float32"
            )
            per_axis = replace(track, learned=learned)
            skipping = [] if decode else [replace(per_axis, **small, intervals=True)]
            return [
                replace(directional, **options),
                signed,
                replace(plain, bias="key", cls=True),
                *([per_axis, *skipping] if learned or not key.half else []),
                directional,
            ]
        case "window":
            biased = replace(window, bias="alibi_2d", cls=True, packed=None)
            rotated = [replace(window, rope=style) for style in ("interleaved", "half")]
            return [*rotated, replace(window, **small, rope="half"), biased]


def fits(config: Config, key: Key) -> bool:
    """Whether none of the binaries of a configuration spills registers or exceeds shared memory."""
    for workload in workloads(key):
        try:
            (binary,) = compile_workload(workload, key.arch, config)
        except Exception:  # the compiler rejects some tiles, with several types of errors
            return False
        if binary.spill_bytes or binary.shared_bytes > SHARED_LIMITS[key.arch]:
            return False
    return True


def choose_offline(arch: int) -> dict[str, Entry]:
    """The first candidate that fits, for every key of an architecture, without a GPU: some ten minutes.

    Raises:
        BackendUnavailable: No candidate of some key fits.
    """
    chosen = {}
    for key in keys(arch):
        config = next((config for config in candidates(key) if fits(config, key)), None)
        if config is None:
            raise BackendUnavailable(f"no configuration of {key} fits: all spill or exceed shared memory")
        chosen[str(key)] = Entry(config, "offline")
    return chosen


def write_table(entries: Mapping[str, Entry], path: Path = TABLE) -> None:
    """Replace entries of the table, one line each, in a fixed order."""
    merged = dict(configs.read_table(path) if path.exists() else {}) | dict(entries)
    rows = {
        str(key): [*astuple(merged[str(key)].config), merged[str(key)].found]
        for arch in ARCHS
        for key in keys(arch)
        if str(key) in merged
    }
    lines = (f"  {json.dumps(key)}: {json.dumps(row)}" for key, row in rows.items())
    temporary = path.with_suffix(".tmp")
    temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    temporary.replace(path)
    configs.clear_cache()


Timer = Callable[[Workload, Config], float]


def tune(
    device: torch.device,
    budget_s: float,
    report: Callable[[str], None],
    *,
    arch: int | None = None,
    timer: Timer | None = None,
    pool: Executor | None = None,
    path: Path = TABLE,
    head_dims: tuple[int, ...] = HEAD_DIMS,
) -> Path:
    """Time the candidates that fit on a GPU and put the fastest into the table, until the time is up.

    The head dimensions of the models come first, and what their training and inference spends most on; entries
    that the budget does not reach stay as they are. The table is written after each key. Compiling takes far longer
    than timing, so other processes do it for all keys at once, ahead of the GPU, into the cache on disk.

    Args:
        device: A CUDA device.
        budget_s: Seconds, compilation included; a key that is being timed when they end is finished.
        report: Takes one line per key.
        arch: Whose entries are replaced; ``None`` is the device's.
        timer: Milliseconds that a workload takes with a configuration, infinite if it cannot run; ``None`` measures.
        pool: Executor that compiles candidates. ``None`` starts a process per core.
        path: The table.
        head_dims: Only entries of these.

    Returns:
        The path of the table.

    Raises:
        BackendUnavailable: ``device`` is not a CUDA device, or the table has no entries for its architecture.
    """
    end = time.monotonic() + budget_s
    if arch is None:
        arch = _own_arch(device)
    timer = timer or partial(measure, device)
    with process_pool() if pool is None else nullcontext(pool) as compilers:
        fitting = {
            key: {config: compilers.submit(fits, config, key) for config in candidates(key)}
            for key in important(arch)
            if key.head_dim in head_dims
        }
        for key, found in fitting.items():
            left = end - time.monotonic()
            if left <= 0 or wait(found.values(), timeout=left).not_done:
                report(f"{key}: not reached in {budget_s:.0f} s")
                continue
            chosen = [config for config, does in found.items() if does.result()]
            workload = benchmark(key)
            times = {config: timer(workload, config) for config in chosen}
            best = min(times, key=lambda config: times[config], default=None)
            if best is None or not isfinite(times[best]):
                report(f"{key}: no candidate runs")
                continue
            write_table({str(key): Entry(best, "measured")}, path)
            report(f"{key}: {best}, {times[best]:.3f} ms, the best of {len(times)} of {len(found)}")
    return path


def important(arch: int) -> list[Key]:
    """The keys that the models use, in the order in which they are worth a GPU's time."""
    families: list[tuple[int, bool, Kind]] = [
        (64, True, "distance"),
        (64, True, "window"),
        (64, True, "none"),
        (64, True, "weighted"),
        (128, True, "none"),
        (64, False, "none"),
        (64, False, "weighted"),
    ]
    found = [Key(arch, kernel, *family) for family in families for kernel in KERNELS]
    return [key for key in found if key.kernel != "decode" or key.kind == "none"]


def benchmark(key: Key) -> Workload:
    """The shape at which a key is timed: large enough to fill a GPU, and like the models' own."""
    workload = workloads(key)[-1]
    if key.kernel == "decode":
        return replace(workload, batch=64, heads=12, tokens=4096)
    match key.kind:
        case "none":
            return replace(workload, batch=4, heads=12, tokens=4096)
        case "distance":
            return replace(workload, batch=4, tokens=9369)
        case "weighted":
            return replace(workload, batch=32, tokens=1025)
        case "window":
            rotated = replace(workload, bias="none", cls=False, rope="half", packed="same")
            return replace(rotated, batch=64, heads=12, tokens=1024)


def measure(device: torch.device, workload: Workload, config: Config) -> float:
    """Milliseconds on the GPU, the median of up to 20 launches; infinite if it does not compile or run."""
    call = workload.prepare(device)
    try:
        forward = workload.kernel in ("forward", "decode")
        launch = call.forward if forward else partial(call.backward, *call.forward())
        with configs.forced(config, workload.kernel):
            return _median_ms(launch)
    except Exception:  # it does not compile, or exceeds shared memory
        return inf


def _median_ms(launch: Callable[[], object]) -> float:
    for _ in range(3):
        launch()
    times = []
    for _ in range(20):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        launch()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return median(times)


def _own_arch(device: torch.device) -> int:
    if device.type != "cuda":
        raise BackendUnavailable(f"tuning needs a CUDA device, got {device}")
    capability = torch.cuda.get_device_capability(device)
    arch = configs.known_arch(capability)
    if capability[0] != arch // 10:
        raise BackendUnavailable(f"the table has no entries of its own for compute capability {capability}")
    return arch


def main() -> None:
    """Choose without a GPU for all architectures, or those named, and write the table."""
    for word in sys.argv[1:] or map(str, ARCHS):
        write_table(choose_offline(int(word)))


if __name__ == "__main__":
    main()
