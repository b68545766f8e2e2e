"""Block sizes, warps and pipeline stages of the kernels, from a committed table.

``table.json`` is written by :mod:`attention_tuning.tuning`. Each entry says how it was found:
``offline``, the first choice that neither spills registers nor exceeds shared memory, or ``measured``, the fastest
on a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal, NamedTuple
from unittest import mock

import torch
from torch import Tensor

Kernel = Literal["forward", "decode", "query_gradient", "key_gradient"]
Kind = Literal["none", "distance", "weighted", "window"]
KINDS: tuple[Kind, ...] = ("none", "distance", "weighted", "window")
KERNELS: tuple[Kernel, ...] = ("forward", "decode", "query_gradient", "key_gradient")
ARCHS = (80, 86, 90)
HEAD_DIMS = (64, 128)


@dataclass(frozen=True)
class Config:
    """Launch parameters of one kernel.

    Attributes:
        block_m: Query rows per tile, a power of two, at most 128.
        block_n: Keys per tile, a power of two, at most 128.
        warps: Warps per program.
        stages: Depth of the software pipeline.
    """

    block_m: int
    block_n: int
    warps: int
    stages: int


class Key(NamedTuple):
    """What a configuration depends on.

    Attributes:
        arch: Compute capability times ten.
        kernel: Which kernel.
        head_dim: 64, which smaller ones share, or 128.
        half: Whether q is float16 or bfloat16.
        kind: ``window``: each key is read by few rows, and may be rotated on load; else ``none`` without a bias,
            ``distance`` with one whose weights are in the coordinates (never in float32), ``weighted`` with any other.
    """

    arch: int
    kernel: Kernel
    head_dim: int
    half: bool
    kind: Kind

    def __str__(self) -> str:
        dtype = "half" if self.half else "float32"
        return f"sm{self.arch} {self.kernel} d{self.head_dim} {dtype} {self.kind}"


INTERPRETED = Config(16, 16, 4, 1)
_forced: dict[Kernel, Config] = {}


def config_for(kernel: Kernel, q: Tensor, kind: Kind) -> Config:
    """The configuration of a launch; on the CPU, small tiles for the interpreter.

    Args:
        kernel: Which kernel.
        q: Its queries ``(..., D)``: device, dtype and head dimension count.
        kind: Which bias or window it has.
    """
    if kernel in _forced:
        return _forced[kernel]
    if q.device.type == "cpu":
        return INTERPRETED
    head_dim = 64 if q.shape[-1] <= 64 else 128
    return lookup(Key(_arch(q.device.index), kernel, head_dim, q.dtype != torch.float32, kind))


@cache
def lookup(key: Key) -> Config:
    """The entry of the table for a key."""
    return table()[str(key)].config


@contextmanager
def forced(config: Config, *kernels: Kernel) -> Iterator[None]:
    """Launch with this configuration instead of the table's, for tuning and tests; not thread-safe.

    Args:
        config: The configuration.
        kernels: Only these; all if there are none.
    """
    with mock.patch.dict(_forced, dict.fromkeys(kernels or KERNELS, config)):
        yield


def known_arch(capability: tuple[int, int]) -> int:
    """The architecture whose entries a GPU takes.

    GPUs of the 8.6 kind (8.6, 8.7, 8.9) share its 99 KiB of shared memory; so do those of capability 12. Capability 10,
    for which nothing has been tuned, takes these entries too: they need the least memory.
    """
    if capability[0] == 9:
        return 90
    return 80 if capability == (8, 0) else 86


@cache
def _arch(index: int | None) -> int:
    return known_arch(torch.cuda.get_device_capability(index))


class Entry(NamedTuple):
    """A row of the table.

    Attributes:
        config: The configuration.
        found: ``offline`` or ``measured``.
    """

    config: Config
    found: str


@cache
def table() -> dict[str, Entry]:
    """The table that comes with the package, by the text of its keys."""
    return read_table(files("pentatonic.attention.kernels").joinpath("table.json"))


def read_table(path: Traversable) -> dict[str, Entry]:
    """A table that :func:`attention_tuning.tuning.write_table` wrote."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {key: Entry(Config(*numbers), found) for key, (*numbers, found) in rows.items()}


def clear_cache() -> None:
    """Read the table again at the next launch."""
    table.cache_clear()
    lookup.cache_clear()
