"""How well beats were found: the measures of mir_eval, and the tempo with and without octave errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from omar_rq.annotations.events import Annotation
from omar_rq.annotations.lab import read_beat_times
from pentatonic.errors import InputError, MissingExtra

_TOLERANCE = 0.04
_OCTAVES = (1.0, 2.0, 3.0, 1 / 2, 1 / 3)


def beat_scores(reference: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Compare beats with known ones.

    Args:
        reference: (N,) seconds of the known beats, ascending, at least two.
        found: (M,) seconds of those that were found, ascending.

    Returns:
        ``F``: the F-measure with a tolerance of 70 ms; ``CMLt`` and ``AMLt``: continuity at the right metrical level,
        and at an allowed one, of mir_eval, which leaves out the first five seconds where beats are later; and
        ``acc1``, ``acc2`` of :func:`tempo_scores`.

    Raises:
        InputError: The known beats are not ascending, or fewer than two.
        MissingExtra: mir_eval is not installed.
    """
    try:
        import mir_eval.beat as measures
    except ImportError as error:
        raise MissingExtra("Comparing beats with known ones", "omar-rq[eval]") from error
    if len(reference) < 2 or (np.diff(reference) <= 0).any():
        raise InputError(f"{len(reference)} known beats; needed: two or more, ascending")
    known, heard = (measures.trim_beats(np.asarray(times, np.float64)) for times in (reference, found))
    if len(known) < 2:  # a recording of a few seconds
        known, heard = np.asarray(reference, np.float64), np.asarray(found, np.float64)
    scores = {"F": 0.0, "CMLt": 0.0, "AMLt": 0.0}
    if len(heard):
        scores["F"] = float(measures.f_measure(known, heard))
    if len(heard) > 1:
        _, correct, _, allowed = measures.continuity(known, heard)
        scores |= {"CMLt": float(correct), "AMLt": float(allowed)}
    return scores | tempo_scores(_tempo(reference), _tempo(found) if len(found) > 1 else 0.0)


def tempo_scores(reference: float, found: float) -> dict[str, float]:
    """Say whether a tempo is right within 4 % (Gouyon et al., IEEE TASLP 2006).

    Args:
        reference: Beats per minute, above 0.
        found: Beats per minute; 0 for none.

    Returns:
        ``acc1``: 1.0 if it is the known tempo; ``acc2``: also if it is two or three times it, or a half or a third.
    """
    near = [abs(found / (reference * factor) - 1) <= _TOLERANCE for factor in _OCTAVES]
    return {"acc1": float(near[0]), "acc2": float(any(near))}


def _tempo(times: np.ndarray) -> float:
    return float(60.0 / np.median(np.diff(times)))


class BeatComparison:
    """Compares the beats of recordings with known ones.

    Args:
        reference: A ``.beats`` file, or a folder with one of the name of each recording.
    """

    def __init__(self, reference: Path) -> None:
        self._reference = reference
        self._scores: list[dict[str, float]] = []

    def lines(self, path: Path, annotation: Annotation) -> Sequence[str]:
        """The scores of one recording, as a line.

        Raises:
            FormatError: Its known beats cannot be read.
            InputError: There are none, or too few.
            MissingExtra: mir_eval is not installed.
        """
        place = self._reference
        if place.is_dir():
            place = place / f"{path.stem}.beats"
        known = np.array(read_beat_times(place, error=InputError))
        until = annotation.start + annotation.duration
        known = known[(known >= annotation.start) & (known <= until)]
        found = np.array([beat.time for beat in annotation.beats.beats]) if annotation.beats else np.zeros(0)
        self._scores.append(beat_scores(known, found))
        return [f"  compared with {place}: {_shown(self._scores[-1])}"]

    def summary(self) -> list[str]:
        """The mean over the recordings, as a line."""
        if not self._scores:
            return ["compared: no recording"]
        means = {name: float(np.mean([each[name] for each in self._scores])) for name in self._scores[0]}
        return [f"mean of {len(self._scores)} recordings: {_shown(means)}"]


def _shown(scores: dict[str, float]) -> str:
    return ", ".join(f"{name[0].upper() + name[1:]} {value:.3f}" for name, value in scores.items())
