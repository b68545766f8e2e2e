"""Lengths of notes in whole ticks: which ones fit into what is left of a bar, and how they can be written.

A tick is 1/32 of the unit length ``L:``, or a part of that where a given bar asks for it; *coarse* is the number of
ticks of 1/32. A tuplet lasts a multiple of 1/32, because readers round what is off an integer by less than 1/64.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import lcm

from notagen.generation.grammar.rules import DIGITS, Step, bits

#: Ticks of a unit length, at least.
TICKS = 32
_MAX_NUMERATOR = 9999


@dataclass(frozen=True, slots=True)
class Tuplet:
    """An open tuplet: its notes, of which ``count`` are to come, take q in the time of p.

    Args:
        p: See there.
        q: See there.
        count: Notes to come.
        ticks: Of the notes so far, as written.
    """

    p: int
    q: int
    count: int
    ticks: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """How far a bar is.

    Attributes:
        room: Ticks that are left, those of an open tuplet included.
        tuplet: The open tuplet.
        slurs: Open slurs of the voice.
        sounding: Whether the last element is a note or chord, at which a slur may end.
        waits: Whether something needs a note or rest after it.
        note_waits: Whether something needs a note after it.
        spaces: Blanks just written.
    """

    room: int
    tuplet: Tuplet | None = None
    slurs: int = 0
    sounding: bool = False
    waits: bool = False
    note_waits: bool = False
    spaces: int = 0


def tick_rate(length: Fraction) -> int:
    """Return the ticks of a unit length by which a bar of this length is a whole number of ticks."""
    return lcm(TICKS, length.denominator)


def fillable(room: int, tuplet: Tuplet, coarse: int) -> bool:
    """Return whether a tuplet can be completed: by notes of a tick each and a last one, to a multiple of q/32."""
    return tuplet.ticks + tuplet.count <= tuplet.p * coarse * (room // (tuplet.q * coarse))


@lru_cache(maxsize=1 << 16)
def spend(room: int, tuplet: Tuplet | None, ticks: int, coarse: int) -> tuple[int, Tuplet | None] | None:
    """Return room and open tuplet after a note, ``None`` where it does not fit.

    Args:
        room: Ticks that are left.
        tuplet: The open tuplet, which :func:`fillable` holds for.
        ticks: Of the note.
        coarse: Ticks of 1/32.
    """
    if tuplet is None:
        return (room - ticks, None) if 0 < ticks <= room else None
    after = Tuplet(tuplet.p, tuplet.q, tuplet.count - 1, tuplet.ticks + ticks)
    if after.count:
        return (room, after) if ticks > 0 and fillable(room, after, coarse) else None
    time, odd = divmod(after.ticks * after.q, after.p)
    return (room - time, None) if ticks > 0 and not odd and time % coarse == 0 and 0 < time <= room else None


@lru_cache(maxsize=4096)
def ticks_of(text: str, rate: int) -> int | None:
    """Return the ticks of a length as it is written, ``None`` where they are no integer.

    Args:
        text: One of ``""``, ``n``, ``n/m``, ``n/``, ``/m``, ``/`` and ``//``.
        rate: Ticks of a unit length.
    """
    over, slash, under = text.partition("/")
    divisor = 4 if under == "/" else int(under or (2 if slash else 1))
    ticks, odd = divmod(int(over or 1) * rate, divisor)
    return None if odd else ticks


@lru_cache(maxsize=1 << 15)
def shortest_length(room: int, tuplet: Tuplet | None, rate: int) -> str:
    """Return the length of the next note on a short way to the end of the bar: all the bar's rest, if it can be.

    Inside a tuplet: the unit length or a simple part of it, and for the last note what makes the tuplet fit.
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
def continued(text: str, room: int, tuplet: Tuplet | None, rate: int) -> Step:
    """Return the characters after which a length can still be completed to one that fits.

    Args:
        text: The length so far.
        room: Ticks that are left.
        tuplet: The open tuplet.
        rate: Ticks of a unit length.

    Returns:
        A step, of no ids where nothing may follow.
    """
    over, slash, under = text.partition("/")

    def fits(length: str) -> bool:
        ticks = ticks_of(length, rate)
        return bool(ticks and spend(room, tuplet, ticks, rate // TICKS))

    parts = [str(part) for part in _divisors(rate) if part > 1 and fits(f"{over}/{part}")]
    if slash:
        digits = {part[len(under)] for part in parts if part.startswith(under) and part != under}
        more = "".join(sorted(digits)) if under != "/" else ""
        if text == "/" and fits("//"):
            more += "/"
    else:
        more = "/" if parts else ""
        if len(text) < len(str(_MAX_NUMERATOR)):
            more += "".join(d for d in DIGITS if text + d != "0" and _reachable(text + d, room, tuplet, rate))
    return Step(bits(more), ord(more[0]) if more else 0)


def _reachable(text: str, room: int, tuplet: Tuplet | None, rate: int) -> bool:
    """Return whether a number can be continued to the numerator of a length that fits."""
    coarse = rate // TICKS
    most = room if tuplet is None else tuplet.p * room // tuplet.q
    period = 1 if tuplet is None or tuplet.count > 1 else tuplet.p * coarse
    for power in range(len(str(_MAX_NUMERATOR)) - len(text) + 1):
        low = int(text) * 10**power
        for part in _divisors(rate):
            ticks = rate // part
            high = min(low + 10**power - 1, most // ticks, low + period)
            if any(spend(room, tuplet, n * ticks, coarse) for n in range(low, high + 1)):
                return True
    return False


@lru_cache(maxsize=64)
def _divisors(rate: int) -> tuple[int, ...]:
    return tuple(part for part in range(1, rate + 1) if rate % part == 0)
