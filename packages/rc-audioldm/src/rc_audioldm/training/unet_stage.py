"""Third stage: a UNet that turns noise into latents, told what to make by one vector of CLAP.

AudioLDM 1 hears the vector of the clip's own audio in training, and that of a text when it is used. Here training mixes
the two: a share of the caption's vector, drawn anew each time, so that texts, clips and blends of them all steer.

Shapes: B clips, C latent channels, T latent frames, F latent bands, D dimensions of CLAP, N captions of a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from pentatonic.checkpoint import load_tensors, save_tensors
from pentatonic.errors import ConfigError
from pentatonic.training import ItemKey, StepContext


@dataclass
class UnetObjective:
    """The task.

    Args:
        drop: How often the condition is that of an empty text, which guidance pushes away from.
        audio_only: How often the condition is the vector of the audio alone; otherwise a share of the caption's.
    """

    drop: float = 0.1
    audio_only: float = 0.3

    def __post_init__(self) -> None:
        for name in ("drop", "audio_only"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"objective.{name} is {getattr(self, name)}; allowed: 0 to 1")


@dataclass(frozen=True, eq=False)
class Conditioned:
    """Latents of clips with what describes them.

    Args:
        latents: ``(clips, C, T, F)``.
        audio: ``(clips, D)`` unit vectors.
        texts: ``(texts, D)`` unit vectors.
        captions: Rows of ``texts`` for each clip.
    """

    latents: Tensor
    audio: Tensor
    texts: Tensor
    captions: Sequence[Sequence[int]]

    def save(self, path: Path) -> None:
        """Write the tensors."""
        save_tensors(path, {"latents": self.latents, "audio": self.audio, "texts": self.texts})

    @classmethod
    def load(cls, path: Path, captions: Sequence[Sequence[int]]) -> Conditioned:
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: The file cannot be read.
        """
        return cls(**load_tensors(path), captions=captions)

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, key: ItemKey, /) -> dict[str, Tensor]:
        rows = self.captions[key.index]
        return {
            "latents": self.latents[key.index],
            "audio": self.audio[key.index],
            "text": self.texts[rows[key.epoch % len(rows)]],
        }


class VelocityTraining(nn.Module):
    """The UNet with its loss: the velocity between noise and latents.

    Args:
        unet: ``UNet2DConditionModel`` of diffusers.
        scheduler: Of diffusers, with the noise levels.
        empty: ``(D,)`` unit vector of an empty text.
        objective: The task.
    """

    def __init__(self, unet: Any, scheduler: Any, empty: Tensor, objective: UnetObjective) -> None:
        super().__init__()
        self.unet, self.scheduler, self.objective = unet, scheduler, objective
        self.register_buffer("empty", empty, persistent=False)
        with torch.no_grad():  # the numbers of a unit vector are small
            unet.class_embedding.weight *= len(empty) ** 0.5

    def forward(self, batch: dict[str, Tensor], context: StepContext) -> dict[str, Tensor]:
        """Return the loss."""
        latents = batch["latents"]
        generator = context.generator()
        levels = int(self.scheduler.config.num_train_timesteps)
        times = torch.randint(levels, (len(latents),), generator=generator).to(latents.device)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        condition = self._condition(batch, generator)
        noisy = self.scheduler.add_noise(latents, noise, times)
        target = self.scheduler.get_velocity(latents, noise, times)
        predicted = self.unet(noisy, times, encoder_hidden_states=None, class_labels=condition).sample
        return {"loss": mse_loss(predicted.float(), target)}

    def _condition(self, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        audio, text = batch["audio"], batch["text"]
        draws = torch.rand(3, len(audio), 1, generator=generator).to(audio.device)
        share = torch.where(draws[0] < self.objective.audio_only, 0.0, draws[1])
        mixed = normalize((1 - share) * audio + share * text, dim=-1)
        return torch.where(draws[2] < self.objective.drop, self.get_buffer("empty"), mixed)
