"""Beats and downbeats: probabilities of tokens, scored by mir_eval.

Shape legend: N tokens, T recordings.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from omar_rq.probing.data.recording import Labels
from omar_rq.probing.heads import Granularity, Outputs
from omar_rq.probing.tasks.decoding import bumps, decode_beats
from omar_rq.probing.tasks.task import Measure, ProbeTask, weighted_means
from pentatonic.errors import MissingExtra

_REACH = 1.5  # tokens around a beat that are trained towards it: itself and its neighbours
_TEMPO_TOLERANCE = 0.04
_FACTORS = (1.0, 2.0, 0.5, 3.0, 1 / 3)


class BeatTask(ProbeTask):
    """Beat and downbeat at each token. Times of beats are those of the left edges of tokens, as in predictions."""

    granularity: ClassVar[Granularity] = "frame"

    def __init__(self) -> None:
        self.name, self.labels = "beat", ("beat", "downbeat")
        self.outputs: Outputs = "multilabel"
        self.metrics = ("beat_f", "downbeat_f", "tempo_acc1", "tempo_acc2")

    def knows(self, labels: Labels) -> bool:
        """See :meth:`ProbeTask.knows`."""
        return labels.beats is not None and len(labels.beats) > 1

    def target(self, labels: Labels, n_tokens: int, rate: float) -> np.ndarray:
        """1 at a beat, less at its neighbours; downbeats are NaN where no position is known."""
        beats, downbeats = beat_times(labels)
        columns = [bumps(beats, n_tokens, rate, reach=_REACH)]
        if downbeats is None:
            columns.append(np.full(n_tokens, np.nan, np.float32))
        else:
            columns.append(bumps(downbeats, n_tokens, rate, reach=_REACH))
        return np.stack(columns, axis=1)

    def measure(self, outputs: Sequence[np.ndarray], labels: Sequence[Labels], rate: float) -> Measure:
        """F of beats and of downbeats within 70 ms, over whole recordings; tempo within 4 %.

        ``tempo_acc2`` also takes two and three times, half and a third of the tempo.
        """
        return weighted_means(
            np.array(
                [_scores(logits, each, rate) for logits, each in zip(outputs, labels, strict=True)]
            ).reshape(-1, 4)
        )

    def trivial(
        self, targets: Sequence[np.ndarray], labels: Sequence[Labels], n_tokens: int, rate: float
    ) -> np.ndarray:
        """A metronome at the median tempo of the training data, with its commonest number of beats in a bar."""
        periods = [float(np.median(np.diff(beat_times(each)[0]))) for each in labels]
        bars = [max(place for _, place in each.beats or ((0.0, 0),)) for each in labels]
        period, bar = float(np.median(periods)), int(np.bincount(bars).argmax()) or 4
        beats = np.arange(0, n_tokens / rate, period)
        columns = [bumps(each, n_tokens, rate, reach=_REACH) for each in (beats, beats[::bar])]
        return np.stack(columns, axis=1) * 10 - 5


def beat_times(labels: Labels) -> tuple[np.ndarray, np.ndarray | None]:
    """Seconds of beats, and of downbeats or None where no position is known."""
    beats = labels.beats or ()
    times = np.array([time for time, _ in beats])
    positions = np.array([position for _, position in beats], np.int64)
    return times, times[positions == 1] if positions.any() else None


def tempo_of(times: np.ndarray) -> float:
    """Beats per minute of beats, by the median of their distances; NaN of fewer than two."""
    return 60.0 / float(np.median(np.diff(times))) if len(times) > 1 else float("nan")


def tempo_accuracies(found: float, truth: float) -> tuple[float, float]:
    """Whether a tempo is within 4 % of the true one (Acc1), or of that or a simple multiple or part of it (Acc2)."""
    near = [abs(found - factor * truth) <= _TEMPO_TOLERANCE * factor * truth for factor in _FACTORS]
    return float(near[0]), float(any(near))


def _scores(logits: np.ndarray, labels: Labels, rate: float) -> list[float]:
    try:
        from mir_eval.beat import f_measure
    except ModuleNotFoundError as error:
        raise MissingExtra("The beat task", "omar-rq[eval]") from error
    beats, downbeats = decode_beats(1 / (1 + np.exp(-logits.astype(np.float64))), rate)
    true_beats, true_downbeats = beat_times(labels)
    truth = labels.tempo or tempo_of(true_beats)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mir_eval warns of no beats, which is a score of 0
        return [
            float(f_measure(true_beats, beats)),
            float("nan") if true_downbeats is None else float(f_measure(true_downbeats, downbeats)),
            *tempo_accuracies(tempo_of(beats), truth),
        ]
