"""Lengths of notes in whole ticks: which lengths fit into the rest of a bar, and how they are written.

A tick is 1/32 of the unit length ``L:``, or a fraction of that where the bars of the prompt need one; ``coarse`` is the
number of ticks in 1/32. A tuplet lasts a multiple of 1/32, because readers of ABC round the duration of a tuplet that
is within 1/64 of an integer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm

from notagen.generation.grammar.rules import DIGITS, NextIds, bits

#: Least number of ticks in a unit length.
TICKS = 32
#: Forms in which lengths are written.
LENGTH_FORM = re.compile(r"[1-9][0-9]{0,3}(/[1-9][0-9]{0,3}|/)?|/[1-9][0-9]{0,3}|//?|")
_MAX_NUMERATOR = 9999


@dataclass(frozen=True, slots=True)
class OpenTuplet:
    """An unfinished tuplet, whose notes last q/p of their written length.

    Args:
        p: First number of the tuplet mark.
        q: Second number of the tuplet mark.
        count: Number of notes that are still missing.
        ticks: Written ticks of the notes so far.
    """

    p: int
    q: int
    count: int
    ticks: int = 0


@dataclass(frozen=True, slots=True)
class BarState:
    """State of an unfinished bar.

    Attributes:
        room: Ticks that are left in the bar, including those of an open tuplet.
        tuplet: The open tuplet; None without one.
        slurs: Number of open slurs of the voice.
        sounding: Whether the last element is a note or chord, after which a slur may end.
        waits: Whether an element so far needs a note or rest after it.
        note_waits: Whether an element so far needs a note after it.
        spaces: Number of blanks since the last element.
        marks: Number of texts, decorations and grace notes since the last element that lasts.
    """

    room: int
    tuplet: OpenTuplet | None = None
    slurs: int = 0
    sounding: bool = False
    waits: bool = False
    note_waits: bool = False
    spaces: int = 0
    marks: int = 0


def tick_rate(length: Fraction) -> int:
    """Return a number of ticks per unit length with which a bar of this length is a whole number of ticks."""
    return lcm(TICKS, length.denominator)


def fillable(room: int, tuplet: OpenTuplet, coarse: int) -> bool:
    """Whether a tuplet can be completed in the room: with notes of one tick and a last note that fits."""
    return tuplet.ticks + tuplet.count <= tuplet.p * coarse * (room // (tuplet.q * coarse))


@lru_cache(maxsize=1 << 16)
def spend(
    room: int, tuplet: OpenTuplet | None, ticks: int, coarse: int
) -> tuple[int, OpenTuplet | None] | None:
    """Return room and open tuplet after a note; ``None`` where the note does not fit.

    Args:
        room: Ticks that are left in the bar.
        tuplet: The open tuplet, for which :func:`fillable` is true; None without one.
        ticks: Written ticks of the note.
        coarse: Number of ticks in 1/32 of the unit length.
    """
    if tuplet is None:
        return (room - ticks, None) if 0 < ticks <= room else None
    after = OpenTuplet(tuplet.p, tuplet.q, tuplet.count - 1, tuplet.ticks + ticks)
    if after.count:
        return (room, after) if ticks > 0 and fillable(room, after, coarse) else None
    time, odd = divmod(after.ticks * after.q, after.p)
    return (room - time, None) if ticks > 0 and not odd and time % coarse == 0 and 0 < time <= room else None


@lru_cache(maxsize=4096)
def ticks_of(text: str, rate: int) -> int | None:
    """Return the ticks of a written length; ``None`` where they are not an integer.

    Args:
        text: One of ``""``, ``n``, ``n/m``, ``n/``, ``/m``, ``/`` and ``//``.
        rate: Ticks of a unit length.
    """
    over, slash, under = text.partition("/")
    divisor = 4 if under == "/" else int(under or (2 if slash else 1))
    ticks, odd = divmod(int(over or 1) * rate, divisor)
    return None if odd else ticks


@lru_cache(maxsize=1 << 15)
def shortest_length(room: int, tuplet: OpenTuplet | None, rate: int) -> str:
    """Return the length of the next note on the short path to the end of the bar: the rest of the bar, if possible.

    Inside a tuplet it is the unit length or a simple fraction of it; the last note gets a length with which the tuplet
    fits.
    """
    coarse = rate // TICKS
    if tuplet is None:
        ticks = room if room <= _MAX_NUMERATOR else room // rate * rate
    else:
        simple = [rate >> shift for shift in range(TICKS.bit_length())]
        candidates = (*simple, *range(1, tuplet.p * coarse + 1))
        ticks = next(ticks for ticks in candidates if spend(room, tuplet, ticks, coarse))
    length = Fraction(ticks, rate)
    over = str(length.numerator) if length.numerator > 1 else ""
    return f"{over}/{length.denominator}" if length.denominator > 1 else over


@lru_cache(maxsize=1 << 16)
def continued(text: str, room: int, tuplet: OpenTuplet | None, rate: int) -> NextIds:
    """Return the characters with which a length can be continued so that it fits.

    Args:
        text: The length so far.
        room: Ticks that are left in the bar.
        tuplet: The open tuplet; None without one.
        rate: Ticks of a unit length.

    Returns:
        The ids of these characters; both fields are 0 where there are none.
    """
    over, slash, under = text.partition("/")

    def fits(length: str) -> bool:
        ticks = ticks_of(length, rate)
        return bool(ticks and spend(room, tuplet, ticks, rate // TICKS))

    numerator = int(over or 1)  # in lowest terms: 11/16, not 22/32
    parts = [
        str(part)
        for part in _divisors(rate)
        if part > 1 and gcd(numerator, part) == 1 and fits(f"{over}/{part}")
    ]
    if slash:
        digits = {part[len(under)] for part in parts if part.startswith(under) and part != under}
        more = "".join(sorted(digits)) if under != "/" else ""
        if text == "/" and fits("//"):
            more += "/"
    else:
        more = "/" if parts else ""
        if len(text) < len(str(_MAX_NUMERATOR)):
            more += "".join(d for d in DIGITS if text + d != "0" and _reachable(text + d, room, tuplet, rate))
    return NextIds(bits(more), ord(more[0]) if more else 0)


def _reachable(text: str, room: int, tuplet: OpenTuplet | None, rate: int) -> bool:
    """Whether a number can be continued to the numerator of a length that fits."""
    coarse = rate // TICKS
    most = room if tuplet is None else tuplet.p * room // tuplet.q
    period = 1 if tuplet is None or tuplet.count > 1 else tuplet.p * coarse
    for power in range(len(str(_MAX_NUMERATOR)) - len(text) + 1):
        low = int(text) * 10**power
        for part in _divisors(rate):
            ticks = rate // part
            high = min(low + 10**power - 1, most // ticks, low + 2 * period)
            if any(
                gcd(n, part) == 1 and spend(room, tuplet, n * ticks, coarse) for n in range(low, high + 1)
            ):
                return True
    return False


@lru_cache(maxsize=64)
def _divisors(rate: int) -> tuple[int, ...]:
    return tuple(part for part in range(1, rate + 1) if rate % part == 0)
