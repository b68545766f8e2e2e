"""What the original's programs do, as modes to compare with. Nobody should generate with them.

Their style is no neighbour of the prompt: rows of the bank are taken in order. Strengths do not count, and neither do
the seeds of single clips: one generator serves the whole run, so that a clip depends on all before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from pentatonic.errors import UsageError
from rc_audioldm.denoising.sampling import ItemConditions
from rc_audioldm.generation.modes import SECOND, Context, Heard, Mode
from rc_audioldm.generation.requests import Request
from rc_audioldm.generation.settings import LegacyOptions, Settings, legacy_option
from rc_audioldm.generation.styles import RequestStyle, StyleFinder
from rc_audioldm.legacy.blending import Mixing, external_blend, mix_condition, style_rows, unit
from rc_audioldm.legacy.blending import Mode as Blend
from rc_audioldm.legacy.inputs import (
    MUSIC_ANCHOR,
    SPEECH,
    EmbedMode,
    embed_mode,
    language_inputs,
    retrieval_noise,
)
from rc_audioldm.model import Family
from rc_audioldm.prompts.conditions import Condition
from rc_audioldm.style.blending import cosines

FIRST: tuple[Family, ...] = ("audioldm",)
_ALPHA_AUDIOLDM, _ALPHA_AUDIOLDM2, _ALPHA_EMBED = 0.06, 0.08, 0.12
_BLENDS = {True: ("plain", "orth"), False: ("residual", "orth", "concat")}
"""Blends of the embed mode, and of all others."""


@dataclass(eq=False)
class LegacyRun:
    """What a run of the original carries from one clip to the next.

    Args:
        styles: Of each request, in their order.
        first: Number of the first request.
        generator: Of all noise.
        doubled: Noise is drawn for twice as many clips.
        guidance: Of the text.
    """

    styles: list[RequestStyle]
    first: int
    generator: torch.Generator
    doubled: bool
    guidance: float

    def style(self, request: Request) -> RequestStyle:
        """Return the style that a request gets."""
        return self.styles[request.index - self.first]

    def noise(self, count: int, shape: tuple[int, ...]) -> Tensor:
        """Draw the noise of the next batch, ``(count, C, T, F)``."""
        channels, frames, bands = shape
        guidance = self.guidance if self.doubled else 0.0
        return retrieval_noise(self.generator, count, (channels, frames, bands), guidance)


def legacy_run(mode: Mode, requests: Sequence[Request], settings: Settings, finder: StyleFinder) -> LegacyRun:
    """Prepare a run as the original does it.

    Args:
        mode: One of :data:`LEGACY_MODES`.
        requests: All requests of the run.
        settings: How clips are generated.
        finder: Has the bank.

    Raises:
        UsageError: There is no bank, or a setting is one that the original does not have.
    """
    if finder.bank is None:
        raise UsageError(f"the mode {mode.name} needs a bank")
    if settings.made > 1 or settings.knob or settings.causal:
        raise UsageError(f"the mode {mode.name} makes one clip of each prompt: nothing else is possible")
    if settings.sampling.seconds > settings.sampling.window_seconds:
        raise UsageError(f"the mode {mode.name} makes at most {settings.sampling.window_seconds:g} s")
    sampling = settings.sampling
    rows = style_rows(len(finder.bank), len(requests), settings.legacy.selection, sampling.seed)
    styles = [finder.of_rows([int(row)]) for row in rows]
    if settings.legacy.centre:
        if finder.has_projector:
            raise UsageError(
                "legacy-centre and a projector exclude each other: the original centres rows of the bank"
            )
        vectors = torch.from_numpy(np.array(finder.bank.vectors))
        centred = unit(vectors - vectors.mean(dim=0))
        styles = [replace(each, vector=centred[int(row)]) for each, row in zip(styles, rows, strict=True)]
    return LegacyRun(
        styles,
        requests[0].index if requests else 0,
        torch.Generator().manual_seed(sampling.seed),
        mode.name.startswith("legacy-cond-"),
        sampling.denoising.guidance.text,
    )


def check_legacy_options(mode: Mode, options: LegacyOptions) -> None:
    """Refuse options of the original that a mode does not have.

    Args:
        mode: Any mode.
        options: The options; those at their defaults are always allowed.

    Raises:
        UsageError: The mode does not have an option that was set; the message names those that do.
    """
    for option in fields(options):
        value, allowed = getattr(options, option.name), _modes_with(option.name)
        if value != option.default and mode.name not in allowed:
            name = legacy_option(option.name)
            raise UsageError(f"the mode {mode.name} has no {name}; allowed with it: {', '.join(allowed)}")
    blends = _BLENDS[mode.name == "legacy-embed"]
    if options.blend not in blends:
        raise UsageError(
            f"legacy-blend is {options.blend!r}; the mode {mode.name} allows: {', '.join(blends)}"
        )


def _modes_with(option: str) -> list[str]:
    """Names of the modes that have an option of the original."""
    if option in ("alpha", "blend"):
        return list(LEGACY_MODES)
    if option == "beta":
        return [name for name in LEGACY_MODES if name.startswith("legacy-cond-")]
    return [name for name in LEGACY_MODES if (name == "legacy-embed") != (option == "selection")]


def cond_mix(mixing: Mixing) -> Callable[[Context, Request, RequestStyle], Heard]:
    """``aldm1_retrieval_infer.py``: a blend is mixed into the vector of the prompt, and the negative is lost."""

    def hear(context: Context, request: Request, style: RequestStyle) -> Heard:
        text, options = _text(context, request.prompt), context.settings.legacy
        alpha = _ALPHA_AUDIOLDM if options.alpha is None else options.alpha
        blended = external_blend(text[None], style.vector[None], cast(Blend, options.blend), alpha)
        condition = context.encoder.clap(request.prompt)
        mixed = mix_condition(condition[None], blended, mixing, options.beta)[0]
        uses = context.settings.sampling.denoising.guidance.uses_negative
        negative = context.encoder.encode_negative("", request.prompt) if uses else None
        return _heard(request, ItemConditions(Condition(vector=mixed), negative), style, mixed, condition)

    return hear


def embed(context: Context, request: Request, style: RequestStyle) -> Heard:
    """``exp2_audioldm1_retrieval.py`` in its embed mode: part of the style is added to the vector of the prompt."""
    options = context.settings.legacy
    alpha = _ALPHA_EMBED if options.alpha is None else options.alpha
    how = EmbedMode(
        alpha_style=alpha,
        blend_mode="orth" if options.blend == "orth" else "plain",
        prior_weight=options.prior_weight,
        music_anchor_weight=options.anchor_weight,
        style_gate_margin=options.gate_margin,
        speech_push=options.speech_push,
        normalize_after_blend=options.normalise,  # styles are centred once for the run
    )
    text = _text(context, request.prompt)
    mixed = embed_mode(
        *(text[None], style.vector[None], how),
        prior=_text(context, options.prior) if options.prior_weight else None,
        anchor=_text(context, MUSIC_ANCHOR) if options.anchor_weight else None,
        speech=_text(context, SPEECH) if options.speech_push else None,
    )[0]
    plain = context.plain(request)
    return _heard(request, replace(plain, prompt=Condition(vector=mixed)), style, mixed, text)


def language_vector(how: Literal["pad", "linear"]) -> Callable[[Context, Request, RequestStyle], Heard]:
    """``aldm2_retrieval_infer.py``: one CLAP vector stands where the model has learned to hear eight states."""

    def hear(context: Context, request: Request, style: RequestStyle) -> Heard:
        finder, options, sampling = context.finder, context.settings.legacy, context.settings.sampling
        assert finder is not None
        alpha = _ALPHA_AUDIOLDM2 if options.alpha is None else options.alpha
        text, empty = finder.encoder.embed_text([request.prompt, ""])
        blended = external_blend(text[None], style.vector[None], cast(Blend, options.blend), alpha)

        def condition(prompt: str, vector: Tensor) -> Condition:
            inputs = language_inputs(context.model, [prompt], vector, how, sampling.seed)
            mask = inputs.attention_mask[0].bool()  # what it hides changes nothing
            return Condition(states=inputs.generated_prompt_embeds[0], text=inputs.prompt_embeds[0][mask])

        uses = sampling.denoising.guidance.uses_negative
        negative = condition(request.negative, empty[None]) if uses else None
        conditions = ItemConditions(condition(request.prompt, blended), negative)
        return _heard(request, conditions, style, blended[0], text)

    return hear


def _text(context: Context, text: str) -> Tensor:
    """The vector of a text by the CLAP model of the bank, which the original loads beside the pipeline."""
    assert context.finder is not None
    return context.finder.encoder.embed_text([text])[0]


def _heard(
    request: Request, conditions: ItemConditions, style: RequestStyle, mixed: Tensor, text: Tensor
) -> Heard:
    near = cosines(mixed, text, style.vector)
    return Heard(
        request.prompt,
        conditions,
        influences=style.influences,
        cos_text=float(near[0]),
        cos_style=float(near[1]),
    )


def _legacy(name: str, about: str, families: tuple[Family, ...], hear: Callable[..., Heard]) -> Mode:
    return Mode(
        f"legacy-{name}",
        about,
        families,
        "bank",
        hear,
        in_model_space=True,
        second_guidance=False,
    )


LEGACY_MODES = {
    mode.name: mode
    for mode in (
        _legacy("cond-residual", "the original's cond_mix residual", FIRST, cond_mix("residual")),
        _legacy("cond-orth", "the original's cond_mix orth", FIRST, cond_mix("orth")),
        _legacy("cond-replace", "the original's cond_mix replace", FIRST, cond_mix("replace")),
        _legacy("embed", "the original's embed mode", FIRST, embed),
        _legacy(
            "lm-pad", "the original's CLAP vector padded to a language state", SECOND, language_vector("pad")
        ),
        _legacy("lm-linear", "the same through a random matrix", SECOND, language_vector("linear")),
    )
}
"""The original's behaviours by name."""
