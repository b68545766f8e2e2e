"""Recall of a whole validation set, by direction: whether a row of the same caption is among the first k.

Shapes: N pairs of width D.

The original averages over batches, so its numbers grow when batches shrink, and it swaps the two names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from pentatonic.search import top_k

CUTOFFS = (1, 5, 10)
AUDIO_TO_TEXT, TEXT_TO_AUDIO = "audio_to_text", "text_to_audio"


def recalls(
    audio: Tensor, text: Tensor, captions: Tensor, cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, float]:
    """Search all rows of the other side for each row of one side.

    Args:
        audio: ``(N, D)``.
        text: ``(N, D)``.
        captions: ``(N,)`` number of each row's caption; rows with the same one are hits for each other.
        cutoffs: Values of k; with fewer than k rows all are found.

    Returns:
        ``audio_to_text@k``: audio asks, texts answer; and ``text_to_audio@k``.

    Raises:
        InputError: A vector is zero or not finite.
    """
    audio_rows, text_rows = audio.detach().cpu().float().numpy(), text.detach().cpu().float().numpy()
    numbers, most = captions.cpu().numpy(), max(cutoffs)
    found = {}
    for name, queries, answers in (
        (AUDIO_TO_TEXT, audio_rows, text_rows),
        (TEXT_TO_AUDIO, text_rows, audio_rows),
    ):
        rows = top_k(queries, answers, most, metric="cosine").rows
        hits = np.maximum.accumulate(numbers[rows] == numbers[:, None], axis=1)
        for k in cutoffs:
            found[f"{name}@{k}"] = float(hits[:, min(k, hits.shape[1]) - 1].mean())
    return found


def chance(captions: Tensor, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Expected recall of a random ranking, the same in both directions.

    Args:
        captions: ``(N,)`` number of each row's caption.
        cutoffs: Values of k.

    Returns:
        ``chance@k``.
    """
    numbers = captions.cpu().numpy()
    _, which, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    total = len(numbers)
    means = {}
    for k in cutoffs:
        draws = min(k, total)
        missed = {
            int(count): math.comb(total - int(count), draws) / math.comb(total, draws)
            for count in set(counts)
        }
        means[f"chance@{k}"] = float(1 - np.mean([missed[int(count)] for count in counts[which]]))
    return means
