"""Blends of the vector of a text with a style vector, in the space of CLAP.

Shapes: ``(..., D)`` unit rows.

:func:`blend` has one strength for every mode. The formulas of the original, whose effect is far weaker and differs
between its two places, are in :mod:`rc_audioldm.legacy.blending`.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pentatonic.errors import UsageError

Mode = Literal["slerp", "linear", "add", "orth", "none"]
MODES: tuple[Mode, ...] = get_args(Mode)

_SMALLEST_SINE = 1e-4
_SMALLEST_NORM = 1e-6


def blend(text: Tensor, style: Tensor, strength: float, mode: Mode = "slerp") -> Tensor:
    """Move from the text towards the style.

    ``slerp`` goes along the arc between the two, ``linear`` along the chord, and both end at the style. ``add`` adds up
    to one style to the text. ``orth`` adds up to one unit of what of the style is not in the text; where the two are
    the same there is no such part, and the text comes back.

    Args:
        text: Unit rows of the text, ``(..., D)``.
        style: Unit rows of the style, of the same shape.
        strength: 0 returns ``text`` itself; 1 is the strongest setting of the mode.
        mode: How the two are joined; ``none`` ignores the style.

    Returns:
        ``(..., D)`` rows of norm 1.

    Raises:
        UsageError: The mode is unknown, the strength is not from 0 to 1, or the shapes differ.
    """
    if mode not in MODES:
        raise UsageError(f"blend is {mode!r}; allowed: {', '.join(MODES)}")
    if not 0 <= strength <= 1:
        raise UsageError(f"strength is {strength}; allowed: 0 to 1")
    if text.shape != style.shape:
        raise UsageError(
            f"text has the shape {tuple(text.shape)} and style {tuple(style.shape)}; they must agree"
        )
    if mode == "none" or strength == 0:
        return text
    if mode == "slerp":
        return _slerp(text, style, strength)
    if mode == "linear":
        return _unit_or(text, (1 - strength) * text + strength * style)
    if mode == "add":
        return _unit_or(text, text + strength * style)
    rest = style - (text * style).sum(-1, keepdim=True) * text
    length = rest.norm(dim=-1, keepdim=True)
    blended = normalize(text + strength * rest / length.clamp_min(_SMALLEST_NORM), dim=-1)
    return torch.where(length > _SMALLEST_NORM, blended, text)


def cosines(blended: Tensor, text: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
    """Return how near blended rows are to the text and to the style, as cosines ``(...)``."""
    return tuple(torch.cosine_similarity(blended, each, dim=-1) for each in (text, style))  # type: ignore[return-value]


def _slerp(text: Tensor, style: Tensor, strength: float) -> Tensor:
    # Exact for rows that are nearly equal or opposite too, where the arc cosine is not.
    apart, together = ((text + sign * style).norm(dim=-1, keepdim=True) for sign in (-1, 1))
    angle = 2 * torch.atan2(apart, together)
    sine = angle.sin()
    arc = ((1 - strength) * angle).sin() * text + (strength * angle).sin() * style
    chord = _unit_or(text, (1 - strength) * text + strength * style)
    return torch.where(sine > _SMALLEST_SINE, normalize(arc / sine.clamp_min(_SMALLEST_SINE), dim=-1), chord)


def _unit_or(fallback: Tensor, rows: Tensor) -> Tensor:
    """Rows at norm 1; the fallback where opposite rows leave nothing."""
    return torch.where(rows.norm(dim=-1, keepdim=True) > _SMALLEST_NORM, normalize(rows, dim=-1), fallback)
