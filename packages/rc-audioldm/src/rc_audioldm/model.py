"""An AudioLDM of either family: its components, and what follows from their configurations. No files here.

Shapes: B clips, C latent channels, T latent frames, F latent bands, D dimensions of CLAP, H of the language model.
AudioLDM 1 hears a prompt as one CLAP vector; AudioLDM 2 as the states of a language model and of T5.

Sources: Liu et al. 2023 (arXiv 2301.12503) and Liu et al. 2023 (arXiv 2308.05734), in the layout of diffusers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers import PreTrainedTokenizerBase

Family = Literal["audioldm", "audioldm2"]

MAX_SECONDS = 3600.0
"""Longest clip that is made."""

CLIP_SECONDS = 10.0
"""Length of the clips that the published models were trained on."""

_MODULES = (
    "text_encoder",
    "text_encoder_2",
    "projection_model",
    "language_model",
    "unet",
    "vae",
    "vocoder",
)
_TEXT = _MODULES[:4]
_DEFAULT_STATES = 8


@dataclass(frozen=True)
class Geometry:
    """Sizes of a clip of some length.

    Args:
        frames: Mel frames that are decoded, a multiple of the factor of the VAE.
        latent_frames: Frames of the latents.
        samples: Most samples of the clip. The vocoder may give fewer, and then the clip is that much shorter.
    """

    frames: int
    latent_frames: int
    samples: int


@dataclass(eq=False, repr=False)
class AudioLDM:
    """Components by the names that they have in ``model_index.json``.

    Args:
        unet: Predicts the noise, or the velocity, of latents.
        vae: Between latents and mel spectrograms.
        scheduler: A scheduler of diffusers with the noise levels that the model was trained on.
        vocoder: From mel spectrograms ``(B, frames, bands)`` to samples ``(B, n)``; its configuration gives the rates.
        text_encoder: The text tower of CLAP (AudioLDM 1), or all of CLAP (AudioLDM 2).
        tokenizer: Of CLAP.
        text_encoder_2: T5 encoder, of AudioLDM 2 as all that follow.
        tokenizer_2: Of T5.
        projection_model: Joins the states of CLAP and T5 to one sequence of the language model's width.
        language_model: GPT-2 without a vocabulary.
        feature_extractor: Spectrograms of CLAP.
        clip_seconds: Length of the clips that it was trained on; longer ones are made in windows of this length.
        device: Where components compute.
        offload: Components wait in main memory, and are on the device only while they compute.
    """

    unet: Any
    vae: AutoencoderKL
    scheduler: Any
    vocoder: Any
    text_encoder: Any
    tokenizer: PreTrainedTokenizerBase
    text_encoder_2: Any = None
    tokenizer_2: PreTrainedTokenizerBase | None = None
    projection_model: Any = None
    language_model: Any = None
    feature_extractor: Any = None
    clip_seconds: float = CLIP_SECONDS
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    offload: bool = False

    @property
    def family(self) -> Family:
        """Which of the two families."""
        return "audioldm" if self.language_model is None else "audioldm2"

    @property
    def capabilities(self) -> frozenset[str]:
        """What can steer the model: ``text``, ``clap_vector``, ``language_states``, ``audio_init``."""
        own = {"language_states"} if self.family == "audioldm2" else set()
        return frozenset({"text", "clap_vector", "audio_init"} | own)

    @property
    def sample_rate(self) -> int:
        """Samples per second of the clips."""
        return int(self.vocoder.config.sampling_rate)

    @property
    def hop(self) -> int:
        """Samples per mel frame."""
        return math.prod(self.vocoder.config.upsample_rates)

    @property
    def vae_factor(self) -> int:
        """Mel frames per latent frame, and mel bands per latent band."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def latent_frame_seconds(self) -> float:
        """Length of a latent frame."""
        return self.hop / self.sample_rate * self.vae_factor

    @property
    def clap_width(self) -> int:
        """Dimensions of a CLAP vector."""
        return int(self.text_encoder.config.projection_dim)

    @property
    def state_count(self) -> int:
        """States that the language model writes; 0 for AudioLDM 1."""
        if self.language_model is None:
            return 0
        return int(getattr(self.language_model.config, "max_new_tokens", None) or _DEFAULT_STATES)

    def geometry(self, seconds: float) -> Geometry:
        """Return the sizes of a clip.

        Mel frames are counted as the original does: the quotient is cut in floating point (0.29 s at 10 ms are 28
        frames), then rounded up to whole latent frames.

        Raises:
            UsageError: It is shorter than a latent frame, or longer than ``MAX_SECONDS``.
        """
        shortest = self.latent_frame_seconds
        if not shortest <= seconds <= MAX_SECONDS:
            raise UsageError(f"the length is {seconds} s; allowed: {shortest:g} to {MAX_SECONDS:g} s")
        factor = self.vae_factor
        latent_frames = math.ceil(int(seconds / (self.hop / self.sample_rate)) / factor)
        return Geometry(latent_frames * factor, latent_frames, int(seconds * self.sample_rate))

    def latent_shape(self, latent_frames: int) -> tuple[int, int, int]:
        """Return the shape of the latents of one clip, (C, T, F)."""
        bands = int(self.vocoder.config.model_in_dim) // self.vae_factor
        return int(self.vae.config["latent_channels"]), latent_frames, bands

    def modules(self) -> dict[str, nn.Module]:
        """Return the components that have weights, by name."""
        found = ((name, getattr(self, name)) for name in _MODULES)
        return {name: module for name, module in found if isinstance(module, nn.Module)}

    def to(self, device: torch.device | str, *, offload: bool = False) -> AudioLDM:
        """Compute on a device.

        Args:
            device: The device.
            offload: Keep the weights in main memory while they do not compute.

        Returns:
            The model itself.
        """
        self.device, self.offload = torch.device(device), offload
        for module in self.modules().values():
            module.to("cpu" if offload else self.device)
        return self

    @contextmanager
    def placed(self, *names: str) -> Iterator[None]:
        """Have components on the device for as long as a block runs; without ``offload`` they already are.

        Args:
            names: Names of components; ``text`` stands for all that read prompts.
        """
        wanted = {part for name in names for part in (_TEXT if name == "text" else (name,))}
        moved = [module for name, module in self.modules().items() if name in wanted] if self.offload else []
        try:
            for module in moved:
                module.to(self.device)
            yield
        finally:
            for module in moved:
                module.to("cpu")
