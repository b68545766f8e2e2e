"""The order in which the original's pipeline of AudioLDM 2 returns clips."""

from __future__ import annotations

from torch import Tensor


def pipeline_ranking(scores: Tensor, per_prompt: int) -> Tensor:
    """Rank all clips of a batch for each prompt, so that prompts take each other's clips and some clips are lost.

    Args:
        scores: ``(P, P * per_prompt)`` similarity of each prompt to each clip of the batch.
        per_prompt: Clips that each prompt gets.

    Returns:
        ``(P * per_prompt,)`` indices of clips, prompt after prompt.
    """
    return scores.argsort(dim=1, descending=True, stable=True)[:, :per_prompt].flatten()
