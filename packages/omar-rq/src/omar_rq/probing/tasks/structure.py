"""Structure: where sections begin, their function where the data name it, and which sections are alike.

Letters such as A and B say which sections of one recording are alike, and mean nothing in another one. So only other
names, such as verse and chorus, are functions that a probe learns.

Shape legend: N tokens, T recordings, D width of mixed features.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from omar_rq.probing.data.recording import Labels, Span
from omar_rq.probing.heads import Granularity, Outputs
from omar_rq.probing.tasks.chords import sample_spans
from omar_rq.probing.tasks.decoding import bumps, peak_times
from omar_rq.probing.tasks.task import (
    Measure,
    ProbeTask,
    log_frequencies,
    weighted_means,
)
from pentatonic.errors import MissingExtra

WINDOWS_S = (0.5, 3.0)
_LEAST_S = 3.0  # from one boundary to the next
_REACH_S = 0.5
_ALIKE = 0.5  # cosine of the mean features of two sections, relative to the recording
_LETTER = re.compile(r"[A-Za-z]?\d*'*")


def function_of(label: str) -> str | None:
    """The function that a label names, in lower case and without its number; None for a letter or number."""
    if _LETTER.fullmatch(label.strip()):
        return None
    return re.sub(r"[\s_-]*\d+$", "", label.strip().lower()) or None


class StructureTask(ProbeTask):
    """A boundary at each token, and a function where there are at least two.

    Args:
        functions: Names, in order.
    """

    granularity: ClassVar[Granularity] = "frame"

    def __init__(self, functions: Sequence[str] = ()) -> None:
        functions = tuple(functions) if len(functions) > 1 else ()
        self.name, self.labels = "structure", ("boundary", *functions)
        self.outputs: Outputs = "boundary+classes" if functions else "multilabel"
        self.metrics = ("boundary_f_3s", "boundary_f_0.5s", "pairwise_f") + (
            ("function_accuracy",) if functions else ()
        )
        self.wants_features = not functions
        self._numbers = {name: number for number, name in enumerate(functions)}

    def knows(self, labels: Labels) -> bool:
        """See :meth:`ProbeTask.knows`."""
        return bool(labels.sections)

    def target(self, labels: Labels, n_tokens: int, rate: float) -> np.ndarray:
        """1 at a boundary, less around it; then the class of the function, -1 where there is none."""
        sections = labels.sections or ()
        boundary = bumps(inner_boundaries(sections), n_tokens, rate, reach=max(1.5, _REACH_S * rate))
        if not self._numbers:
            return boundary[:, None]
        return np.stack((boundary, self._functions(sections, n_tokens, rate).astype(np.float32)), axis=1)

    def _functions(self, sections: Sequence[Span], n_tokens: int, rate: float) -> np.ndarray:
        classes = [self._numbers.get(function_of(label) or "", -1) for _, _, label in sections]
        return sample_spans(sections, classes, n_tokens, rate)

    def measure(self, outputs: Sequence[np.ndarray], labels: Sequence[Labels], rate: float) -> Measure:
        """F of boundaries within 3 and 0.5 s, F of pairs of moments in alike sections, and accuracy of functions.

        Sections are alike by their function, or without functions by their features.
        """
        values = np.array(
            [self._scores(each, known, rate) for each, known in zip(outputs, labels, strict=True)]
        )
        weights = np.ones_like(values)
        if self._numbers:  # of tokens, and not of recordings
            weights[:, -1] = [len(each) for each in outputs]
        return weighted_means(values, weights)

    def _scores(self, output: np.ndarray, labels: Labels, rate: float) -> list[float]:
        try:
            from mir_eval import segment, util
        except ModuleNotFoundError as error:
            raise MissingExtra("The structure task", "omar-rq[eval]") from error
        sections = labels.sections or ()
        logits, features = output[:, : len(self.labels)], output[:, len(self.labels) :]
        probabilities = 1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))
        edges = _edges(peak_times(probabilities, rate, least_s=_LEAST_S), len(output) / rate)
        found = np.stack((edges[:-1], edges[1:]), axis=1)
        names = self._names(found, logits, features, rate)
        truth = np.array([span[:2] for span in sections])
        truth, true_names = util.adjust_intervals(
            truth, [function_of(span[2]) or span[2] for span in sections], t_min=0.0
        )
        found, names = util.adjust_intervals(found, names, t_min=0.0, t_max=float(truth.max()))
        scores = [float(segment.detection(truth, found, window=window)[2]) for window in reversed(WINDOWS_S)]
        scores.append(float(segment.pairwise(truth, true_names, found, names)[2]))
        if self._numbers:
            classes = self._functions(sections, len(output), rate)
            known = classes >= 0
            right = logits[:, 1:].argmax(1) == classes
            scores.append(float(right[known].mean()) if known.any() else float("nan"))
        return scores

    def _names(self, found: np.ndarray, logits: np.ndarray, features: np.ndarray, rate: float) -> list[str]:
        places = [
            slice(int(start * rate), max(int(start * rate) + 1, int(end * rate))) for start, end in found
        ]
        if self._numbers:
            return [self.labels[1 + int(logits[place, 1:].sum(0).argmax())] for place in places]
        if not features.shape[1]:
            return [f"part {number}" for number in range(len(places))]
        return alike_parts(np.stack([features[place].mean(0) for place in places]))

    def trivial(
        self, targets: Sequence[np.ndarray], labels: Sequence[Labels], n_tokens: int, rate: float
    ) -> np.ndarray:
        """A boundary after every median length of a section, and the most frequent function."""
        lengths = [end - start for each in labels for start, end, _ in each.sections or () if end > start]
        period = float(np.median(lengths))
        times = np.arange(period, n_tokens / rate, period)
        boundary = bumps(times, n_tokens, rate, reach=1.5)[:, None] * 10 - 5
        if not self._numbers:
            return boundary
        classes = np.concatenate([each[:, 1] for each in targets]).astype(np.int64)
        return np.concatenate(
            (boundary, np.tile(log_frequencies(classes, len(self._numbers)), (n_tokens, 1))), 1
        )


def inner_boundaries(sections: Sequence[Span]) -> np.ndarray:
    """Where sections begin, in seconds, without the first one."""
    starts = sorted({start for start, _, _ in sections})
    return np.array(starts[1:])


def alike_parts(means: np.ndarray) -> list[str]:
    """Name parts so that those with alike mean features (parts, D) have one name."""
    centred = means - means.mean(0)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(length > 0, length, 1.0)
    names = np.arange(len(means))
    for first, second in zip(*np.nonzero(unit @ unit.T >= _ALIKE), strict=True):
        names[names == names[second]] = names[first]
    return [f"part {number}" for number in names]


def _edges(times: np.ndarray, duration_s: float) -> np.ndarray:
    inner = times[(times > 0) & (times < duration_s)]
    return np.array([0.0, *inner, duration_s])
