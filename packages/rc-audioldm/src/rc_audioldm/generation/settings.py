"""How clips are generated: what holds for all requests of a run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from pentatonic.errors import UsageError
from rc_audioldm.bank.asking import Terms
from rc_audioldm.denoising.sampling import Sampling
from rc_audioldm.legacy.blending import Mode as LegacyBlend
from rc_audioldm.legacy.blending import Selection
from rc_audioldm.style.blending import MODES as BLENDS
from rc_audioldm.style.blending import Mode as Blend
from rc_audioldm.style.vectors import DEFAULT_NEIGHBOURS, DEFAULT_TEMPERATURE

RankBy = Literal["text", "style", "both"]
FALLBACK_BELOW = 0.30


@dataclass(frozen=True)
class Retrieval:
    """How a style is found in a bank.

    Args:
        neighbours: Clips in a style.
        temperature: Of the softmax that weighs them.
        terms: Which licences a clip may have.
        fallback_below: Mean similarity below which the auxiliary bank is used.
    """

    neighbours: int = DEFAULT_NEIGHBOURS
    temperature: float = DEFAULT_TEMPERATURE
    terms: Terms = "any"
    fallback_below: float = FALLBACK_BELOW

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise UsageError(f"neighbours is {self.neighbours}; allowed: 1 and more")
        if self.terms not in get_args(Terms):
            raise UsageError(f"terms is {self.terms!r}; allowed: {', '.join(get_args(Terms))}")


@dataclass(frozen=True)
class LegacyOptions:
    """Options of the original, for its modes alone; those that a mode does not have must be left at their defaults.

    Args:
        alpha: Its ``alpha_style``; None: the default of each of its programs.
        beta: Its ``cond_mix_beta``, of the modes ``legacy-cond-*``.
        blend: Its ``blend_mode``: ``plain`` or ``orth`` of ``legacy-embed``, all but ``plain`` of the others.
        selection: Its ``style_select``, of all but ``legacy-embed``.
        prior: Its ``text_prior``, of ``legacy-embed`` as all that follow: a text that prompts move towards.
        prior_weight: Its ``prior_weight``, 0 to 1; above 0 exactly with a prior.
        anchor_weight: Its ``music_anchor_weight``, 0 to 1: how far prompts move towards music without vocals.
        gate_margin: Its ``style_gate_margin``, 0 to 1: styles that are no nearer to the prompt are left out.
        speech_push: Its ``speech_push``, 0 and more: how far to move away from speech.
        centre: Its ``center_style_bank``: take the mean of the bank off its rows, which clips are then compared with.
        normalise: Its ``normalize_after_blend``: bring the blended vector to norm 1.

    Raises:
        UsageError: A value is out of its range, or there is a prior without its weight or the other way round.
    """

    alpha: float | None = None
    beta: float = 0.18
    blend: LegacyBlend | Literal["plain"] = "orth"
    selection: Selection = "roundrobin"
    prior: str = ""
    prior_weight: float = 0.0
    anchor_weight: float = 0.0
    gate_margin: float = 0.0
    speech_push: float = 0.0
    centre: bool = False
    normalise: bool = False

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "speech_push"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{legacy_option(name)} is {value}; allowed: 0 and more")
        for name in ("prior_weight", "anchor_weight", "gate_margin"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise UsageError(f"{legacy_option(name)} is {value}; allowed: 0 to 1")
        if bool(self.prior.strip()) != (self.prior_weight > 0):
            raise UsageError(
                f"legacy-prior is {self.prior!r} and legacy-prior-weight {self.prior_weight}; allowed: a text with a "
                "weight above 0, or neither"
            )


def legacy_option(name: str) -> str:
    """Return a field of :class:`LegacyOptions` as the command line calls it, without the dashes before it."""
    return "legacy-select" if name == "selection" else f"legacy-{name.replace('_', '-')}"


@dataclass(frozen=True)
class Settings:
    """How clips are generated.

    Args:
        mode: A name of :data:`rc_audioldm.generation.modes.MODES`; None: ``clap-in`` for requests with a style and
            ``prompt`` for the others.
        sampling: Length, seed, scheduler, steps, guidance and batch size.
        variants: Clips that are kept of each request.
        candidates: Clips that are made of each request, of which the best are kept; at least as many as are kept.
        rank_by: What the best ones are nearest to: the text, the style, or the mean of both.
        blend: How the vectors of text and style are joined.
        second_guidance: The text guides towards the prompt alone, and ``sampling.denoising.guidance.style`` from there
            towards the prompt with its style.
        retrieval: How a style is found in a bank.
        legacy: Options of the original's modes.
        knob: Also make each clip at the strengths 0, 0.5 and 1, with the same noise.
        causal: Measure what each clip of a style does, by leaving it out with the same noise.

    Raises:
        UsageError: A value is out of its range.
    """

    mode: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    variants: int = 1
    candidates: int = 1
    rank_by: RankBy = "text"
    blend: Blend = "slerp"
    second_guidance: bool = False
    retrieval: Retrieval = field(default_factory=Retrieval)
    legacy: LegacyOptions = field(default_factory=LegacyOptions)
    knob: bool = False
    causal: bool = False

    def __post_init__(self) -> None:
        if self.variants < 1 or self.candidates < 1:
            raise UsageError(
                f"variants are {self.variants} and candidates {self.candidates}; allowed: 1 and more"
            )
        if self.rank_by not in get_args(RankBy):
            raise UsageError(f"rank-by is {self.rank_by!r}; allowed: {', '.join(get_args(RankBy))}")
        if self.blend not in BLENDS:
            raise UsageError(f"blend is {self.blend!r}; allowed: {', '.join(BLENDS)}")

    @property
    def made(self) -> int:
        """Clips that are made of each request."""
        return max(self.variants, self.candidates)

    @property
    def ranks(self) -> bool:
        """Whether some clips are left out."""
        return self.made > self.variants

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)
