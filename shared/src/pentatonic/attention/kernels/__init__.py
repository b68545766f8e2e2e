"""The Triton kernels: one family for all biases, masks and layouts, forward, backward and decoding.

Nothing here imports Triton until a kernel is launched, so the package works where Triton is absent.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache

import torch
from torch import Tensor

MAX_HEAD_DIM = 128
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def why_not(q: Tensor, v: Tensor) -> str | None:
    """Why the kernels cannot take these queries and values, or ``None`` if they can.

    On the CPU they run in Triton's interpreter, which is for tests: ``TRITON_INTERPRET=1``, set before the first
    kernel is used.
    """
    if not _installed():
        return "Triton is not installed"
    if q.device.type != "cuda" and not _interpreted():
        return f"the kernels need a CUDA device, the tensors are on {q.device.type}"
    if q.device.type == "cuda" and torch.version.cuda and _capability(q.device.index or 0) < (8, 0):
        return "the kernels need compute capability 8.0 or more"
    if q.dtype not in DTYPES:
        return f"the kernels take float16, bfloat16 and float32, not {q.dtype}"
    if q.shape[-1] != v.shape[-1] or not 1 <= q.shape[-1] <= MAX_HEAD_DIM:
        return f"the kernels take equal head dimensions of 1 to {MAX_HEAD_DIM}"
    return None


@cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@cache
def _capability(index: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)
