"""From latents to audio, and from audio's mel spectrograms to latents.

Shapes: B clips, C latent channels, T latent frames, F latent bands.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rc_audioldm.model import AudioLDM


@torch.no_grad()
def decode_mel(model: AudioLDM, latents: Tensor) -> Tensor:
    """Return log-mel spectrograms ``(B, 1, frames, bands)`` of latents ``(B, C, T, F)``."""
    with model.placed("vae"):
        scaled = latents.to(model.device, model.vae.dtype) / model.vae.config["scaling_factor"]
        decoded: Any = model.vae.decode(scaled)
        return decoded.sample


@torch.no_grad()
def encode_mel(model: AudioLDM, mel: Tensor) -> Tensor:
    """Return the most likely latents ``(B, C, T, F)`` of log-mel spectrograms ``(B, 1, frames, bands)``.

    The number of frames must be a multiple of the factor of the VAE.
    """
    with model.placed("vae"):
        encoded: Any = model.vae.encode(mel.to(model.device, model.vae.dtype))
        return encoded.latent_dist.mode().float() * model.vae.config["scaling_factor"]


@torch.no_grad()
def vocode(model: AudioLDM, mel: Tensor, samples: int) -> Tensor:
    """Return audio of mel spectrograms.

    Args:
        model: Its vocoder computes in its own type, at best float32.
        mel: ``(B, 1, frames, bands)``.
        samples: Cut to so many; where the vocoder gives fewer, nothing is added.

    Returns:
        ``(B, samples or fewer)`` float32 on the CPU, at the rate of the model.
    """
    with model.placed("vocoder"):
        weight = next(model.vocoder.parameters(), mel)
        waves = model.vocoder(mel[:, 0].to(model.device, weight.dtype))
    return waves.reshape(len(mel), -1)[:, :samples].float().cpu()


def decode(model: AudioLDM, latents: Tensor, seconds: float) -> Tensor:
    """Return audio ``(B, n)`` of latents of clips of a length."""
    return vocode(model, decode_mel(model, latents), model.geometry(seconds).samples)
