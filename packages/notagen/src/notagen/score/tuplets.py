"""Tuplets of a bar: which notes they contain, and correction of lengths that converters have rounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from notagen.abc.duration import TUPLET_ROUNDING, Meter, bar_duration
from notagen.abc.syntax import Chord, Element, Note, Rest, Tuplet
from notagen.score.model import TupletMark


@dataclass
class _UnfinishedTuplet:
    """A tuplet of ``actual`` notes in the time of ``normal``, of which ``left`` notes are missing."""

    actual: int
    normal: int
    left: int
    notes: int = 0


def tuplet_marks(elements: Sequence[Element], meter: Meter | None) -> Mapping[int, tuple[TupletMark, ...]]:
    """Return the tuplets of each note, chord and rest, by the index of the element."""
    marks: dict[int, tuple[TupletMark, ...]] = {}
    stack: list[_UnfinishedTuplet] = []
    for index, element in enumerate(elements):
        if isinstance(element, Tuplet):
            normal = element.q or _normal(element.p, meter)
            stack.append(_UnfinishedTuplet(element.p, normal, element.r or element.p))
        elif isinstance(element, (Note, Chord, Rest)) and stack:
            starts = [tuplet.notes == 0 for tuplet in stack]
            inside = list(stack)
            for tuplet in stack:
                tuplet.notes += 1
            stack[-1].left -= 1
            # The notes of a nested tuplet count for the outer one when the inner one is complete.
            while stack and stack[-1].left <= 0:
                ended = stack.pop()
                if stack:
                    stack[-1].left -= ended.notes
            marks[index] = tuple(
                TupletMark(tuplet.actual, tuplet.normal, start, depth >= len(stack))
                for depth, (tuplet, start) in enumerate(zip(inside, starts, strict=True))
            )
    return marks


def stretched(elements: Sequence[Element], lengths: Sequence[Fraction]) -> Sequence[Fraction]:
    """Return the lengths, with tuplets within ``TUPLET_ROUNDING`` of a whole number of units scaled to it."""
    if not any(isinstance(element, Tuplet) for element in elements):
        return lengths
    rounded = list(lengths)
    span: list[int] = []
    for index, marks in tuplet_marks(elements, None).items():
        span.append(index)
        if all(mark.stops for mark in marks):
            total = sum((lengths[i] for i in span), Fraction(0))
            whole = round(total)
            if whole and 0 < abs(total - whole) <= TUPLET_ROUNDING:
                for i in span:
                    rounded[i] *= whole / total
            span = []
    return rounded


@lru_cache(maxsize=256)
def _normal(p: int, meter: Meter | None) -> int:
    """Return the number of notes in whose time ``(p`` is played, as :func:`notagen.abc.durations` reads it."""
    return int(bar_duration(f"({p}{'C' * p}", meter=meter) or p)
