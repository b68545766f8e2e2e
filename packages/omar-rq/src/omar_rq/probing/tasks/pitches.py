"""The pitch classes that sound at each token. Shape legend: N tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from omar_rq.probing.data.recording import Labels
from omar_rq.probing.heads import Granularity, Outputs
from omar_rq.probing.tasks.chords import ROOTS
from omar_rq.probing.tasks.task import (
    Measure,
    ProbeTask,
    logits_of_frequencies,
    pooled_average_precision,
)

DRUM_PROGRAM = 128
_LEAST_SHARE = 0.5


class PitchClassTask(ProbeTask):
    """Which of 12 pitch classes sound, for at least half of a token; drums do not count."""

    granularity: ClassVar[Granularity] = "frame"

    def __init__(self) -> None:
        self.name, self.labels = "pitch", ROOTS
        self.outputs: Outputs = "multilabel"
        self.metrics = ("average_precision",)

    def knows(self, labels: Labels) -> bool:
        """See :meth:`ProbeTask.knows`."""
        return labels.notes is not None

    def target(self, labels: Labels, n_tokens: int, rate: float) -> np.ndarray:
        """See :meth:`ProbeTask.target`."""
        edges = np.arange(n_tokens + 1)
        sounding = np.zeros((n_tokens, 12))
        for start, end, pitch, program in labels.notes or ():
            if program >= DRUM_PROGRAM:
                continue
            first, last = max(0, int(start * rate)), min(n_tokens, int(end * rate) + 1)
            overlap = np.minimum(end * rate, edges[first + 1 : last + 1]) - np.maximum(
                start * rate, edges[first:last]
            )
            sounding[first:last, pitch % 12] += np.maximum(0.0, overlap)
        return (sounding >= _LEAST_SHARE).astype(np.float32)

    def measure(self, outputs: Sequence[np.ndarray], labels: Sequence[Labels], rate: float) -> Measure:
        """Average precision of each class over all tokens, and its mean over the classes."""
        targets = [self.target(each, len(logits), rate) for logits, each in zip(outputs, labels, strict=True)]
        return pooled_average_precision(outputs, targets)

    def trivial(
        self, targets: Sequence[np.ndarray], labels: Sequence[Labels], n_tokens: int, rate: float
    ) -> np.ndarray:
        """The frequencies of the pitch classes."""
        return np.tile(logits_of_frequencies(np.concatenate(targets)), (n_tokens, 1))
