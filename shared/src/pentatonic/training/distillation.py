"""Distillation: an encoder learns to give what a teacher gives for the same input. It knows nothing about the input.

Shapes: B items, D width of the encoder's pooled output, V values of the teacher's vector, K tags of the teacher.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pentatonic.errors import UsageError


class Distillation(nn.Module):
    """Linear maps from an encoder's output to a teacher's, and how far they are off.

    The vector, such as the teacher's penultimate layer, is compared by cosine and by mean squared error, both on
    standardised values, so that each of its dimensions counts alike. Probabilities of tags are compared by binary
    cross-entropy. An item whose target is not finite has no part in the loss.

    Args:
        width: D.
        vector_mean: ``(V,)`` means of the teacher's vectors over the training data.
        vector_std: ``(V,)`` deviations of them; a dimension whose deviation is 0 is only centred.
        tag_width: K; 0: there are no tags.
        cosine_weight: Of ``1 - cosine``.
        mse_weight: Of the mean squared error.
        tags_weight: Of the cross-entropy.

    Attributes:
        to_vector: The linear map to the standardised vector.
        to_tags: The linear map to the logits of the tags, or ``None``.

    Raises:
        UsageError: A weight is below 0, or the statistics are not two vectors of one length.
    """

    vector_mean: Tensor
    vector_std: Tensor

    def __init__(
        self,
        width: int,
        vector_mean: Tensor,
        vector_std: Tensor,
        tag_width: int = 0,
        *,
        cosine_weight: float = 1.0,
        mse_weight: float = 1.0,
        tags_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if vector_mean.ndim != 1 or vector_mean.shape != vector_std.shape:
            raise UsageError(
                f"vector_mean is {tuple(vector_mean.shape)} and vector_std {tuple(vector_std.shape)}; "
                "allowed: (V,) each"
            )
        weights = (cosine_weight, mse_weight, tags_weight)
        if min(weights) < 0:
            raise UsageError(f"the weights of a distillation are {weights}; allowed: 0 or more")
        self.cosine_weight, self.mse_weight, self.tags_weight = weights
        self.to_vector = nn.Linear(width, len(vector_mean))
        self.to_tags = nn.Linear(width, tag_width) if tag_width else None
        self.register_buffer("vector_mean", vector_mean.float().clone())
        self.register_buffer("vector_std", torch.where(vector_std > 0, vector_std, 1).float())

    def forward(self, pooled: Tensor, vectors: Tensor, tags: Tensor | None = None) -> dict[str, Tensor]:
        """Compare with the teacher, in float32.

        Args:
            pooled: ``(B, D)`` the encoder's output.
            vectors: ``(B, V)`` what the teacher gives, as it is.
            tags: ``(B, K)`` probabilities; needed where there is a map to tags.

        Returns:
            Scalars: ``loss``, the weighted sum; its parts ``cosine`` (the mean cosine itself), ``mse`` and, with tags,
            ``tags``; all 0 where no item has a target.

        Raises:
            UsageError: The module has a map to tags, and there are no tags.
        """
        if self.to_tags is not None and tags is None:
            raise UsageError("the distillation has a map to tags, and was given no tags")
        with torch.autocast(pooled.device.type, enabled=False):
            pooled = pooled.float()
            known = vectors.isfinite().all(dim=1)
            target = ((vectors - self.vector_mean) / self.vector_std).where(known[:, None], 0.0)
            guess = self.to_vector(pooled)
            cosine = _mean_over(known, F.cosine_similarity(guess, target, dim=1))
            mse = _mean_over(known, (guess - target).square().mean(dim=1))
            share = known.float().mean()  # where no item has a target, 1 - cosine would be 1
            loss = self.cosine_weight * ((share > 0).float() - cosine) + self.mse_weight * mse
            parts = {"cosine": cosine, "mse": mse}
            if self.to_tags is not None and tags is not None:
                known = tags.isfinite().all(dim=1)
                wanted = tags.where(known[:, None], 0.5)
                entropy = F.binary_cross_entropy_with_logits(self.to_tags(pooled), wanted, reduction="none")
                parts["tags"] = _mean_over(known, entropy.mean(dim=1))
                loss = loss + self.tags_weight * parts["tags"]
        return {"loss": loss} | parts


def _mean_over(chosen: Tensor, values: Tensor) -> Tensor:
    """Mean of the chosen values, 0 if there are none; with a gradient of 0 for the others."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
