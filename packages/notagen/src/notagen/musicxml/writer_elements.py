"""Building blocks of the MusicXML writer: elements and note values."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from xml.etree.ElementTree import Element, SubElement

from notagen.score.losses import lost

#: Longest note or rest that can be written, in whole notes.
MAX_DURATION = Fraction(64)

_TYPES = {
    Fraction(8): "maxima", Fraction(4): "long", Fraction(2): "breve", Fraction(1): "whole",
    Fraction(1, 2): "half", Fraction(1, 4): "quarter", Fraction(1, 8): "eighth",
    **{Fraction(1, n): f"{n}{'nd' if n == 32 else 'th'}" for n in (16, 32, 64, 128, 256, 512, 1024)},
}  # fmt: skip
_SHORTEST = Fraction(1, 1024)
_MAX_DOTS = 3
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def add(parent: Element, tag: str, text: object = None, attributes: dict[str, str] | None = None) -> Element:
    """Append an element and return it.

    Args:
        parent: Element to append to.
        tag: Name of the element.
        text: Its content; characters that are not allowed in XML are dropped.
        attributes: Name -> value, in the order in which they are written.
    """
    element = SubElement(parent, tag, attributes or {})
    if text is not None:
        element.text = xml_text(str(text))
    return element


def xml_text(text: str) -> str:
    """Return text without the characters that are not allowed in XML."""
    kept = _NOT_XML.sub("", text)
    lost("character that XML does not have", len(text) - len(kept))
    return kept


@lru_cache(maxsize=1024)
def note_values(duration: Fraction) -> tuple[tuple[Fraction, str, int], ...]:
    """Split a duration into note values to be tied together.

    Args:
        duration: In whole notes, without tuplets, above 0 and at most ``MAX_DURATION``.

    Returns:
        Duration, type (such as ``quarter``) and number of dots of each value, the longest first. A duration that is not
        a sum of note values, such as a third, gets the next shorter type.
    """
    values: list[tuple[Fraction, str, int]] = []
    left = duration
    dyadic = _SHORTEST.denominator % duration.denominator == 0
    for length, name in _TYPES.items():
        while left >= length:
            if not dyadic:
                return ((duration, name, 0),)
            fitting = (
                n
                for n in range(1, _MAX_DOTS + 1)
                if length / 2**n >= _SHORTEST and _dotted(length, n) <= left
            )
            dots = max(fitting, default=0)
            values.append((_dotted(length, dots), name, dots))
            left -= _dotted(length, dots)
    return tuple(values) or ((duration, "1024th", 0),)


def value_name(duration: Fraction) -> tuple[str, int] | None:
    """Return type and number of dots of a duration that is a single note value; None for others."""
    return next(
        (
            (name, dots)
            for length, name in _TYPES.items()
            for dots in range(_MAX_DOTS + 1)
            if _dotted(length, dots) == duration
        ),
        None,
    )


def _dotted(length: Fraction, dots: int) -> Fraction:
    return length * (2 - Fraction(1, 2**dots))
