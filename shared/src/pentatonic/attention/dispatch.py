"""Which back end computes a call, and why.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from pentatonic.attention.chunked import chunked_attention
from pentatonic.attention.descriptors import Bias, Visibility
from pentatonic.attention.reference import reference_attention
from pentatonic.attention.sdpa import is_square_causal, sdpa_attention
from pentatonic.errors import BackendUnavailable, UsageError

Backend = Literal["auto", "reference", "chunked", "sdpa"]
BACKENDS: tuple[str, ...] = get_args(Backend)

# Up to this many scores per head SDPA with an explicit matrix is faster than the tiles, at little memory
# (measured on CPU in float32: 1.0 to 2.5 times below 128 x 128, about equal at 256 x 256).
EXPLICIT_SCORES = 128 * 128


@dataclass(frozen=True)
class Choice:
    """The back end of a call.

    Attributes:
        backend: ``"sdpa"``, ``"chunked"`` or ``"reference"``.
        reason: Why, in a few words.
    """

    backend: str
    reason: str


def choose(
    q: Tensor,
    k: Tensor,
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
        _refuse(backend, bool(q.shape[-2]) and not k.shape[-2], dropout_p, return_lse)
        return Choice(backend, "asked for")
    n_q, n_k = q.shape[-2], k.shape[-2]
    exact = q.dtype in (torch.float32, torch.float64)  # half precision would round an explicit bias
    if return_lse:
        return Choice("chunked", "SDPA does not return the log-sum-exp")
    if n_q == 0 or n_k == 0:
        return Choice("chunked", "there are no scores")
    if bias is None and is_square_causal(visibility, n_q, n_k):
        return Choice("sdpa", "square causal attention is fused")
    if bias is None and visibility.unlimited:
        return Choice("sdpa", "full attention is fused, with or without key lengths")
    if n_q * n_k <= EXPLICIT_SCORES and exact:
        return Choice("sdpa", f"{n_q} x {n_k} scores are few enough for an explicit matrix")
    if bias is None:
        return Choice("chunked", "a window or a bottom-right causal bound skips tiles")
    return Choice("chunked", f"{type(bias).__name__} without an Nq x Nk matrix")


def compute(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Bias | None,
    visibility: Visibility,
    scale: float | None,
    dropout_p: float,
    backend: str,
) -> tuple[Tensor, Tensor | None]:
    """Run the back end of a :class:`Choice`.

    Returns:
        ``(o, lse)``: ``(B, H, Nq, Dv)`` and ``(B, H, Nq)``; SDPA gives no lse.
    """
    if backend == "sdpa":
        o = sdpa_attention(q, k, v, bias=bias, visibility=visibility, scale=scale, dropout_p=dropout_p)
        return o, None
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    if backend == "chunked":
        return chunked_attention(q, k, v, bias=bias, visibility=visibility, scale=factor, dropout_p=dropout_p)
    return reference_attention(q, k, v, bias=bias, visibility=visibility, scale=factor)


def _refuse(backend: str, keyless: bool, dropout_p: float, return_lse: bool) -> None:
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}; allowed: {', '.join(BACKENDS)}")
    if backend == "sdpa" and return_lse:
        raise BackendUnavailable("sdpa does not return the log-sum-exp; use 'chunked' or 'reference'")
    if backend == "sdpa" and keyless:
        raise BackendUnavailable("sdpa is undefined without keys; use 'chunked' or 'reference'")
    if backend == "reference" and dropout_p:
        raise BackendUnavailable("reference has no dropout; use 'chunked' or 'sdpa'")
