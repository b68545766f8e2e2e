"""The training tasks of encoders: which half belongs to which piece, and which characters a hidden patch has.

Shapes: B pieces, N patches, S = 64 characters, P width of a feature.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, distributed

from notagen.clamp2.config import ClampConfig
from notagen.clamp2.model import M3, Clamp, contrastive_loss
from notagen.clamp2.training.views import ViewBatch
from pentatonic.training import StepContext
from pentatonic.training.gather import gathered


class ScorerTraining(Clamp):
    """A music encoder that learns which halves belong together.

    The halves of B pieces are compared by the cosine of their features; to each half belongs one of the B others, and
    none of the B shuffled ones. And each half is nearer to its other half than to the same one shuffled.

    Args:
        config: Sizes, music only.
        temperature: What cosines are divided by, above 0.
    """

    def __init__(self, config: ClampConfig, temperature: float = 0.07) -> None:
        super().__init__(config)
        self.temperature = temperature

    def forward(self, batch: ViewBatch, context: StepContext | None = None) -> dict[str, Tensor]:
        """Return the loss of a batch.

        Args:
            batch: Views of B pieces.
            context: Not used; dropout draws from the global generator.

        Returns:
            Scalars: ``loss`` in nats; ``hits``, the share of halves whose other half is the nearest; ``order``, the
            share of pieces whose other half is nearer in its own order than shuffled.
        """
        features = torch.cat([self.music_features(*group) for group in batch.groups])[batch.order]
        anchor, positive, mixed = F.normalize(features.float(), dim=1).chunk(3)
        wanted = torch.arange(len(anchor), device=anchor.device)
        to_others = anchor @ torch.cat((positive, mixed)).T / self.temperature
        to_anchors = positive @ anchor.T / self.temperature
        pairs = (F.cross_entropy(to_others, wanted) + F.cross_entropy(to_anchors, wanted)) / 2
        # Among all the others the shuffled half of the same piece counts for little, so it is asked for by itself.
        nearer = (anchor * (positive - mixed)).sum(1)
        order = F.softplus(-nearer / self.temperature).mean()
        return {
            "loss": pairs + order,
            "hits": (to_anchors.argmax(1) == wanted).float().mean(),
            "order": (nearer > 0).float().mean(),
        }


@dataclass(frozen=True)
class MaskedBatch:
    """Pieces with hidden patches.

    Args:
        inputs: ``(B, N, S)`` int64, what the encoder reads, padded on the right.
        lengths: ``(B,)`` int64, real patches.
        targets: ``(B, N, S)`` int64, what was there.
        selected: ``(B, N)`` bool, which patches count.
    """

    inputs: Tensor
    lengths: Tensor
    targets: Tensor
    selected: Tensor


class M3Training(M3):
    """M3 that restores hidden patches."""

    def forward(self, batch: MaskedBatch, context: StepContext | None = None) -> dict[str, Tensor]:
        """Return ``loss``, the mean cross-entropy in nats over the characters of the selected patches."""
        return {"loss": self.loss(batch.inputs, batch.lengths, batch.targets, batch.selected)}


@dataclass(frozen=True)
class PairBatch:
    """Pieces and their texts, row by row, padded on the right.

    Args:
        patches: ``(B, N, S)`` int64.
        patch_lengths: ``(B,)`` int64.
        tokens: ``(B, M)`` int64.
        token_lengths: ``(B,)`` int64.
    """

    patches: Tensor
    patch_lengths: Tensor
    tokens: Tensor
    token_lengths: Tensor


class ClampTraining(Clamp):
    """CLaMP 2 that learns which text belongs to which piece."""

    def forward(self, batch: PairBatch, context: StepContext | None = None) -> dict[str, Tensor]:
        """Return ``loss`` in nats, :func:`notagen.clamp2.model.contrastive_loss`, over the pairs of all processes."""
        text = _everywhere(self.text_features(batch.tokens, batch.token_lengths))
        music = _everywhere(self.music_features(batch.patches, batch.patch_lengths))
        return {"loss": contrastive_loss(text, music)}


def _everywhere(features: Tensor) -> Tensor:
    """The features of all processes, with gradients; those of this one where it is alone."""
    return gathered(features) if distributed.is_available() and distributed.is_initialized() else features
