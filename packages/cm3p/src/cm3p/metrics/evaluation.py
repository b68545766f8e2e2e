"""Metrics of evaluation during training: counts of right answers of a batch, and their sums over many batches.

Shapes: B windows, V variations of metadata, L tokens, C classes or vocabulary, K counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cm3p.losses import IGNORED
from cm3p.tokens.variations import MAPPER, ORIGINAL, STATUS, TAGS, YEAR

_TOP = 5
_VARIED: Mapping[str, int] = {"year": YEAR, "status": STATUS, "tags": TAGS, "mapper": MAPPER}
_SUBJECTS = ("classification", "masked_lm", *_VARIED)
_TOP_REPORTED = ("masked_lm", "tags", "mapper")
_COUNTS = 3  # right, right among the best five, all


@dataclass(frozen=True)
class Outputs:
    """What a batch is judged by; fields of other models are None.

    Args:
        class_logits: (B, C) of a classifier.
        class_labels: (B,).
        token_logits: (B, L, C) of masked tokens; (n, C) of the labelled ones alone.
        token_labels: (B, L), or (n,), :data:`cm3p.losses.IGNORED` where a position does not count.
        own_logits: (B, V) of each window with the variations of its own metadata.
        variation_classes: (B, V).
    """

    class_logits: Tensor | None = None
    class_labels: Tensor | None = None
    token_logits: Tensor | None = None
    token_labels: Tensor | None = None
    own_logits: Tensor | None = None
    variation_classes: Tensor | None = None


def own_logits(logits_per_beatmap: Tensor) -> Tensor:
    """Return (B, V) logits of each window with its own metadata, of (B, M, V) with M = B."""
    return torch.diagonal(logits_per_beatmap, dim1=0, dim2=1).movedim(-1, 0)


def batch_counts(outputs: Outputs) -> Tensor:
    """Count the right answers of a batch.

    Returns:
        (K,) int64, to be summed over batches and processes.
    """
    counts = {name: _zero(outputs) for name in _SUBJECTS}
    if outputs.class_logits is not None and outputs.class_labels is not None:
        counts["classification"] = _token_counts(outputs.class_logits, outputs.class_labels)
    if outputs.token_logits is not None and outputs.token_labels is not None:
        counts["masked_lm"] = _token_counts(outputs.token_logits, outputs.token_labels)
    if outputs.own_logits is not None and outputs.variation_classes is not None:
        for name, kind in _VARIED.items():
            counts[name] = _variation_counts(outputs.own_logits, outputs.variation_classes, kind)
    return torch.cat([counts[name] for name in _SUBJECTS])


class EvaluationMetrics:
    """Sums of counts, and the shares that they make.

    As ``compute_metrics`` of the Trainer of transformers, with ``batch_eval_metrics``, it takes the counts of a batch
    as predictions.
    """

    def __init__(self) -> None:
        self._counts = torch.zeros(len(_SUBJECTS) * _COUNTS, dtype=torch.int64)

    def reset(self) -> None:
        """Forget all batches."""
        self._counts.zero_()

    def add(self, counts: Tensor) -> None:
        """Add the (K,) counts of a batch, or (n, K) of several."""
        self._counts += counts.detach().cpu().reshape(-1, len(self._counts)).sum(0)

    def result(self) -> dict[str, float]:
        """Return the shares of right answers, without those of subjects that had no questions."""
        shares: dict[str, float] = {}
        for name, (right, among_top, total) in zip(
            _SUBJECTS, self._counts.reshape(-1, _COUNTS).tolist(), strict=True
        ):
            if total:
                shares[f"accuracy_{name}"] = right / total
                if name in _TOP_REPORTED:
                    shares[f"top5_accuracy_{name}"] = among_top / total
        return shares

    def __call__(self, prediction: Any, compute_result: bool = True) -> dict[str, float]:
        """Add the counts of a batch; after the last one return the shares and begin again."""
        self.add(torch.as_tensor(prediction.predictions))
        if not compute_result:
            return {}
        shares = self.result()
        self.reset()
        return shares


def _zero(outputs: Outputs) -> Tensor:
    device = next((x.device for x in vars(outputs).values() if x is not None), None)
    return torch.zeros(_COUNTS, dtype=torch.int64, device=device)


def _token_counts(logits: Tensor, labels: Tensor) -> Tensor:
    """(3,) counts over the positions that have a label."""
    labelled = labels != IGNORED
    logits, labels = logits[labelled], labels[labelled]
    best = logits.topk(min(_TOP, logits.shape[-1])).indices
    hits = best == labels[:, None]
    return torch.stack((hits[:, :1].sum(), hits.sum(), labelled.sum()))


def _variation_counts(logits: Tensor, classes: Tensor, kind: int) -> Tensor:
    """(3,) counts over the windows whose metadata has variations of a kind: is the original the best of them?"""
    original = classes == ORIGINAL
    candidates = original | (classes == kind)
    asked = candidates.sum(1) > 1
    scores = logits.float().masked_fill(~candidates, float("-inf"))
    best = scores.topk(min(_TOP, scores.shape[1])).indices
    hits = (original & candidates).gather(1, best) & asked[:, None]
    return torch.stack((hits[:, 0].sum(), hits.any(1).sum(), asked.sum()))
