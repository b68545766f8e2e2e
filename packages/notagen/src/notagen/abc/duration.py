"""Exact durations of bars, and the fields they depend on: meter, unit note length and key.

Durations are fractions in units of the note length that ``L:`` sets. The rules are those of the ABC standard 2.1 and,
where it leaves a choice, of the program that checked the training data of the released models; both agree on every bar
that the program can read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from notagen.abc.clefs import changes_key
from notagen.abc.parser import parse_bar
from notagen.abc.printer import print_bar
from notagen.abc.syntax import Bar, Broken, Chord, Element, Note, Overlay, Rest, Tuplet
from pentatonic.errors import FormatError

MAX_TUPLET_NESTING = 8
MAX_BROKEN_SIGNS = 4
TUPLET_ROUNDING = Fraction(1, 64)  # converters write rounded lengths such as 21/64 into tuplets

_METER = re.compile(r"\(?([0-9]{1,3}(?:\+[0-9]{1,3}){0,9})\)?/([0-9]{1,3})")
_KEY = re.compile(r"([A-G])([#b]?)[ \t]*+([A-Za-z]*+)")
_KEY_ACCIDENTAL = re.compile(r"(\^\^?|__?|=)([A-Ga-g])")
_KEY_ACCIDENTALS = re.compile(rf"(?:{_KEY_ACCIDENTAL.pattern})++")
_ALTERATIONS = {"__": -2, "_": -1, "=": 0, "^": 1, "^^": 2}
_NATURALS = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}
_MODES = {"lyd": 1, "maj": 0, "ion": 0, "mix": -1, "dor": -2, "min": -3, "aeo": -3, "phr": -4, "loc": -5}
_PIPES = {"HP": 0, "Hp": 2}  # keys of the highland bagpipe; only Hp shows the sharps of its scale
_TUPLET_TIMES = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}


@dataclass(frozen=True, slots=True)
class Meter:
    """A time signature; ``Meter(6, 8)`` is six eighths."""

    beats: int
    unit: int

    @property
    def length(self) -> Fraction:
        """Length of a bar in whole notes."""
        return Fraction(self.beats, self.unit)

    @property
    def compound(self) -> bool:
        """Whether the meter has 6, 9 or 12 beats, which are grouped in threes."""
        return self.beats in (6, 9, 12)


@dataclass(frozen=True, slots=True)
class Key:
    """A key.

    Args:
        tonic: A letter, optionally with ``#`` or ``b``; empty for ``none`` and for the bagpipe keys ``HP`` and ``Hp``.
        mode: ``maj min dor phr lyd mix loc aeo ion``; empty without a tonic.
        fifths: Number of sharps in its signature; flats are negative. 0 for ``none``.
        accidentals: What the field adds to the signature or takes from it, such as ``^f`` in ``D Phr ^f``: pairs of a
            letter ``A`` to ``G`` and its alteration in semitones, -2 to 2.
    """

    tonic: str
    mode: str
    fifths: int
    accidentals: tuple[tuple[str, int], ...] = ()

    def alteration(self, letter: str) -> int:
        """Alteration of a letter ``A`` to ``G`` in the signature, in semitones."""
        return dict(self.accidentals).get(letter, (self.fifths + 6 - "FCGDAEB".index(letter)) // 7)


def parse_meter(value: str, *, line: int | None = None, column: int | None = None) -> Meter | None:
    """Read the value of an ``M:`` field.

    Args:
        value: ``n/d``, ``a+b/d``, ``C`` (4/4), ``C|`` (2/2), or ``none`` or nothing for free meter.
        line: Line of the field, for messages.
        column: Column of the field.

    Returns:
        The meter; ``None`` for free meter.

    Raises:
        FormatError: ``value`` has another form.
    """
    text = "".join(value.partition("%")[0].split())
    if text in ("", "none"):
        return None
    if text in ("C", "C|"):
        return Meter(4, 4) if text == "C" else Meter(2, 2)
    match = _METER.fullmatch(text)
    beats = sum(map(int, match[1].split("+"))) if match else 0
    if match is None or beats == 0 or int(match[2]) == 0:
        raise FormatError(f"meter {value[:40]!r} is not n/d, C, C| or none", line=line, column=column)
    return Meter(beats, int(match[2]))


def parse_unit_length(value: str, *, line: int | None = None, column: int | None = None) -> Fraction:
    """Read the value of an ``L:`` field, such as ``1/8``: a fraction of a whole note.

    Raises:
        FormatError: ``value`` is not a positive fraction with numbers of at most three digits.
    """
    over, slash, under = (part.strip() for part in value.partition("%")[0].partition("/"))
    numbers = (over, under or "1") if not slash or under else (over, "")
    if all(number.isascii() and number.isdigit() and 0 < len(number) < 4 for number in numbers):
        numerator, denominator = map(int, numbers)
        if numerator and denominator:
            return Fraction(numerator, denominator)
    raise FormatError(f"note length {value[:40]!r} is not a fraction such as 1/8", line=line, column=column)


def default_unit_length(meter: Meter | None) -> Fraction:
    """Return the unit note length of a tune without ``L:``: 1/16 in meters shorter than 3/4, else 1/8."""
    return Fraction(1, 16) if meter is not None and meter.length < Fraction(3, 4) else Fraction(1, 8)


def parse_key(value: str, *, line: int | None = None, column: int | None = None) -> Key:
    """Read the value of a ``K:`` field: ``tonic[mode]``, in any case, then accidentals; a clef after it is ignored.

    Args:
        value: Such as ``G``, ``F#min``, ``D dorian``, ``Bb clef=bass``, ``D Phr ^f``; ``none``, nothing or only a clef
            for no key; ``HP`` or ``Hp`` for the highland bagpipe. After ``exp`` the signature is the accidentals alone.
        line: Line of the field, for messages.
        column: Column of the field.

    Raises:
        FormatError: The tonic or the mode is unknown.
    """
    text = value.partition("%")[0].strip()
    words = text.split() or ["none"]
    accidentals = _key_accidentals(words[1:])
    if words[0].lower() == "none" or words[0] in _PIPES or not changes_key(text):
        return Key("", "", _PIPES.get(words[0], 0), accidentals)
    match = _KEY.match(text[0].upper() + text[1:])
    if match is None:
        raise FormatError(f"key {value[:40]!r} does not start with A to G or none", line=line, column=column)
    letter, sign, word = match.groups()
    mode = _mode(word)
    if word.lower() == "exp":
        letters = dict.fromkeys("CDEFGAB", 0) | dict(accidentals)
        return Key(letter + sign, "maj", 0, tuple(letters.items()))
    if mode is None and match.end(2) < match.start(3):
        mode = "maj"  # the word after a blank is a clef or an attribute, as in "G treble"
    if mode is None:
        known = ", ".join(_MODES)
        raise FormatError(f"mode {word[:40]!r} is not one of m, {known}", line=line, column=column)
    fifths = _NATURALS[letter] + 7 * ((sign == "#") - (sign == "b")) + _MODES[mode]
    return Key(letter + sign, mode, fifths, accidentals)


def _key_accidentals(words: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Return the accidentals among the words after the tonic; several may be one word, as in ``^f_b``."""
    found: dict[str, int] = {}
    for word in words:
        if _KEY_ACCIDENTALS.fullmatch(word):
            found |= {letter.upper(): _ALTERATIONS[sign] for sign, letter in _KEY_ACCIDENTAL.findall(word)}
    return tuple(found.items())


def _mode(word: str) -> str | None:
    word = word.lower()
    if word in ("", "m"):
        return "min" if word else "maj"
    return word[:3] if word[:3] in _MODES else None


def bar_duration(
    text: str, *, meter: Meter | None = None, bar_length: Fraction = Fraction(1)
) -> Fraction | None:
    """Return the duration of a bar given as text; ``None`` where the text cannot be parsed.

    Args:
        text: One bar of one voice; see :func:`notagen.abc.parser.parse_bar`.
        meter: As in :func:`total_duration`.
        bar_length: Length of a whole-bar rest ``Z``, in units of the note length.
    """
    try:
        return total_duration(parse_bar(text), meter=meter, bar_length=bar_length)
    except FormatError:
        return None


def total_duration(bar: Bar, *, meter: Meter | None = None, bar_length: Fraction | None = None) -> Fraction:
    """Return the duration of a bar, in units of the note length.

    Args:
        bar: The bar. Fields in it are ignored, so ``L:`` must not change between its notes.
        meter: The meter in force; it decides the default time of ``(5``, ``(7`` and ``(9``.
        bar_length: Length of a whole-bar rest ``Z``: ``meter.length / unit_length``; ``None`` in free meter.

    Returns:
        The sum over the notes, with tuplets within 1/64 of an integer rounded to it. All layers of an overlay must have
        the same duration. Broken rhythm does not change the sum of its two notes.

    Raises:
        FormatError: A tuplet lacks notes, broken rhythm lacks a note before or after it, layers have different
            durations, or there is a ``Z`` without ``bar_length``; with the line and column in the source.
    """
    reader = _Durations(bar, meter, bar_length)
    totals = [(start, reader.total(start, end)) for start, end in _layers(bar.elements)]
    for start, total in totals[1:]:
        if total != totals[0][1]:
            longer = "longer" if total > totals[0][1] else "shorter"
            # The lengths are not named: Python may refuse to print fractions with so many digits.
            raise reader.error(start, f"this layer is {longer} than the first one")
    return totals[0][1]


def durations(
    bar: Bar, *, meter: Meter | None = None, bar_length: Fraction | None = None
) -> tuple[Fraction, ...]:
    """Return the duration of each element of a bar, 0 for elements that take no time; nothing is rounded.

    Arguments and errors are those of :func:`total_duration`, but layers may have different durations.
    """
    reader = _Durations(bar, meter, bar_length)
    for start, end in _layers(bar.elements):
        reader.total(start, end)
    return tuple(reader.lengths)


def uncut_runs(
    bar: Bar, *, meter: Meter | None = None, bar_length: Fraction | None = None
) -> tuple[tuple[int, Fraction], ...]:
    """Split a bar where it can be cut without changing earlier durations: outside of tuplets and broken rhythm.

    Arguments and errors are those of :func:`total_duration`, but broken rhythm and later layers are not checked.

    Returns:
        For each run of elements of the first layer the index after its last element, and its duration.
    """
    reader = _Durations(bar, meter, bar_length)
    index, end = _layers(bar.elements)[0]
    runs: list[tuple[int, Fraction]] = []
    notes_of: list[int] = []
    waiting: Fraction | None = None  # duration up to a broken rhythm whose second note has not come yet
    while index < end:
        broken = isinstance(bar.elements[index], Broken)
        duration, notes, index = reader.item(index, end, 0)
        if broken:
            waiting = waiting or Fraction(0)
            while runs and not notes:
                waiting, notes = waiting + runs.pop()[1], notes_of.pop()
        elif waiting is None or notes:
            runs.append((index, duration + (waiting or 0)))
            notes_of.append(notes)
            waiting = None
    return tuple(runs)


def _layers(elements: Sequence[Element]) -> list[tuple[int, int]]:
    cuts = [index for index, element in enumerate(elements) if isinstance(element, Overlay)]
    return list(zip([0, *(cut + 1 for cut in cuts)], [*cuts, len(elements)], strict=True))


class _Durations:
    """Computes the lengths of the elements of one bar: as written, then with tuplets, then with broken rhythm."""

    def __init__(self, bar: Bar, meter: Meter | None, bar_length: Fraction | None) -> None:
        self.bar, self.meter, self.bar_length = bar, meter, bar_length
        self.timed = [isinstance(element, (Note, Chord, Rest)) for element in bar.elements]
        self.lengths = [self._written(index) for index in range(len(bar.elements))]

    def error(self, index: int, reason: str) -> FormatError:
        before = Bar(self.bar.elements[:index], None, self.bar.prefix, self.bar.left)
        column = self.bar.column + len(print_bar(before))
        return FormatError(reason, line=self.bar.line, column=column)

    def _written(self, index: int) -> Fraction:
        element = self.bar.elements[index]
        if not isinstance(element, (Note, Chord, Rest)):
            return Fraction(0)
        if isinstance(element, Rest) and element.whole_bars:
            if self.bar_length is None:
                raise self.error(index, f"{element.letter} counts bars, but the meter is free or unknown")
            return element.length * self.bar_length
        return element.length

    def total(self, start: int, end: int) -> Fraction:
        """Return the duration of the elements from ``start`` to before ``end``."""
        total, index = Fraction(0), start
        while index < end:
            duration, _, index = self.item(index, end, 0)
            total += duration
        self._break(start, end)  # after the tuplets, so that a pair across the end of a tuplet keeps its sum
        return total

    def _break(self, start: int, end: int) -> None:
        """Apply broken rhythm: the shortened note gives half (3/4, 7/8, …) of its length to the other one."""
        last: int | None = None
        signs, sign_at = "", start
        for index in range(start, end):
            element = self.bar.elements[index]
            if isinstance(element, Broken):
                if last is None or signs or len(element.text) > MAX_BROKEN_SIGNS:
                    raise self.error(index, f"{element.text[:9]!r} must be between two notes")
                signs, sign_at = element.text, index
            elif self.timed[index]:
                if signs and last is not None:
                    self._lengthen(*((last, index) if signs[0] == ">" else (index, last)), len(signs))
                last, signs = index, ""
        if signs:
            raise self.error(sign_at, "broken rhythm without a note after it")

    def _lengthen(self, longer: int, shorter: int, signs: int) -> None:
        kept = self.lengths[shorter] / 2**signs
        self.lengths[longer] += self.lengths[shorter] - kept
        self.lengths[shorter] = kept

    def item(self, index: int, end: int, depth: int) -> tuple[Fraction, int, int]:
        """Return duration and number of notes of the element at ``index``, and the index after it."""
        element = self.bar.elements[index]
        if not isinstance(element, Tuplet):
            return self.lengths[index], int(self.timed[index]), index + 1
        if depth == MAX_TUPLET_NESTING:
            raise self.error(index, f"tuplets are nested deeper than {MAX_TUPLET_NESTING}")
        needed = element.r or element.p
        total, count, after = Fraction(0), 0, index + 1
        while count < needed:
            if after >= end:
                raise self.error(index, f"a tuplet of {needed} notes has only {count}")
            duration, notes, after = self.item(after, end, depth + 1)
            total, count = total + duration, count + notes
        factor = Fraction(element.q or self._time_of(element.p), element.p)
        for inside in range(index + 1, after):
            self.lengths[inside] *= factor
        total *= factor
        whole = Fraction(round(total))
        return (whole if abs(total - whole) <= TUPLET_ROUNDING else total), count, after

    def _time_of(self, p: int) -> int:
        return _TUPLET_TIMES.get(p) or (3 if self.meter is not None and self.meter.compound else 2)
