"""The Triton kernels: one family for all biases, masks and layouts, forward, backward and decoding.

Nothing here imports Triton until a kernel is launched, so the package works where Triton is absent.
"""

from __future__ import annotations

import importlib.util
import os
from math import prod

import torch
from torch import Tensor

MAX_HEAD_DIM = 128
DTYPES = (torch.float16, torch.bfloat16, torch.float32)

# Determined at import: torch.compile cannot trace either question.
_INSTALLED = importlib.util.find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"


def why_not(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Why the kernels cannot take these queries, keys and values, or ``None`` if they can.

    On the CPU they run in Triton's interpreter, which is for tests: ``TRITON_INTERPRET=1``, set before Triton and
    this module are imported.
    """
    if not _INSTALLED:
        return "Triton is not installed"
    if q.device.type != "cuda" and not _INTERPRETED:
        return f"the kernels need a CUDA device, the tensors are on {q.device.type}"
    if q.device.type == "cuda" and torch.cuda.get_device_properties(q.device).major < 8:
        return "the kernels need compute capability 8.0 or more"
    if q.dtype not in DTYPES:
        return f"the kernels take float16, bfloat16 and float32, not {q.dtype}"
    if q.shape[-1] != v.shape[-1] or not 1 <= q.shape[-1] <= MAX_HEAD_DIM:
        return f"the kernels take equal head dimensions of 1 to {MAX_HEAD_DIM}"
    if not (fits_31_bits(q) and fits_31_bits(k) and fits_31_bits(v)):
        return "the kernels count elements of a sample of q, k, v and the output in 31 bits"
    return None


def fits_31_bits(x: Tensor) -> bool:
    """Whether offsets within a sample of ``x (B, H, N, D)`` fit the 31 bits in which the kernels compute them.

    The same must hold of results, which have its shape, and its memory order unless it overlaps itself.
    """
    shape = x.shape[-3:]
    strided = all(n * stride < 2**31 for n, stride in zip(shape, x.stride()[-3:], strict=True))
    return strided and prod(shape) < 2**31
