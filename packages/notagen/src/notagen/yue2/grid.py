"""Moves times to a grid: for triplets and other times that the dialect cannot write."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, pairwise

from notagen.yue2.song import Bar, Note


class Grid:
    """A grid that starts anew in each bar. The order of times stays.

    Args:
        steps: Steps of a whole note.
        bars: The bars of the piece.
    """

    def __init__(self, steps: int, bars: Sequence[Bar]) -> None:
        self.step = Fraction(4, steps)  # in quarters
        self.starts = list(accumulate((bar.length for bar in bars), initial=Fraction(0)))

    def nearest(self, time: Fraction) -> Fraction:
        """Return the nearest time of the grid, of two the later one; the end of the bar belongs to it."""
        bar = min(bisect_right(self.starts, time), len(self.starts) - 1) - 1
        steps = (time - self.starts[bar]) / self.step
        return min(self.starts[bar] + self.step * int(steps + Fraction(1, 2)), self.starts[bar + 1])

    def notes(self, notes: Sequence[Note], losses: Counter[str]) -> list[Note]:
        """Move the starts and ends of notes; one that vanishes gets a step, or is left out where another one starts.

        Args:
            notes: In the order of time, without overlaps.
            losses: Counts what was moved, lengthened and left out.
        """
        found: list[Note] = []
        for note, following in pairwise([*notes, None]):
            assert note is not None
            start, end = self.nearest(note.onset), self.nearest(note.end)
            if start == end:
                room = self.starts[-1] if following is None else self.nearest(following.onset)
                end = min(start + self.step, room)
                if start >= end:
                    losses["notes shorter than the grid, left out"] += 1
                    continue
            if (start, end) != (note.onset, note.end):
                losses["notes moved to the grid"] += 1
            found.append(replace(note, onset=start, duration=end - start))
        return found

    def chords(
        self, chords: Sequence[tuple[Fraction, str]], losses: Counter[str]
    ) -> list[tuple[Fraction, str]]:
        """Move chord symbols; of several at one time the last stays, for it holds longest.

        Args:
            chords: In the order of time.
            losses: Counts what was moved and left out.
        """
        found: dict[Fraction, str] = {}
        for time, symbol in chords:
            moved = self.nearest(time)
            if moved >= self.starts[-1] or moved in found:
                losses["chord symbols closer than the grid, left out"] += 1
            if moved < self.starts[-1]:
                losses["chord symbols moved to the grid"] += moved != time
                found[moved] = symbol
        return sorted(found.items())
