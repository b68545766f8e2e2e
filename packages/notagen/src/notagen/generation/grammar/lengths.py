"""Which lengths the notes and rests of a bar may have: any that fits, or only those of a vocabulary.

With a vocabulary, the rest of a bar and of a tuplet must always be a sum of its lengths. Sets of such sums are integers
whose bit i stands for i ticks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Protocol

from notagen.generation.grammar.durations import (
    LENGTH_FORM,
    TICKS,
    OpenTuplet,
    continued,
    fillable,
    shortest_length,
    spend,
    ticks_of,
)
from notagen.generation.grammar.rules import NextIds, bits

#: Most notes on the short path to the end of a bar; a bar that would need more may have any lengths.
_MOST_CLOSING_NOTES = 8

Spent = tuple[int, OpenTuplet | None] | None


class Lengths(Protocol):
    """The lengths that a note, or a rest, may have.

    All methods take the room that is left in the bar, in ticks, and the open tuplet, None without one.
    """

    def starts(self, room: int, tuplet: OpenTuplet | None) -> bool:
        """Whether any length fits."""
        ...

    def spend(self, room: int, tuplet: OpenTuplet | None, text: str) -> Spent:
        """Return room and tuplet after a note of this written length; None where it is unfinished or does not fit."""
        ...

    def continued(self, text: str, room: int, tuplet: OpenTuplet | None) -> NextIds:
        """Return the characters with which a length can be continued so that it fits."""
        ...

    def closing(self, room: int, tuplet: OpenTuplet | None) -> str:
        """Return the length on the short path to the end of the bar, where one fits."""
        ...

    def fillable(self, room: int, tuplet: OpenTuplet) -> bool:
        """Whether an open tuplet, and the bar after it, can be completed."""
        ...


class AnyLengths:
    """Any length of whole ticks, in lowest terms.

    Args:
        rate: Ticks of a unit length.
    """

    def __init__(self, rate: int) -> None:
        self.rate, self.coarse = rate, rate // TICKS

    def starts(self, room: int, tuplet: OpenTuplet | None) -> bool:
        """As :meth:`Lengths.starts`; an open tuplet can always be filled."""
        return room > 0

    def spend(self, room: int, tuplet: OpenTuplet | None, text: str) -> Spent:
        """As :meth:`Lengths.spend`."""
        ticks = ticks_of(text, self.rate)
        return spend(room, tuplet, ticks, self.coarse) if ticks else None

    def continued(self, text: str, room: int, tuplet: OpenTuplet | None) -> NextIds:
        """As :meth:`Lengths.continued`."""
        return continued(text, room, tuplet, self.rate)

    def closing(self, room: int, tuplet: OpenTuplet | None) -> str:
        """As :meth:`Lengths.closing`."""
        return shortest_length(room, tuplet, self.rate)

    def fillable(self, room: int, tuplet: OpenTuplet) -> bool:
        """As :meth:`Lengths.fillable`."""
        return fillable(room, tuplet, self.coarse)


class Sums:
    """Which rooms, up to that of a bar, are sums of the lengths of notes.

    Args:
        ticks: The lengths in ticks, each positive.
        room: Ticks of the bar.
        coarse: Number of ticks in 1/32 of the unit length.
    """

    def __init__(self, ticks: Iterable[int], room: int, coarse: int) -> None:
        self.ticks, self.coarse = sorted(set(ticks)), coarse
        self._mask = (1 << 15 * room + 1) - 1
        self._any = 1
        for each in self.ticks:
            step = each
            while step <= room:  # by doubling, all multiples are reached
                self._any |= self._any << step
                step *= 2
        self._of_count = [1]
        self.fillable = cache(self._fillable)

    def reach(self, room: int) -> bool:
        """Whether this many ticks are a sum of lengths; 0 ticks are."""
        return bool(self._any >> room & 1)

    def _of(self, count: int) -> int:
        """Return the sums of exactly this many lengths."""
        while len(self._of_count) <= count:
            before, after = self._of_count[-1], 0
            for each in self.ticks:
                after |= before << each
            self._of_count.append(after & self._mask)
        return self._of_count[count]

    def _fillable(self, room: int, tuplet: OpenTuplet) -> bool:
        sums = self._of(tuplet.count)
        for time in range(self.coarse, room + 1, self.coarse):
            total, odd = divmod(time * tuplet.p, tuplet.q)
            missing = total - tuplet.ticks
            if not odd and missing > 0 and sums >> missing & 1 and self.reach(room - time):
                return True
        return False


class ListedLengths:
    """Only the lengths of a list.

    Args:
        texts: The lengths as written.
        rate: Ticks of a unit length.
        sums: The sums of all lengths that notes may have.
    """

    def __init__(self, texts: Iterable[str], rate: int, sums: Sums) -> None:
        self._ticks = {text: ticks for text in texts if (ticks := readable_ticks(text, rate))}
        self._sums, self._rate = sums, rate
        self.starts = cache(self._starts)
        self.spend = cache(self._spend)
        self.continued = cache(self._continued)
        self.closing = cache(self._closing)
        self.fillable = sums.fillable

    def _starts(self, room: int, tuplet: OpenTuplet | None) -> bool:
        return any(self.spend(room, tuplet, text) for text in self._ticks)

    def _spend(self, room: int, tuplet: OpenTuplet | None, text: str) -> Spent:
        ticks = self._ticks.get(text)
        if ticks is None:
            return None
        if tuplet is not None and tuplet.count > 1:
            after = OpenTuplet(tuplet.p, tuplet.q, tuplet.count - 1, tuplet.ticks + ticks)
            return (room, after) if self.fillable(room, after) else None
        spent = spend(room, tuplet, ticks, self._sums.coarse)
        return spent if spent and self._sums.reach(spent[0]) else None

    def _continued(self, text: str, room: int, tuplet: OpenTuplet | None) -> NextIds:
        fitting = [each for each in self._ticks if each != text and each.startswith(text)]
        more = "".join(each[len(text)] for each in fitting if self.spend(room, tuplet, each))
        return NextIds(bits(more), ord(more[0]) if more else 0)

    def _closing(self, room: int, tuplet: OpenTuplet | None) -> str:
        fitting = [text for text in self._ticks if self.spend(room, tuplet, text)]
        if tuplet is None:
            return max(fitting, key=self._ticks.__getitem__)
        return min(fitting, key=lambda text: abs(self._ticks[text] - self._rate))

    def closing_notes(self, room: int) -> int:
        """Return the number of notes on the short path to the end of a bar with this room."""
        count = 0
        while room:
            room -= self._ticks[self.closing(room, None)]
            count += 1
        return count


def readable_ticks(text: str, rate: int) -> int | None:
    """Return the ticks of a written length; None where they are not whole, or the form is one that is not written."""
    return ticks_of(text, rate) if LENGTH_FORM.fullmatch(text) else None


@lru_cache(maxsize=256)
def lengths_of(
    notes: tuple[str, ...] | None, rests: tuple[str, ...] | None, rate: int, room: int
) -> tuple[Lengths, Mapping[str, Lengths]]:
    """Return the lengths of notes, and those of rests by their letter, in a bar.

    Args:
        notes: Lengths of notes, as written; None: any.
        rests: Rests as written; None: any.
        rate: Ticks of a unit length.
        room: Ticks of the full bar.
    """
    any_lengths = AnyLengths(rate)
    anything = dict.fromkeys("zx", any_lengths)
    if notes is None:
        return any_lengths, anything
    ticks = [each for text in notes if (each := readable_ticks(text, rate))]
    sums = Sums(ticks, room, rate // TICKS)
    listed = ListedLengths(notes, rate, sums)
    if not sums.reach(room) or listed.closing_notes(room) > _MOST_CLOSING_NOTES:
        return any_lengths, anything
    if rests is None:
        return listed, dict.fromkeys("zx", listed)
    return listed, {
        letter: ListedLengths((rest[1:] for rest in rests if rest[0] == letter), rate, sums)
        for letter in "zx"
        if any(rest.startswith(letter) for rest in rests)
    }
