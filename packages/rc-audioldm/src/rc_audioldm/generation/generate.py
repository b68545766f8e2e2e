"""From requests to clips: find the style, hear, denoise, rank.

A clip is a function of the model, its request, the settings and its own seed, within 1e-5 whatever else is made with
it; with the same requests and settings it is the same to the bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pentatonic.errors import PentatonicError
from rc_audioldm.clap.encoder import ClapEncoder
from rc_audioldm.denoising.sampling import Clip, Noises, OnStep, own_noises
from rc_audioldm.generation.batches import batches_of, prepare, sample_prepared
from rc_audioldm.generation.checks import ALL_MODES, check_settings, mode_of
from rc_audioldm.generation.legacy_modes import LEGACY_MODES, legacy_run
from rc_audioldm.generation.modes import Context
from rc_audioldm.generation.requests import Request, requests_of
from rc_audioldm.generation.result import Result
from rc_audioldm.generation.selection import OnFailure, kept_clips
from rc_audioldm.generation.settings import Settings
from rc_audioldm.generation.styles import StyleFinder
from rc_audioldm.generation.variations import with_effects, with_knobs
from rc_audioldm.model import AudioLDM
from rc_audioldm.prompts.encoder import PromptEncoder


def generate(
    model: AudioLDM,
    requests: Sequence[Request | str],
    settings: Settings | None = None,
    *,
    finder: StyleFinder | None = None,
    clap: ClapEncoder | None = None,
    adapter: torch.nn.Module | None = None,
    is_done: Callable[[Request], bool] = lambda _: False,
    on_failure: OnFailure | None = None,
    on_step: OnStep | None = None,
) -> Iterator[Result]:
    """Make the clips of requests.

    Args:
        model: Of either family.
        requests: Prompts, or requests with numbers that follow one another.
        settings: How.
        finder: Finds their styles; None: no reference and no bank.
        clap: Compares clips with texts and styles; by default that of the finder, and without one nothing is compared.
        adapter: From styles to states, for the mode ``adapter``.
        is_done: Says of which requests nothing is needed. What is made with them does not change by that.
        on_failure: Told of what cannot be made; None: the error is raised.
        on_step: Told after each step of a batch how many are made, and of how many; what it raises ends the run.

    Yields:
        The clips: in the order of requests, except that in ``audio-init`` those of one strength come together.

    Raises:
        UsageError: A setting is outside its range, or the mode, the model and the requests do not go together.
        IncompatibleVectors: Style vectors have another width than the model's.
    """
    settings = settings or Settings()
    asked = [
        each if isinstance(each, Request) else requests_of([each], first=i)[0]
        for i, each in enumerate(requests)
    ]
    clap = clap or (None if finder is None else finder.encoder)
    check_settings(model, settings, asked, finder, clap, adapter)
    context = Context(model, PromptEncoder(model), settings, finder, adapter)
    modes = {mode_of(settings, each, finder).name for each in asked}
    if legacy := modes & LEGACY_MODES.keys():
        assert finder is not None
        state = legacy_run(ALL_MODES[legacy.pop()], asked, settings, finder)
        context = replace(context, legacy=state)
    maker = Maker(context, clap, on_failure, on_step)
    for batch in batches_of(asked, settings):
        drawn = None
        if context.legacy is not None:
            shape = model.latent_shape(model.geometry(settings.sampling.seconds).latent_frames)
            drawn = context.legacy.noise(len(batch), shape)
        if not all(map(is_done, batch)):
            yield from maker.make(batch, drawn)


class Maker:
    """Makes the clips of a batch.

    Args:
        context: Of the run.
        clap: Compares clips with texts and styles; None: nothing does.
        on_failure: Told of what cannot be made; None: the error is raised.
        on_step: Told of each step.
    """

    def __init__(
        self,
        context: Context,
        clap: ClapEncoder | None,
        on_failure: OnFailure | None,
        on_step: OnStep | None,
    ) -> None:
        self._context, self._clap, self._on_failure, self._on_step = context, clap, on_failure, on_step
        self._settings = context.settings

    def make(self, batch: Sequence[Request], drawn: Tensor | None) -> Iterator[Result]:
        """Make the clips of requests that are made together; with ``drawn``, from this noise, a row for each."""
        started = time.monotonic()
        prepared, places = {}, []
        for place, request in enumerate(batch):
            try:
                prepared[request.index] = prepare(self._context, request)
                places.append(place)
            except (PentatonicError, OSError) as error:
                for variant in range(self._settings.variants):
                    self._failed(request, variant, error)
        if not prepared:
            return
        noises: Noises = own_noises
        if drawn is not None:
            rows = drawn[places]
            noises = lambda seeds, shape: rows  # noqa: E731
        clips: dict[int, list[Clip]] = {}
        made = sample_prepared(self._context, list(prepared.values()), noises=noises, on_step=self._on_step)
        for clip in made:
            clips.setdefault(clip.item.index, []).append(clip)
        rate = self._context.model.sample_rate
        kept: list[Result] = []
        for index, each in prepared.items():
            kept += kept_clips(each, clips[index], self._settings, self._clap, rate, self._failed)
        if self._settings.knob:
            kept = with_knobs(self._context, kept, prepared, self._on_step)
        if self._settings.causal:
            kept = [
                with_effects(self._context, each, prepared[each.request.index], self._clap, self._on_step)
                for each in kept
            ]
        share = (time.monotonic() - started) / max(1, len(kept))
        for result in kept:
            yield replace(result, seconds_taken=share)

    def _failed(self, request: Request, variant: int, error: Exception) -> None:
        known = error if isinstance(error, PentatonicError) else PentatonicError(str(error))
        if self._on_failure is None:
            raise known from error
        self._on_failure(request, variant, known)
