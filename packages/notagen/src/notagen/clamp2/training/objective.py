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
from notagen.clamp2.training.initial import initialise_for_form
from notagen.clamp2.training.views import ViewBatch
from pentatonic.training import StepContext
from pentatonic.training.gather import gathered

_ORDER_WEIGHT = 10
"""Weight of what says whether bars are in order. Cosines over a low temperature have much larger gradients."""


class ScorerTraining(Clamp):
    """A music encoder that learns which parts belong together, and what music is in order.

    The first number of a feature says whether bars are where they belong: it is the mean of what each patch says, and
    patches of a shuffled part say less than those of the same part in order. The other numbers say which piece it is:
    among the B parts of a batch each finds its own other part. And as a judge compares them, by the cosine with the
    mean of other pieces of the style, a part is nearer than the same one shuffled, and than those of other styles.

    Args:
        config: Sizes, music only.
        temperature: What cosines are divided by, above 0.
    """

    def __init__(self, config: ClampConfig, temperature: float = 0.07) -> None:
        super().__init__(config)
        self.temperature = temperature
        initialise_for_form(self.music)

    def forward(self, batch: ViewBatch, context: StepContext | None = None) -> dict[str, Tensor]:
        """Return the loss of a batch.

        Args:
            batch: Views of B pieces, at least 2.
            context: Not used; dropout draws from the global generator.

        Returns:
            Scalars: ``loss`` in nats; and shares: ``hits``, of parts whose other part is the nearest; ``placed``, of
            patches that say more than those in their place in the shuffled part; ``order``, of parts whose first number
            is greater than that of the shuffled part; ``judged``, of parts that are nearer to the mean than the
            shuffled ones; ``style``, of pairs of parts of different styles of which that of the style is nearer.
        """
        vectors, lengths = self._vectors(batch)
        features = vectors.sum(1) / lengths[:, None]
        pairs, hits = self._pairs(features[:, 1:])
        of_patches = vectors[..., 0]
        _, in_place, elsewhere = of_patches[:, : batch.displaced.shape[1]].chunk(3)
        placed = in_place - elsewhere
        # A sum of n answers that do not know of each other is certain by the root of n.
        _, ordered, shuffled = (of_patches.sum(1) / lengths.sqrt()).chunk(3)
        differs = batch.displaced.any(1)
        judged, style = self._judged(features, batch.styles)
        known = (batch.styles[:, None] == batch.styles).sum(1) > 1
        judgeable, foreign = differs & known, (batch.styles[:, None] != batch.styles) & known[:, None]
        return {
            "loss": pairs
            + _ORDER_WEIGHT * (_logistic(placed, batch.displaced) + _logistic(ordered - shuffled, differs))
            + _logistic(judged / self.temperature, judgeable)
            + _logistic(style / self.temperature, foreign),
            "hits": hits,
            "placed": _share(placed > 0, batch.displaced),
            "order": _share(ordered > shuffled, differs),
            "judged": _share(judged > 0, judgeable),
            "style": _share(style > 0, foreign),
        }

    def _pairs(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """How well parts find each other, in nats, and the share that does."""
        anchor, positive, _ = F.normalize(features, dim=1).chunk(3)
        similar = positive @ anchor.T / self.temperature
        wanted = torch.arange(len(similar), device=similar.device)
        loss = (F.cross_entropy(similar, wanted) + F.cross_entropy(similar.T, wanted)) / 2
        return loss, (similar.argmax(1) == wanted).float().mean()

    def _judged(self, features: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
        """By how much each part is nearer to the others of its style than shuffled, ``(B,)``, and than all parts."""
        anchor, positive, mixed = F.normalize(features, dim=1).chunk(3)
        others = (styles[:, None] == styles).fill_diagonal_(False).to(anchor.dtype)
        mean = F.normalize(others @ anchor, dim=1)
        to_mean = (mean * positive).sum(1)
        return to_mean - (mean * mixed).sum(1), to_mean[:, None] - mean @ positive.T

    def _vectors(self, batch: ViewBatch) -> tuple[Tensor, Tensor]:
        """Projected vectors of the patches of all views, ``(3B, N, P)`` with zeros as padding, and their numbers."""
        longest = max(patches.shape[1] for patches, _ in batch.groups)
        # All groups at once: the gradient of the table is as large as the table.
        rows = self.music.embedded(torch.cat([patches.flatten(0, 1) for patches, _ in batch.groups])[None])[0]
        found = []
        for (patches, lengths), own in zip(
            batch.groups,
            rows.split([patches.shape[0] * patches.shape[1] for patches, _ in batch.groups]),
            strict=True,
        ):
            states = self.music.trunk(own.unflatten(0, patches.shape[:2]), lengths)
            real = torch.arange(patches.shape[1], device=patches.device) < lengths[:, None]
            projected = self.music_projection(states).float() * real[..., None]
            found.append(F.pad(projected, (0, 0, 0, longest - patches.shape[1])))
        lengths = torch.cat([lengths for _, lengths in batch.groups])
        return torch.cat(found)[batch.order], lengths[batch.order]


def _logistic(differences: Tensor, counted: Tensor) -> Tensor:
    """Mean, over those that are counted, of how little differences are above zero, in nats."""
    return (F.softplus(-differences) * counted).sum() / counted.sum().clamp(min=1)


def _share(holds: Tensor, counted: Tensor) -> Tensor:
    return (holds & counted).sum() / counted.sum().clamp(min=1)


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
