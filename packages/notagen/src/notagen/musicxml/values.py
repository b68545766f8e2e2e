"""Reads numbers, keys, meters and clefs of MusicXML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from xml.etree.ElementTree import Element

from notagen.score.losses import lost
from pentatonic.errors import FormatError

#: Ticks of a quarter note. Almost all lengths of scores are whole numbers of them, tuplets of up to 13 notes and the
#: 1024th included; whole numbers compute several times faster than fractions, which the others are in.
TICKS = (1 << 10) * 9 * 5 * 7 * 11 * 13

Time = int | Fraction
"""Ticks; always exact."""

_DECIMAL = re.compile(r"[+-]?[0-9]{1,9}(?:\.[0-9]{1,6})?")
_BEATS = re.compile(r"[0-9]{1,3}(?:\+[0-9]{1,3}){0,9}")
_CLEFS = {
    ("G", 2): "treble", ("F", 4): "bass", ("C", 3): "alto", ("C", 4): "tenor",
    ("G", 1): "treble1", ("F", 3): "bass3", ("F", 5): "bass5",
    ("C", 1): "alto1", ("C", 2): "alto2", ("C", 5): "alto5",
}  # fmt: skip
#: Symbol of a time signature -> the meter that ABC takes it for, and its name there.
_TIME_SIGNS = {"common": ("4/4", "C"), "cut": ("2/2", "C|")}
_MAX_FIFTHS = 7
_OCTAVES = {-2: "-15", -1: "-8", 1: "+8", 2: "+15"}
_TONICS = (  # by fifths, from -8
    "Fb", "Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G",
    "D", "A", "E", "B", "F#", "C#", "G#", "D#", "A#", "E#", "B#",
)  # fmt: skip
_MODES = {
    "lydian": ("lyd", -1), "mixolydian": ("mix", 1), "dorian": ("dor", 2), "minor": ("min", 3), "aeolian": ("min", 3),
    "phrygian": ("phr", 4), "locrian": ("loc", 5),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class XmlKey:
    """A key of a MusicXML score.

    Attributes:
        name: Value of ``K:`` in ABC.
        fifths: Number of sharps in its signature; flats are negative.
    """

    name: str
    fifths: int


@dataclass(frozen=True, slots=True)
class XmlMeter:
    """A meter of a MusicXML score.

    Attributes:
        name: Value of ``M:`` in ABC.
        length: Length of a measure in ticks; None for free meter.
    """

    name: str
    length: Time | None


def read_key(key: Element) -> XmlKey:
    """Read a ``<key>``; a non-traditional key signature counts as C major."""
    if key.find("fifths") is None:
        lost("non-traditional key")
        return XmlKey("C", 0)
    fifths = optional_integer(key, "fifths", -99, 99)
    if (
        abs(fifths) > _MAX_FIFTHS
    ):  # ABC has no such key; with its enharmonic equivalent the accidentals are written out
        lost("key of more than seven signs")
        fifths = (fifths + 5) % 12 - 5
    mode, steps = _MODES.get(key.findtext("mode", "").strip().lower(), ("", 0))
    return XmlKey(_TONICS[fifths + steps + 8] + mode, fifths)


def read_meter(time: Element) -> XmlMeter:
    """Read a ``<time>``; several meters in one are added up."""
    pairs = list(zip(time.findall("beats"), time.findall("beat-type"), strict=False))
    if not pairs:
        return XmlMeter("none", None)
    parts: list[tuple[str, int]] = []
    for beats, unit in pairs[:9]:
        count = "".join((beats.text or "").split())
        if not _BEATS.fullmatch(count) or not any(map(int, count.split("+"))):
            raise FormatError(f"beats {count[:20]!r} is not a number or a sum such as 3+2")
        parts.append((count, integer(unit, "beat-type", 1, 999)))
    length = sum((Fraction(sum(map(int, count.split("+"))), unit) for count, unit in parts), Fraction(0))
    if len(parts) == 1:
        name = f"{parts[0][0]}/{parts[0][1]}"
        sign = _TIME_SIGNS.get(time.get("symbol", ""))
        if sign and sign[0] != name:
            lost("sign of common or cut time for another meter")
        return XmlMeter(sign[1] if sign and sign[0] == name else name, whole(length * 4 * TICKS))
    lost("time signature of several meters, added up")
    unit = max(unit for _, unit in parts)
    total = length * unit
    if total.denominator != 1 or total > 999:
        raise FormatError("the meters of this measure have no common unit")
    return XmlMeter(f"{total}/{unit}", whole(length * 4 * TICKS))


def read_clef(clef: Element) -> str:
    """Return the ABC word for a ``<clef>``; ``treble`` for clefs that ABC does not have."""
    sign = clef.findtext("sign", "").strip()
    if sign == "percussion":
        return "perc"
    usual = {"G": 2, "F": 4, "C": 3}.get(sign, 2)
    line = optional_integer(clef, "line", -99, 99, default=usual)
    octave = optional_integer(clef, "clef-octave-change", -99, 99)
    if (sign, line) not in _CLEFS or (octave and octave not in _OCTAVES):
        lost("clef that ABC does not have")
    return _CLEFS.get((sign, line), "treble") + _OCTAVES.get(octave, "")


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Time | None:
    return whole(Fraction(text)) if _DECIMAL.fullmatch(text) else None


def whole(number: Fraction) -> Time:
    """Return a number as an ``int`` if it is whole."""
    return number.numerator if number.denominator == 1 else number


def decimal(element: Element, name: str) -> Time:
    """Read the number in an element; ``name`` is used in error messages."""
    text = (element.text or "").strip()
    if len(text) > 20 or (number := _parsed(text)) is None:
        raise FormatError(f"{name} {text[:20]!r} is not a number of at most 9 digits")
    return number


def integer(element: Element, name: str, low: int, high: int) -> int:
    """Read the whole number in an element; it must lie between two bounds."""
    number = decimal(element, name)
    if number.denominator != 1 or not low <= number <= high:
        raise FormatError(f"{name} is {(element.text or '').strip()[:20]!r}; allowed are {low} to {high}")
    return int(number)


def optional_integer(parent: Element, name: str, low: int, high: int, *, default: int = 0) -> int:
    """Read the whole number in a child element; ``default`` without that child."""
    element = parent.find(name)
    return default if element is None else integer(element, name, low, high)
