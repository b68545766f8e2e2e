"""Sampling of characters: top-k, then top-p, then temperature, in this order, as in the original (arXiv 2502.18008).

Shapes: V characters; leading dimensions ``...`` are independent draws.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pentatonic.errors import ConfigError, UsageError
from pentatonic.untrusted.config import read_fields

#: File of a checkpoint with its own :class:`Sampling`, by the name and keys that other libraries use, too.
GENERATION_FILE = "generation_config.json"
_STORED = ("top_k", "top_p", "temperature")

# The original adds this to every probability, also of characters that a filter has removed.
FLOOR = 1e-12


@dataclass(frozen=True)
class Sampling:
    """How the next character is chosen.

    Args:
        top_k: Number of likeliest characters to keep; 0: all.
        top_p: Of these, keep the likeliest until the sum of their probabilities exceeds p, in (0, 1]; 1: all.
        temperature: Positive; the kept probabilities are raised to the power of its inverse.
        compat: Reproduce the original exactly: characters that a filter removed keep a probability near 1e-12 before
            temperature, which has an effect at temperatures near 2.

    Raises:
        UsageError: A value is out of its range.
    """

    top_k: int = 9
    top_p: float = 0.9
    temperature: float = 1.2
    compat: bool = False

    def __post_init__(self) -> None:
        if self.top_k < 0:
            raise UsageError(f"top_k must be 0 (all) or more, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must be in (0, 1], got {self.top_p}")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise UsageError(f"temperature must be positive, got {self.temperature}")

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as plain values for JSON: all but ``compat``."""
        return {name: value for name, value in asdict(self).items() if name in _STORED}

    @classmethod
    def from_dict(cls, values: object) -> Sampling:
        """Build from the result of :meth:`to_dict`; a missing key has its usual default.

        Raises:
            ConfigError: It is not an object, a key is unknown, or a value is of another type or out of its range.
        """
        if not isinstance(values, dict) or any(name not in _STORED for name in values):
            raise ConfigError(f"settings of sampling are an object; allowed keys: {', '.join(_STORED)}")
        try:
            return read_fields(cls, values, "")
        except UsageError as error:
            raise ConfigError(str(error)) from error


def probabilities(logits: Tensor, sampling: Sampling, allowed: Tensor | None = None) -> Tensor:
    """Return the probabilities of the next character.

    Args:
        logits: ``(..., V)`` floating; NaN counts as minus infinity.
        sampling: Filters and temperature; without ``compat`` if ``allowed`` is given.
        allowed: ``(..., V)`` bool with at least one true value per row; ``None``: all characters. Other characters are
            removed before the filters, which might otherwise leave no allowed one. The logits of the allowed characters
            decide even if the model gives them no probability; if all are minus infinity, they are equally likely.

    Returns:
        ``(..., V)`` float64; each row has the sum 1. Removed characters are exactly 0 unless ``sampling.compat``.
    """
    if sampling.compat:
        return compat_probabilities(logits.float().softmax(-1), sampling)
    lowest, highest = torch.finfo(torch.float32).min, torch.finfo(torch.float32).max
    logits = torch.nan_to_num(logits.double(), nan=lowest, posinf=highest, neginf=lowest)
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    if 0 < sampling.top_k < logits.shape[-1]:
        kept = logits.topk(sampling.top_k).indices
        logits = torch.full_like(logits, -torch.inf).scatter(-1, kept, logits.gather(-1, kept))
    if sampling.top_p < 1:
        logits = logits.masked_fill(~_nucleus(logits.softmax(-1), sampling.top_p), -torch.inf)
    return (logits / sampling.temperature).softmax(-1)


def compat_probabilities(p: Tensor, sampling: Sampling) -> Tensor:
    """Return the probabilities of the original, with its floor added after every step.

    Args:
        p: ``(..., V)`` probabilities; NaN and negative values count as 0.
        sampling: Filters and temperature.

    Returns:
        ``(..., V)`` float64; each row has the sum 1.
    """
    p = _floored(p)
    if 0 < sampling.top_k < p.shape[-1]:
        kept = p.topk(sampling.top_k).indices
        p = torch.zeros_like(p).scatter(-1, kept, p.gather(-1, kept))
        p = p / p.sum(-1, keepdim=True)
    p = _floored(p)
    if sampling.top_p < 1:
        p = p.masked_fill(~_nucleus(p, sampling.top_p), 0.0)
        p = p / p.sum(-1, keepdim=True)
    p = _floored(p)
    if sampling.temperature != 1:
        p = p ** (1 / sampling.temperature)
        p = p / p.sum(-1, keepdim=True)
    return p


def draw(p: Tensor, uniforms: Tensor) -> Tensor:
    """Choose the first character whose cumulative probability exceeds a uniform number.

    Args:
        p: ``(..., V)`` float64, not negative, with a positive sum.
        uniforms: ``(...)`` float64 in [0, 1).

    Returns:
        ``(...)`` int64; never a character of probability 0.
    """
    cumulative = p.cumsum(-1)
    return (cumulative / cumulative[..., -1:] <= uniforms[..., None]).sum(-1)


def _floored(p: Tensor) -> Tensor:
    p = torch.nan_to_num(p.double(), nan=0.0).clamp_min(0.0) + FLOOR
    return p / p.sum(-1, keepdim=True)


def _nucleus(p: Tensor, top_p: float) -> Tensor:
    """Mark the likeliest characters: those for which the sum of the likelier ones is at most ``top_p``."""
    ordered, index = p.sort(-1, descending=True)
    before = torch.cat((torch.zeros_like(ordered[..., :1]), ordered.cumsum(-1)[..., :-1]), -1)
    return torch.zeros_like(p, dtype=torch.bool).scatter(-1, index, before <= top_p)
