"""Beats, downbeats, meter and tempo from the answers of a probe for beats.

Shape legend: N tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from omar_rq.annotations.events import Beat, Beats, Meter
from omar_rq.probing.saved import Prediction
from omar_rq.reading.activations import Evidence, evidence_of
from omar_rq.reading.bar_pointer import Path, Tempi, find_path
from pentatonic.errors import InputError, UsageError

DEFAULT_METERS = (Meter(3, 4), Meter(4, 4), Meter(6, 8))
NO_BEATS = Beats((), None, None, 0.0, 0.0, 0.0, 0.0)

_BPM_LIMITS = (20.0, 400.0)
_MOST_BEATS = 16
_UNITS = (1, 2, 4, 8, 16)
_SMOOTHED_OVER = 5  # intervals of which the tempo around a beat is taken
_STEADY = 0.2  # largest distance of the logarithm of an interval from that of the median


@dataclass(frozen=True)
class BeatOptions:
    """How beats are looked for.

    Attributes:
        tempi: Allowed and preferred tempi.
        meters: Allowed meters.

    Raises:
        UsageError: A value is out of its range.
    """

    tempi: Tempi = field(default_factory=Tempi)
    meters: Sequence[Meter] = DEFAULT_METERS

    def __post_init__(self) -> None:
        slowest, fastest, prior = self.tempi.slowest, self.tempi.fastest, self.tempi.prior
        low, high = _BPM_LIMITS
        if not low <= slowest <= fastest <= high:
            raise UsageError(
                f"bpm-range is {slowest:g}:{fastest:g}; allowed: a lower and an upper tempo from {low:g} to {high:g}"
            )
        if prior is not None and not low <= prior <= high:
            raise UsageError(f"prior is {prior:g}; allowed: a tempo from {low:g} to {high:g}, or none")
        if not self.meters:
            raise UsageError("meter is empty; allowed: one meter or more, such as 3,4")


def parse_bpm_range(text: str) -> tuple[float, float]:
    """Read ``90:180``; a single tempo such as ``120`` allows 4 % more and less.

    Raises:
        UsageError: It is something else.
    """
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)(?::(\d{1,3}(?:\.\d{1,6})?))?", text.strip())
    if not found:
        raise UsageError(f"bpm-range is {text!r}; allowed: two tempi such as 90:180, or one")
    if found[2] is None:
        return float(found[1]) / 1.04, float(found[1]) * 1.04
    return float(found[1]), float(found[2])


def parse_meters(text: str) -> tuple[Meter, ...]:
    """Read meters such as ``3,4`` (beats of a bar) or ``3/4,6/8``; six beats alone are 6/8, others quarter notes.

    Raises:
        UsageError: It is something else.
    """
    meters = []
    for word in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,2})(?:/(\d{1,2}))?\s*", word)
        beats = int(found[1]) if found else 0
        unit = int(found[2]) if found and found[2] else (8 if beats == 6 else 4)
        if not 1 <= beats <= _MOST_BEATS or unit not in _UNITS:
            raise UsageError(
                f"meter is {text!r}; allowed: 1 to {_MOST_BEATS} beats such as 3,4, "
                f"or meters such as 3/4,6/8 with a unit of {', '.join(map(str, _UNITS))}"
            )
        if beats not in {meter.beats for meter in meters}:
            meters.append(Meter(beats, unit))
    return tuple(meters)


def read_beats(prediction: Prediction, options: BeatOptions | None = None) -> Beats:
    """Read the beats of a recording.

    Args:
        prediction: Of a probe with the label ``beat``, and mostly ``downbeat``, for each token.
        options: Tempi and meters; None: the defaults.

    Returns:
        The beats, at the starts of tokens and between them; none where the probe hears none, as in silence.

    Raises:
        InputError: The prediction is of another kind.
    """
    options = options or BeatOptions()
    if "beat" not in prediction.labels or prediction.rate <= 0:
        raise InputError(
            f"the probe for {prediction.task!r} does not say for each token whether there is a beat; "
            "needed: one that was trained with task=beat"
        )
    values = dict(zip(prediction.labels, prediction.values.T, strict=True))
    if not len(prediction.times):
        return NO_BEATS
    # Probes are trained to be sure of a beat at the start of a token, see omar_rq.probing.tasks.decoding.bumps.
    evidence = evidence_of(prediction.times, values["beat"], values.get("downbeat"), prediction.rate)
    if evidence.is_flat:
        return NO_BEATS
    path = find_path(evidence, [meter.beats for meter in options.meters], options.tempi)
    return _described(path, evidence, options.meters) if len(path.times) else NO_BEATS


def tempo_curve(times: np.ndarray) -> np.ndarray:
    """Tempo around each beat (N,), in beats per minute: of the mean of the nearest intervals; pauses do not count.

    Args:
        times: (N,) seconds of beats, N at least 2.
    """
    intervals = np.diff(times)
    own = np.append(intervals, intervals[-1])
    reach = _SMOOTHED_OVER // 2
    return np.array([_mean_tempo(own[max(0, i - reach) : i + reach + 1]) for i in range(len(times))])


def _mean_tempo(intervals: np.ndarray) -> float:
    """From intervals near their median, so that pauses and slips do not count."""
    usual = np.sort(intervals)[len(intervals) // 2]  # one of them, unlike the median of an even number
    return float(60.0 / intervals[np.abs(np.log(intervals / usual)) < _STEADY].mean())


def _described(path: Path, evidence: Evidence, meters: Sequence[Meter]) -> Beats:
    times = path.times
    strength = evidence.chance_at(times)
    several = len(times) > 1
    curve = tempo_curve(times).tolist() if several else [None]
    beats = tuple(
        Beat(round(float(time), 3), int(position), bpm, float(sure))
        for time, position, bpm, sure in zip(times, path.positions, curve, strength, strict=True)
    )
    double = half = 0.0
    if several:
        between = evidence.chance_at((times[:-1] + times[1:]) / 2)
        double = float(min(1.0, between.mean() / strength.mean()))
        even, odd = strength[::2].mean(), strength[1::2].mean()
        half = float(1 - min(even, odd) / max(even, odd))
    return Beats(
        beats,
        meters[path.meter],
        _mean_tempo(np.diff(times)) if several else None,
        float(strength.mean()),
        _meter_confidence(path, evidence, meters),
        double,
        half,
    )


def _meter_confidence(path: Path, evidence: Evidence, meters: Sequence[Meter]) -> float:
    """From the evidence per bar by which the meter is ahead of the next one."""
    if len(meters) == 1:
        return 1.0
    if not evidence.knows_downbeats:
        return 0.0
    second, best = np.sort(path.score)[-2:]
    bars = max(1.0, len(path.times) / meters[path.meter].beats)
    return float(1 - np.exp(-max(0.0, best - second) / bars))
