"""Joints of long clips: is the sound where two windows meet as steady as elsewhere?

Two measures of change at a time: ``flux``, how much the spectrum rises from one frame to the next, which hears clicks
and cuts, and ``change``, the difference of the smoothed mean spectra of the seconds before and after, which hears
another instrument, room or level, and other notes hardly. Both are compared with the same measure at all other times of
the clip, so that a joint is not called conspicuous for a change that the music makes all the time.

Shapes: B bands, F frames, J joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pentatonic.errors import UsageError
from rc_audioldm.denoising.windows import Window
from rc_audioldm.knob.log_mel import FLOOR_DB, FRAMES_PER_S, Samples, mel_power
from rc_audioldm.knob.timbre import RANGE_DB, smooth_over_bands

SPAN_S = 1.0
NEAR_S = 0.1
"""The largest value so near a joint counts as that of the joint."""

CONSPICUOUS = 0.99
"""A joint is conspicuous where the share of other places with less change is above this."""


@dataclass(frozen=True)
class Joint:
    """What happens at a joint.

    Args:
        time_s: Where it is.
        flux_db: Mean rise of the bands from frame to frame, the largest near the joint.
        flux_rank: Share of the other places, 0 to 1, with a smaller one; 0.5 in the mean where nothing is to be heard.
        change_db: Root mean square difference of the spectra before and after, the largest near the joint.
        change_rank: As ``flux_rank``.
    """

    time_s: float
    flux_db: float
    flux_rank: float
    change_db: float
    change_rank: float

    @property
    def is_conspicuous(self) -> bool:
        """Whether the sound changes more than at nearly all other places."""
        return max(self.flux_rank, self.change_rank) > CONSPICUOUS


@dataclass(frozen=True)
class Joints:
    """The joints of a clip.

    Args:
        joints: Each of them.
        flux_elsewhere_db: Mean of the same measure at other places.
        change_elsewhere_db: Likewise.
    """

    joints: tuple[Joint, ...]
    flux_elsewhere_db: float
    change_elsewhere_db: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def joint_times(windows: Sequence[Window], latent_frame_seconds: float) -> list[float]:
    """Return where each window but the first begins to be new: the end of what it shares with those before, in s."""
    return [(window.start + window.overlap) * latent_frame_seconds for window in windows[1:]]


def measure_joints(samples: Samples, sample_rate: int, times_s: Sequence[float]) -> Joints:
    """Measure the joints of a clip.

    Args:
        samples: ``(n,)`` or ``(C, n)``.
        sample_rate: In Hz.
        times_s: Of the joints.

    Raises:
        UsageError: There are none, or one has not a second of sound on each side; or they leave nothing to compare
            with.
        AudioError: There are no samples, or some that are not finite.
    """
    power_BF = mel_power(samples, sample_rate)
    span, near = round(SPAN_S * FRAMES_PER_S), round(NEAR_S * FRAMES_PER_S)
    places = [round(time * FRAMES_PER_S) for time in times_s]
    frames = power_BF.shape[1]
    if not places or min(places) < span or max(places) > frames - span:
        raise UsageError(
            f"joints at {list(times_s)} s of {frames / FRAMES_PER_S:.2f} s; allowed: at least one, each with "
            f"{SPAN_S} s before and after it"
        )
    mel_BF = _decibels(power_BF)
    flux = _nearby_maximum(np.maximum(np.diff(mel_BF, axis=1, prepend=mel_BF[:, :1]), 0).mean(axis=0), near)
    change = _nearby_maximum(_changes(power_BF, span), near)
    elsewhere = np.zeros(frames, bool)
    elsewhere[span : frames - span + 1] = True
    for place in places:
        elsewhere[max(0, place - span) : place + span + 1] = False
    if not elsewhere.any():
        raise UsageError("the joints are so dense that there is no other place to compare them with")
    joints = tuple(
        Joint(
            time_s=float(time),
            flux_db=float(flux[place]),
            flux_rank=float(np.mean(flux[elsewhere] < flux[place])),
            change_db=float(change[place]),
            change_rank=float(np.mean(change[elsewhere] < change[place])),
        )
        for time, place in zip(times_s, places, strict=True)
    )
    return Joints(joints, float(flux[elsewhere].mean()), float(change[elsewhere].mean()))


def _changes(power_BF: NDArray[np.float64], span: int) -> NDArray[np.float64]:
    """Difference of the mean spectra before and from each frame on, (F,); 0 where one of them is not complete."""
    sums = np.cumsum(np.pad(power_BF, ((0, 0), (1, 0))), axis=1)
    # From frame i on, for i up to F - span.
    means = smooth_over_bands(_decibels((sums[:, span:] - sums[:, :-span]) / span))
    difference = np.sqrt(np.mean((means[:, span:] - means[:, :-span]) ** 2, axis=0))
    return np.pad(difference, (span, span - 1))


def _decibels(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Levels, none further below the loudest of all than what counts for a timbre."""
    least = max(10 ** (FLOOR_DB / 10), float(power.max()) * 10 ** (-RANGE_DB / 10))
    return 10 * np.log10(np.maximum(power, least))


def _nearby_maximum(values: NDArray[np.float64], near: int) -> NDArray[np.float64]:
    padded = np.pad(values, near)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * near + 1).max(axis=1)
