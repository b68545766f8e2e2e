"""The noise of each clip, from a generator of its own: no clip depends on what else is made, or in which order."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from pentatonic.errors import UsageError

_SEED_BYTES = 8


def clip_seed(seed: int, item: int, variant: int = 0, window: int = 0) -> int:
    """Return the seed of a clip's own generator.

    Args:
        seed: Of the run.
        item: Index of the prompt.
        variant: Which of several clips for it.
        window: Which window of a long clip.

    Returns:
        A number of 63 bits, the same on every machine.

    Raises:
        UsageError: An index is negative.
    """
    if min(item, variant, window) < 0:
        raise UsageError(f"item {item}, variant {variant}, window {window}: allowed: 0 and more")
    name = f"{seed} {item} {variant} {window}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=_SEED_BYTES).digest(), "big") >> 1


def draw_noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Draw normal noise in float32 on the CPU, where the same seed gives the same numbers for every model."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
