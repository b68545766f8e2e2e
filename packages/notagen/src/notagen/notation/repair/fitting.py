"""Gives a bar the right length: cuts off notes, or fills it with rests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from notagen.abc.duration import Meter, uncut_runs
from notagen.abc.syntax import Bar, Chord, Element, InlineField, Note, Rest, Space

_LARGEST_NUMBER = 9999  # largest numerator or denominator of a length
_CHANGES = "KLM"


def can_be_written(length: Fraction) -> bool:
    """Whether a note or rest of this length is within the bounds of ABC."""
    return max(length.as_integer_ratio()) <= _LARGEST_NUMBER


def rest(letter: str, length: Fraction, bar_length: Fraction | None) -> list[Element]:
    """Return a rest as a list of one element; the list is empty if the length is 0.

    Args:
        letter: ``z`` or ``x``.
        length: In units of ``L:``; :func:`can_be_written` must be true for it, or it must be ``bar_length``.
        bar_length: Length of a bar in the meter in force; None in free meter.
    """
    if not length:
        return []
    if not can_be_written(length) and length == bar_length:
        return [Rest(letter.upper())]
    return [Rest(letter, str(length))]


def silence(
    elements: Sequence[Element], letter: str, length: Fraction, bar_length: Fraction | None
) -> tuple[Element, ...]:
    """Return a rest instead of music, with the changes of key, meter and note length of the music."""
    timed = next((i for i, e in enumerate(elements) if isinstance(e, (Note, Chord, Rest))), len(elements))
    before, after = (_changes(part) for part in (elements[:timed], elements[timed:]))
    return (*before, *rest(letter, length, bar_length), *after)


def fit(
    bar: Bar, letter: str, length: Fraction, *, meter: Meter | None, bar_length: Fraction | None
) -> tuple[Element, ...]:
    """Return the elements of a bar that is too long or too short, with the right length.

    Of an overlay the first layer is kept. A note across the end of the bar is shortened; a tuplet or broken rhythm
    across it is replaced by a rest as a whole.

    Args:
        bar: A bar with a known duration.
        letter: ``z`` or ``x``, for rests.
        length: The right duration; see :func:`rest`.
        meter: The meter in force; None in free meter.
        bar_length: Length of a whole-bar rest ``Z``; None in free meter.
    """
    total, end = Fraction(0), 0
    shortened: list[Element] = []
    elements = bar.elements
    for after, duration in uncut_runs(bar, meter=meter, bar_length=bar_length):
        if total + duration > length:
            if after == end + 1 and (short := _shortened(elements[end], length - total)):
                shortened, total, end = [short], length, after
            break
        total, end = total + duration, after
    kept = list(elements[: end - len(shortened)])
    if end < len(elements) and kept and not shortened and isinstance(kept[-1], Space):
        kept.pop()
    missing = length - total
    if not (can_be_written(missing) or missing == bar_length):
        return silence(elements, letter, length, bar_length)
    gap = [Space(" ")] if missing and kept and not isinstance(kept[-1], Space) else []
    return (*kept, *shortened, *gap, *rest(letter, missing, bar_length), *_changes(elements[end:]))


def _shortened(element: Element, length: Fraction) -> Element | None:
    """Return a note, chord or rest with another length; None where ABC cannot express it."""
    if isinstance(element, Chord):
        first = element.notes[0].length
        outer = length / first if first else Fraction(0)
        return replace(element, length_text=str(outer)) if outer and can_be_written(outer) else None
    if not isinstance(element, (Note, Rest)) or not length or not can_be_written(length):
        return None
    if isinstance(element, Rest):
        return Rest(element.letter.lower(), str(length))
    return replace(element, length_text=str(length))


def _changes(elements: Sequence[Element]) -> list[Element]:
    return [e for e in elements if isinstance(e, InlineField) and e.name in _CHANGES]
