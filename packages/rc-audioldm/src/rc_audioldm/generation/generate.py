"""From requests to clips: find the style, hear, denoise, rank.

A clip is a function of the model, its request, the settings and its own seed, within 1e-5 whatever else is made with
it; with the same requests and settings it is the same to the bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from pentatonic.errors import IncompatibleVectors, NonFiniteAudio, PentatonicError, SilentAudio, UsageError
from rc_audioldm.clap.encoder import CAPTIONS, ClapEncoder
from rc_audioldm.denoising.candidates import rank_candidates
from rc_audioldm.denoising.sampling import Clip, Item, Noises, OnStep, Sampling, own_noises, sample
from rc_audioldm.denoising.schedulers import make_scheduler
from rc_audioldm.denoising.windows import windows_of
from rc_audioldm.evaluation.signal import without_silent_ends
from rc_audioldm.generation.audio_start import same_steps
from rc_audioldm.generation.legacy_modes import LEGACY_MODES, legacy_run
from rc_audioldm.generation.modes import MODES, Context, Heard, Mode, prompt_alone
from rc_audioldm.generation.requests import Request, requests_of
from rc_audioldm.generation.settings import Settings
from rc_audioldm.generation.styles import RequestStyle, StyleFinder
from rc_audioldm.ledger.causal import CausalEffects, leave_one_out
from rc_audioldm.ledger.ledger import Influence
from rc_audioldm.model import AudioLDM
from rc_audioldm.prompts.encoder import PromptEncoder

ALL_MODES: Mapping[str, Mode] = {**MODES, **LEGACY_MODES}
KNOB_STRENGTHS = (0.0, 0.5, 1.0)
LEAST_AGREEMENT = 0.9
"""Mean cosine of the texts of two CLAP models, below which their vectors do not mean the same."""


@dataclass(frozen=True, eq=False)
class Result:
    """A clip, and what shaped it.

    Args:
        request: What was asked for.
        mode: Name of the mode.
        variant: Which of the kept clips of the request, 0 being the best one where they were ranked.
        draw: Which of the clips that were made of it; the noise depends on it.
        seed: Of the noise.
        audio: ``(n,)`` float32 in [-1, 1].
        sample_rate: In Hz.
        prompt_used: The prompt as the model heard it.
        words: That were added to the prompt.
        influences: The clips that shaped it, with their weights and licences.
        cos_text: As in :class:`rc_audioldm.generation.modes.Heard`.
        cos_style: As there.
        clap_text: Cosine of the CLAP vectors of the clip and of the prompt as it was given; None without a CLAP model.
        clap_style: The same with the style; None without one.
        style: Its style, or None.
        vector: CLAP vector ``(D,)`` of the clip, or None.
        scores: Of all clips that were made of the request, by their draw; empty where none was left out.
        knob: Strength -> the same noise at this strength; empty unless it was asked for.
        causal: What each clip of the style did, measured by leaving it out; None unless it was asked for, and without
            clips of a bank in a vector.
        seconds_taken: Share of the time of its batch.
    """

    request: Request
    mode: str
    variant: int
    draw: int
    seed: int
    audio: Tensor
    sample_rate: int
    prompt_used: str
    words: tuple[str, ...] = ()
    influences: tuple[Influence, ...] = ()
    cos_text: float | None = None
    cos_style: float | None = None
    clap_text: float | None = None
    clap_style: float | None = None
    style: RequestStyle | None = None
    vector: Tensor | None = None
    scores: tuple[float, ...] = ()
    knob: Mapping[float, Tensor] = field(default_factory=dict)
    causal: CausalEffects | None = None
    seconds_taken: float = 0.0

    @property
    def strength(self) -> float:
        """Of the style; 0 for a clip without one."""
        return 0.0 if self.style is None else self.request.strength

    @property
    def id(self) -> str:
        """Name of the clip in its run."""
        return f"{self.request.index:03d}_v{self.variant}"


OnFailure = Callable[[Request, int, PentatonicError], None]
"""Told of a request, a variant and why there is no clip of it."""


@dataclass(frozen=True, eq=False)
class _Prepared:
    request: Request
    mode: Mode
    style: RequestStyle | None
    heard: Heard


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
    maker = _Maker(context, clap, on_failure, on_step)
    for batch in _batches(asked, settings):
        drawn = None
        if context.legacy is not None:
            shape = model.latent_shape(model.geometry(settings.sampling.seconds).latent_frames)
            drawn = context.legacy.noise(len(batch), shape)
        if not all(map(is_done, batch)):
            yield from maker.make(batch, drawn)


def mode_of(settings: Settings, request: Request, finder: StyleFinder | None) -> Mode:
    """Return the mode of a request.

    Raises:
        UsageError: There is no such mode.
    """
    name = settings.mode
    if name is None:
        has_style = finder is not None and (finder.bank is not None or request.reference is not None)
        name = "clap-in" if has_style else "prompt"
    if name not in ALL_MODES:
        raise UsageError(f"mode is {name!r}; allowed: {', '.join(ALL_MODES)}")
    return ALL_MODES[name]


def check_settings(
    model: AudioLDM,
    settings: Settings,
    requests: Sequence[Request],
    finder: StyleFinder | None,
    clap: ClapEncoder | None,
    adapter: torch.nn.Module | None,
) -> None:
    """Refuse what cannot work for any request, before any work; arguments and errors as :func:`generate`."""
    sampling = settings.sampling
    make_scheduler(model.scheduler, sampling.denoising.scheduler, sampling.denoising.steps)
    windows = windows_of(
        model,
        sampling.seconds,
        window_seconds=sampling.window_seconds,
        overlap_seconds=sampling.overlap_seconds,
    )
    if settings.mode == "audio-init" and len(windows) > 1:
        raise UsageError(f"a clip that starts from audio can last {sampling.window_seconds:g} s at most")
    if sampling.batch_size < 1:
        raise UsageError(f"the batch size is {sampling.batch_size}; allowed: 1 and more")
    if settings.causal and clap is None:
        raise UsageError("the effect of clips is measured by a CLAP model; give a bank")
    if settings.ranks and clap is None:
        raise UsageError("candidates are ranked by a CLAP model; give one")
    if settings.ranks and settings.rank_by != "text" and finder is None:
        raise UsageError(
            f"candidates are ranked by {settings.rank_by}, and there is no style; give a bank or a reference"
        )
    for mode in {mode_of(settings, request, finder) for request in requests}:
        if model.family not in mode.families:
            allowed = ", ".join(name for name, each in ALL_MODES.items() if model.family in each.families)
            raise UsageError(f"mode is {mode.name}, which {model.family} cannot do; allowed: {allowed}")
        if mode.needs != "nothing" and finder is None:
            raise UsageError(f"the mode {mode.name} needs a bank or a reference")
        if mode.needs in ("labels", "bank") and (finder is None or finder.bank is None):
            raise UsageError(f"the mode {mode.name} needs a bank")
        if mode.name == "adapter" and adapter is None:
            raise UsageError("the mode adapter needs an adapter, as train-adapter makes it")
        if settings.second_guidance and not mode.second_guidance:
            raise UsageError(f"the mode {mode.name} has no second guidance")
        if mode.needs != "nothing" and settings.blend != "slerp" and settings.blend not in mode.blends:
            raise UsageError(
                f"blend is {settings.blend!r}; the mode {mode.name} allows: {', '.join(mode.blends)}"
            )
        if mode.name == "lm-concat" and model.unet.dtype != torch.float32:
            raise UsageError(
                "the mode lm-concat needs a UNet in float32, as half precision cannot hold its bias"
            )
        if mode.in_model_space and finder is not None and finder.dimension != model.clap_width:
            raise IncompatibleVectors(
                f"style vectors have {finder.dimension} dimensions, and the CLAP of the model {model.clap_width}; use "
                "a bank that was made by the CLAP of the model"
            )


def agreement(model: AudioLDM, clap: ClapEncoder) -> float | None:
    """Return how alike the texts of two CLAP models are: the mean cosine of their vectors of eight fixed captions.

    Below ``LEAST_AGREEMENT`` a style vector of the one may mean something else to the other. None where widths differ.
    """
    if clap.dimension != model.clap_width:
        return None
    encoder = PromptEncoder(model)
    own = torch.stack([encoder.clap(caption) for caption in CAPTIONS])
    return float((own * clap.embed_text(CAPTIONS)).sum(1).mean())


def disagreement(alike: float | None, model: str) -> str:
    """Return a warning where two CLAP models differ too much; an empty text otherwise.

    Args:
        alike: As :func:`agreement` gave it.
        model: Name of the model.
    """
    if alike is None or alike >= LEAST_AGREEMENT:
        return ""
    return (
        f"the CLAP models of the bank and of {model} give the same texts vectors with a mean cosine of {alike:.2f} "
        "only, so a style may mean something else to the model"
    )


def _batches(requests: Sequence[Request], settings: Settings) -> Iterator[list[Request]]:
    """Requests that are made together; those that start from audio have one strength, and with it as many steps."""
    size = max(1, settings.sampling.batch_size // settings.made)
    ordered = list(requests)
    key = (lambda each: each.strength) if settings.mode == "audio-init" else (lambda each: 0.0)
    for _, group in groupby(sorted(ordered, key=key), key=key):
        together = list(group)
        for first in range(0, len(together), size):
            yield together[first : first + size]


class _Maker:
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
        prepared, places = [], []
        for place, request in enumerate(batch):
            try:
                prepared.append(self._prepare(request))
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
        for clip in self._sample(prepared, noises):
            clips.setdefault(clip.item.index, []).append(clip)
        kept: list[Result] = []
        for each in prepared:
            kept += self._kept(each, clips[each.request.index])
        if self._settings.knob:
            kept = self._with_knobs(kept, {each.request.index: each for each in prepared})
        if self._settings.causal:
            by_index = {each.request.index: each for each in prepared}
            kept = [self._with_effects(each, by_index[each.request.index]) for each in kept]
        share = (time.monotonic() - started) / max(1, len(kept))
        for result in kept:
            yield replace(result, seconds_taken=share)

    def _prepare(self, request: Request) -> _Prepared:
        context = self._context
        mode = mode_of(self._settings, request, context.finder)
        if mode.needs == "nothing":
            return _Prepared(request, mode, None, prompt_alone(context, request))
        assert context.finder is not None
        style = context.legacy.style(request) if context.legacy else context.finder.find(request)
        if style is None:
            raise UsageError(f"the mode {mode.name} needs a bank, or a reference for each prompt")
        return _Prepared(request, mode, style, self._hear(mode, request, style))

    def _hear(self, mode: Mode, request: Request, style: RequestStyle) -> Heard:
        if request.strength == 0 and not mode.is_legacy:
            return prompt_alone(self._context, request)
        return mode.hear(self._context, request, style)

    def _sample(
        self, prepared: Sequence[_Prepared], noises: Noises, draws: Mapping[int, int] | None = None
    ) -> Iterator[Clip]:
        """Make all clips of requests, or of each the one of a number."""
        sampling: Sampling = self._settings.sampling
        steps = sampling.denoising.steps
        by_index = {each.request.index: each for each in prepared}
        items = [
            Item(
                each.heard.prompt,
                each.request.negative,
                each.request.index,
                self._settings.made if draws is None else 1,
                0 if draws is None else draws[each.request.index],
            )
            for each in prepared
        ]

        def steps_of(item: Item) -> int:
            return same_steps(by_index[item.index].heard.start, steps)

        for _, group in groupby(items, key=lambda item: (steps_of(item), _starts(by_index[item.index]))):
            together = list(group)
            starting = by_index[together[0].index].heard.start is not None
            yield from sample(
                self._context.model,
                together,
                sampling,
                restyle=lambda item, _conditions, _encoder: by_index[item.index].heard.conditions,
                encoder=self._context.encoder,
                starts=(lambda item: by_index[item.index].heard.start) if starting else None,  # type: ignore[arg-type]
                noises=noises,
                on_step=self._on_step,
            )

    def _kept(self, prepared: _Prepared, clips: Sequence[Clip]) -> Iterator[Result]:
        """The best of the clips of a request that can be heard."""
        request, style, heard = prepared.request, prepared.style, prepared.heard
        usable: list[tuple[Clip, Tensor | None, float | None, float | None]] = []
        reason: PentatonicError | None = None
        for clip in clips:
            name = f"{request.index:03d} {request.prompt}"
            if not clip.audio.isfinite().all():
                reason = NonFiniteAudio(name, "the model gave NaN or infinite samples")
            elif not len(without_silent_ends(clip.audio.numpy())):
                reason = SilentAudio(name, "the model gave silence")
            else:
                usable.append((clip, *self._compare(request, style, clip)))
                continue
            if not self._settings.ranks:
                self._failed(request, clip.variant, reason)
        if self._settings.ranks:
            scores = torch.tensor([self._score(text, near) for _, _, text, near in usable])
            order = rank_candidates(scores[None])[0].tolist() if usable else []
            for variant in range(len(order), self._settings.variants):
                assert reason is not None
                self._failed(request, variant, reason)
            numbered = [
                (variant, usable[place]) for variant, place in enumerate(order[: self._settings.variants])
            ]
        else:
            scores, numbered = torch.zeros(0), [(each[0].variant, each) for each in usable]
        for variant, (clip, vector, text, near) in numbered:
            yield Result(
                request,
                prepared.mode.name,
                variant,
                clip.variant,
                clip.seed,
                clip.audio.clamp(-1, 1),
                self._context.model.sample_rate,
                heard.prompt,
                heard.words,
                heard.influences,
                heard.cos_text,
                heard.cos_style,
                text,
                near,
                style,
                vector,
                tuple(scores.tolist()),
            )

    def _compare(
        self, request: Request, style: RequestStyle | None, clip: Clip
    ) -> tuple[Tensor | None, float | None, float | None]:
        """CLAP vector of a clip, and its cosines to the prompt and to the style."""
        if self._clap is None:
            return None, None, None
        vector = self._clap.embed_audio(clip.audio.clamp(-1, 1), self._context.model.sample_rate)[0]
        text = float(vector @ self._clap.embed_text([request.prompt])[0])
        same = style is not None and len(style.vector) == len(vector)
        return vector, text, float(vector @ style.vector) if style is not None and same else None

    def _score(self, text: float | None, style: float | None) -> float:
        wanted = {"text": [text], "style": [style], "both": [text, style]}[self._settings.rank_by]
        values = [each for each in wanted if each is not None]
        if not values:
            raise UsageError(f"candidates are ranked by {self._settings.rank_by}, and a prompt has no style")
        return sum(values) / len(values)

    def _with_knobs(self, kept: list[Result], prepared: Mapping[int, _Prepared]) -> list[Result]:
        """Make the best clip of each request with a style again, at each strength and with its noise."""
        best = [each for each in kept if each.variant == 0 and prepared[each.request.index].style is not None]
        draws = {each.request.index: each.draw for each in best}
        found: dict[int, dict[float, Tensor]] = {index: {} for index in draws}
        for strength in KNOB_STRENGTHS if best else ():
            turned = []
            for each in best:
                own = prepared[each.request.index]
                request = replace(own.request, strength=strength)
                assert own.style is not None
                turned.append(replace(own, request=request, heard=self._hear(own.mode, request, own.style)))
            for clip in self._sample(turned, own_noises, draws):
                found[clip.item.index][strength] = clip.audio.clamp(-1, 1)
        return [
            replace(each, knob=found[each.request.index])
            if each.variant == 0 and each.request.index in found
            else each
            for each in kept
        ]

    def _with_effects(self, result: Result, prepared: _Prepared) -> Result:
        """Leave out each clip of a style in turn, with the same noise."""
        style, mode, finder, clap = prepared.style, prepared.mode, self._context.finder, self._clap
        rows = [each.row for each in result.influences if each.row is not None]
        if style is None or style.bank is None or finder is None or clap is None or not rows:
            return result
        if mode.needs != "style":
            return result
        rate = self._context.model.sample_rate

        def make(rows: Sequence[int], weights: Sequence[float]) -> np.ndarray:
            if rows:
                heard = self._hear(mode, result.request, finder.of_rows(rows, weights, style.bank))
            else:
                heard = prompt_alone(self._context, result.request)
            turned = replace(prepared, heard=heard)
            (clip,) = self._sample([turned], own_noises, {result.request.index: result.draw})
            return clip.audio.clamp(-1, 1).numpy()

        effects = leave_one_out(
            make,
            rows,
            [each.weight for each in result.influences],
            style.bank.rows(rows),
            lambda samples: clap.embed_audio(torch.from_numpy(samples), rate)[0].numpy(),
            rate,
        )
        measured = zip(result.influences, effects.shares, effects.ranks, strict=True)
        influences = tuple(replace(each, effect=share, effect_rank=rank) for each, share, rank in measured)
        return replace(result, influences=influences, causal=effects)

    def _failed(self, request: Request, variant: int, error: Exception) -> None:
        known = error if isinstance(error, PentatonicError) else PentatonicError(str(error))
        if self._on_failure is None:
            raise known from error
        self._on_failure(request, variant, known)


def _starts(prepared: _Prepared) -> bool:
    return prepared.heard.start is not None
