"""How far a distance counts: a distance between patches is bent towards a cap before slopes act on it.

The forms of the original are those of its class of October 2025, and of April 2026 (``squared``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from myna_rpe.config import ClampConfig
from pentatonic.errors import UsageError

# What the original of April 2026 adds in sums and divisions.
_EPS = 1e-6
# A cap and a softness that are learned stay above it.
_LEAST = 1e-2


class Clamp(nn.Module):
    """The clamp of a configuration; its values are in whole patches, as distances are.

    Attributes:
        cap: Scalar; parameter where it is learned, else a buffer that no checkpoint holds. Not there if ``squared``.
        factor: Likewise, of ``cap``, only there if ``squared``.
        softness: Likewise; ``hard`` has none to learn.
    """

    cap: Tensor
    factor: Tensor
    softness: Tensor

    def __init__(self, config: ClampConfig) -> None:
        super().__init__()
        self.config = config
        values = {"factor" if config.squared else "cap": config.cap, "softness": config.softness}
        for name, value in values.items():
            start = torch.tensor(float(value))
            if config.learned and (name != "softness" or config.kind != "hard"):
                setattr(self, name, nn.Parameter(start))
            else:
                self.register_buffer(name, start, persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Clamp distances, of any shape, in patches; float32, with gradients to what is learned."""
        d, config = distance.float(), self.config
        if config.squared:
            eps, s = _EPS, self.softness.float()
            cap = config.cap * self.factor.float() + eps
        else:
            eps, s = 0.0, self.softness.float().clamp(min=_LEAST)
            cap = self.cap.float().clamp(min=_LEAST)
        match config.kind:
            case "tanh":
                return cap * torch.tanh(d / (cap / s + eps))
            case "log":
                return cap * torch.log1p(d / (cap * s)) / (torch.log1p(1 / s) + eps)
            case "rational":
                return d * cap / (d + cap / s + eps)
        return torch.minimum(torch.maximum(d, -cap), cap)

    def check_signed(self, lowest: int) -> None:
        """Refuse a negative difference at which the function has no value.

        Raises:
            UsageError: There is one from ``lowest`` to 0.
        """
        if self.config.kind not in ("log", "rational"):
            return
        cap, s = (self.config.cap * self.factor if self.config.squared else self.cap), self.softness
        pole = float((cap * s if self.config.kind == "log" else cap / s).detach())
        if -lowest >= pole:
            raise UsageError(
                f"the input has differences of {lowest} patches, and the clamp {self.config.kind!r} of signed "
                f"differences has no value from {-pole:.4g} on; embed it in chunks"
            )


def mean_of_positive(coords: Tensor, *, signed: bool) -> Tensor:
    """Return the mean of the distances above 0 between all pairs of tokens of a batch, without forming the pairs.

    Args:
        coords: ``(N, 2)`` or ``(B, N, 2)`` integer.
        signed: Of the differences of the sums of both coordinates, else of the sums of their absolute differences.

    Returns:
        A scalar, float32; 1 where no distance is above 0.
    """
    coords = coords.long() if coords.dim() == 3 else coords.long()[None]
    place = coords.sum(-1, keepdim=True) if signed else coords
    # In ascending order, entry k of n is subtracted n - 1 - k times and added k times.
    n = place.shape[1]
    times = 2 * torch.arange(n, device=place.device) - (n - 1)
    total = 2 * (place.sort(dim=1).values * times[:, None]).sum()
    cells = place[..., 0] if signed else place[..., 0] * (place[..., 1].max() + 1) + place[..., 1]
    cells = cells + torch.arange(len(cells), device=cells.device)[:, None] * (cells.max() + 1)
    equal = torch.unique(cells, return_counts=True)[1].square().sum()
    count = cells.shape[0] * n * n - equal
    if signed:  # of each pair one difference is above 0, the other is below
        total, count = total / 2, count / 2
    total, count = total.float(), count.float()
    return torch.where(count > 0, total / count.clamp(min=1), torch.ones_like(total))
