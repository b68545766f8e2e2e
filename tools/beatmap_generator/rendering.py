"""Pieces to audio, and how late the sound is against the score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from beatmap_generator.music import BASS, DRUMS, HARMONY, MELODY, Piece

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE = 24000
_TICKS_PER_QUARTER = 4800  # at the 120 quarters a minute of a file without tempo: 0.1 ms
_HOP_S = 0.001
_SEARCHED_MS = 60
_DRUM_VELOCITY = 100


def render(piece: Piece, path: Path) -> float:
    """Write a piece as mono Ogg/Opus of 24 kHz.

    Args:
        piece: The piece.
        path: The file to write.

    Returns:
        The measured offset of the sound from the score in milliseconds, positive when it is late.
    """
    import soundfile
    import soxr
    from render_scores import RENDERED_RATE, synthesise

    samples = synthesise(_score_of(piece).dumps_midi())
    mono = soxr.resample(samples, RENDERED_RATE, SAMPLE_RATE)[: int(piece.seconds * SAMPLE_RATE)]
    fade = SAMPLE_RATE // 2
    mono[-fade:] *= [1 - index / fade for index in range(fade)]
    mono *= 0.7 / max(1e-4, float(abs(mono).max()))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, mono, SAMPLE_RATE, format="OGG", subtype="OPUS")
    return measured_offset_ms(piece, soundfile.read(path, dtype="float32")[0])


def measured_offset_ms(piece: Piece, samples: NDArray[np.float32]) -> float:
    """Return how much later than the score the rises of the sound's level are, by cross-correlation.

    Args:
        piece: What was played.
        samples: (n,) at ``SAMPLE_RATE``.
    """
    import numpy as np

    hop = int(_HOP_S * SAMPLE_RATE)
    frames = samples[: len(samples) // hop * hop].reshape(-1, hop)
    level = np.log1p(1000 * np.sqrt((frames**2).mean(axis=1)))
    rises = np.maximum(np.diff(level, prepend=level[0]), 0)
    onsets = np.zeros(len(rises))
    for note in piece.notes:
        index = round(piece.time_ms(note.beat))
        if index < len(onsets):
            onsets[index] = max(onsets[index], note.loudness)
    lags = range(-_SEARCHED_MS, _SEARCHED_MS + 1)
    scores = [float(np.dot(np.roll(onsets, lag), rises)) for lag in lags]
    return float(lags[int(np.argmax(scores))])


def _score_of(piece: Piece) -> Any:
    import symusic

    score = symusic.Score(_TICKS_PER_QUARTER, ttype="tick")
    for voice, program in zip((MELODY, HARMONY, BASS, DRUMS), (*piece.programs, 0), strict=True):
        track = symusic.Track(program=program, is_drum=voice == DRUMS, ttype="tick")
        for note in piece.notes:
            if note.voice == voice:
                start, end = (
                    _ticks(piece.time_ms(beat)) for beat in (note.beat, note.beat + 0.95 * note.beats)
                )
                velocity = min(127, max(15, round(_DRUM_VELOCITY * note.loudness)))
                track.notes.append(
                    symusic.Note(start, max(1, end - start), note.pitch, velocity, ttype="tick")
                )
        score.tracks.append(track)
    return score


def _ticks(time_ms: float) -> int:
    return round(time_ms / 500 * _TICKS_PER_QUARTER)
