"""The denoising loop, the same for both families.

Shapes: B clips, C latent channels, T latent frames, F latent bands. Latents stay in float32 whatever the type of the
UNet is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pentatonic.errors import UsageError
from rc_audioldm.denoising.guidance import Guidance
from rc_audioldm.denoising.schedulers import make_scheduler
from rc_audioldm.model import AudioLDM
from rc_audioldm.prompts.conditions import Condition, unet_inputs


@dataclass(frozen=True)
class Denoising:
    """How noise becomes latents.

    Args:
        scheduler: One of :data:`rc_audioldm.denoising.schedulers.SCHEDULERS`.
        steps: Number of steps.
        guidance: How far predictions are pushed.
    """

    scheduler: str = "dpm++"
    steps: int = 25
    guidance: Guidance = field(default_factory=Guidance)


PAPER = Denoising(scheduler="ddim", steps=200)
"""As in the papers: eight times slower than the default."""


@dataclass(frozen=True)
class Batch:
    """Conditions of clips that are denoised together.

    Args:
        prompts: One for each clip.
        negatives: One for each clip; needed where the guidance of the text is above 1.
        styled: Prompts with a style, of a second guidance. A clip without a style has its prompt here. Empty: none has
            one.
    """

    prompts: Sequence[Condition]
    negatives: Sequence[Condition] = ()
    styled: Sequence[Condition] = ()

    def rows(self, guidance: Guidance) -> list[Sequence[Condition]]:
        """Return the groups of rows that the UNet sees: negatives, prompts, styled prompts.

        Raises:
            UsageError: The groups differ in size, or the negatives are missing.
        """
        if guidance.uses_negative and not self.negatives:
            raise UsageError(
                f"a guidance of {guidance.text} needs negative prompts, which may be empty texts"
            )
        groups = [self.negatives] if guidance.uses_negative else []
        groups += [self.prompts, *([self.styled] if self.styled else [])]
        if {len(group) for group in groups} != {len(self.prompts)}:
            raise UsageError("prompts, negatives and styled prompts must be of one number")
        return groups


@dataclass(frozen=True, eq=False)
class Start:
    """Latents that clips start from, so that they keep something of them.

    Args:
        latents: ``(B, C, T, F)`` finished latents, or ``(C, T, F)`` of one clip.
        strength: Share of the steps that is made, above 0. At 1 nothing but the noise counts for most schedulers.
    """

    latents: Tensor
    strength: float

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise UsageError(f"the strength of the start is {self.strength}; allowed: above 0, up to 1")

    @classmethod
    def joined(cls, starts: Sequence[Start]) -> Start:
        """Join starts of single clips.

        Raises:
            UsageError: Their strengths differ, and with them the steps.
        """
        if len({start.strength for start in starts}) != 1:
            raise UsageError("clips of one batch must start with one strength")
        return cls(torch.stack([start.latents for start in starts]), starts[0].strength)


@torch.no_grad()
def denoise(
    model: AudioLDM,
    noise: Tensor,
    batch: Batch,
    settings: Denoising,
    *,
    tail: Tensor | None = None,
    start: Start | None = None,
    text_length: int | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Turn noise into latents.

    Args:
        model: Of either family.
        noise: ``(B, C, T, F)`` float32, of norm 1 in each number.
        batch: Conditions of the clips.
        settings: How.
        tail: ``(B, C, N, F)`` finished latents that the first N frames shall have. At each step these frames are the
            tail under as much noise, so that the rest continues them.
        start: Begin with these latents under noise, instead of with noise alone.
        text_length: Pad the states of T5 to so many tokens, instead of to the longest; to measure what that costs.
        on_step: Called after each step with its index and the latents.

    Returns:
        ``(B, C, T, F)`` float32 on the device of the model.

    Raises:
        UsageError: The scheduler is unknown, or the numbers of clips differ.
    """
    groups = batch.rows(settings.guidance)
    if len(noise) != len(batch.prompts):
        raise UsageError(f"there is noise for {len(noise)} clips and {len(batch.prompts)} prompts")
    scheduler = make_scheduler(model.scheduler, settings.scheduler, settings.steps, model.device)
    noise = noise.to(model.device, torch.float32)
    latents = noise * scheduler.init_noise_sigma
    skipped = _skipped(scheduler, settings, start)
    timesteps = scheduler.timesteps[skipped:]
    if start is not None:
        if hasattr(scheduler, "set_begin_index"):  # DDIM looks steps up by their time
            scheduler.set_begin_index(skipped)
        latents = scheduler.add_noise(start.latents.to(noise), noise, timesteps[:1].repeat(len(noise)))
    kept = 0 if tail is None else tail.shape[2]
    with model.placed("unet"):
        dtype = model.unet.dtype
        conditions = [condition for group in groups for condition in group]
        inputs = unet_inputs(conditions, model.device, dtype, text_length=text_length)
        for index, time in enumerate(timesteps):
            if tail is not None:
                times = time.repeat(len(noise))
                again = scheduler.add_noise(tail.to(latents), noise[:, :, :kept], times)
                latents = torch.cat([again, latents[:, :, kept:]], dim=2)
            rows = scheduler.scale_model_input(torch.cat([latents] * len(groups)), time)
            prediction = model.unet(rows.to(dtype), time, **inputs).sample.float()
            parts = list(prediction.chunk(len(groups)))
            negative = parts.pop(0) if settings.guidance.uses_negative else None
            styled = parts.pop() if batch.styled else None
            guided = settings.guidance.combine(negative, parts[0], styled)
            latents = scheduler.step(guided, time, latents).prev_sample
            if on_step is not None:
                on_step(index, latents)
    return latents if tail is None else torch.cat([tail.to(latents), latents[:, :, kept:]], dim=2)


def step_count(model: AudioLDM, settings: Denoising, start: Start | None = None) -> int:
    """Return how many steps :func:`denoise` makes; some schedulers make more than the settings say.

    Args:
        model: Has the scheduler.
        settings: How.
        start: As for :func:`denoise`.

    Raises:
        UsageError: The scheduler is unknown.
    """
    scheduler = make_scheduler(model.scheduler, settings.scheduler, settings.steps)
    return len(scheduler.timesteps) - _skipped(scheduler, settings, start)


def _skipped(scheduler: Any, settings: Denoising, start: Start | None) -> int:
    if start is None:
        return 0
    return (settings.steps - max(1, round(settings.steps * start.strength))) * scheduler.order
