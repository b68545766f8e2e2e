"""Losses: contrastive between metadata and beatmaps, masked tokens, and classes of beatmaps.

Shapes: M entries of metadata, B beatmaps, V variations of an entry, D width of the shared space, W processes, L tokens,
C classes or vocabulary. All losses are computed in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from pentatonic.errors import UsageError

IGNORED = -100
"""Label of a position that does not count."""
_PADDING_CLASS = -1


@dataclass(frozen=True)
class LossOptions:
    """How a full model adds up its loss.

    Attributes:
        contrastive_weight: Factor on the contrastive loss.
        mlm_weight: Factor on the masked-token loss.
        gather: In a distributed job, take the samples of all processes as negatives. The mean over the processes, which
            data parallel training forms of the gradients, is then the loss of the whole batch.
        mask_padding: Leave out the empty metadata that fills up lists of variations, which the original takes as
            negatives.
        labelled_logits_only: Compute the logits of masked tokens at labelled positions alone, for the loss; the model
            then returns no logits. The vocabulary is wide, and most positions have no label.
    """

    contrastive_weight: float = 1.0
    mlm_weight: float = 0.5
    gather: bool = False
    mask_padding: bool = False
    labelled_logits_only: bool = False


def named_weights(name: Literal["original", "mean"], accumulation_steps: int = 1) -> tuple[float, float]:
    """Return the contrastive and the masked-token weight by name.

    With labels the Trainer of transformers divides the masked-token loss by the labels of all accumulated batches, and
    nothing else: the contrastive loss is summed over them.

    Args:
        name: ``original``: 1 and 0.5 as they stand, which in effect weighs the contrastive loss as often as batches are
            accumulated. ``mean``: both are means over the accumulated batches, at the ratio of 1 to 0.5.
        accumulation_steps: Batches for one step of the optimiser.

    Raises:
        UsageError: The name is unknown, or ``accumulation_steps`` is not at least 1.
    """
    if accumulation_steps < 1:
        raise UsageError(f"accumulation_steps is {accumulation_steps}; allowed: 1 or more")
    if name not in ("original", "mean"):
        raise UsageError(f"loss weights {name!r}; allowed: original, mean")
    return (1.0 if name == "original" else 1.0 / accumulation_steps), 0.5


def contrastive_loss(
    similarity: Tensor, classes: Tensor | None = None, *, mask_padding: bool = False
) -> Tensor:
    """Mean of two cross entropies: of metadata over all beatmaps, and of beatmaps over all metadata.

    Args:
        similarity: ``(M, B)`` or, with variations, ``(M, V, B)``; M = B. Entry i describes beatmap i.
        classes: ``(M, V)``, 0 for the true variation; the first 0 of a row counts, and the first entry of a row
            without. All other variations of all entries are negatives of the beatmaps.
        mask_padding: Leave out variations of class -1.

    Raises:
        UsageError: M differs from B, or variations come without classes.
    """
    true = _true_variations(similarity.shape[:-1], similarity.shape[-1], classes)
    if true is None or classes is None:
        return _both_ways(similarity, similarity.T, None, 1, None, 0)
    rows = similarity[torch.arange(len(true), device=true.device), true]
    padding = classes == _PADDING_CLASS if mask_padding else None
    return _both_ways(rows, similarity.flatten(0, 1).T, true, similarity.shape[1], padding, 0)


def gathered_contrastive_loss(
    metadata: Tensor,
    beatmaps: Tensor,
    scale: Tensor,
    classes: Tensor | None = None,
    *,
    mask_padding: bool = False,
) -> Tensor:
    """:func:`contrastive_loss` with the negatives of all processes; their mean is the loss of the whole batch.

    Args:
        metadata: ``(M, D)`` or ``(M, V, D)`` unit vectors of this process; the shape is the same in all of them.
        beatmaps: ``(B, D)`` unit vectors.
        scale: Factor on cosines, a scalar.
        classes: ``(M, V)``.
        mask_padding: Leave out variations of class -1.

    Raises:
        UsageError: As :func:`contrastive_loss`.
    """
    from pentatonic.training.gather import gathered

    true = _true_variations(metadata.shape[:-1], len(beatmaps), classes)
    first = dist.get_rank() * len(beatmaps)
    all_metadata, all_beatmaps = gathered(metadata), gathered(beatmaps)
    if true is None or classes is None:
        rows, columns = metadata @ all_beatmaps.T, beatmaps @ all_metadata.T
        return _both_ways(rows * scale, columns * scale, None, 1, None, first)
    rows = metadata[torch.arange(len(true), device=true.device), true] @ all_beatmaps.T
    columns = beatmaps @ all_metadata.flatten(0, 1).T
    padding = gathered(classes) == _PADDING_CLASS if mask_padding else None
    return _both_ways(rows * scale, columns * scale, true, metadata.shape[1], padding, first)


def _true_variations(shape: torch.Size, beatmaps: int, classes: Tensor | None) -> Tensor | None:
    """``(M,)`` index of the true variation of each entry; ``None`` without variations."""
    if shape[0] != beatmaps:
        raise UsageError(
            f"the contrastive loss pairs entries with beatmaps, but there are {shape[0]} and {beatmaps}; for zero-shot "
            "labels pass return_loss=False"
        )
    if len(shape) == 1:
        return None
    if classes is None or classes.shape != shape:
        got = None if classes is None else tuple(classes.shape)
        raise UsageError(f"metadata_variation_classes is {got}; with variations it must be {tuple(shape)}")
    return (classes == 0).int().argmax(dim=1)


def _both_ways(
    rows: Tensor, columns: Tensor, true: Tensor | None, variations: int, padding: Tensor | None, first: int
) -> Tensor:
    """Cross entropies of ``rows`` (metadata over beatmaps) and ``columns`` (beatmaps over all variations)."""
    own = torch.arange(first, first + len(rows), device=rows.device)
    targets = own * variations if true is None else own * variations + true
    columns = columns.float()
    if padding is not None:
        hidden = padding.flatten().expand_as(columns).scatter(1, targets[:, None], False)
        columns = columns.masked_fill(hidden, float("-inf"))
    return (F.cross_entropy(rows.float(), own) + F.cross_entropy(columns, targets)) / 2


def masked_lm_loss(
    logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None = None, *, ignored: int = IGNORED
) -> Tensor:
    """Cross entropy of the tokens at labelled positions.

    Args:
        logits: ``(..., C)``.
        labels: ``(...)`` token ids, ``ignored`` where a position does not count.
        num_items_in_batch: Divide the sum by this, the number of labels in all accumulated batches; ``None``: the mean.
        ignored: The label that does not count.

    Returns:
        A scalar; 0 where nothing is labelled.
    """
    labels = labels.flatten().to(logits.device)
    total = F.cross_entropy(logits.flatten(0, -2).float(), labels, ignore_index=ignored, reduction="sum")
    count = (labels != ignored).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    return total / (count.to(total.device) if isinstance(count, Tensor) else count)


def classification_loss(logits: Tensor, labels: Tensor, problem_type: str | None = None) -> Tensor:
    """Loss of a classifier.

    Args:
        logits: ``(B, C)``.
        labels: ``(B,)`` class numbers; ``(B, C)`` floating for several labels; ``(B,)`` or ``(B, C)`` values for
            regression.
        problem_type: ``regression`` (mean squared error), ``single_label_classification`` (cross entropy),
            ``multi_label_classification`` (binary cross entropies) or ``None``: the first for one class, the second for
            whole labels, the third for others.

    Raises:
        UsageError: The problem type is unknown.
    """
    if problem_type is None:
        whole = not labels.is_floating_point()
        many = "single_label_classification" if whole else "multi_label_classification"
        problem_type = "regression" if logits.shape[-1] == 1 else many
    labels, logits = labels.to(logits.device), logits.float()
    if problem_type == "regression":
        return F.mse_loss(logits, labels.reshape(logits.shape).float())
    if problem_type == "single_label_classification":
        return F.cross_entropy(logits, labels.flatten())
    if problem_type == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(logits, labels.float())
    raise UsageError(
        f"problem type {problem_type!r}; allowed: regression, single_label_classification, multi_label_classification"
    )
