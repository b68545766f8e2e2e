"""SpecAugment for pre-training: the speed of each item changes, and bands and frames are set to zero.

The random values are drawn for each item of a batch (the original shares one mask among all items, and its stretch has
no effect). The target tokens are computed from the spectrogram with changed speed, but without the masks.

Shapes: B batch, F bins of the power spectrum, T frames.

Source: SpecAugment (Park et al., arXiv 1904.08779).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from omar_rq.config import MelFrontendConfig


@dataclass(frozen=True)
class SpecAugmentation:
    """Random values of the augmentation of one batch.

    Args:
        speed: ``(B,)`` float32, above 1 faster.
        bins: ``(B, 2)`` int64: first masked bin, and the one after the last.
        frames: ``(B, 2)`` int64: the same for frames.
    """

    speed: Tensor
    bins: Tensor
    frames: Tensor

    @property
    def speed_only(self) -> SpecAugmentation:
        """The same speeds without masks."""
        return replace(self, bins=torch.zeros_like(self.bins), frames=torch.zeros_like(self.frames))

    def __call__(self, power: Tensor) -> Tensor:
        """Apply to a power spectrogram: ``(B, F, T) -> (B, F, T)``."""
        stretched = stretch(power, self.speed.to(power.device))
        hidden_F = _between(self.bins.to(power.device), power.shape[1])
        hidden_T = _between(self.frames.to(power.device), power.shape[2])
        return stretched.masked_fill(hidden_F[:, :, None] | hidden_T[:, None, :], 0.0)


def draw(
    config: MelFrontendConfig, shape: tuple[int, int], generator: torch.Generator | None = None
) -> SpecAugmentation:
    """Draw the augmentation of a batch.

    Speeds are uniform on a logarithmic scale between ``1 / stretch_factor`` and ``stretch_factor``. Widths of masks are
    uniform from 0 to ``freq_mask_param`` bins and ``time_mask_param`` frames, and so are their positions.

    Args:
        config: The front end.
        shape: Items and frames, (B, T).
        generator: Source of randomness, on the CPU; ``None``: the global one.
    """
    items, frames = shape
    exponent = 2 * torch.rand(items, generator=generator) - 1
    return SpecAugmentation(
        speed=config.stretch_factor**exponent,
        bins=_mask(items, config.n_fft // 2 + 1, config.freq_mask_param, generator),
        frames=_mask(items, frames, config.time_mask_param, generator),
    )


def stretch(power: Tensor, speed: Tensor) -> Tensor:
    """Change the speed of each item, keeping the number of frames.

    The power is interpolated linearly between frames. The end of a faster item is filled with its last frames,
    mirrored.

    Args:
        power: ``(B, F, T)`` floating.
        speed: ``(B,)``, positive.

    Returns:
        ``(B, F, T)``; items of speed 1 are unchanged bit for bit.
    """
    last = power.shape[2] - 1
    if last == 0:
        return power
    place_BT = torch.arange(last + 1, device=power.device) * speed[:, None]
    place_BT = last - (place_BT % (2 * last) - last).abs()  # forward to the end, then back
    before = place_BT.floor().long().clamp(0, last)
    after = (before + 1).clamp(max=last)
    share = (place_BT - before)[:, None]

    def at(index: Tensor) -> Tensor:
        return power.gather(2, index[:, None].expand(-1, power.shape[1], -1))

    return torch.lerp(at(before), at(after), share)


def _mask(items: int, places: int, widest: int, generator: torch.Generator | None) -> Tensor:
    width, start = torch.rand(2, items, generator=generator)
    width = (width * (min(widest, places) + 1)).long()
    first = (start * (places - width + 1)).long()
    return torch.stack((first, first + width), dim=1)


def _between(bounds: Tensor, places: int) -> Tensor:
    """Return ``(B, places)`` bool, true from the first bound up to the second."""
    place = torch.arange(places, device=bounds.device)
    return (place >= bounds[:, :1]) & (place < bounds[:, 1:])
