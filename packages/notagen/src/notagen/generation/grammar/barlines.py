"""Which barlines may end a bar, given the open repeat of the piece and the length of the bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from notagen.notation.repeats import sign_of
from notagen.notation.validation import allows_other_length

#: Barlines before the first bar of a piece.
LEFT_SIGNS = ("|", "||", "|:")
_SIGNS = ("|", "||", "|]", "|:", ":|", "::")
_ENDINGS = ("|1", "|2", "|3", "|1,2", "|1-3", ":|2", ":|3", ":|4")


@dataclass
class BarlineRules:
    """Follows the barlines of a piece and gives those that may come next.

    Attributes:
        before: Barline at the end of the line before; empty before the first line.
        repeatable: Whether a ``:|`` may follow: a repeat is open, or no repeat has ended since the start of the piece.
        open_repeat: Whether a ``:|`` must follow.
    """

    before: str = ""
    repeatable: bool = True
    open_repeat: bool = False

    def add(self, left: str, right: str) -> None:
        """Take note of the barlines before and after the bars of a line."""
        for barline in (left, right):
            sign = sign_of(barline)
            if sign.startswith(":"):  # with a number after it, an ending of the same repeat follows
                self.repeatable, self.open_repeat = barline != sign, False
            if sign.endswith(":"):
                self.repeatable = self.open_repeat = True
        self.before = right

    @property
    def may_end(self) -> bool:
        """Whether the piece may end here."""
        return self.before in ("|]", ":|") and not self.open_repeat

    def final(self, left: str) -> tuple[str, ...]:
        """Return the barlines that may end a piece whose last bar starts with ``left``."""
        must_repeat = self.open_repeat or left == "|:"
        return ((":|",) if self.repeatable else ()) + (() if must_repeat else ("|]",))

    def inner(self, left: str, *, short: bool) -> tuple[str, ...]:
        """Return the barlines that may end a bar inside a piece.

        Args:
            left: Barline before the bar; empty for none.
            short: Whether the bar is shorter than the meter says.
        """
        return _inner(self.before, self.repeatable, self.open_repeat or left == "|:", short)

    def closing(self, signs: Sequence[str]) -> str:
        """Return the one of these barlines that is on the short path to the end of the piece."""
        wanted = ":|" if self.open_repeat else "|]"
        return wanted if wanted in signs else signs[0]


@lru_cache(maxsize=256)
def _inner(before: str, repeatable: bool, opened: bool, short: bool) -> tuple[str, ...]:
    signs = []
    for barline in (*_SIGNS, *_ENDINGS):
        sign = sign_of(barline)
        fits = not short or allows_other_length((sign,), shorter=True) or ":" in sign_of(before)
        of_repeat = sign.startswith(":") or barline != sign
        if fits and (repeatable or not of_repeat) and not (opened and sign == "|:"):
            signs.append(barline)
    return tuple(signs)
