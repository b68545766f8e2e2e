"""Which back end computes a call, and why.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Literal

import torch
from torch import Tensor

from pentatonic.attention.banded import WIDEST, banded_attention
from pentatonic.attention.descriptors import Bias, DistanceTable, Rope, Visibility
from pentatonic.attention.kernels import why_not
from pentatonic.attention.ops import lowered_attention
from pentatonic.attention.preference import preference
from pentatonic.attention.prepared import PreparedBias, descriptor_of
from pentatonic.attention.reference import reference_attention
from pentatonic.attention.sdpa import is_square_causal, sdpa_attention
from pentatonic.attention.trust.check import CHECKED_DEVICES, why_untrusted
from pentatonic.attention.trust.variant import Variant, variant_of
from pentatonic.errors import BackendUnavailable, UsageError

try:
    from torch.nn.attention.varlen import varlen_attn

    _FLASH = "window_size" in signature(varlen_attn).parameters
except ImportError:
    _FLASH = False

Backend = Literal[
    "auto",
    "reference",
    "chunked",
    "banded",
    "sdpa",
    "triton",
    "-reference",
    "-chunked",
    "-banded",
    "-sdpa",
    "-triton",
]
PackedBackend = Backend | Literal["flash", "-flash"]
PADDED: tuple[str, ...] = ("reference", "chunked", "banded", "sdpa", "triton")
PACKED: tuple[str, ...] = (*PADDED, "flash")
DECODING: tuple[str, ...] = ("sdpa", "triton")
Situation = Literal["full", "square causal", "padded keys", "narrow window", "band", "bias", "log-sum-exp"]

# Type of the devices on which the kernels are the default; tests set "cpu", where Triton's interpreter runs them.
KERNEL_DEVICE = "cuda"

# Up to this many scores per head SDPA with an explicit matrix is faster than the tiles, at little memory
# (measured on CPU in float32: 1.0 to 2.5 times below 128 x 128, about equal at 256 x 256).
EXPLICIT_SCORES = 128 * 128

EXACT = (torch.float32, torch.float64)
# Where those before them fail or are forbidden.
LAST = (("chunked", "the only one left"), ("sdpa", "the only one left"), ("reference", "the only one left"))

# Decoding splits the keys from this many on, for at most so many queries (one tile of rows).
SPLIT_KEYS, MAX_DECODED = 1024, 16

NO_TABLE = "the kernels compute distances, and look up nothing in a DistanceTable"

NOT_NARROW = (
    f"banded takes windows of up to {WIDEST} keys beside the query, for as many queries as keys, without bias, key "
    "lengths and log-sum-exp; use 'chunked'"
)

# What computes which situation, on the CPU and where the kernels run.
TABLE: dict[Situation, tuple[str, str]] = {
    "full": ("sdpa", "sdpa"),
    "square causal": ("sdpa", "sdpa"),
    "padded keys": ("sdpa", "triton"),
    "narrow window": ("banded", "triton"),
    "band": ("chunked", "triton"),
    "bias": ("chunked", "triton"),
    "log-sum-exp": ("chunked", "triton"),
}
REASONS: dict[Situation, str] = {
    "full": "full attention is fused",
    "square causal": "square causal attention is fused",
    "padded keys": "nothing but key lengths hides keys",
    "narrow window": "blocks of queries with the keys around them are fused",
    "band": "a window or a bottom-right causal bound skips tiles",
    "bias": "no Nq x Nk matrix",
    "log-sum-exp": "SDPA does not return the log-sum-exp",
}


@dataclass(frozen=True)
class Choice:
    """The back end of a call.

    Attributes:
        backend: ``"sdpa"``, ``"chunked"``, ``"banded"``, ``"triton"`` or ``"reference"``.
        reason: Why, in a few words.
    """

    backend: str
    reason: str


def choose(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Bias | None,
    visibility: Visibility,
    rope: Rope | None,
    scale: float | None,
    dropout_p: float,
    tolerance: float | None,
    return_lse: bool,
    backend: Backend,
) -> Choice:
    """Pick the back end of a call whose arguments have been checked: the first in order that can compute it.

    Raises:
        UsageError: There is no back end of that name, or ``dropout_p`` is not in [0, 1].
        BackendUnavailable: The back end asked for cannot compute this, or all that can are forbidden.
    """
    if not 0.0 <= dropout_p <= 1.0:
        raise UsageError(f"dropout_p must be in [0, 1], got {dropout_p}")
    wanted = preference(backend, PADDED)
    if wanted.forced is None:
        order = _order(q, k, v, bias, visibility, dropout_p, return_lse)
    else:
        order = ((wanted.forced, "asked for"),)
    refusals = []
    for name, reason in order:
        refusal = _why_not(name, q, k, v, bias, visibility, dropout_p, return_lse)
        if name in wanted.forbidden:
            refusal = f"{name} is forbidden"
        if refusal is None and name == "triton":
            variant = variant_of(
                q,
                k,
                v,
                bias=bias,
                visibility=visibility,
                rope=rope,
                scale=scale,
                tolerance=tolerance,
                return_lse=return_lse,
            )
            refusal = _why_untrusted(variant, q.device)
        if refusal is None:
            return Choice(name, "; ".join((*refusals, reason)) if refusals else reason)
        if refusal not in refusals:
            refusals.append(refusal)
    raise BackendUnavailable("; ".join(refusals))


def _order(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias | None,
    visibility: Visibility,
    dropout_p: float,
    return_lse: bool,
) -> tuple[tuple[str, str], ...]:
    """Back ends to try, with the reason for each."""
    n_q, n_k = q.shape[-2], k.shape[-2]
    if _exporting():
        reason = "an exported program must run without our operators"
        return ("sdpa", reason), ("reference", reason)
    if n_q == 0 or n_k == 0:
        return (("chunked", "there are no scores"),)
    situation = _situation(q, n_k, bias, visibility, return_lse)
    reason = REASONS[situation]
    if situation == "bias":
        reason = f"{type(bias).__name__}: {reason}"
        if isinstance(bias, DistanceTable) and q.device.type == KERNEL_DEVICE:
            reason += f"; triton: {NO_TABLE}"
    without_kernels, first = TABLE[situation]
    if first != without_kernels and (
        q.device.type != KERNEL_DEVICE or dropout_p or _without_kernel(q, k, v, bias) is not None
    ):
        first = without_kernels
    # Half precision would round an explicit bias.
    if (
        first in ("chunked", "banded")
        and not return_lse
        and n_q * n_k <= EXPLICIT_SCORES
        and q.dtype in EXACT
    ):
        return ("sdpa", f"{n_q} x {n_k} scores are few enough for an explicit matrix"), (first, reason), *LAST
    return (first, reason), (without_kernels, reason), *LAST


def _exporting() -> bool:
    """Whether ``torch.export`` is tracing this call."""
    # torch.compile takes torch.compiler.is_exporting() for True in all that it traces; the flag behind it is right.
    return torch.compiler._is_exporting_flag


def _why_not(
    name: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias | None,
    visibility: Visibility,
    dropout_p: float,
    return_lse: bool,
) -> str | None:
    """Why a back end cannot compute a call, or ``None`` if it can."""
    if name == "sdpa" and return_lse:
        return "sdpa does not return the log-sum-exp; use 'chunked' or 'reference'"
    if name == "sdpa" and q.shape[-2] and not k.shape[-2]:
        return "sdpa is undefined without keys; use 'chunked' or 'reference'"
    if name == "banded" and (
        bias is not None or return_lse or not is_narrow(visibility, q.shape[-2], k.shape[-2])
    ):
        return NOT_NARROW
    if name in ("reference", "triton") and dropout_p:
        return f"{name} has no dropout; use 'chunked' or 'sdpa'"
    if name == "triton" and (reason := _without_kernel(q, k, v, bias)) is not None:
        return f"triton: {reason}"
    return None


def _without_kernel(q: Tensor, k: Tensor, v: Tensor, bias: Bias | None) -> str | None:
    """Why the kernels cannot compute a call, or ``None`` if they can."""
    return NO_TABLE if isinstance(bias, DistanceTable) else why_not(q, k, v)


def _why_untrusted(variant: Variant, device: torch.device) -> str | None:
    """Why the kernels may not be used although they could; only where they are checked at all."""
    if device.type not in CHECKED_DEVICES:
        return None
    reason = why_untrusted(variant, device)
    return None if reason is None else f"triton: {reason}"


def choose_packed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Bias | None,
    plain: bool,
    backend: PackedBackend,
    visibility: Visibility,
    narrow: bool,
    longest: int,
    variant: Callable[[], Variant],
) -> Literal["triton", "flash", "banded", "each"]:
    """All sequences at once by ``"triton"``, PyTorch's ``"flash"`` kernel or ``"banded"``, or one call for ``"each"``.

    Args:
        q: ``(total_q, H, D)``.
        k: ``(total_k, H, D)``.
        v: ``(total_k, H, Dv)``.
        bias: Added to the scores.
        plain: Nothing is asked for but windows, causal bounds and rope.
        backend: What the caller wants.
        visibility: The mask.
        narrow: It is a narrow window, as of :func:`is_narrow`, of the same queries and keys.
        longest: Length of the longest sequence; a window that hides nothing of it is full attention.
        variant: Gives the kernel variant.

    Raises:
        UsageError: There is no back end of that name.
        BackendUnavailable: ``"triton"``, ``"flash"`` or ``"banded"`` was asked for and cannot compute this.
    """
    wanted = preference(backend, PACKED)
    automatic = q.device.type == KERNEL_DEVICE and not _exporting()
    if wanted.forced == "triton" or (
        wanted.forced is None and automatic and "triton" not in wanted.forbidden
    ):
        reason = _without_kernel(q, k, v, bias)
        refusal = _why_untrusted(variant(), q.device) if reason is None else f"triton: {reason}"
        if refusal is None:
            return "triton"
        if wanted.forced is not None:
            raise BackendUnavailable(refusal)
    if wanted.forced == "flash" or (wanted.forced is None and automatic and "flash" not in wanted.forbidden):
        reason = _why_not_flash(q, v, plain)
        if reason is None:
            return "flash"
        if wanted.forced is not None:
            raise BackendUnavailable(f"flash: {reason}")
    hides = longest - 1 > min(visibility.left or 0, visibility.right or 0)
    if wanted.forced == "banded" or (
        wanted.forced is None
        and "banded" not in wanted.forbidden
        and hides
        and q.dtype in EXACT
        and not _exporting()
    ):
        if plain and narrow:
            return "banded"
        if wanted.forced is not None:
            raise BackendUnavailable(NOT_NARROW)
    return "each"


def _why_not_flash(q: Tensor, v: Tensor, plain: bool) -> str | None:
    if q.device.type != "cuda":
        return f"PyTorch's packed attention needs a CUDA device, the tensors are on {q.device.type}"
    if q.dtype not in (torch.float16, torch.bfloat16) or q.shape[-1] != v.shape[-1]:
        return "PyTorch's packed attention takes float16 or bfloat16, and equal head dimensions"
    if not plain:
        return "PyTorch's packed attention has no bias, no key lengths and no log-sum-exp here"
    return None if _FLASH else "varlen_attn of this PyTorch is missing, or has no window_size"


def choose_decode(q: Tensor, k: Tensor, v: Tensor, backend: Backend, *, kv_len: Tensor | None = None) -> str:
    """``"triton"`` where splitting the keys fills a GPU that the heads alone leave idle, else ``"sdpa"``.

    Raises:
        UsageError: There is no such back end for decoding.
        BackendUnavailable: The back end asked for cannot compute this, or is forbidden.
    """
    wanted = preference(backend, DECODING)
    if wanted.forced is None and q.device.type != KERNEL_DEVICE and "sdpa" not in wanted.forbidden:
        return "sdpa"
    if wanted.forced == "sdpa":
        return "sdpa"
    reason = why_not(q, k, v)
    if reason is None and q.shape[2] > MAX_DECODED:
        reason = f"decoding takes up to {MAX_DECODED} queries"
    must = wanted.forced == "triton" or "sdpa" in wanted.forbidden
    refusal = None if reason is None else f"triton: {reason}"
    if "triton" in wanted.forbidden:
        refusal = "triton is forbidden"
    elif refusal is None and (must or _leaves_processors_idle(q, k)):
        visibility = Visibility(right=0, kv_len=kv_len)
        variant = variant_of(q, k, v, bias=None, visibility=visibility, aligned=kv_len is not None)
        refusal = _why_untrusted(variant, q.device)
        if refusal is None:
            return "triton"
    if must:
        raise BackendUnavailable(refusal or "triton cannot decode this")
    return "sdpa"


def _leaves_processors_idle(q: Tensor, k: Tensor) -> bool:
    """Whether the keys are many, and samples and heads fewer than the GPU has processors."""
    if k.shape[2] <= SPLIT_KEYS:
        return False
    processors = torch.cuda.get_device_properties(q.device).multi_processor_count
    return q.shape[0] * q.shape[1] < processors


def compute(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Bias | PreparedBias | None,
    visibility: Visibility,
    rope: tuple[Tensor, Tensor, bool] | None,
    scale: float | None,
    dropout_p: float,
    tolerance: float | None,
    backend: str,
) -> tuple[Tensor, Tensor | None]:
    """Run the back end of a :class:`Choice`; all but ``"triton"`` want inputs that are rotated already.

    Returns:
        ``(o, lse)``: ``(B, H, Nq, Dv)`` and ``(B, H, Nq)``; SDPA gives no lse.
    """
    if backend == "sdpa":
        o = sdpa_attention(
            q, k, v, bias=descriptor_of(bias), visibility=visibility, scale=scale, dropout_p=dropout_p
        )
        return o, None
    if backend == "banded":
        assert visibility.left is not None and visibility.right is not None
        left, right = visibility.left, visibility.right
        return banded_attention(q, k, v, left=left, right=right, scale=scale, dropout_p=dropout_p), None
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    if backend == "reference":
        return reference_attention(q, k, v, bias=descriptor_of(bias), visibility=visibility, scale=factor)
    return lowered_attention(
        q,
        k,
        v,
        bias=bias,
        visibility=visibility,
        scale=factor,
        backend=backend,
        rope=rope,
        dropout_p=dropout_p,
        tolerance=tolerance,
    )


def is_narrow(visibility: Visibility, n_q: int, n_k: int) -> bool:
    """Whether a mask is a window of a few keys on both sides of each query, and nothing else."""
    left, right = visibility.left, visibility.right
    if left is None or right is None or visibility.kv_len is not None or n_q != n_k or not n_q:
        return False
    return left + right <= WIDEST


def _situation(q: Tensor, n_k: int, bias: Bias | None, visibility: Visibility, return_lse: bool) -> Situation:
    n_q = q.shape[-2]
    if return_lse:
        return "log-sum-exp"
    if bias is not None:
        return "bias"
    if is_square_causal(visibility, n_q, n_k):
        return "square causal"
    # Fused attention rounds the weights to half precision, where tiles compute in float32.
    if is_narrow(visibility, n_q, n_k) and q.dtype in EXACT:
        return "narrow window"
    if not visibility.unlimited:
        return "band"
    return "full" if visibility.kv_len is None else "padded keys"
