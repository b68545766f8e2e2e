"""Compile kernels for a GPU that is not there, and read from the binaries what they cost.

Registers, spills and instruction counts come from the disassembler that Triton brings along. Nothing here says
how fast a kernel is.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

_CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


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

    def resources(self) -> dict[str, int]:
        """Registers per thread (``REG``), and bytes of stack (``STACK``) and local memory (``LOCAL``): spills."""
        text = self._dump("-res-usage")
        return {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", text)}

    def instructions(self) -> list[str]:
        """Opcodes in order, with their modifiers: ``["S2R", "FADD", "HGMMA.64x64x16.F32.BF16", ...]``."""
        code = self._dump("-sass")
        return re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", code)

    def _dump(self, what: str) -> str:
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(self.cubin)
            file.flush()
            return subprocess.run(
                [_CUOBJDUMP, what, file.name], capture_output=True, text=True, check=True
            ).stdout


@contextmanager
def compile_only(arch: int) -> Iterator[list[Binary]]:
    """Let launches inside compile for ``arch`` and run nothing; the list fills with what was compiled.

    Tensors may be on any device, ``meta`` included. Not with Triton's interpreter, and not thread-safe: the
    active driver of the process is replaced.
    """
    compiled: list[Binary] = []
    run = triton.JITFunction.run

    def compile_instead(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        flags = {name: value for name, value in kwargs.items() if name.isupper() or name.startswith("num_")}
        compiled.append(Binary(kernel.name, arch, flags, kernel.metadata.shared, kernel.asm["cubin"]))
        return kernel

    with (
        mock.patch.object(driver, "_active", _AbsentDevice(arch)),
        mock.patch.object(triton.JITFunction, "run", compile_instead),
    ):
        yield compiled


class _AbsentDevice:
    """What the compiler asks a driver. The device number is the architecture: compiled kernels are kept by it."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        return self.arch

    def get_current_stream(self, device: int) -> int:
        return 0
