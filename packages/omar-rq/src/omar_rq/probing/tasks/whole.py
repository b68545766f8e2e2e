"""Tasks with one answer for a recording: tags, genre, key, pitch of a note, instruments, difficulty, emotion.

Shape legend: T recordings, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from omar_rq.probing.data.recording import Labels
from omar_rq.probing.heads import Granularity, Outputs
from omar_rq.probing.tasks.task import (
    Measure,
    ProbeTask,
    log_frequencies,
    logits_of_frequencies,
    weighted_means,
)
from pentatonic.errors import MissingExtra
from pentatonic.probes import KEY_NAMES, average_precision, key_scores, roc_auc
from pentatonic.probes.datasets.giantsteps import key_class


class _WholeTask(ProbeTask):
    granularity: ClassVar[Granularity] = "recording"


class TagTask(_WholeTask):
    """Any number of labels.

    Args:
        name: Of the task.
        labels: K names.
        read: Names that a recording has, or None.
    """

    def __init__(
        self, name: str, labels: Sequence[str], read: Callable[[Labels], tuple[str, ...] | None]
    ) -> None:
        self.name, self.labels, self._read = name, tuple(labels), read
        self.outputs: Outputs = "multilabel"
        self.metrics = ("average_precision", "roc_auc")

    def knows(self, labels: Labels) -> bool:
        """See :meth:`ProbeTask.knows`."""
        return self._read(labels) is not None

    def target(self, labels: Labels, n_tokens: int = 1, rate: float = 0.0) -> np.ndarray:
        """See :meth:`ProbeTask.target`."""
        there = set(self._read(labels) or ())
        return np.array([label in there for label in self.labels], np.float32)

    def measure(self, outputs: Sequence[np.ndarray], labels: Sequence[Labels], rate: float) -> Measure:
        """Means over the labels that some of the recordings have and others lack."""
        scores, truth = np.stack(outputs), np.stack([self.target(each) for each in labels])

        def means(chosen: np.ndarray) -> list[float]:
            found = (metric(scores[chosen], truth[chosen]) for metric in (average_precision, roc_auc))
            return [float("nan") if np.isnan(each).all() else float(np.nanmean(each)) for each in found]

        return means

    def trivial(
        self, targets: Sequence[np.ndarray], labels: Sequence[Labels], n_tokens: int, rate: float
    ) -> np.ndarray:
        """The frequencies of the labels."""
        return logits_of_frequencies(np.stack(targets))


class ClassTask(_WholeTask):
    """One of several labels.

    Args:
        name: Of the task.
        labels: K names.
        read: Name that a recording has, or None.
    """

    def __init__(self, name: str, labels: Sequence[str], read: Callable[[Labels], str | None]) -> None:
        self.name, self.labels, self._read = name, tuple(labels), read
        self.outputs: Outputs = "classes"
        self.metrics = ("accuracy",)
        self._numbers = {label: number for number, label in enumerate(self.labels)}

    def knows(self, labels: Labels) -> bool:
        """See :meth:`ProbeTask.knows`."""
        return self._read(labels) is not None

    def target(self, labels: Labels, n_tokens: int = 1, rate: float = 0.0) -> np.ndarray:
        """See :meth:`ProbeTask.target`."""
        return np.array(self._numbers.get(self._read(labels) or "", -1), np.int64)

    def measure(self, outputs: Sequence[np.ndarray], labels: Sequence[Labels], rate: float) -> Measure:
        """Accuracy; a class that training did not have is never right."""
        return weighted_means(self._right(outputs, labels)[:, None])

    def _right(self, outputs: Sequence[np.ndarray], labels: Sequence[Labels]) -> np.ndarray:
        truth = np.array([self.target(each) for each in labels])
        return (np.stack(outputs).argmax(1) == truth).astype(np.float64)

    def trivial(
        self, targets: Sequence[np.ndarray], labels: Sequence[Labels], n_tokens: int, rate: float
    ) -> np.ndarray:
        """The frequencies of the classes, so that the most frequent one is the answer."""
        return log_frequencies(np.array(targets), len(self.labels))


class KeyTask(ClassTask):
    """One of 24 keys, with the score of MIREX."""

    def __init__(self) -> None:
        super().__init__("key", KEY_NAMES, main_key)
        self.metrics = ("weighted_score", "accuracy")

    def measure(self, outputs: Sequence[np.ndarray], labels: Sequence[Labels], rate: float) -> Measure:
        """The weighted score of mir_eval, and accuracy."""
        truth = np.array([self.target(each) for each in labels])
        weighted = key_scores()[truth, np.stack(outputs).argmax(1)]
        return weighted_means(np.stack((weighted, self._right(outputs, labels)), axis=1))


def main_key(labels: Labels) -> str | None:
    """The key of a recording as one of :data:`pentatonic.probes.KEY_NAMES`: the given one, or that of most seconds."""
    if labels.key is not None:
        return key_name(labels.key)
    seconds: dict[str, float] = {}
    for start, end, text in labels.keys or ():
        if (name := key_name(text)) is not None:
            seconds[name] = seconds.get(name, 0.0) + end - start
    return max(seconds, key=lambda name: seconds[name]) if seconds else None


def key_name(text: str) -> str | None:
    """A key as annotators write it (``F# minor``, ``F#:minor``, ``F#``), as one of the 24 names; None: not one key."""
    plain = text.replace(":", " ").strip()
    number = key_class(plain)
    if number is None and " " not in plain:
        number = key_class(f"{plain} major")
    return None if number is None else KEY_NAMES[number]


class RegressionTask(_WholeTask):
    """Numbers, such as arousal and valence.

    Args:
        name: Of the task.
        labels: K names.
        read: Numbers of a recording, or None.
        metrics: ``"r2"``: of the coefficients of determination; ``"grades"``: squared error, and agreement of order.
    """

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        read: Callable[[Labels], Sequence[float] | None],
        metrics: str,
    ) -> None:
        self.name, self.labels, self._read = name, tuple(labels), read
        self.outputs: Outputs = "regression"
        self._grades = self.smaller_is_better = metrics == "grades"
        self.metrics = (
            ("mean_squared_error", "kendall_tau_b", "within_one")
            if self._grades
            else ("r2", *(f"r2_{label}" for label in self.labels))
        )

    def knows(self, labels: Labels) -> bool:
        """See :meth:`ProbeTask.knows`."""
        return self._read(labels) is not None

    def target(self, labels: Labels, n_tokens: int = 1, rate: float = 0.0) -> np.ndarray:
        """See :meth:`ProbeTask.target`."""
        return np.array(self._read(labels), np.float32)

    def measure(self, outputs: Sequence[np.ndarray], labels: Sequence[Labels], rate: float) -> Measure:
        """R² of each output and their mean; or squared error, Kendall's tau b, and the share less than 1.5 away.

        Within one: the answer, rounded to a grade, is the true grade or a neighbour.
        """
        guesses = np.stack(outputs).astype(np.float64)
        truth = np.stack([self.target(each) for each in labels]).astype(np.float64)
        return _grade_measure(guesses[:, 0], truth[:, 0]) if self._grades else _r2_measure(guesses, truth)

    def trivial(
        self, targets: Sequence[np.ndarray], labels: Sequence[Labels], n_tokens: int, rate: float
    ) -> np.ndarray:
        """The means of the targets."""
        return np.stack(targets).mean(0)


def _r2_measure(guesses: np.ndarray, truth: np.ndarray) -> Measure:
    def values(chosen: np.ndarray) -> list[float]:
        g, t = guesses[chosen], truth[chosen]
        spread = ((t - t.mean(0)) ** 2).sum(0)
        each = 1 - ((t - g) ** 2).sum(0) / np.where(spread > 0, spread, np.nan)
        return [float(each.mean()), *each.tolist()]

    return values


def _grade_measure(guesses: np.ndarray, truth: np.ndarray) -> Measure:
    try:
        from scipy.stats import kendalltau
    except ModuleNotFoundError as error:
        raise MissingExtra("Kendall's tau", "omar-rq[eval]") from error
    near = np.abs(np.rint(guesses) - np.rint(truth)) <= 1

    def values(chosen: np.ndarray) -> list[float]:
        g, t = guesses[chosen], truth[chosen]
        # Undefined where one of both is constant, as every trivial answer is.
        varied = len(chosen) > 1 and np.ptp(g) > 0 and np.ptp(t) > 0
        found: Any = kendalltau(g, t, variant="b") if varied else None
        tau = float(found.statistic) if varied else float("nan")
        return [float(((g - t) ** 2).mean()), tau, float(near[chosen].mean())]

    return values
