"""The attention kernels compiled without a GPU: spills, shared memory, tensor cores, instruction counts.

A child process compiles, because in this one Triton's interpreter may replace the compiler. The launch parameters are
those of the table.
"""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

from pentatonic.attention import kernels
from pentatonic.attention.kernels import configs
from pentatonic.attention.kernels.configs import (
    ARCHS,
    INTERPRETED,
    Config,
    Entry,
)
from pentatonic.errors import BackendUnavailable

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from attention_tuning import tuning
from attention_tuning.offline import SHARED_LIMITS
from attention_tuning.workload import Workload

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

# The gradient kernels belong to one call: naming one compiles both, each as the table has it.
FORWARD, BACKWARD, DECODE = Workload("forward"), Workload("query_gradient"), Workload("decode")
WINDOW = {"left": 64, "right": 64}
TRACK = {"bias": "alibi_2d", "cls": True}
LAST = {"aligned": True, "lengths": True, "right": 0, "splits": 4, "queries": 5}
MAIN = ("forward_kernel", "query_gradient_kernel", "key_gradient_kernel")

REPRESENTATIVE = [
    (90, replace(FORWARD, **TRACK, intervals=True)),
    (90, replace(FORWARD, **WINDOW, packed="same", rope="half")),
    (90, replace(FORWARD, head_dim=128, right=0, rope="interleaved", dtype="float16")),
    (90, replace(FORWARD, dtype="float32", **TRACK)),
    (90, replace(BACKWARD, **TRACK, intervals=True)),
    (90, replace(BACKWARD, **WINDOW, packed="same", rope="half")),
    (90, replace(BACKWARD, bias="directional", cls=True, right=0, lengths=True, packed="same", learned=True)),
    (90, replace(BACKWARD, head_dim=128, right=0, rope="interleaved")),
    (90, replace(BACKWARD, dtype="float32", bias="key", cls=True, head_dim=32)),
    (90, replace(DECODE, **LAST, rope="half")),
    (80, replace(FORWARD, bias="raw_signed", cls=True, right=0, head_dim=96)),
    (80, replace(BACKWARD, bias="alibi_1d", dtype="float16")),
    (80, replace(DECODE, **LAST, head_dim=128)),
    (86, replace(FORWARD, head_dim=128)),
    # GPUs newer than those of the table take the entries with the least shared memory.
    (100, replace(FORWARD, **TRACK)),
    (100, replace(BACKWARD, **TRACK, intervals=True, dtype="float16")),
    (120, replace(BACKWARD, head_dim=128, right=0, rope="half")),
]

# Equal tiles, so that instruction counts compare.
PLAIN_LOOPS = [
    (90, replace(workload, bias=bias), tile)
    for (workload, tile), bias in product(
        ((FORWARD, (128, 64, 8, 3)), (BACKWARD, (64, 64, 4, 2))), ("none", "alibi_1d", "alibi_2d")
    )
]

BIASES = (
    {},
    {"bias": "key"},
    {"bias": "key", "cls": True},
    {"bias": "alibi_1d"},
    {"bias": "alibi_2d"},
    TRACK,
    {"bias": "directional", "cls": True},
    {"bias": "directional_signed"},
    {"bias": "raw"},
    {"bias": "raw_signed", "cls": True},
)
MASKS = (
    {},
    {"right": 0},
    {"lengths": True},
    WINDOW,
    {"packed": "same", "lengths": True, "right": 0},
    {"packed": "apart"},
)
ROTATIONS = (
    {"rope": "half"},
    {"rope": "interleaved"},
    {"rope": "half", **WINDOW, "packed": "same"},
    {"rope": "interleaved", **WINDOW},
    {"rope": "interleaved", "packed": "apart"},
    {"rope": "half", **WINDOW, **TRACK},
)


def everything():
    """Every option of every kernel, biases by masks, at the head dimension of most models; less at the others."""
    for arch, kernel in product((80, 90), (FORWARD, BACKWARD)):
        options = [bias | mask for bias, mask in product(BIASES, MASKS)] + list(ROTATIONS)
        options += [TRACK | {"intervals": True}, TRACK | WINDOW | {"intervals": True}]
        yield from ((arch, replace(kernel, **option)) for option in options)
    learned = [bias | {"learned": True} for bias in BIASES if bias.get("bias", "key")[0] in "ad"]
    for arch, option in product((80, 90), learned):
        yield arch, replace(BACKWARD, **option)
        yield arch, replace(BACKWARD, **option, right=0, lengths=True, packed="same")
    few = [{}, TRACK, TRACK | {"intervals": True}, BIASES[6], {"right": 0, "rope": "half"}, *ROTATIONS[2:4]]
    for arch, kernel, dim, dtype in product(
        ARCHS, (FORWARD, BACKWARD), (32, 64, 96, 128), ("bfloat16", "float16", "float32")
    ):
        for option in few:
            yield arch, replace(kernel, **option, head_dim=dim, dtype=dtype)
        if kernel is BACKWARD:
            yield arch, replace(kernel, **learned[-1], head_dim=dim, dtype=dtype)
    for arch, dim, dtype in product(ARCHS, (32, 64, 96, 128), ("bfloat16", "float32")):
        for option in ({}, {"rope": "half"}, {"rope": "interleaved"}, TRACK, BIASES[6]):
            yield arch, replace(DECODE, **LAST, **option, head_dim=dim, dtype=dtype)
        yield arch, replace(DECODE, head_dim=dim, dtype=dtype)


def compiled(requests, folder):
    """Summaries of the binaries of ``(arch, workload)`` or ``(arch, workload, config)`` requests, in their order."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    words = [(arch, vars(workload), *(config or [None])) for arch, workload, *config in requests]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "attention_tuning.offline"],
        input=json.dumps(words),
        env=environment | {"TRITON_CACHE_DIR": str(folder), "PYTHONPATH": str(BENCHMARKS)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def rows(binary):
    """Rows of the products; the key gradient works in transposed tiles."""
    return binary["flags"]["BLOCK_N" if binary["kernel"] == "key_gradient_kernel" else "BLOCK_M"]


def complaints(arch, workload, binaries):
    """What is wrong with the binaries of a workload, a sentence each, with kernel, architecture and flags."""
    for binary in binaries:
        where = f"{binary['kernel']} sm{arch} ({workload})"
        if "error" in binary:
            yield f"{where} does not compile: {binary['error']}"
            continue
        if binary["spill_bytes"]:
            yield f"{where} spills {binary['spill_bytes']} bytes, flags {binary['flags']}"
        if binary["shared_bytes"] > SHARED_LIMITS[arch]:
            yield f"{where} takes {binary['shared_bytes']} bytes of shared memory, flags {binary['flags']}"
        if binary["kernel"] not in MAIN:
            continue
        tensor = {code.split(".")[0] for code in binary["opcodes"]} & {"HGMMA", "HMMA", "IMMA", "UTCHMMA"}
        half = workload.dtype != "float32"
        large = {90: "HGMMA", 100: "UTCHMMA"}.get(arch, "HMMA")
        expected = {large if rows(binary) >= 64 else "HMMA"} if half else set()
        if tensor != expected:
            yield f"{where} multiplies with {sorted(tensor)}, not {sorted(expected)}"


@pytest.fixture(scope="module")
def binaries(tmp_path_factory):
    """Summaries of what REPRESENTATIVE and PLAIN_LOOPS ask for, from one process: importing PyTorch takes its time."""
    requests = REPRESENTATIVE + PLAIN_LOOPS
    return dict(zip(requests, compiled(requests, tmp_path_factory.mktemp("triton")), strict=True))


@pytest.fixture
def representative(binaries):
    return [binaries[request] for request in REPRESENTATIVE]


def test_no_kernel_spills_or_exceeds_shared_memory_and_all_use_the_tensor_cores(representative):
    problems = [
        complaint
        for (arch, workload), binaries in zip(REPRESENTATIVE, representative, strict=True)
        for complaint in complaints(arch, workload, binaries)
    ]
    assert not problems, "\n".join(problems)


def test_every_kernel_is_among_the_representatives(representative):
    modules = [
        importlib.import_module(f"{kernels.__name__}.{module.name}")
        for module in pkgutil.iter_modules(kernels.__path__)
    ]
    written = {
        name
        for module in modules
        for name, value in vars(module).items()
        if name.endswith("_kernel") and value.fn.__module__ == module.__name__
    }
    assert {binary["kernel"] for binaries in representative for binary in binaries} == written


@pytest.fixture
def interiors(binaries):
    """Instructions in the mask-free loop and scores per thread, by (kernel, bias)."""
    return {
        (binary["kernel"], workload.bias): (Counter(binary["interior"]), m * n // (32 * warps))
        for arch, workload, (m, n, warps, stages) in PLAIN_LOOPS
        for binary in binaries[arch, workload, (m, n, warps, stages)]
        if binary["kernel"] in MAIN
    }


@pytest.mark.parametrize("kernel", MAIN)
@pytest.mark.parametrize(("bias", "additions"), [("alibi_1d", 2), ("alibi_2d", 4)])
def test_a_premultiplied_bias_costs_two_additions_per_axis_and_score_and_nothing_else(
    interiors, kernel, bias, additions
):
    plain, scores = interiors[kernel, "none"]
    biased, _ = interiors[kernel, bias]
    assert biased["FADD"] - plain["FADD"] == additions * scores
    assert biased["MUFU"] == plain["MUFU"] >= scores
    assert biased["FFMA"] + biased["FMUL"] <= plain["FFMA"] + plain["FMUL"]
    assert not biased["I2F"] + biased["I2FP"] + biased["F2F"]


@pytest.mark.slow
def test_every_option_of_every_kernel(tmp_path):
    requests = list(dict.fromkeys(everything()))
    found = compiled(requests, tmp_path)
    problems = [
        complaint
        for (arch, workload), binaries in zip(requests, found, strict=True)
        for complaint in complaints(arch, workload, binaries)
    ]
    assert not problems, f"{len(problems)} of {len(requests)}:\n" + "\n".join(problems)


def test_the_table_has_every_key_and_blocks_that_divide_a_group():
    expected = {str(key) for arch in ARCHS for key in tuning.keys(arch)}
    assert set(configs.table()) == expected
    for key, (config, found) in configs.table().items():
        assert 128 % config.block_m == 128 % config.block_n == 0, key
        assert min(config.block_m, config.block_n) >= 16, key
        assert found in ("offline", "measured"), key


def test_candidates_are_few_and_distinct():
    for key in (key for arch in ARCHS for key in tuning.keys(arch)):
        found = tuning.candidates(key)
        assert 0 < len(found) == len(set(found)) <= 12, key


@pytest.mark.parametrize(
    ("capability", "arch"),
    [
        ((8, 0), 80),
        ((8, 6), 86),
        ((8, 7), 86),
        ((8, 9), 86),
        ((9, 0), 90),
        ((10, 0), 86),
        ((11, 0), 86),
        ((12, 0), 86),
    ],
)
def test_every_gpu_takes_the_entries_of_a_known_one(capability, arch):
    assert configs.known_arch(capability) == arch


def test_the_interpreter_gets_small_tiles_and_a_forced_configuration_wins():
    q = torch.empty(1, 1, 4, 64)
    assert configs.config_for("forward", q, "none") == INTERPRETED
    config = Config(32, 64, 4, 2)
    with configs.forced(config, "forward"):
        assert configs.config_for("forward", q, "none") == config
        assert configs.config_for("decode", q, "none") == INTERPRETED
    assert configs.config_for("forward", q, "none") == INTERPRETED


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table of its own, with two entries found offline, and candidates that all fit."""
    monkeypatch.setattr(tuning, "fits", lambda config, key: True)
    path = tmp_path / "table.json"
    entries = {str(key): Entry(Config(16, 16, 4, 1), "offline") for key in tuning.important(90)[:2]}
    tuning.write_table(entries, path)
    return path


def tune(budget_s, report, timer, path):
    """As on a GPU of capability 9.0, but what fits is found out in this process."""
    pool = ThreadPoolExecutor(1)
    return tuning.tune(torch.device("cpu"), budget_s, report, arch=90, timer=timer, pool=pool, path=path)


def test_tuning_replaces_entries_by_the_fastest_candidate_that_runs(table):
    def timer(workload, config):
        return float("inf") if config.stages == 3 else 100.0 - config.block_n - config.warps

    lines = []
    assert tune(60.0, lines.append, timer, table) == table
    entries = configs.read_table(table)
    assert set(entries) == {str(key) for key in tuning.important(90)}
    for key in tuning.important(90):
        config, found = entries[str(key)]
        runs = [candidate for candidate in tuning.candidates(key) if candidate.stages < 3]
        assert found == "measured"
        assert timer(None, config) == min(timer(None, candidate) for candidate in runs), key
    assert len(lines) == len(entries)


def test_tuning_takes_the_next_fastest_if_the_fastest_spills_elsewhere(table, monkeypatch):
    key = tuning.important(90)[0]
    fastest, second, *_ = tuning.candidates(key)
    monkeypatch.setattr(tuning, "fits", lambda config, _: config != fastest)
    order = {config: float(n) for n, config in enumerate(tuning.candidates(key))}
    tune(60.0, print, lambda _, config: order.get(config, 99.0), table)
    assert configs.read_table(table)[str(key)] == Entry(second, "measured")


def test_tuning_without_time_or_without_a_candidate_that_runs_keeps_the_table(table):
    before = table.read_bytes()
    lines = []
    tune(0.0, lines.append, lambda *_: 1.0, table)
    tune(60.0, lines.append, lambda *_: float("inf"), table)
    assert table.read_bytes() == before
    assert sum("not reached" in line for line in lines) == sum("no candidate" in line for line in lines) > 0


def test_tuning_needs_a_gpu(tmp_path):
    with pytest.raises(BackendUnavailable, match="CUDA device, got cpu"):
        tuning.tune(torch.device("cpu"), 1.0, print, path=tmp_path / "table.json")


def test_a_written_table_does_not_depend_on_the_order_of_the_entries(tmp_path):
    entries = dict(configs.table())
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    tuning.write_table(entries, first)
    tuning.write_table(dict(reversed(entries.items())), second)
    shipped = Path(tuning.TABLE).read_bytes()
    assert first.read_bytes() == second.read_bytes() == shipped


def test_every_key_has_workloads_of_its_kernel():
    for key in tuning.keys(90):
        assert all(workload.kernel == key.kernel for workload in tuning.workloads(key)), key
        assert tuning.benchmark(key).kernel == key.kernel
