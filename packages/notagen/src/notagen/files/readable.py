"""Text as a model writes it, as a tune that other programs read."""

from __future__ import annotations

from notagen.notation.bars import voice_segments
from notagen.notation.layout import deinterleave
from notagen.notation.rests import final_text
from pentatonic.errors import FormatError


def readable(text: str) -> str:
    """Turn text as a model writes it into a tune in standard layout, with the silent voices put back.

    Args:
        text: ABC; what is not interleaved comes back as it is.

    Returns:
        The tune; interleaved still where its bars do not fit standard layout.
    """
    if not any(voice_segments(line) for line in text.splitlines()):
        return text
    tune = final_text(text)
    try:
        return deinterleave(tune)
    except FormatError:
        return tune
