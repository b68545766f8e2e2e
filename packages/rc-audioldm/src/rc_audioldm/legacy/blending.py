"""The original's two sets of formulas for blends of text and style. Shapes: ``(B, D)``."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pentatonic.errors import UsageError

Mode = Literal["residual", "orth", "concat"]
Selection = Literal["roundrobin", "random", "index"]
Mixing = Literal["residual", "orth", "replace"]

_EPSILON = 1e-9  # beside a norm, where the original divides by hand


def unit(x: Tensor) -> Tensor:
    """Divide rows by their norm plus 1e-9."""
    return x / (x.norm(dim=-1, keepdim=True) + _EPSILON)


def external_blend(
    text: Tensor, style: Tensor, mode: Mode, strength: float, *, renormalise: bool = True
) -> Tensor:
    """Blend as the original's adapter module: ``t + a s``, or with the part of the style that is not in the text.

    Args:
        text: Unit rows.
        style: Unit rows.
        mode: ``concat`` is the same as ``residual``; ``orth`` is always of norm 1.
        strength: Its ``alpha_style``.
        renormalise: Bring the result to norm 1.

    Raises:
        UsageError: The mode is unknown.
    """
    _check(mode, Mode, "mode")
    if mode == "orth":
        part = normalize(style - _along(text, style), dim=-1, eps=1e-6)
        return normalize(text + strength * part, dim=-1)
    blended = text + strength * style
    return normalize(blended, dim=-1) if renormalise else blended


def script_blend(
    text: Tensor, style: Tensor, mode: str, strength: float, *, renormalise: bool = True
) -> Tensor:
    """Blend as the original's scripts where that module is missing.

    Here the part of ``orth`` keeps its length, ``concat`` is a weighted mean, and any other mode gives the text.

    Args:
        text: Unit rows.
        style: Unit rows.
        mode: ``residual``, ``orth``, ``concat``, or anything else.
        strength: Its ``alpha_style``.
        renormalise: Bring the result to norm 1.
    """
    if mode == "residual":
        blended = text + strength * style
    elif mode == "orth":
        blended = text + strength * (style - _along(text, style))
    elif mode == "concat":
        blended = (1 - strength) * text + strength * style
    else:
        blended = text
    return unit(blended) if renormalise else blended


def select_style_rows(bank: Tensor, count: int, selection: Selection, seed: int) -> Tensor:
    """Return the vectors of a bank that the original gives to prompts; arguments and errors as :func:`style_rows`.

    Args:
        bank: ``(N, D)``.
        count: Number of prompts.
        selection: Which rows.
        seed: Of ``random``.
    """
    return unit(bank[torch.from_numpy(style_rows(len(bank), count, selection, seed))])


def style_rows(size: int, count: int, selection: Selection, seed: int) -> np.ndarray:
    """Return the rows of a bank that the original gives to prompts, in which no similarity counts.

    Args:
        size: Rows of the bank, N.
        count: Number of prompts.
        selection: ``roundrobin`` takes row i mod N for prompt i, ``index`` row min(i, N - 1), ``random`` any.
        seed: Of ``random``.

    Returns:
        ``(count,)`` int64.

    Raises:
        UsageError: The selection is unknown, or the bank is empty.
    """
    _check(selection, Selection, "selection")
    if not size:
        raise UsageError("the style bank has no rows")
    if selection == "roundrobin":
        return np.arange(count) % size
    if selection == "index":
        return np.minimum(np.arange(count), size - 1)
    return np.random.default_rng(seed).integers(0, size, count)


def mix_condition(condition: Tensor, style: Tensor, mixing: Mixing, beta: float) -> Tensor:
    """Mix a blended row into the pipeline's own condition, as the original does for AudioLDM 1.

    Args:
        condition: Unit rows of the prompt.
        style: Unit blended rows.
        mixing: The original's ``cond_mix``.
        beta: Its ``cond_mix_beta``.

    Raises:
        UsageError: The mixing is unknown.
    """
    _check(mixing, Mixing, "mixing")
    if mixing == "replace":
        return style
    if mixing == "orth":
        return unit(condition + beta * (style - _along(condition, style)))
    return unit((1 - beta) * condition + beta * style)


def to_hidden_size(x: Tensor, size: int, how: Literal["pad", "linear"], seed: int) -> Tensor:
    """Bring vectors to the width of a language model, as the original does.

    Args:
        x: ``(..., D)``.
        size: The width; vectors of it come back unchanged.
        how: ``pad`` adds zeros or cuts; ``linear`` multiplies by a random matrix, the same one for a seed.
        seed: Of the matrix, which is drawn on the CPU (the original draws on the device of ``x``).
    """
    width = x.shape[-1]
    if width == size:
        return x
    if how == "pad":
        return torch.nn.functional.pad(x, (0, size - width))  # a negative number cuts
    if how != "linear":
        raise UsageError(f"style2lm_map is {how!r}; allowed: pad, linear")
    bound = width**-0.5
    matrix = torch.empty(size, width).uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
    return x @ matrix.to(x).T


def _along(text: Tensor, style: Tensor) -> Tensor:
    """The part of the style that is in the text."""
    return (style * text).sum(-1, keepdim=True) * text


def _check(value: str, kind: object, name: str) -> None:
    if value not in (allowed := get_args(kind)):
        raise UsageError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
