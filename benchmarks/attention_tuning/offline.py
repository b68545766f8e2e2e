"""Compile the attention kernels without a GPU, and read registers, spills and instruction counts from the binaries.

The disassembler comes with Triton. Nothing here measures speed. As a command, in the folder ``benchmarks``,
``python -m attention_tuning.offline < requests.json`` compiles a list of requests in two processes and prints one line
of JSON for each. A request is ``[arch, {option: value}, config or null]``, its options those of
:class:`attention_tuning.workload.Workload`. Tests use the command, because in their own process Triton's interpreter
replaces the compiler.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from attention_tuning.workload import Workload
from pentatonic.attention.kernels import configs, launch
from pentatonic.attention.kernels.configs import Config, Kernel, Key, Kind
from pentatonic.child_process import process_pool

_CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
SHARED_LIMITS = {80: 163 << 10, 86: 99 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}
"""Largest shared memory of one program by architecture, in bytes."""


@dataclass(frozen=True, eq=False)
class Binary:
    """One compiled kernel.

    Attributes:
        kernel: Its name.
        arch: Compute capability times ten, such as 90.
        flags: The compile-time arguments of the launch.
        shared_bytes: Shared memory per program, in bytes.
        cubin: The binary.
    """

    kernel: str
    arch: int
    flags: dict[str, Any]
    shared_bytes: int
    cubin: bytes

    @cached_property
    def resources(self) -> dict[str, int]:
        """Registers per thread (``REG``), and bytes of stack (``STACK``) and local memory (``LOCAL``): spills."""
        text = self._dump("-res-usage")
        return {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", text)}

    @property
    def spill_bytes(self) -> int:
        """Stack and local memory per thread in bytes; these kernels use it for spilled registers only."""
        return self.resources["STACK"] + self.resources["LOCAL"]

    @cached_property
    def instructions(self) -> list[str]:
        """Opcodes in order, with their modifiers: ``["S2R", "FADD", "HGMMA.64x64x16.F32.BF16", ...]``."""
        return [_opcode(text) for _, text in self._lines]

    def loops(self) -> list[list[str]]:
        """Opcodes of the body of every loop, in the order of where the loops begin."""
        index = {address: i for i, (address, _) in enumerate(self._lines)}
        spans = []
        for i, (address, text) in enumerate(self._lines):
            target = re.search(r"\bBRA\S*\s.*?0x([0-9a-f]+)", text)
            if target and int(target[1], 16) < address:
                spans.append((index[int(target[1], 16)], i + 1))
        return [self.instructions[start:stop] for start, stop in sorted(spans)]

    def interior(self) -> list[str]:
        """Opcodes of the loop over tiles that need no mask: the first loop that takes powers of two."""
        return next(body for body in self.loops() if any(code.startswith("MUFU.EX2") for code in body))

    @cached_property
    def _lines(self) -> list[tuple[int, str]]:
        lines = re.findall(r"/\*([0-9a-f]{4,})\*/\s+([^;]*);", self._dump("-sass"))
        return [(int(address, 16), text) for address, text in lines]

    def _dump(self, what: str) -> str:
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(self.cubin)
            file.flush()
            return subprocess.run(
                [_CUOBJDUMP, what, file.name], capture_output=True, text=True, check=True
            ).stdout


def _opcode(text: str) -> str:
    """``"@!P0 FADD.FTZ R1, R2, R3"`` -> ``"FADD.FTZ"``."""
    return re.sub(r"^@!?U?P\w+\s+", "", text).split()[0]


@contextmanager
def compile_only(arch: int, only: str | None = None) -> Iterator[list[Binary]]:
    """Compile what is launched inside for ``arch`` without running it; yields the list of the binaries.

    Tensors may be on any device, ``meta`` included. Not with Triton's interpreter, and not thread-safe: the
    active driver of the process is replaced.

    Args:
        arch: Compute capability times ten.
        only: Compile no kernel but the one of this name.
    """
    compiled: list[Binary] = []
    run = triton.JITFunction.run

    def compile_instead(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        if only not in (None, self.__name__):
            return None
        kernel: Any = run(self, *args, grid=grid, warmup=True, **kwargs)
        flags = {name: value for name, value in kwargs.items() if name.isupper() or name.startswith("num_")}
        compiled.append(Binary(kernel.name, arch, flags, kernel.metadata.shared, kernel.asm["cubin"]))
        return kernel

    with (
        mock.patch.object(driver, "_active", _AbsentDevice(arch)),
        mock.patch.object(triton.JITFunction, "run", compile_instead),
        mock.patch.object(configs, "_arch", lambda _: configs.known_arch(divmod(arch, 10))),
    ):
        yield compiled


@contextmanager
def launch_parameters_of(arch: int) -> Iterator[None]:
    """Take launch parameters from the table although tensors are on the CPU, where the interpreter's would be taken."""

    def from_table(kernel: Kernel, q: torch.Tensor, kind: Kind) -> Config:
        head_dim = 64 if q.shape[-1] <= 64 else 128
        known = configs.known_arch(divmod(arch, 10))
        return configs.lookup(Key(known, kernel, head_dim, q.dtype != torch.float32, kind))

    with mock.patch.object(launch, "config_for", from_table):
        yield


def compile_workload(
    workload: Workload, arch: int, config: Config | None = None, *, alone: bool = True
) -> list[Binary]:
    """Compile what a workload launches.

    Args:
        workload: Which kernel, with which options.
        arch: Compute capability times ten.
        config: Launch parameters; ``None`` reads the table.
        alone: Leave out the kernels around the one that is meant.

    Returns:
        The binaries, in order of their launches; just one if ``alone``.
    """
    call = workload.prepare(torch.device("meta"))
    forward = workload.kernel in ("forward", "decode")
    name = "forward_kernel" if forward else f"{workload.kernel}_kernel"
    chosen = nullcontext() if config is None else configs.forced(config)
    with compile_only(arch, name if alone else None) as binaries, chosen:
        if forward:
            if call.problem.distances.per_axis and not alone:
                call.key_intervals()
            call.forward()
        else:
            lse = torch.empty(call.q.shape[:-1], device="meta")
            call.backward(torch.empty_like(call.q), lse)
    return binaries


def describe(workload: Workload, arch: int, config: Config | None = None) -> list[dict[str, Any]]:
    """Resources and instructions of the binaries of a workload as plain numbers, or the compiler's message."""
    try:
        return [_summary(binary) for binary in compile_workload(workload, arch, config, alone=False)]
    except Exception as error:  # whatever the compiler raises belongs in the report
        return [{"kernel": workload.kernel, "error": f"{type(error).__name__}: {error}"}]


def _summary(binary: Binary) -> dict[str, Any]:
    loops = [Counter(code.split(".")[0] for code in body) for body in binary.loops()]
    return {
        "kernel": binary.kernel,
        "flags": binary.flags,
        "registers": binary.resources["REG"],
        "spill_bytes": binary.spill_bytes,
        "shared_bytes": binary.shared_bytes,
        "opcodes": sorted(set(binary.instructions)),
        "interior": next((body for body in loops if body["MUFU"]), {}),
    }


class _AbsentDevice:
    """Stands in for the driver while compiling. Its device number is the architecture, which keys Triton's cache."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        return self.arch

    def get_current_stream(self, device: int) -> int:
        return 0


def _answer(request: tuple[int, dict[str, Any], list[int] | None]) -> str:
    arch, options, config = request
    return json.dumps(describe(Workload(**options), arch, Config(*config) if config else None))


def main() -> None:
    """Compile the requests on standard input."""
    with process_pool(2) as pool:
        for line in pool.map(_answer, json.load(sys.stdin)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
