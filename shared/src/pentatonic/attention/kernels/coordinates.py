"""The bias as the kernels read it: coordinates as float32 rows, multiplied by the slopes where that saves work.

Shapes: B batch, H heads, Nk keys, A axes, M weights of the bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pentatonic.attention.intervals import GROUP
from pentatonic.attention.problem import Distances

LOG2E = 1.4426950408889634


@dataclass(frozen=True)
class Coordinates:
    """The bias as the kernels read it.

    Attributes:
        form: BIAS of the kernels.
        x: ``(1 or B, 1 or H, width)`` float32: first axis or key bias, padded so that no tile reads past it.
        y: The second axis, or ``None``.
        axes: Number of axes.
        signed: Whether differences keep their sign.
        weights: ``(M, H)`` float32, or ``None``.
    """

    form: str = "none"
    x: Tensor | None = None
    y: Tensor | None = None
    axes: int = 0
    signed: bool = False
    weights: Tensor | None = None

    def arguments(self, cls_tokens: int) -> dict[str, Any]:
        """Keyword arguments of the kernels."""
        x_b, x_h = (0, 0)
        if self.x is not None:
            x_b, x_h = (self.x.stride(i) if self.x.shape[i] > 1 else 0 for i in range(2))
        pointers = {"x_ptr": self.x, "y_ptr": self.y, "weight_ptr": self.weights, "x_b": x_b, "x_h": x_h}
        flags = {"BIAS": self.form, "AXES": self.axes, "SIGNED": self.signed}
        return pointers | flags | {"CLS": bool(cls_tokens) and self.form != "none"}


def coordinates(
    distances: Distances,
    weights: Tensor | None,
    key_bias: Tensor | None,
    *,
    exact: bool,
    ready: Tensor | None = None,
) -> Coordinates:
    """Lay out a lowered bias.

    Args:
        distances: What the weights multiply.
        weights: ``(M, H)``.
        key_bias: ``(B, H, Nk)``.
        exact: Keep raw coordinates, for float32 results and for gradients of the weights.
        ready: What :func:`lay_out` gave for the same bias and ``exact``; ``None`` computes it.
    """
    x, y = (None, None) if ready is None else (ready[0], ready[1] if len(ready) > 1 else None)
    if key_bias is not None:
        return Coordinates("key", padded(key_bias * LOG2E) if x is None else x)
    if distances.axes is None or weights is None:
        return Coordinates()
    n_axes = len(distances.axes)
    weights = weights.float().contiguous()
    if distances.directional:
        form = "directional"
    elif not distances.per_axis:
        form = "summed"
    elif exact:
        form = "per_axis"
    else:
        form = "premultiplied"
    if x is None:
        axes = distances.axes.float()[:, :, None]
        if form == "premultiplied":
            axes = axes * (weights.abs() * LOG2E)[:, None, :, None]
        x, *rest = (padded(axis) for axis in axes)
        y = rest[0] if rest else None
    return Coordinates(form, x, y, n_axes, distances.signed, weights)


@torch.no_grad()
def lay_out(
    distances: Distances, weights: Tensor | None, key_bias: Tensor | None, *, exact: bool
) -> Tensor | None:
    """What of :class:`Coordinates` takes time to compute, ``(A or 1, 1 or B, 1 or H, width)`` float32, if anything."""
    found = coordinates(distances, weights, key_bias, exact=exact)
    return None if found.x is None else torch.stack([axis for axis in (found.x, found.y) if axis is not None])


def padded(x: Tensor) -> Tensor:
    """``(..., N)`` as contiguous float32, with room for tiles that begin before N and end after it."""
    n = x.shape[-1]
    return torch.nn.functional.pad(x.float(), (0, (-n) % GROUP + GROUP)).contiguous()
