"""Masked token prediction with a teacher beside it: the embeddings also learn what another model hears.

Shapes: B batch, n samples, N tokens, C embedding width, V values of the teacher's vector, K tags.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omar_rq.config import ModelConfig
from omar_rq.training.data import TaughtCrops
from omar_rq.training.objective import MaskedPrediction
from pentatonic.errors import ConfigError
from pentatonic.training import StepContext
from pentatonic.training.distillation import Distillation
from pentatonic.training.teacher import TeacherTargets


@dataclass
class DistillationConfig:
    """How much a teacher counts; by default there is none.

    Args:
        weight: Of its loss beside the one of masked tokens; 0: no teacher.
        teacher: Its name, as in the names of its files in the data folder.
        heard: Share of each batch that the encoder hears whole, as in use, to be compared with the teacher; the others
            are masked, to predict their tokens.
        cosine: Weight of one less the cosine to the teacher's vector.
        mse: Weight of the mean squared error of the vector.
        tags: Weight of the cross-entropy of the teacher's tags.

    Raises:
        ConfigError: A value is out of its range.
    """

    weight: float = 0.0
    teacher: str = "musicnn"
    heard: float = 0.5
    cosine: float = 1.0
    mse: float = 1.0
    tags: float = 1.0

    def __post_init__(self) -> None:
        for name in ("weight", "cosine", "mse", "tags"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"distillation.{name} is {getattr(self, name)}; allowed: 0 or more")
        if not 0 < self.heard < 1:
            raise ConfigError(f"distillation.heard is {self.heard}; allowed: more than 0, less than 1")


class DistilledPrediction(MaskedPrediction):
    """Masked prediction on one part of a batch, and a teacher for the other.

    The mean of the last layer over the tokens of a crop, which is what users get by default, is mapped linearly to
    what the teacher says about it.

    Args:
        config: As of :class:`MaskedPrediction`.
        distillation: With a weight above 0.
        targets: Widths and statistics of the teacher.
    """

    def __init__(
        self, config: ModelConfig, distillation: DistillationConfig, targets: TeacherTargets
    ) -> None:
        super().__init__(config)
        self.weight, self.heard = distillation.weight, distillation.heard
        self.distillation = Distillation(
            config.net.embed_dim,
            torch.from_numpy(targets.vector_mean),
            torch.from_numpy(targets.vector_std),
            targets.tag_width,
            cosine_weight=distillation.cosine,
            mse_weight=distillation.mse,
            tags_weight=distillation.tags,
        )

    def forward(self, audio: Tensor | TaughtCrops, context: StepContext | None = None) -> dict[str, Tensor]:
        """Predict masked tokens of some crops, and what the teacher says about the others.

        Args:
            audio: A batch of at least two crops with their targets.
            context: As of :class:`MaskedPrediction`.

        Returns:
            The scalars of :class:`MaskedPrediction`, whose ``loss`` is called ``tokens`` here; those of
            :class:`pentatonic.training.distillation.Distillation` with ``teacher/`` before their names; and ``loss``,
            the sum.

        Raises:
            ConfigError: There are no targets, or fewer than two crops.
        """
        if not isinstance(audio, TaughtCrops) or len(audio.audio) < 2:
            raise ConfigError("distillation needs batches of two and more crops, with what a teacher says")
        batch = audio
        count = min(max(1, round(self.heard * len(batch.audio))), len(batch.audio) - 1)
        metrics = super().forward(batch.audio[count:], context)
        pooled = self.encoder.encode(batch.audio[:count])[0].mean(1)
        tags = None if batch.tags is None else batch.tags[:count]
        taught = self.distillation(pooled, batch.vectors[:count], tags)
        metrics["tokens"] = metrics["loss"].detach()
        metrics["loss"] = metrics["loss"] + self.weight * taught["loss"]
        return metrics | {f"teacher/{name}": value.detach() for name, value in taught.items()}
