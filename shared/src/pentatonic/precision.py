"""Which number type to compute in: float32, or bfloat16 where the hardware has instructions for it."""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch

from pentatonic.errors import UsageError

Precision = Literal["fp32", "bf16"]

_NAMES: dict[torch.dtype, str] = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def number_type_name(dtype: torch.dtype) -> str:
    """Return the short name of a number type, such as ``bf16``."""
    return _NAMES.get(dtype, str(dtype).removeprefix("torch."))


def resolve_precision(name: str, device: str | torch.device) -> Precision:
    """Return the precision that a setting stands for on a device.

    Args:
        name: ``"fp32"``, ``"bf16"``, or ``"auto"``: bf16 where :func:`has_bfloat16`, else fp32.
        device: Where to compute.

    Raises:
        UsageError: Another name.
    """
    if name == "auto":
        return "bf16" if has_bfloat16(device) else "fp32"
    if name not in get_args(Precision):
        raise UsageError(f"the precision is {name!r}; allowed: 'auto', 'fp32', 'bf16'")
    return cast(Precision, name)


def has_bfloat16(device: str | torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices by instructions of its own, and not by emulation."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(bool(has) for name, has in capabilities.items() if name.endswith("bf16"))
    # Before torch 2.11.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
