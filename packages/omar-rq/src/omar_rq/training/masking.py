"""Masking of input patches for pre-training: aligned windows, or single tokens.

Shapes: B batch, N patches, P values per patch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from omar_rq.config import FrontendConfig, MaskingConfig

# Standard deviation of the noise that replaces a masked patch.
_NOISE_STD = 0.1


def mask_window_tokens(config: MaskingConfig, frontend: FrontendConfig) -> int:
    """Return how many tokens one masked window covers, at least 1.

    Whole patches of the ``ceil(seconds * frame_rate)`` frames of a window, times the patch rows.

    Args:
        config: Masking; its ``seconds``.
        frontend: The front end whose patches are masked.
    """
    rows, frames = frontend.patch_size
    window_frames = math.ceil(config.seconds * frontend.frame_rate)
    return max(1, window_frames // frames * (frontend.rep_dims // rows))


def mask_patches(
    patches: Tensor, config: MaskingConfig, *, window: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Replace some patches by noise or by other patches.

    Random values are drawn on the device of the generator: first the positions, then the noise (normal values for every
    patch, or one permutation of time shared by the batch). Without a generator they come from the global one of the
    CPU in the same order, which reproduces the masks of the original training code.

    Args:
        patches: (B, N, P).
        config: ``mode``, ``prob`` and ``noise``.
        window: Tokens per masked window (see :func:`mask_window_tokens`); ``mode="tokens"`` ignores it.
        generator: Private source of randomness.

    Returns:
        The patches with masked ones replaced, (B, N, P) like the input, and the mask, (B, N) bool, true where
        masked; both on the device of ``patches``. A mask can be all false.
    """
    batch, n_patches, _ = patches.shape
    device = "cpu" if generator is None else generator.device
    if config.mode == "windows":
        n_windows = math.ceil(n_patches / window)
        starts = torch.rand(batch, n_windows, generator=generator, device=device) < config.prob
        mask = starts.repeat_interleave(window, dim=1)[:, :n_patches]
    else:
        order = torch.rand(batch, n_patches, generator=generator, device=device).argsort(dim=1)
        mask = torch.zeros(batch, n_patches, dtype=torch.bool, device=device)
        mask.scatter_(1, order[:, : int(config.prob * n_patches)], True)
    mask = mask.to(patches.device)
    if config.noise == "shuffled_input":
        order = torch.randperm(n_patches, generator=generator, device=device)
        replacement = patches[:, order.to(patches.device)]
    else:
        noise = _NOISE_STD * torch.randn(patches.shape, generator=generator, device=device)
        replacement = noise.to(patches)
    return torch.where(mask[..., None], replacement, patches), mask
