"""A finished clip, and what shaped it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from rc_audioldm.generation.requests import Request
from rc_audioldm.generation.styles import RequestStyle
from rc_audioldm.ledger.causal import CausalEffects
from rc_audioldm.ledger.ledger import Influence


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
        knob: Strength -> the same noise at this strength, in [-1, 1]; empty unless it was asked for.
        causal: What each clip of the style did, measured by leaving it out; None unless it was asked for, and without
            clips of a bank in a vector.
        seconds_taken: Share of the time of its batch.
        gain: What the model's samples were multiplied with; below 1 where their peak was above 1.
        knob_gains: Strength -> gain of that clip, as ``gain``.
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
    gain: float = 1.0
    knob_gains: Mapping[float, float] = field(default_factory=dict)

    @property
    def strength(self) -> float:
        """Of the style; 0 for a clip without one."""
        return 0.0 if self.style is None else self.request.strength

    @property
    def id(self) -> str:
        """Name of the clip in its run."""
        return f"{self.request.index:03d}_v{self.variant}"
