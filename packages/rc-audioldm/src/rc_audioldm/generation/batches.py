"""Batches: which requests are made together, what the model hears of each, and their clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pentatonic.errors import UsageError
from rc_audioldm.denoising.sampling import Clip, Item, Noises, OnStep, own_noises, sample
from rc_audioldm.generation.audio_start import same_steps
from rc_audioldm.generation.checks import mode_of
from rc_audioldm.generation.modes import Context, Heard, Mode, prompt_alone
from rc_audioldm.generation.requests import Request
from rc_audioldm.generation.settings import Settings
from rc_audioldm.generation.styles import RequestStyle


@dataclass(frozen=True, eq=False)
class Prepared:
    """A request that can be denoised.

    Args:
        request: What was asked for.
        mode: How a style reaches the model.
        style: Of the request, or None.
        heard: What the model hears.
    """

    request: Request
    mode: Mode
    style: RequestStyle | None
    heard: Heard


def batches_of(requests: Sequence[Request], settings: Settings) -> Iterator[list[Request]]:
    """Group requests that are made together; those that start from audio have one strength, and with it as many steps.

    Args:
        requests: Of the run.
        settings: Say how many clips are denoised together, and how many are made of each request.
    """
    size = max(1, settings.sampling.batch_size // settings.made)
    key = (lambda each: each.strength) if settings.mode == "audio-init" else (lambda each: 0.0)
    for _, group in groupby(sorted(requests, key=key), key=key):
        together = list(group)
        for first in range(0, len(together), size):
            yield together[first : first + size]


def prepare(context: Context, request: Request) -> Prepared:
    """Find the style of a request, and what the model hears of both.

    Raises:
        UsageError: The mode needs a style, and there is none.
        PentatonicError: The style cannot be read.
    """
    mode = mode_of(context.settings, request, context.finder)
    if mode.needs == "nothing":
        return Prepared(request, mode, None, prompt_alone(context, request))
    assert context.finder is not None
    style = context.legacy.style(request) if context.legacy else context.finder.find(request)
    if style is None:
        raise UsageError(f"the mode {mode.name} needs a bank, or a reference for each prompt")
    return Prepared(request, mode, style, hear(context, mode, request, style))


def hear(context: Context, mode: Mode, request: Request, style: RequestStyle) -> Heard:
    """Return what the model hears of a request with a style; at strength 0 the prompt alone."""
    if request.strength == 0 and not mode.is_legacy:
        return prompt_alone(context, request)
    return mode.hear(context, request, style)


def sample_prepared(
    context: Context,
    prepared: Sequence[Prepared],
    *,
    draws: Mapping[int, int] | None = None,
    noises: Noises = own_noises,
    on_step: OnStep | None = None,
) -> Iterator[Clip]:
    """Denoise requests.

    Args:
        context: Of the run.
        prepared: The requests.
        draws: Request -> number of the one clip of it that is made; None: all clips that the settings ask for.
        noises: Draws the noise of a batch.
        on_step: Told of each step.

    Yields:
        Their clips, those that make as many steps together.
    """
    sampling = context.settings.sampling
    by_index = {each.request.index: each for each in prepared}
    items = [
        Item(
            each.heard.prompt,
            each.request.negative,
            each.request.index,
            context.settings.made if draws is None else 1,
            0 if draws is None else draws[each.request.index],
        )
        for each in prepared
    ]

    def kind(item: Item) -> tuple[int, bool]:
        start = by_index[item.index].heard.start
        return same_steps(start, sampling.denoising.steps), start is not None

    for (_, has_start), group in groupby(items, key=kind):
        yield from sample(
            context.model,
            list(group),
            sampling,
            restyle=lambda item, _conditions, _encoder: by_index[item.index].heard.conditions,
            encoder=context.encoder,
            starts=(lambda item: by_index[item.index].heard.start) if has_start else None,  # type: ignore[arg-type]
            noises=noises,
            on_step=on_step,
        )
