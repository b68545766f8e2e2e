"""Losses of adapters.

Shapes: B pairs of width D, N states of width H.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

COSINE_WEIGHT = 0.5


def contrastive_logits(audio: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Return cosines of audio rows and text columns over the temperature: ``(B, B)`` of two ``(B, D)``."""
    return functional.normalize(audio, dim=-1) @ functional.normalize(text, dim=-1).T / temperature


def contrastive_loss(
    audio: Tensor, text: Tensor, temperature: float, captions: Tensor | None = None
) -> Tensor:
    """Mean of the two cross-entropies of a batch of pairs: which text is the audio's, and which audio the text's.

    Args:
        audio: ``(B, D)`` projected vectors.
        text: ``(B, D)`` vectors of their captions.
        temperature: Divides the cosines.
        captions: ``(B,)`` number of each row's caption. Another row with the same caption is as right as the row
            itself, and is left out of its negatives. None, as in the original: every other row is a negative.

    Returns:
        A scalar.
    """
    logits = contrastive_logits(audio, text, temperature)
    if captions is not None:
        same = captions[:, None] == captions
        same.fill_diagonal_(False)
        logits = logits.masked_fill(same, float("-inf"))
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def state_loss(predicted: Tensor, states: Tensor) -> Tensor:
    """Mean squared error plus half of one minus the cosine of each item's states, taken as one long vector.

    Args:
        predicted: ``(B, N, H)``.
        states: ``(B, N, H)``.

    Returns:
        A scalar.
    """
    cosine = functional.cosine_similarity(predicted.flatten(1), states.flatten(1), dim=-1)
    return functional.mse_loss(predicted, states) + COSINE_WEIGHT * (1 - cosine).mean()
