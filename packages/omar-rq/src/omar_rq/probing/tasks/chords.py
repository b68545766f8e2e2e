"""Chords: 25 classes of tokens, with the comparison of major and minor chords of mir_eval.

Shape legend: N tokens, T recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise, product
from typing import Any, ClassVar

import numpy as np

from omar_rq.probing.data.recording import Labels, Span
from omar_rq.probing.heads import Granularity, Outputs
from omar_rq.probing.tasks.task import Measure, ProbeTask, log_frequencies, weighted_means
from pentatonic.errors import InputError, MissingExtra

ROOTS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
CHORD_LABELS = ("N", *(f"{root}:{mode}" for mode, root in product(("maj", "min"), ROOTS)))
"""No chord, then C:maj, Db:maj, …, B:maj, C:min, …, B:min, in the syntax of mir_eval."""


class ChordTask(ProbeTask):
    """The chord at each token, as one of :data:`CHORD_LABELS`.

    A chord counts as major or minor by the rule of mir_eval's ``majmin``: by its third and fifth, whatever else sounds.
    Others, such as diminished ones, are neither trained on nor tested.
    """

    granularity: ClassVar[Granularity] = "frame"

    def __init__(self) -> None:
        self.name, self.labels = "chord", CHORD_LABELS
        self.outputs: Outputs = "classes"
        self.metrics = ("frame_accuracy", "majmin")

    def knows(self, labels: Labels) -> bool:
        """See :meth:`ProbeTask.knows`."""
        return labels.chords is not None

    def target(self, labels: Labels, n_tokens: int, rate: float) -> np.ndarray:
        """The class at the centre of each token."""
        return sample_spans(
            labels.chords or (), [chord_class(label) for _, _, label in labels.chords or ()], n_tokens, rate
        )

    def measure(self, outputs: Sequence[np.ndarray], labels: Sequence[Labels], rate: float) -> Measure:
        """Share of the tokens with the right one of 25 classes; share of the seconds that ``majmin`` finds right."""
        values, weights = np.full((len(outputs), 2), np.nan), np.zeros((len(outputs), 2))
        for number, (logits, each) in enumerate(zip(outputs, labels, strict=True)):
            guessed, truth = logits.argmax(1), self.target(each, len(logits), rate)
            if (known := truth >= 0).any():
                values[number, 0] = (guessed == truth)[known].mean()
                weights[number, 0] = known.sum()
            values[number, 1], weights[number, 1] = majmin_score(
                each.chords or (), chord_spans(guessed, rate)
            )
        return weighted_means(values, weights)

    def trivial(
        self, targets: Sequence[np.ndarray], labels: Sequence[Labels], n_tokens: int, rate: float
    ) -> np.ndarray:
        """The most frequent chord everywhere."""
        return np.tile(log_frequencies(np.concatenate(targets), len(self.labels)), (n_tokens, 1))


def sample_spans(spans: Sequence[Span], classes: Sequence[int], n_tokens: int, rate: float) -> np.ndarray:
    """Class (N,) of the span that the centre of each token lies in; -1 outside of all."""
    centres = (np.arange(n_tokens) + 0.5) / rate
    found = np.full(n_tokens, -1, np.int64)
    for (start, end, _), number in zip(spans, classes, strict=True):
        found[np.searchsorted(centres, start) : np.searchsorted(centres, end)] = number
    return found


@cache
def chord_class(label: str) -> int:
    """Number of a chord in :data:`CHORD_LABELS`; -1 for one that is neither major nor minor nor ``N``.

    Raises:
        InputError: It is not in the syntax of mir_eval.
    """
    chord = _mir_eval_chord()
    try:
        root, semitones, _ = chord.encode(label, reduce_extended_chords=False)
    except chord.InvalidChordException as error:
        raise InputError(
            f"the chord {label!r} is not in the syntax of mir_eval, such as C:maj or A:min7"
        ) from error
    if label == chord.NO_CHORD:
        return 0
    for number, mode in enumerate(("maj", "min")):
        if root >= 0 and np.array_equal(semitones[:8], chord.QUALITIES[mode][:8]):
            return 1 + 12 * number + int(root)
    return -1


def chord_spans(classes: np.ndarray, rate: float) -> list[Span]:
    """Spans of equal classes of tokens (N,), without smoothing."""
    edges = [0, *(np.flatnonzero(np.diff(classes)) + 1).tolist(), len(classes)]
    return [
        (first / rate, end / rate, CHORD_LABELS[classes[first]])
        for first, end in pairwise(edges)
        if end > first
    ]


def majmin_score(truth: Sequence[Span], found: Sequence[Span]) -> tuple[float, float]:
    """Share of seconds that are right by mir_eval's ``majmin``, and the seconds that count; (NaN, 0) if none does."""
    import mir_eval.util

    chord = _mir_eval_chord()
    if not truth or not found:
        return float("nan"), 0.0
    (real, real_labels), (guessed, guessed_labels) = (_intervals(spans) for spans in (truth, found))
    guessed, guessed_labels = mir_eval.util.adjust_intervals(
        guessed, guessed_labels, real.min(), real.max(), chord.NO_CHORD, chord.NO_CHORD
    )
    merged, real_labels, guessed_labels = mir_eval.util.merge_labeled_intervals(
        real, real_labels, guessed, guessed_labels
    )
    right = chord.majmin(real_labels, guessed_labels)
    seconds = mir_eval.util.intervals_to_durations(merged) * (right >= 0)
    total = float(seconds.sum())
    return (float((right * seconds).sum()) / total, total) if total else (float("nan"), 0.0)


def _intervals(spans: Sequence[Span]) -> tuple[np.ndarray, list[str]]:
    """Spans without gaps and overlaps, as mir_eval needs them: gaps are no chord."""
    filled: list[Span] = []
    for start, end, label in spans:
        last = filled[-1][1] if filled else start
        if start > last:
            filled.append((last, start, "N"))
        if end > max(start, last):
            filled.append((max(start, last), end, label))
    return np.array([span[:2] for span in filled]), [span[2] for span in filled]


def _mir_eval_chord() -> Any:
    try:
        import mir_eval.chord
    except ModuleNotFoundError as error:
        raise MissingExtra("The chord task", "omar-rq[eval]") from error
    return mir_eval.chord
