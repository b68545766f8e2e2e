"""Clips longer than the model was trained on: overlapping windows, each of which continues the tail of the one before.

All lengths are in latent frames.
"""

from __future__ import annotations

from dataclasses import dataclass

from pentatonic.errors import UsageError
from rc_audioldm.model import CLIP_SECONDS, AudioLDM

WINDOW_SECONDS = CLIP_SECONDS
OVERLAP_SECONDS = 2.56


@dataclass(frozen=True)
class Window:
    """A window of a clip.

    Args:
        start: First frame.
        length: Number of frames.
        overlap: How many of its first frames the windows before it already hold.
    """

    start: int
    length: int
    overlap: int


def plan_windows(total: int, length: int, overlap: int) -> list[Window]:
    """Cover a clip by windows of one length; the last one ends with the clip and may overlap more.

    Args:
        total: Frames of the clip.
        length: Frames of a window. A shorter clip is one window of its own length.
        overlap: Frames that two windows share.

    Raises:
        UsageError: The overlap is not from 1 to below the length, where there is more than one window.
    """
    if total <= length:
        return [Window(0, total, 0)]
    if not 1 <= overlap < length:
        raise UsageError(
            f"windows of {length} latent frames overlap by {overlap}; allowed: 1 to {length - 1}"
        )
    starts = [*range(0, total - length, length - overlap), total - length]
    return [
        Window(start, length, 0 if index == 0 else starts[index - 1] + length - start)
        for index, start in enumerate(starts)
    ]


def windows_of(
    model: AudioLDM,
    seconds: float,
    *,
    window_seconds: float = WINDOW_SECONDS,
    overlap_seconds: float = OVERLAP_SECONDS,
) -> list[Window]:
    """Return the windows of a clip of a length.

    Args:
        model: Its rates count.
        seconds: Length of the clip.
        window_seconds: Length of a window, at best the one of training.
        overlap_seconds: Rounded to whole latent frames.

    Raises:
        UsageError: A length is outside its range.
    """
    total = model.geometry(seconds).latent_frames
    length = model.geometry(window_seconds).latent_frames
    return plan_windows(total, length, round(overlap_seconds / model.latent_frame_seconds))
