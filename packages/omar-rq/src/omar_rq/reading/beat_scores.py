"""How well beats were found: the measures of mir_eval, and the tempo with and without octave errors."""

from __future__ import annotations

import numpy as np

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
