"""Patches of a spectrogram, and which of them are kept in training.

Shapes: B batch, F mel bands, T frames, R rows and C columns of patches, N = R * C tokens in raster order, P values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from myna_rpe.config import PatchConfig
from pentatonic.errors import UsageError


def patchify(mel: Tensor, patch: PatchConfig) -> Tensor:
    """Cut spectrograms ``(B, F, T)`` into patches ``(B, N, P)``; frames short of a patch at the end are left out."""
    columns = mel.shape[-1] // patch.frames
    mel = mel[..., : columns * patch.frames]
    cut = mel.unflatten(-1, (columns, patch.frames)).unflatten(1, (-1, patch.bands))
    return cut.transpose(2, 3).flatten(3).flatten(1, 2)


def patchout(batch: int, n_tokens: int, ratio: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Choose the tokens that are kept, at random for each sample.

    Args:
        batch: B.
        n_tokens: N.
        ratio: Share of tokens that are left out; ``int(ratio * N)`` of them are.
        generator: Source of random numbers.

    Returns:
        ``(B, K)`` int64 on the CPU, ascending: the order of tokens matters only to biases that follow the sequence.

    Raises:
        UsageError: ``ratio`` is not in [0, 1).
    """
    if not 0 <= ratio < 1:
        raise UsageError(f"the ratio of masked tokens is {ratio}; allowed: from 0 and below 1")
    kept = n_tokens - int(ratio * n_tokens)
    order = torch.rand(batch, n_tokens, generator=generator).argsort(dim=1)
    return order[:, :kept].sort(dim=1).values


def real_tokens_first(rows: int, columns: int, frames: Tensor, patch: PatchConfig) -> tuple[Tensor, Tensor]:
    """Order the tokens of padded spectrograms so that those of the padding come last.

    Args:
        rows: R.
        columns: C, of the longest row of the batch.
        frames: ``(B,)`` frames before the padding.
        patch: The patches; one with a single frame before the padding is real.

    Returns:
        Raster numbers ``(B, N)``, and how many of them are real, ``(B,)``.

    Raises:
        UsageError: There are no frames in a row.
    """
    if int(frames.min()) < 1:
        raise UsageError(f"frames must be 1 or more in each row, got {int(frames.min())}")
    real = (frames.add(patch.frames - 1) // patch.frames).clamp(max=columns)
    is_padding = torch.arange(columns, device=frames.device) >= real[:, None]
    order = is_padding[:, None].expand(-1, rows, -1).flatten(1).to(torch.uint8).argsort(dim=1, stable=True)
    return order, real * rows
