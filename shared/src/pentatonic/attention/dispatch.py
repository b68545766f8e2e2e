"""Which back end computes a call, and why.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Literal, get_args

import torch
from torch import Tensor

from pentatonic.attention.descriptors import Bias, Visibility
from pentatonic.attention.kernels import why_not
from pentatonic.attention.ops import lowered_attention
from pentatonic.attention.reference import reference_attention
from pentatonic.attention.sdpa import is_square_causal, sdpa_attention
from pentatonic.errors import BackendUnavailable, UsageError

try:
    from torch.nn.attention.varlen import varlen_attn

    _FLASH = "window_size" in signature(varlen_attn).parameters
except ImportError:
    _FLASH = False

Backend = Literal["auto", "reference", "chunked", "sdpa", "triton"]
PackedBackend = Literal["auto", "reference", "chunked", "sdpa", "triton", "flash"]
BACKENDS: tuple[str, ...] = get_args(Backend)
Situation = Literal["full", "square causal", "padded keys", "band", "bias", "log-sum-exp"]

# Up to this many scores per head SDPA with an explicit matrix is faster than the tiles, at little memory
# (measured on CPU in float32: 1.0 to 2.5 times below 128 x 128, about equal at 256 x 256).
EXPLICIT_SCORES = 128 * 128

# Decoding splits the keys from this many on, for at most so many queries (one tile of rows).
SPLIT_KEYS, MAX_DECODED = 1024, 16

# What computes which situation, on the CPU and where the kernels run.
TABLE: dict[Situation, tuple[str, str]] = {
    "full": ("sdpa", "sdpa"),
    "square causal": ("sdpa", "sdpa"),
    "padded keys": ("sdpa", "triton"),
    "band": ("chunked", "triton"),
    "bias": ("chunked", "triton"),
    "log-sum-exp": ("chunked", "triton"),
}
REASONS: dict[Situation, str] = {
    "full": "full attention is fused",
    "square causal": "square causal attention is fused",
    "padded keys": "nothing but key lengths hides keys",
    "band": "a window or a bottom-right causal bound skips tiles",
    "bias": "no Nq x Nk matrix",
    "log-sum-exp": "SDPA does not return the log-sum-exp",
}


@dataclass(frozen=True)
class Choice:
    """The back end of a call.

    Attributes:
        backend: ``"sdpa"``, ``"chunked"``, ``"triton"`` or ``"reference"``.
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
    dropout_p: float,
    return_lse: bool,
    backend: Backend,
) -> Choice:
    """Pick the back end of a call whose arguments have been checked: the first rule that fits.

    Raises:
        UsageError: There is no back end of that name, or ``dropout_p`` is no probability.
        BackendUnavailable: The back end asked for cannot compute this.
    """
    if not 0.0 <= dropout_p <= 1.0:
        raise UsageError(f"dropout_p must be in [0, 1], got {dropout_p}")
    if backend != "auto":
        _refuse(backend, q, k, v, dropout_p, return_lse)
        return Choice(backend, "asked for")
    n_q, n_k = q.shape[-2], k.shape[-2]
    if torch.compiler.is_exporting():
        plain = "reference" if return_lse else "sdpa"
        return Choice(plain, "an exported program must run without our operators")
    if n_q == 0 or n_k == 0:
        return Choice("chunked", "there are no scores")
    situation = _situation(n_q, n_k, bias, visibility, return_lse)
    kernels = q.device.type == "cuda" and not dropout_p and why_not(q, v) is None
    chosen = TABLE[situation][kernels]
    exact = q.dtype in (torch.float32, torch.float64)  # half precision would round an explicit bias
    if chosen == "chunked" and not return_lse and exact and n_q * n_k <= EXPLICIT_SCORES:
        return Choice("sdpa", f"{n_q} x {n_k} scores are few enough for an explicit matrix")
    reason = REASONS[situation]
    return Choice(chosen, f"{type(bias).__name__}: {reason}" if situation == "bias" else reason)


def choose_packed(
    q: Tensor, v: Tensor, *, plain: bool, backend: PackedBackend
) -> Literal["triton", "flash", "each"]:
    """All sequences at once by ``"triton"`` or by PyTorch's ``"flash"`` kernel, or one call for ``"each"``.

    Args:
        q: ``(total_q, H, D)``.
        v: ``(total_k, H, D)``.
        plain: Nothing is asked for but windows, causal bounds and rope.
        backend: What the caller wants.

    Raises:
        BackendUnavailable: ``"triton"`` or ``"flash"`` was asked for and cannot compute this.
    """
    if backend == "triton" and (reason := why_not(q, v)) is not None:
        raise BackendUnavailable(f"triton: {reason}")
    if backend == "flash" and (reason := _why_not_flash(q, v, plain)) is not None:
        raise BackendUnavailable(f"flash: {reason}")
    if backend in ("triton", "flash"):
        return backend
    if backend != "auto" or q.device.type != "cuda" or torch.compiler.is_exporting():
        return "each"
    if why_not(q, v) is None:
        return "triton"
    return "flash" if _why_not_flash(q, v, plain) is None else "each"


def _why_not_flash(q: Tensor, v: Tensor, plain: bool) -> str | None:
    if q.device.type != "cuda":
        return f"PyTorch's packed attention needs a CUDA device, the tensors are on {q.device.type}"
    if q.dtype not in (torch.float16, torch.bfloat16) or q.shape[-1] != v.shape[-1]:
        return "PyTorch's packed attention takes float16 or bfloat16, and equal head dimensions"
    if not plain:
        return "PyTorch's packed attention has no bias, no key lengths and no log-sum-exp here"
    return None if _FLASH else "varlen_attn of this PyTorch is missing, or has no window_size"


def choose_decode(q: Tensor, k: Tensor, v: Tensor, backend: Backend) -> str:
    """``"triton"`` where splitting the keys fills a GPU that the heads alone leave idle, else ``"sdpa"``.

    Raises:
        UsageError: There is no such back end for decoding.
        BackendUnavailable: ``"triton"`` was asked for and cannot compute this.
    """
    if backend not in ("auto", "sdpa", "triton"):
        raise UsageError(f"decoding has no back end {backend!r}; allowed: auto, sdpa, triton")
    if backend == "sdpa" or (backend == "auto" and q.device.type != "cuda"):
        return "sdpa"
    reason = why_not(q, v)
    if reason is None and q.shape[2] > MAX_DECODED:
        reason = f"decoding takes up to {MAX_DECODED} queries"
    if backend == "triton":
        if reason is not None:
            raise BackendUnavailable(f"triton: {reason}")
        return "triton"
    if reason is not None or k.shape[2] <= SPLIT_KEYS:
        return "sdpa"
    processors = torch.cuda.get_device_properties(q.device).multi_processor_count
    return "triton" if q.shape[0] * q.shape[1] < processors else "sdpa"


def compute(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Bias | None,
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
        o = sdpa_attention(q, k, v, bias=bias, visibility=visibility, scale=scale, dropout_p=dropout_p)
        return o, None
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    if backend == "reference":
        return reference_attention(q, k, v, bias=bias, visibility=visibility, scale=factor)
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


def _situation(n_q: int, n_k: int, bias: Bias | None, visibility: Visibility, return_lse: bool) -> Situation:
    if return_lse:
        return "log-sum-exp"
    if bias is not None:
        return "bias"
    if is_square_causal(visibility, n_q, n_k):
        return "square causal"
    if not visibility.unlimited:
        return "band"
    return "full" if visibility.kv_len is None else "padded keys"


def _refuse(backend: str, q: Tensor, k: Tensor, v: Tensor, dropout_p: float, return_lse: bool) -> None:
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}; allowed: {', '.join(BACKENDS)}")
    if backend == "sdpa" and return_lse:
        raise BackendUnavailable("sdpa does not return the log-sum-exp; use 'chunked' or 'reference'")
    if backend == "sdpa" and q.shape[-2] and not k.shape[-2]:
        raise BackendUnavailable("sdpa is undefined without keys; use 'chunked' or 'reference'")
    if backend in ("reference", "triton") and dropout_p:
        raise BackendUnavailable(f"{backend} has no dropout; use 'chunked' or 'sdpa'")
    if backend == "triton" and (reason := why_not(q, v)) is not None:
        raise BackendUnavailable(f"triton: {reason}")
