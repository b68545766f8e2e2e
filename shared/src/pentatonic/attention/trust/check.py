"""The first use of a kernel variant on a GPU compares it with the reference; what fails is not used.

A wrong kernel gives plausible numbers, and whether one is right depends on GPU, driver and compiler, which no test
of this package can foresee. So each process runs every variant that it is about to use once on a small problem with the
same options, forward and, where gradients are asked for, backward. Variants that agree are remembered in a file for
this GPU, driver and these versions, ``$XDG_CACHE_HOME/pentatonic/attention/*.json`` (``~/.cache`` by default); those
that do not are checked again by the next process.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import RLock

import torch

from pentatonic.attention.trust.record import Record
from pentatonic.attention.trust.small_problem import SmallProblem
from pentatonic.attention.trust.variant import Variant

CHECKED_DEVICES = ["cuda"]
"""Device types whose kernels are checked; tests add the CPU, where Triton's interpreter runs them."""
# Largest error, relative to the largest value of the same tensor; a wrong kernel is off by far more.
TOLERANCES = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 4e-2}


def why_untrusted(variant: Variant, device: torch.device) -> str | None:
    """Why the kernels of a variant must not be used on a device, or ``None`` if they agree with the reference.

    The first question checks; a failure is warned of once.

    Args:
        variant: The options.
        device: That of the tensors.
    """
    if device.type not in CHECKED_DEVICES:
        return None
    with _lock:
        if (variant, device) in _reasons:
            return _reasons[variant, device]
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return "this variant has not been used yet, and cannot be checked while a CUDA graph is captured"
        record = Record.of(device)
        reason = None
        if str(variant) not in record.read():
            try:
                # A thread of its own has none of the caller's modes: autocast, no_grad, fake tensors.
                with ThreadPoolExecutor(1) as thread:
                    reason = thread.submit(_compare, variant, device).result()
            except torch.OutOfMemoryError:
                return "no memory was left to check this variant"
            except Exception as error:  # the compiler raises errors of many types
                first_line = str(error).strip().split("\n")[0]
                reason = f"{type(error).__name__}: {first_line}"[:300]
            if reason is None:
                record.add(str(variant))
            else:
                reason = f"the check of the kernels ({variant}) failed on {device}: {reason}"
                warnings.warn(f"{reason}; another back end computes such calls", RuntimeWarning, stacklevel=2)
        _reasons[variant, device] = reason
        return reason


# torch.compile asks while it traces, and keeps the answer. The decorator torch.compiler.assume_constant_result sets
# this attribute too, but imports torch._dynamo, which takes seconds.
why_untrusted._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
_reasons: dict[tuple[Variant, torch.device], str | None] = {}
_lock = RLock()


def clear_cache() -> None:
    """Check every variant again, or read it from the file again, at its next use in this process."""
    _reasons.clear()


def _compare(variant: Variant, device: torch.device) -> str | None:
    """Where kernels and reference differ too much, or ``None``."""
    with torch.cuda.device(device if device.type == "cuda" else -1):
        errors = SmallProblem(variant, device).errors()
    allowed = TOLERANCES[variant.dtype]
    for name, error in errors.items():
        if not error <= allowed:  # NaN fails too
            return f"the error of {name} is {error:.3g} of its largest value, allowed {allowed:g}"
    return None
