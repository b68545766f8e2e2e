"""Joins measures that a system break or an editor's numbering has split in two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from notagen.musicxml.measures import XmlMeasure, XmlPart
from notagen.musicxml.values import Time


def join_split_measures(parts: Sequence[XmlPart], lengths: Sequence[Time]) -> list[Time]:
    """Join each measure that continues the one before it, in all parts.

    A measure continues the one before it if its number says so (``4a``, or an implicit measure), if there is no repeat
    sign, double bar or change of meter between the two, and if together they are as long as the meter says.

    Args:
        parts: The parts, with the same number of measures; their measures are replaced.
        lengths: The length of each measure.

    Returns:
        The lengths of the remaining measures.
    """
    joined: list[Time] = []
    kept: list[list[XmlMeasure]] = [[] for _ in parts]
    nominal: Time | None = None
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


def _append(first: XmlMeasure, second: XmlMeasure, start: Time) -> None:
    """Append the contents of the second measure to the first one, which ends at ``start``."""
    for voice, staff, event in second.events:
        event.onset += start
        first.events.append((voice, staff, event))
    first.marks += [replace(mark, onset=mark.onset + start) for mark in second.marks]
    first.changes += [replace(change, onset=change.onset + start) for change in second.changes]
    first.tempos += [(onset + start, beats) for onset, beats in second.tempos]
    first.late_grace += second.late_grace
    first.right = second.right
