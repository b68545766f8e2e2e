"""Length of a bar as the original's first exclusion rule counts it: by a few rewriting rules, without a parser of ABC.

It differs from :func:`notagen.abc.duration.bar_duration`, which follows the standard: ``Z`` counts one unit, broken
rhythm before a tuplet undoes the tuplet, and only ``(3`` may leave out its time. Preference data of the original
reproduces with these rules alone; for other purposes use the standard's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from pentatonic.errors import FormatError

#: Tuplets nested deeper than this are not interpreted.
MAX_NESTING = 64

_IGNORED = (re.compile(r'"[^"]*"'), re.compile("![^!]+!"), re.compile(r"\{[^}]+\}"))
_INLINE_FIELD = re.compile(r"\[[A-Za-z]:[^\]]*\]")
_CHORD = re.compile(r"\[[^\]]+\]")
_CHORD_CHARACTERS = frozenset("ABCDEFGabcdefgxXzZ_=^',[]-")
_WITHOUT_EFFECT = str.maketrans(
    {character: None for character in "PSOsouvUVTM.-)_=^',"} | {"x": "z", "X": "z"}
)
_SLUR = re.compile(r"\((?![0-9])")
_ELEMENT = re.compile("[A-Ga-gzZ][^A-Ga-gzZ(<>]*|[(][0-9:]+|[<>]+")
_NO_LETTERS = re.compile("[A-Za-z]")
# Eighteen digits are more than any music has, and keep the fractions small.
_LENGTH = re.compile(r"\s*\+?([0-9]{1,18})(?:/([0-9]{1,18}))?\s*")
_SHARE = re.compile(r"/\+?([0-9]{1,18})\s*")
_ROUNDING = Fraction(1, 64)


class _Uninterpretable(Exception):
    """A part of the bar has no length."""


def counted_length(text: str) -> Fraction | None:
    """Return the length of a bar of one voice, in units of ``L:``.

    Args:
        text: The bar without its barlines.

    Returns:
        The exact length; None where a length, a tuplet or broken rhythm cannot be interpreted.

    Raises:
        FormatError: A chord has something else than notes and accidentals in its brackets.
    """
    for pattern in (*_IGNORED, _INLINE_FIELD):
        text = pattern.sub("", text)
    text = _SLUR.sub("", _CHORD.sub(_chord, text).translate(_WITHOUT_EFFECT))
    try:
        return _Elements(_ELEMENT.findall(text)).total()
    except _Uninterpretable:
        return None


def _chord(match: re.Match[str]) -> str:
    if strange := sorted(set(match[0]) - _CHORD_CHARACTERS):
        raise FormatError(
            f"{match[0][:40]!r} is no chord: {''.join(strange)!r} in it; lengths come after its ]"
        )
    return "C"


@dataclass(frozen=True)
class _Item:
    """What stands at one place: its length without ``open_note``, the number of notes, and the place after it.

    ``open_note`` is the length of its last note where broken rhythm follows, which takes that note out of tuplets.
    """

    length: Fraction
    notes: int
    after: int
    open_note: Fraction = Fraction(0)


class _Elements:
    """Notes, marks of tuplets and signs of broken rhythm of a bar."""

    def __init__(self, elements: list[str]) -> None:
        self.elements = elements
        if elements and elements[-1][0] in "<>":
            raise _Uninterpretable

    def total(self) -> Fraction:
        length, index = Fraction(0), 0
        while index < len(self.elements):
            item = self.item(index, 0)
            length, index = length + item.length + item.open_note, item.after
        return length

    def item(self, index: int, depth: int) -> _Item:
        element = self.elements[index]
        if element[0] == "(":
            return self._tuplet(index, depth)
        if element[0] in "<>":
            undone = (
                index > 0 and self.elements[index - 1][0] not in "(<>" and self.elements[index + 1][0] == "("
            )
            # The mark of the tuplet is passed over, so its notes count as they are written.
            return _Item(Fraction(-1), 0, index + 2) if undone else _Item(Fraction(0), 0, index + 1)
        length = _note_length(element)
        if index + 1 < len(self.elements) and self.elements[index + 1][0] in "<>":
            return _Item(Fraction(0), 1, index + 1, length)
        return _Item(length, 1, index + 1)

    def _tuplet(self, index: int, depth: int) -> _Item:
        p, q, r = _tuplet_numbers(self.elements[index])
        if depth == MAX_NESTING:
            raise _Uninterpretable
        length, notes, after, open_note = Fraction(0), 0, index + 1, Fraction(0)
        while notes < r:
            if after >= len(self.elements):
                raise _Uninterpretable
            item = self.item(after, depth + 1)
            length, open_note = length + open_note + item.length, item.open_note
            notes, after = notes + item.notes, item.after
        length *= Fraction(q, p)
        whole = Fraction(round(length))
        return _Item(whole if abs(length - whole) <= _ROUNDING else length, notes, after, open_note)


def _tuplet_numbers(mark: str) -> tuple[int, int, int]:
    if mark == "(3":
        return 3, 2, 3
    numbers = mark[1:].split(":")[:3]
    if len(numbers) < 3 or not all(0 < len(number) <= 18 and int(number) for number in numbers):
        raise _Uninterpretable
    p, q, r = map(int, numbers)
    return p, q, r


def _note_length(element: str) -> Fraction:
    text = _NO_LETTERS.sub("", element.strip())
    if not text.strip():
        return Fraction(1)
    if text == "/":
        return Fraction(1, 2)
    if match := _SHARE.fullmatch(text):
        numerator, denominator = 1, int(match[1])
    elif match := _LENGTH.fullmatch(text):
        numerator, denominator = int(match[1]), int(match[2] or 1)
    else:
        raise _Uninterpretable
    if not denominator:
        raise _Uninterpretable
    return Fraction(numerator, denominator)
