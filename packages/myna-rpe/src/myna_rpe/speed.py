"""How fast a model embeds on this machine, said before a long run."""

from __future__ import annotations

import sys
import time

import torch

from myna_rpe.config import N_MELS
from myna_rpe.frontend import Frontend
from myna_rpe.model import MynaEncoder
from myna_rpe.whole_tracks import TrackOptions, embed_tracks

# Lengths that are timed: the cost of a pass has a part that grows with the length and one that grows with its square.
_SHORT_S, _LONG_S = 8.0, 24.0
# Length of the tracks that the message is about.
SONG_MIN = 4.0


def minutes_per_minute(
    model: MynaEncoder, options: TrackOptions, *, track_min: float = SONG_MIN, device: str = "cpu"
) -> float:
    """Estimate how many minutes of music a minute of the clock embeds, reading and spectrograms not counted.

    Two passes over noise are timed, of 8 and 24 seconds, after one that is not.

    Args:
        model: In evaluation mode.
        options: From :meth:`TrackOptions.resolved`.
        track_min: Length of the tracks.
        device: Where the model is.
    """
    rate = Frontend(model.config.frontend).frames_per_second

    def seconds(length_s: float) -> float:
        mel = torch.rand(N_MELS, round(length_s * rate)) * -40
        start = time.perf_counter()
        embed_tracks(model, [mel], options)
        return time.perf_counter() - start

    seconds(_SHORT_S)
    short, long = seconds(_SHORT_S), seconds(_LONG_S)
    # short = a * x + b * x**2, and the same for long; neither part can be negative.
    square = max(0.0, (long / _LONG_S - short / _SHORT_S) / (_LONG_S - _SHORT_S))
    linear = max(0.0, long / _LONG_S - square * _LONG_S)
    track_s = 60 * track_min
    if options.mode == "chunks":
        return _LONG_S / long
    return 1 / (linear + square * track_s)


def announce_speed(model: MynaEncoder, options: TrackOptions) -> None:
    """Print the estimate of :func:`minutes_per_minute` to standard error, for a model on the CPU."""
    if model.norm.weight.device.type != "cpu":
        return
    speed = minutes_per_minute(model, options)
    about = f"tracks of {SONG_MIN:g} minutes in one pass" if options.mode == "track" else "chunks"
    print(f"speed: about {speed:.1f} minutes of music a minute ({about})", file=sys.stderr)
