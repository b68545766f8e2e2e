"""The sound of a piece as the content of an audio file."""

from __future__ import annotations

import tempfile
from pathlib import Path

from notagen.sound.performance import Performance
from notagen.sound.synth import render_audio
from pentatonic import audio


def sound_bytes(
    piece: str | Performance,
    suffix: str,
    *,
    sample_rate: int,
    subtype: str = "PCM_16",
    max_duration_s: float = 600.0,
    soundfont: Path | None = None,
) -> bytes:
    """Play a piece into an audio file.

    Args:
        piece: One tune in ABC, in any layout, or its performance.
        suffix: Of the kind of file, such as ``.wav``; one that :func:`pentatonic.audio.save` writes.
        sample_rate: In Hz.
        subtype: Encoding, as for :func:`pentatonic.audio.save`.
        max_duration_s: As for :func:`notagen.sound.synth.render_audio`.
        soundfont: As for :func:`notagen.sound.synth.render_audio`.

    Returns:
        The content of the file.

    Raises:
        FormatError: The text is not a piece.
        InputError: The piece is longer than :func:`notagen.sound.performance.perform` plays, or FluidSynth fails.
        AudioError: The sound cannot be encoded.
    """
    samples = render_audio(piece, sample_rate=sample_rate, max_duration_s=max_duration_s, soundfont=soundfont)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"piece{suffix}")
        audio.save(path, samples, sample_rate, subtype=subtype)
        return path.read_bytes()
