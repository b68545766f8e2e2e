"""A bias computed once for all layers of a forward pass.

Shapes: B batch, H heads, Nk keys, D head dimension, M weights of the bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pentatonic.attention.descriptors import Alibi1D, Bias, DistanceTable
from pentatonic.attention.kernels import why_not
from pentatonic.attention.kernels.coordinates import lay_out
from pentatonic.attention.problem import Distances, lower_bias
from pentatonic.errors import UsageError


@dataclass(frozen=True, eq=False)
class PreparedBias:
    """What :func:`prepare_bias` returns; takes the place of the descriptor in every call with the same keys.

    Attributes:
        descriptor: The bias.
        shape: B, H and Nk of the keys.
        dtype: Of the keys.
        distances: The part of the lowered bias without gradients.
        weights: ``(M, H)``, or ``None``.
        key_bias: ``(B, H, Nk)``, or ``None``.
        laid_out: The bias as the kernels read it, or ``None`` where they cannot run.
    """

    descriptor: Bias
    shape: tuple[int, int, int]
    dtype: torch.dtype
    distances: Distances
    weights: Tensor | None
    key_bias: Tensor | None
    laid_out: Tensor | None

    def check(self, k: Tensor) -> None:
        """Refuse keys ``(B, H, Nk, D)`` of another shape or dtype.

        Raises:
            UsageError: They are not those that the bias was prepared for.
        """
        if self.shape != k.shape[:3] or self.dtype != k.dtype:
            raise UsageError(
                f"the bias was prepared for keys (B, H, N) = {self.shape} of {self.dtype}, "
                f"got {tuple(k.shape[:3])} of {k.dtype}"
            )


def prepare_bias(bias: Bias, k: Tensor) -> PreparedBias:
    """Do once what every call of :func:`pentatonic.attention.attention` with this bias would do again.

    Prepare a bias at the start of each forward pass and give it to all layers. Its slopes take gradients as usual;
    what has been prepared does not follow a later change of them, such as a step of an optimizer.

    Args:
        bias: The descriptor.
        k: Keys of any layer: ``(B, H, Nk, D)``, or packed ``(total, H, D)``; shape, dtype and device count.

    Raises:
        UsageError: ``bias`` is not a bias descriptor, or it leaves the positions of packed tokens open.
    """
    if k.dim() == 3:
        if isinstance(bias, Alibi1D) and bias.position is None:
            raise UsageError("Alibi1D needs positions to be prepared for packed keys, got position=None")
        k = k.transpose(0, 1)[None]
    batch, heads, n_k, _ = k.shape
    lowered = lower_bias(bias, batch, heads, n_k, torch.promote_types(k.dtype, torch.float32))
    runs = why_not(k, k, k) is None and not isinstance(bias, DistanceTable)
    laid_out = lay_out(*lowered, exact=k.dtype == torch.float32) if runs else None
    return PreparedBias(bias, (batch, heads, n_k), k.dtype, *lowered, laid_out)


def descriptor_of(bias: Bias | PreparedBias | None) -> Bias | None:
    """The descriptor, prepared or not."""
    return bias.descriptor if isinstance(bias, PreparedBias) else bias
