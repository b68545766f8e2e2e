"""Measures that a system break or an editor's numbering cuts in two, put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from notagen.musicxml.measures import XmlMeasure, XmlPart


def join_split_measures(parts: Sequence[XmlPart], lengths: Sequence[Fraction]) -> list[Fraction]:
    """Join each measure that continues the one before it, in all parts.

    It does where its number says so (``4a``, or an implicit measure), no repeat sign, double bar or change of
    meter stands between the two, and they fill the meter together.

    Args:
        parts: The parts; their measures are replaced. Each has all measures.
        lengths: The length of each measure.

    Returns:
        The lengths of the measures that remain.
    """
    joined: list[Fraction] = []
    kept: list[list[XmlMeasure]] = [[] for _ in parts]
    nominal: Fraction | None = None
    for index, length in enumerate(lengths):
        measures = [part.measures[index] for part in parts]
        meter = next((meter for measure in measures if (meter := measure.new_meter)), None)
        nominal = meter.length if meter else nominal
        plain = not any(
            own[-1].right or measure.left for own, measure in zip(kept, measures, strict=True) if own
        )
        if joined and not meter and plain and measures[0].continues and joined[-1] + length == nominal:
            for own, measure in zip(kept, measures, strict=True):
                _append(own[-1], measure, joined[-1])
            joined[-1] += length
        else:
            for own, measure in zip(kept, measures, strict=True):
                own.append(measure)
            joined.append(length)
    for part, own in zip(parts, kept, strict=True):
        part.measures = own
    return joined


def _append(first: XmlMeasure, second: XmlMeasure, start: Fraction) -> None:
    """Put what the second measure holds behind the first one, which ends at ``start``."""
    for voice, staff, event in second.events:
        event.onset += start
        first.events.append((voice, staff, event))
    first.marks += [replace(mark, onset=mark.onset + start) for mark in second.marks]
    first.changes += [replace(change, onset=change.onset + start) for change in second.changes]
    first.tempos += [(onset + start, beats) for onset, beats in second.tempos]
    first.late_grace += second.late_grace
    first.right = second.right
