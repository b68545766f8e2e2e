"""What a task is, and how metrics over recordings are computed so that recordings can be drawn with replacement.

Shape legend: T recordings, N tokens, K outputs, M metrics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from omar_rq.probing.data.recording import Labels
from omar_rq.probing.heads import Granularity, Outputs

Measure = Callable[[np.ndarray], list[float]]
"""Metrics of the recordings with these numbers, which may occur several times; NaN where one is undefined."""


class ProbeTask(ABC):
    """A task that was adapted to a data set.

    Attributes:
        name: Such as ``chord``.
        labels: K names of the outputs.
        outputs: What the outputs are.
        granularity: One answer for a recording, or one for each token.
        metrics: M names; the first one chooses.
        smaller_is_better: Of the first metric.
        wants_features: :meth:`measure` also gets the mixed features of tokens, behind the K logits.
    """

    name: str
    labels: tuple[str, ...]
    outputs: Outputs
    granularity: ClassVar[Granularity]
    metrics: tuple[str, ...]
    smaller_is_better: bool = False
    wants_features: bool = False

    @abstractmethod
    def knows(self, labels: Labels) -> bool:
        """Whether a recording has the labels that the task needs."""

    @abstractmethod
    def target(self, labels: Labels, n_tokens: int, rate: float) -> np.ndarray:
        """What the outputs should be.

        Args:
            labels: Of a recording that :meth:`knows`.
            n_tokens: N; without meaning for one answer for a recording.
            rate: Tokens per second.

        Returns:
            Of a recording: ``()`` int64 for classes, -1 for one that training does not have, else (K,) float32. Of
            tokens: (N,) int64 for classes, -1 where nothing is known; (N, K) float32, NaN where nothing is known; for
            ``boundary+classes`` (N, 2) float32, the boundary and the class.
        """

    @abstractmethod
    def measure(self, outputs: Sequence[np.ndarray], labels: Sequence[Labels], rate: float) -> Measure:
        """Prepare the metrics.

        Args:
            outputs: Of T recordings: logits (K,) or (N, K).
            labels: Of the same recordings.
            rate: Tokens per second.
        """

    @abstractmethod
    def trivial(
        self, targets: Sequence[np.ndarray], labels: Sequence[Labels], n_tokens: int, rate: float
    ) -> np.ndarray:
        """Logits for a recording by one who knows the training targets and labels, and hears nothing.

        Args:
            targets: Of the training recordings.
            labels: Of the same.
            n_tokens: N of the recording.
            rate: Tokens per second.
        """

    def score(self, outputs: Sequence[np.ndarray], labels: Sequence[Labels], rate: float) -> float:
        """Return the first metric over all recordings, turned so that larger is better."""
        value = self.measure(outputs, labels, rate)(np.arange(len(outputs)))[0]
        return -value if self.smaller_is_better else value


def weighted_means(values: np.ndarray, weights: np.ndarray | None = None) -> Measure:
    """Means over recordings.

    Args:
        values: (T, M) of each recording.
        weights: (T, M), such as seconds, 0 where a value is undefined; by default 1, and 0 where it is NaN.
    """
    known = ~np.isnan(values)
    weights = np.where(known, 1.0 if weights is None else weights, 0.0)
    products = np.where(known, values, 0.0) * weights

    def means(chosen: np.ndarray) -> list[float]:
        total = weights[chosen].sum(0)
        return list(np.where(total > 0, products[chosen].sum(0) / np.where(total > 0, total, 1.0), np.nan))

    return means


MOST_TOKENS = 50_000


def pooled_average_precision(scores: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Measure:
    """Mean average precision of labels over the tokens of all recordings together.

    Of more than :data:`MOST_TOKENS` tokens, every second, third, … one counts.

    Args:
        scores: (N, K) of each of T recordings.
        targets: (N, K) 0 or 1, NaN where a token does not count.
    """
    step = -(-sum(map(len, scores)) // MOST_TOKENS) or 1
    owner = np.concatenate([np.full(len(each[::step]), number) for number, each in enumerate(scores)])
    flat, truth = (np.concatenate([each[::step] for each in some]) for some in (scores, targets))
    kept = ~np.isnan(truth).any(1)
    owner, flat, truth = owner[kept], flat[kept], truth[kept]
    sorted_labels = []
    for label in range(flat.shape[1]):
        order = np.argsort(-flat[:, label], kind="stable")
        ends = np.flatnonzero(np.diff(flat[order, label], append=-np.inf))  # equal scores are one threshold
        sorted_labels.append((owner[order], truth[order, label], ends))

    def mean_precision(chosen: np.ndarray) -> list[float]:
        times = np.bincount(chosen, minlength=len(scores)).astype(np.float64)
        found = []
        for owners, true, ends in sorted_labels:
            weight = times[owners]
            hits, total = np.cumsum(weight * true)[ends], np.cumsum(weight)[ends]
            if len(hits) and 0 < hits[-1] < total[-1]:
                precision = hits / np.where(total > 0, total, 1.0)
                found.append(float((np.diff(hits, prepend=0.0) * precision).sum() / hits[-1]))
        return [float(np.mean(found)) if found else float("nan")]

    return mean_precision


def log_frequencies(classes: np.ndarray, count: int) -> np.ndarray:
    """Logits (count,) whose softmax are the frequencies of classes; those that are -1 do not count."""
    counts = np.bincount(classes[classes >= 0], minlength=count) + 1e-3
    return np.log(counts / counts.sum()).astype(np.float32)


def logits_of_frequencies(targets: np.ndarray) -> np.ndarray:
    """Logits (K,) whose sigmoids are the means of (n, K) targets."""
    means = np.clip(np.nanmean(targets, axis=0), 1e-4, 1 - 1e-4)
    return np.log(means / (1 - means)).astype(np.float32)
