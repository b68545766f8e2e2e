"""Masking of patches: what M3 has to restore in its pre-training."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from notagen.clamp2.patches import EOS, MASK, PATCH_SIZE

MASK_RATIO = 0.45
Mode = Literal["mask", "shuffle", "unchanged"]
# Thresholds of one number drawn from [0, 1).
_MASK_BELOW, _SHUFFLE_BELOW = 0.8, 0.9


@dataclass(frozen=True)
class MaskedPatches:
    """Patches of a piece, some of which the model has to restore.

    Attributes:
        patches: ``(N, 64)`` ids that the encoder sees.
        selected: ``(ceil(0.45 N),)`` ascending int64 indices of the patches that the loss counts.
        mode: What was done to them.
    """

    patches: NDArray[np.uint8]
    selected: NDArray[np.int64]
    mode: Mode


def mask_patches(
    patches: NDArray[np.uint8],
    *,
    training: bool = True,
    ratio: float = MASK_RATIO,
    rng: random.Random | None = None,
) -> MaskedPatches:
    """Select patches and hide them; one mode is drawn for the whole piece.

    Args:
        patches: ``(N, 64)``, with the special patches.
        training: Draw the mode: mask with probability 0.8 (all ids become :data:`~notagen.clamp2.patches.MASK`),
            shuffle the characters of each patch with 0.1, change nothing with 0.1. Otherwise nothing is changed.
        ratio: Share of the patches to select, in (0, 1]; the number is rounded up.
        rng: Random source; None: the global one of :mod:`random`.

    Returns:
        New arrays; the order of draws is that of the original, so that seeds give the same.
    """
    source = random if rng is None else rng
    order = list(range(len(patches)))
    source.shuffle(order)
    selected = sorted(order[: math.ceil(ratio * len(order))])
    mode: Mode = "unchanged"
    if training:
        draw = source.random()
        mode = "mask" if draw < _MASK_BELOW else "shuffle" if draw < _SHUFFLE_BELOW else "unchanged"
    masked = patches.copy()
    if mode == "mask":
        masked[selected] = MASK
    elif mode == "shuffle":
        for index in selected:
            ends = np.flatnonzero(masked[index] == EOS)
            end = int(ends[0]) if len(ends) == 1 else PATCH_SIZE
            characters = masked[index, 1:end].tolist()
            source.shuffle(characters)
            masked[index, 1:end] = characters
    return MaskedPatches(masked, np.array(selected, np.int64), mode)
