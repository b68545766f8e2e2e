"""Levels of finished sounds: what is louder than full scale is turned down as a whole, not cut off at full scale."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

CEILING = 0.99
"""Peak of a sound that was turned down: so far below full scale that its samples do not count as clipped."""


def turn_down(samples: Tensor) -> tuple[Tensor, float]:
    """Scale a sound whose peak is beyond full scale.

    Args:
        samples: Floating point of any shape, 1 being full scale.

    Returns:
        The samples and their gain: scaled to a peak of ``CEILING`` where the peak is above 1, otherwise as they are
        and 1.0.
    """
    peak = float(samples.abs().max()) if samples.numel() else 0.0
    if not peak > 1:
        return samples, 1.0
    gain = CEILING / peak
    return samples * gain, gain


def gain_text(gain: float) -> str:
    """Return what :func:`turn_down` did, such as ``was turned down by 4.3 dB, as its peak was 1.62 times full scale``.

    Args:
        gain: Above 0; 1 and more gives an empty text.
    """
    if gain >= 1:
        return ""
    return f"was turned down by {-20 * math.log10(gain):.1f} dB, as its peak was {CEILING / gain:.3g} times full scale"


def gain_texts(gain: float, knob_gains: Mapping[float, float]) -> list[str]:
    """Return what was done to a clip and to the same noise at other strengths; empty where nothing was.

    Args:
        gain: Of the clip.
        knob_gains: Strength -> gain.
    """
    turned = {strength: text for strength, each in knob_gains.items() if (text := gain_text(each))}
    own = [text] if (text := gain_text(gain)) else []
    return [*own, *(f"at strength {strength:g} {text}" for strength, text in turned.items())]
