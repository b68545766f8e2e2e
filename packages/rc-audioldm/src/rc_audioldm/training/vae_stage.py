"""Second stage: a VAE of log-mel spectrograms.

Shapes: B clips, T frames, F bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pentatonic.mel import MelFrontend
from pentatonic.training import ItemKey, StepContext
from rc_audioldm.training.clips import ClipSet


@dataclass
class VaeObjective:
    """The task.

    Args:
        kl_weight: Of the divergence of the latents from noise, per number, beside the mean absolute error in standard
            deviations of the spectrograms.
        crop_frames: Training sees so many frames of a clip, at a place that is drawn anew, rounded to whole latent
            frames; None: all.
    """

    kl_weight: float = 3e-3
    crop_frames: int | None = None


class MelClips:
    """Log-mel spectrograms of clips, ``(1, T, F)``.

    Args:
        clips: The clips.
        preset: Of :mod:`pentatonic.mel`.
        factor: Frames are cut to a multiple of it.
    """

    def __init__(self, clips: ClipSet, preset: str, factor: int) -> None:
        frontend = MelFrontend.preset(preset)
        frames = clips.samples.shape[1] // frontend.config.hop_length // factor * factor
        self.mels = torch.stack([frontend(clips.audio(index)).mT[:frames] for index in range(len(clips))])[
            :, None
        ]

    def __len__(self) -> int:
        return len(self.mels)

    def __getitem__(self, key: ItemKey, /) -> Tensor:
        return self.mels[key.index]

    @staticmethod
    def collate(items: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return a batch, ``mel`` (B, 1, T, F)."""
        return {"mel": torch.stack(list(items))}


class VaeTraining(nn.Module):
    """The VAE with its loss; training starts from an output that is the mean of the spectrograms.

    Args:
        vae: ``AutoencoderKL`` of diffusers.
        objective: The task.
        mean: Of the spectrograms.
        deviation: Of the spectrograms.
    """

    def __init__(self, vae: Any, objective: VaeObjective, mean: float, deviation: float) -> None:
        super().__init__()
        self.vae, self.objective, self.deviation = vae, objective, deviation
        with torch.no_grad():
            first, last = vae.encoder.conv_in, vae.decoder.conv_out
            first.weight /= deviation
            first.bias -= mean * first.weight.sum(dim=(1, 2, 3))
            last.weight *= deviation
            last.bias.fill_(mean)

    def forward(self, batch: dict[str, Tensor], context: StepContext) -> dict[str, Tensor]:
        """Return the loss and its parts."""
        mel = batch["mel"]
        if self.training and self.objective.crop_frames is not None:
            mel = self._crop(mel, self.objective.crop_frames, context.generator())
        posterior = self.vae.encode(mel).latent_dist
        latents = posterior.mean
        if self.training:
            noise = torch.randn(latents.shape, generator=context.generator()).to(latents)
            latents = latents + posterior.std * noise
        error = (self.vae.decode(latents).sample - mel).float().abs().mean() / self.deviation
        spread, middle = posterior.var.float(), posterior.mean.float()
        divergence = 0.5 * (middle.square() + spread - 1 - posterior.logvar.float()).mean()
        return {
            "loss": error + self.objective.kl_weight * divergence,
            "error": error.detach(),
            "divergence": divergence.detach(),
        }

    def _crop(self, mel: Tensor, frames: int, generator: torch.Generator) -> Tensor:
        factor = 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        frames = max(1, frames // factor) * factor
        places = (mel.shape[2] - frames) // factor + 1
        start = int(torch.randint(max(1, places), (), generator=generator)) * factor
        return mel[:, :, start : start + frames]


@torch.no_grad()
def encode(vae: Any, mels: Tensor, batch: int = 16) -> Tensor:
    """Return the most likely latents of spectrograms, not scaled."""
    return torch.cat([vae.encode(part).latent_dist.mode() for part in mels.split(batch)])


@dataclass(frozen=True, eq=False)
class ChannelScale:
    """Mean and deviation of each channel of latents, ``(C,)``."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, latents: Tensor) -> ChannelScale:
        """Measure latents ``(clips, C, T, F)``."""
        return cls(latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)).clamp_min(1e-6))

    def apply(self, latents: Tensor) -> Tensor:
        """Return latents with mean 0 and deviation 1 in each channel, where they are those that were measured."""
        return (latents - self.mean[:, None, None]) / self.deviation[:, None, None]


@torch.no_grad()
def standardise(vae: Any, scale: ChannelScale) -> None:
    """Change a VAE so that it gives standardised latents, and takes them; what it decodes in the end stays the same.

    A channel of small deviation would drown in the noise that diffusion adds to all alike. The change goes into the
    convolutions of width 1 before and behind the latents, so that the layout needs no further numbers.

    Args:
        vae: Changed in place; its scaling factor becomes 1.
        scale: Of its latents as it is.
    """
    mean, deviation = scale.mean, scale.deviation
    into, out, channels = vae.quant_conv, vae.post_quant_conv, len(scale.mean)
    into.weight[:channels] /= deviation[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / deviation
    into.bias[channels:] -= 2 * deviation.log()  # logarithms of variances
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= deviation[:, None, None]
    vae.register_to_config(scaling_factor=1.0)
