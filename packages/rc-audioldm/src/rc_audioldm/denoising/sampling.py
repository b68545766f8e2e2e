"""From prompts to clips: encode each prompt, denoise in batches, decode.

A clip is a function of the model, its prompt, the settings and its own seed. Batch size and order do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pentatonic.errors import UsageError
from rc_audioldm.denoising.decoding import decode
from rc_audioldm.denoising.loop import Batch, Denoising, Start, denoise, step_count
from rc_audioldm.denoising.noise import clip_seed, draw_noise
from rc_audioldm.denoising.windows import OVERLAP_SECONDS, WINDOW_SECONDS, Window, windows_of
from rc_audioldm.model import AudioLDM
from rc_audioldm.prompts.conditions import Condition
from rc_audioldm.prompts.encoder import PromptEncoder


@dataclass(frozen=True)
class Item:
    """A prompt to make clips for.

    Args:
        text: The prompt.
        negative: What the clip shall not be; may be empty.
        index: Place in the run, on which its seeds depend.
        variants: How many clips.
        first: Number of the first of them, for those that are made again.
    """

    text: str
    negative: str = ""
    index: int = 0
    variants: int = 1
    first: int = 0


@dataclass(frozen=True, eq=False)
class ItemConditions:
    """What the UNet hears of an item.

    Args:
        prompt: Of the prompt.
        negative: Of the negative prompt; None where guidance does not use it.
        styled: Of the prompt with a style, for a second guidance; None without one.
    """

    prompt: Condition
    negative: Condition | None
    styled: Condition | None = None


Restyle = Callable[[Item, ItemConditions, PromptEncoder], ItemConditions]
"""Changes what is heard of an item, such as towards a style; what it returns unchanged gives the same clip."""

Noises = Callable[[Sequence[int], tuple[int, ...]], Tensor]
"""From the seeds of B clips and the shape of the latents of one: their noise, ``(B, ...)`` float32."""

OnStep = Callable[[int, int], None]
"""Told after each step how many steps of a batch are made, and of how many; what it raises ends the work."""


def own_noises(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Draw the noise of each clip from its own seed."""
    return torch.stack([draw_noise(seed, shape) for seed in seeds])


@dataclass(frozen=True)
class Sampling:
    """How clips are made.

    Args:
        seconds: Length of each clip.
        seed: Of the run.
        denoising: Scheduler, steps and guidance.
        batch_size: Clips that are denoised together.
        window_seconds: Longer clips are made in windows of this length.
        overlap_seconds: Of two windows.
    """

    seconds: float = 10.0
    seed: int = 42
    denoising: Denoising = field(default_factory=Denoising)
    batch_size: int = 4
    window_seconds: float = WINDOW_SECONDS
    overlap_seconds: float = OVERLAP_SECONDS


def sampling_for(model: AudioLDM, seconds: float | None = None, **others: Any) -> Sampling:
    """Return how clips of a model are made: windows as long as the clips that it was trained on.

    Args:
        model: The model.
        seconds: Length of each clip; None: that of one window.
        others: Further arguments of :class:`Sampling`.
    """
    window = model.clip_seconds
    overlap = window * OVERLAP_SECONDS / WINDOW_SECONDS
    length = window if seconds is None else seconds
    return Sampling(seconds=length, window_seconds=window, overlap_seconds=overlap, **others)


@dataclass(frozen=True, eq=False)
class Clip:
    """A finished clip.

    Args:
        item: What it was made for.
        variant: Which of the clips for it.
        seed: Of the generator of its noise, or of its first window's.
        audio: ``(n,)`` float32 at the rate of the model, as it gave it: loud clips may be beyond [-1, 1].
        latents: ``(C, T, F)`` float32.
    """

    item: Item
    variant: int
    seed: int
    audio: Tensor
    latents: Tensor


def encode_item(
    encoder: PromptEncoder, item: Item, settings: Denoising, restyle: Restyle | None = None
) -> ItemConditions:
    """Encode the prompts of an item.

    Args:
        encoder: Of the model.
        item: The item.
        settings: Say whether the negative prompt is used.
        restyle: Changes the conditions.
    """
    prompt = encoder.encode(item.text)
    uses_negative = settings.guidance.uses_negative
    negative = encoder.encode_negative(item.negative, item.text) if uses_negative else None
    conditions = ItemConditions(prompt, negative)
    return conditions if restyle is None else restyle(item, conditions, encoder)


def sample(
    model: AudioLDM,
    items: Sequence[Item],
    settings: Sampling,
    *,
    restyle: Restyle | None = None,
    encoder: PromptEncoder | None = None,
    starts: Callable[[Item], Start] | None = None,
    noises: Noises = own_noises,
    on_step: OnStep | None = None,
) -> Iterator[Clip]:
    """Make the clips of items.

    Args:
        model: Of either family.
        items: What to make; the variants of an item follow one another.
        settings: How.
        restyle: Changes what is heard of an item.
        encoder: Keeps encoded prompts over several calls; None: a new one.
        starts: Latents that a clip starts from instead of noise alone, for clips of one window.
        noises: Draws the noise of a batch.
        on_step: Told of each step.

    Yields:
        The clips, in order.

    Raises:
        UsageError: A setting is outside its range.
    """
    if settings.batch_size < 1:
        raise UsageError(f"the batch size is {settings.batch_size}; allowed: 1 and more")
    windows = windows_of(
        model,
        settings.seconds,
        window_seconds=settings.window_seconds,
        overlap_seconds=settings.overlap_seconds,
    )
    if starts is not None and len(windows) > 1:
        raise UsageError(f"a clip that starts from audio can last {settings.window_seconds} s at most")
    encoder = encoder or PromptEncoder(model)
    encoded = [encode_item(encoder, item, settings.denoising, restyle) for item in items]
    wanted = [
        (item, conditions, variant)
        for item, conditions in zip(items, encoded, strict=True)
        for variant in range(item.first, item.first + item.variants)
    ]
    for first in range(0, len(wanted), settings.batch_size):
        yield from _sample_batch(
            model, wanted[first : first + settings.batch_size], windows, settings, starts, noises, on_step
        )


def _sample_batch(
    model: AudioLDM,
    wanted: Sequence[tuple[Item, ItemConditions, int]],
    windows: Sequence[Window],
    settings: Sampling,
    starts: Callable[[Item], Start] | None,
    noises: Noises,
    on_step: OnStep | None,
) -> Iterator[Clip]:
    batch = _batch([conditions for _, conditions, _ in wanted])
    latents: Tensor | None = None
    for index, window in enumerate(windows):
        shape = model.latent_shape(window.length)
        seeds = [clip_seed(settings.seed, item.index, variant, index) for item, _, variant in wanted]
        noise = noises(seeds, shape)
        tail = None if latents is None else latents[:, :, window.start :]
        start = None if starts is None else Start.joined([starts(item) for item, _, _ in wanted])
        tell = None
        if on_step is not None:
            count = step_count(model, settings.denoising, start)
            tell = partial(_tell, on_step, index * count, len(windows) * count)
        made = denoise(model, noise, batch, settings.denoising, tail=tail, start=start, on_step=tell)
        latents = made if latents is None else torch.cat([latents, made[:, :, window.overlap :]], dim=2)
    assert latents is not None  # there is at least one window
    audio = decode(model, latents, settings.seconds)
    for row, (item, _, variant) in enumerate(wanted):
        seed = clip_seed(settings.seed, item.index, variant)
        yield Clip(item, variant, seed, audio[row], latents[row].cpu())


def _tell(on_step: OnStep, before: int, total: int, index: int, _latents: Tensor) -> None:
    on_step(before + index + 1, total)


def _batch(conditions: Sequence[ItemConditions]) -> Batch:
    has_style = any(each.styled is not None for each in conditions)
    return Batch(
        prompts=[each.prompt for each in conditions],
        negatives=[each.negative for each in conditions if each.negative is not None],
        styled=[each.styled or each.prompt for each in conditions] if has_style else (),
    )
