"""Whether the bars of a score add up: measures of one length in all voices, and as long as the meter says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction

from notagen.notation.validation import Issue, allows_other_length, common_length
from notagen.score.model import Measure, Score


def bar_issues(score: Score) -> Iterator[Issue]:
    """Yield the measures that do not add up; lengths in the messages are in whole notes.

    The rules are those of :func:`notagen.notation.validation.validate`: the first and the last measure, and measures
    next to a repeat sign, may have another length than the meter says, and measures next to a double bar a shorter one.
    """
    rows = list(zip(*(voice.measures for voice in score.voices.values()), strict=True))
    for index, row in enumerate(rows):
        expected = row[0].nominal_duration
        lengths = Counter(measure.duration for measure in row)
        length = common_length(lengths, expected) or Fraction(0)
        for name, measure in zip(score.voices, row, strict=True):
            yield from _voice_issues(name, index, measure, length)
        if expected in (None, length) or index in (0, len(rows) - 1):
            continue
        if not allows_other_length(_barlines_around(row), shorter=length < expected):
            reason = f"the bar lasts {length} of a whole note, but the meter says {expected}"
            yield Issue(row[0].line, index + 1, None, "meter", reason, "bars")


def _voice_issues(name: str, index: int, measure: Measure, length: Fraction) -> Iterator[Issue]:
    if measure.duration != length:
        reason = f"lasts {measure.duration} of a whole note, but the bar lasts {length}"
        yield Issue(measure.line, index + 1, name, "duration", reason, "bars")
    if len({layer.duration for layer in measure.layers}) > 1:
        reason = "the layers of an overlay & have different lengths"
        yield Issue(measure.line, index + 1, name, "duration", reason, "bars")


def _barlines_around(row: Sequence[Measure]) -> list[str]:
    return [barline for measure in row for barline in (measure.left, measure.right)]
