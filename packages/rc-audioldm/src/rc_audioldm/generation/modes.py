"""Modes: the ways in which a style, or nothing, reaches the model. One table, one small function each.

Every mode with a strength gives at strength 0 what the prompt alone gives, to the bit. The modes ``legacy-*`` do what
the original's programs do, which follow neither the style nor the prompt as well; they are for comparison.

Shapes: D dimensions of CLAP, N states of width H.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from pentatonic.errors import InputError, UsageError
from rc_audioldm.denoising.loop import Start
from rc_audioldm.denoising.sampling import ItemConditions
from rc_audioldm.generation.audio_start import start_of
from rc_audioldm.generation.requests import Request
from rc_audioldm.generation.settings import Settings
from rc_audioldm.generation.styles import RequestStyle, StyleFinder
from rc_audioldm.ledger.ledger import Influence, Role
from rc_audioldm.model import AudioLDM, Family
from rc_audioldm.prompts.augmentation import MAX_WORDS, augment, style_words
from rc_audioldm.prompts.conditions import Condition
from rc_audioldm.prompts.encoder import PromptEncoder
from rc_audioldm.style.blending import blend, cosines

BOTH: tuple[Family, ...] = ("audioldm", "audioldm2")
SECOND: tuple[Family, ...] = ("audioldm2",)
_STATE_BLENDS = ("slerp", "linear")
Needs = Literal["nothing", "style", "labels", "audio", "bank"]


@dataclass(frozen=True, eq=False)
class Context:
    """What all requests of a run share.

    Args:
        model: The model.
        encoder: Of its prompts.
        settings: How clips are generated.
        finder: Finds styles; None: there are none.
        adapter: From styles ``(B, D)`` to states ``(B, N, H)``, for the mode ``adapter``.
        legacy: State of a mode of the original.
    """

    model: AudioLDM
    encoder: PromptEncoder
    settings: Settings
    finder: StyleFinder | None = None
    adapter: torch.nn.Module | None = None
    legacy: Any = None

    def plain(self, request: Request, prompt: str | None = None) -> ItemConditions:
        """Return what is heard of a prompt without a style."""
        prompt = request.prompt if prompt is None else prompt
        uses = self.settings.sampling.denoising.guidance.uses_negative
        negative = self.encoder.encode_negative(request.negative, prompt) if uses else None
        return ItemConditions(self.encoder.encode(prompt), negative)

    def styled(self, plain: ItemConditions, styled: Condition) -> ItemConditions:
        """Return a condition with a style in the place of the plain one, or beside it for a second guidance."""
        if self.settings.second_guidance:
            return replace(plain, styled=styled)
        return replace(plain, prompt=styled)


@dataclass(frozen=True, eq=False)
class Heard:
    """What the model hears of a request.

    Args:
        prompt: The text that it reads.
        conditions: What follows from it and from the style.
        start: What the clip starts from instead of noise alone.
        influences: The clips that shaped it; none at strength 0.
        words: That were added to the prompt.
        cos_text: How near what is heard is to what the prompt alone gives, as a cosine; None where it is no vector.
        cos_style: The same of the style alone.
    """

    prompt: str
    conditions: ItemConditions
    start: Start | None = None
    influences: tuple[Influence, ...] = ()
    words: tuple[str, ...] = ()
    cos_text: float | None = None
    cos_style: float | None = None


Hear = Callable[[Context, Request, RequestStyle], Heard]


@dataclass(frozen=True)
class Mode:
    """A mode.

    Args:
        name: Of the mode.
        about: What it does, in a line.
        families: Which models can do it.
        needs: What a request must have for it.
        hear: What the model hears of a request with a style.
        in_model_space: Whether style vectors take the place of the model's own, so that their CLAP must be the same.
        blends: Which blends it allows.
        second_guidance: Whether a second guidance is possible.
    """

    name: str
    about: str
    families: tuple[Family, ...]
    needs: Needs
    hear: Hear
    in_model_space: bool = False
    blends: tuple[str, ...] = field(default=("slerp",))
    second_guidance: bool = True

    @property
    def is_legacy(self) -> bool:
        """Whether it is one of the original's."""
        return self.name.startswith("legacy-")


def prompt_alone(context: Context, request: Request) -> Heard:
    """The prompt, and no style."""
    return Heard(request.prompt, context.plain(request))


def clap_in(context: Context, request: Request, style: RequestStyle) -> Heard:
    """The vector of the prompt is moved towards the style, before the model reads it."""
    plain = context.plain(request)
    text, vector = context.encoder.clap(request.prompt), style.vector
    mixed = blend(text[None], vector[None], request.strength, context.settings.blend)[0]
    near = cosines(mixed, text, vector)
    return Heard(
        request.prompt,
        context.styled(plain, context.encoder.encode(request.prompt, clap=mixed)),
        influences=style.influences,
        cos_text=float(near[0]),
        cos_style=float(near[1]),
    )


def lm_mix(context: Context, request: Request, style: RequestStyle) -> Heard:
    """The language model writes states for the prompt and for the style, and each pair is joined."""
    return _mixed(context, request, style, _style_states(context, request, style))


def adapter(context: Context, request: Request, style: RequestStyle) -> Heard:
    """As :func:`lm_mix`, with states that a trained network predicts from the style."""
    if context.adapter is None:
        raise UsageError("the mode adapter needs an adapter, as train-adapter makes it")
    with torch.no_grad():
        states = context.adapter(style.vector[None])[0]
    return _mixed(context, request, style, states)


def lm_concat(context: Context, request: Request, style: RequestStyle) -> Heard:
    """States for the style stand beside those for the prompt, and a bias says how much attention they get."""
    plain, strength = context.plain(request), request.strength
    text, states = _states(plain.prompt), _style_states(context, request, style)
    if strength < 1:
        both = torch.cat([text, states])
        bias = both.new_zeros(len(both))
        bias[len(text) :] = math.log(strength / (1 - strength))
        heard = plain.prompt.replaced(states=both, states_bias=bias)
    else:
        heard = plain.prompt.replaced(states=states)
    mean = (1 - strength) * text.mean(0) + strength * states.mean(0)
    near = cosines(mean, text.mean(0), states.mean(0))
    return Heard(
        request.prompt,
        context.styled(plain, heard),
        influences=style.influences,
        cos_text=float(near[0]),
        cos_style=float(near[1]),
    )


def augment_prompt(context: Context, request: Request, style: RequestStyle) -> Heard:
    """Labels of the neighbours are added to the prompt, as many as the strength says and the encoders read."""
    most = max(1, round(request.strength * MAX_WORDS))
    found = style_words(request.prompt, style.labels, most=most)
    prompt = augment(request.prompt, found, context.encoder.fits)
    words = tuple(word for word in found if f", {word}" in prompt[len(request.prompt) :])
    plain = context.plain(request)
    heard = context.plain(request, prompt)
    if context.settings.second_guidance:
        heard = replace(plain, styled=heard.prompt)
    finder = context.finder
    assert finder is not None
    new, old = finder.encoder.embed_text([prompt, request.prompt])
    near = cosines(new, old, style.vector)
    return Heard(
        prompt,
        heard,
        influences=_that_gave(words, style),
        words=words,
        cos_text=float(near[0]),
        cos_style=float(near[1]),
    )


def audio_init(context: Context, request: Request, style: RequestStyle) -> Heard:
    """The clip starts from the nearest clip, or the reference, under noise."""
    sampling = context.settings.sampling
    file = style.files[0]
    if file is None:
        raise InputError(f"{style.influences[0].clip}: the bank does not say where its clips are")
    start = start_of(context.model, file, sampling.seconds, sampling.denoising.steps, request.strength)
    first = replace(style.influences[0], weight=1.0, role="start")
    return Heard(request.prompt, context.plain(request), start=start, influences=(first,))


def _mixed(context: Context, request: Request, style: RequestStyle, states: Tensor) -> Heard:
    plain = context.plain(request)
    text = _states(plain.prompt)
    if states.shape != text.shape:
        raise UsageError(
            f"the adapter gives states of the shape {tuple(states.shape)}; this model hears {tuple(text.shape)}"
        )
    mixed = _joined(text, states, request.strength, context.settings.blend)
    near = cosines(mixed.flatten(), text.flatten(), states.flatten())
    return Heard(
        request.prompt,
        context.styled(plain, plain.prompt.replaced(states=mixed)),
        influences=style.influences,
        cos_text=float(near[0]),
        cos_style=float(near[1]),
    )


def _joined(text: Tensor, style: Tensor, strength: float, how: str) -> Tensor:
    """States on the way from one to the other: along the chord, or along the arc with lengths on the chord."""
    if how == "linear":
        return (1 - strength) * text + strength * style
    lengths = [each.norm(dim=-1, keepdim=True) for each in (text, style)]
    units = [each / length for each, length in zip((text, style), lengths, strict=True)]
    return blend(units[0], units[1], strength) * ((1 - strength) * lengths[0] + strength * lengths[1])


def _style_states(context: Context, request: Request, style: RequestStyle) -> Tensor:
    return _states(context.encoder.encode(request.prompt, clap=style.vector))


def _states(condition: Condition) -> Tensor:
    assert condition.states is not None
    return condition.states


def _that_gave(words: tuple[str, ...], style: RequestStyle) -> tuple[Influence, ...]:
    """The clips that carry a word, with their shares among themselves."""
    role: Role = "words"
    chosen = [
        influence
        for influence, label in zip(style.influences, style.labels, strict=True)
        if set(words) & set(style_words("", [label], most=len(label.labels)))
    ]
    total = sum(each.weight for each in chosen)
    return tuple(replace(each, weight=each.weight / total, role=role) for each in chosen) if total else ()


def _nothing(context: Context, request: Request, style: RequestStyle) -> Heard:
    return prompt_alone(context, request)


MODES: Mapping[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("prompt", "the prompt alone", BOTH, "nothing", _nothing),
        Mode(
            *("clap-in", "the CLAP vector of the prompt moves towards the style", BOTH, "style", clap_in),
            in_model_space=True,
            blends=("slerp", "linear", "add", "orth", "none"),
        ),
        Mode(
            *("lm-mix", "language states of prompt and style are mixed", SECOND, "style", lm_mix),
            in_model_space=True,
            blends=_STATE_BLENDS,
        ),
        Mode(
            *("lm-concat", "language states of the style beside the prompt's", SECOND, "style", lm_concat),
            in_model_space=True,
        ),
        Mode(
            *(
                "adapter",
                "a trained network writes the language states of the style",
                SECOND,
                "style",
                adapter,
            ),
            blends=_STATE_BLENDS,
        ),
        Mode(
            "augment", "labels of the nearest clips are added to the prompt", BOTH, "labels", augment_prompt
        ),
        Mode(
            *(
                "audio-init",
                "the clip starts from the nearest clip or the reference",
                BOTH,
                "audio",
                audio_init,
            ),
            second_guidance=False,
        ),
    )
}
"""Modes by name, without those of the original, which :mod:`rc_audioldm.generation.legacy_modes` adds."""
