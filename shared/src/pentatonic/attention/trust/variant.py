"""The options of a call that decide which kernels are compiled for it.

Shapes: D head dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pentatonic.attention.descriptors import Alibi1D, Alibi2D, Bias, KeyBias, Rope, Visibility


class Variant(NamedTuple):
    """A kernel variant.

    Attributes:
        dtype: Of q, k and v.
        head_dim: D.
        bias: Name of the descriptor's class, with ``"signed"`` where it has that flag and sets it; ``""`` without one.
        cls_tokens: Those of the bias.
        left: Whether the mask has a bound before the query.
        right: Whether it has one after it.
        lengths: Whether key lengths are given.
        packed: ``"same"``: packed, with the same lengths for queries and keys; ``"apart"``; ``""`` for padded.
        few_queries: At most 16 queries, as when decoding.
        aligned: Whether queries are the last of the key lengths.
        rope: Pairing of the rotation within the kernels, ``""`` without one.
        rotary_dim: How much of the head it turns.
        negative_scale: Whether scores change their sign.
        tolerance: Whether keys may be skipped.
        gradients: ``""``, ``"inputs"``, or ``"all"`` with those of the weights of the bias.
        lse: Whether gradients also come from the log-sum-exp.
    """

    dtype: torch.dtype
    head_dim: int
    bias: str = ""
    cls_tokens: int = 0
    left: bool = False
    right: bool = False
    lengths: bool = False
    packed: str = ""
    few_queries: bool = False
    aligned: bool = False
    rope: str = ""
    rotary_dim: int = 0
    negative_scale: bool = False
    tolerance: bool = False
    gradients: str = ""
    lse: bool = False

    def __str__(self) -> str:
        """The options that are not the default, such as ``bfloat16 head_dim=64 bias=Alibi2D``."""
        defaults = self._field_defaults
        options = (f"{name}={value}" for name, value in self._asdict().items() if value != defaults.get(name))
        return " ".join(options).replace("dtype=torch.", "")


def variant_of(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Bias | None,
    visibility: Visibility,
    rope: Rope | None = None,
    scale: float | None = None,
    tolerance: float | None = None,
    return_lse: bool = False,
    packed: str = "",
    aligned: bool = False,
) -> Variant:
    """The variant that a checked call would use; q, k, v are padded or packed."""
    slopes = [getattr(bias, name, None) for name in ("slope", "slope_t", "slope_f", "left", "right", "vec")]
    learned = any(x is not None and x.requires_grad for x in slopes)
    gradients = ""
    if torch.is_grad_enabled() and (learned or q.requires_grad or k.requires_grad or v.requires_grad):
        gradients = "all" if learned and not isinstance(bias, KeyBias) else "inputs"
    # A tolerance looks at rotated norms: queries and keys are rotated before the kernels.
    fused = None if tolerance is not None else rope
    falls = isinstance(bias, (Alibi1D, Alibi2D))
    rotary_dim = 0
    if fused is not None:
        rotary_dim = fused.rotary_dim or q.shape[-1]
        if fused.cos_sin is not None:
            rotary_dim = 2 * fused.cos_sin[0].shape[-1]
    return Variant(
        q.dtype,
        q.shape[-1],
        bias="" if bias is None else type(bias).__name__ + " signed" * getattr(bias, "signed", False),
        cls_tokens=0 if bias is None else bias.cls_tokens,
        left=visibility.left is not None,
        right=visibility.right is not None,
        lengths=visibility.kv_len is not None,
        packed=packed,
        few_queries=not packed and q.shape[-2] <= 16,
        aligned=aligned,
        rope="" if fused is None else fused.style,
        rotary_dim=rotary_dim,
        negative_scale=scale is not None and scale <= 0,
        tolerance=tolerance is not None and falls,
        gradients=gradients,
        lse=return_lse and bool(gradients),
    )
