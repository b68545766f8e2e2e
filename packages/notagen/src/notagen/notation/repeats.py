"""Repeat signs of a piece, and repeat signs without a partner."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SIGN = re.compile(r"[|:\[\]]*")


@dataclass(frozen=True)
class Unbalanced:
    """A repeat sign without its partner.

    Args:
        bar: Index of its bar.
        left: Whether its barline is before that bar; otherwise it is after the bar.
        end: Whether the ``:|`` of the barline lacks a partner; otherwise its ``|:`` does.
        opened: For a ``|:`` inside a repeat the index of the bar with the earlier ``|:``; else None.
    """

    bar: int
    left: bool
    end: bool
    opened: int | None = None


def unbalanced_repeats(barlines: Sequence[tuple[str, str]]) -> Iterator[Unbalanced]:
    """Find the repeat signs without a partner.

    The first ``:|`` needs no ``|:`` before it, nor does one in an ending that a ``:|2`` starts. A sign that is written
    both at the end of a bar and at the start of the next one counts once.

    Args:
        barlines: For each bar the barline before it (empty if none is written) and after it, without blanks, including
            the number of an ending that starts there.

    Yields:
        The signs in the order of the piece, except that the ``|:`` of a repeat without an end comes last. Without these
        signs the repeats are balanced.
    """
    opened: int | None = 0  # the bar where the repeated music starts
    start: Unbalanced | None = None  # the |: that is open
    for bar, left, barline in _signs(barlines):
        sign = sign_of(barline)
        if sign.startswith(":"):
            if opened is None:
                yield Unbalanced(bar, left, end=True)
            if barline == sign:  # with a number after it, an ending of the same repeat follows
                opened = None
            start = None
        if sign.endswith(":"):
            if start is not None:
                yield Unbalanced(bar, left, end=False, opened=start.bar)
            else:
                start = Unbalanced(bar, left, end=False)
            opened = bar
    if start is not None:
        yield start


def repeats_sign(before: str, left: str) -> bool:
    """Whether the barline at the start of a bar only repeats the barline at the end of the bar before."""
    return left == before or (sign_of(before).endswith(":") and not left.startswith(":"))


def sign_of(barline: str) -> str:
    """Return a barline without the number of an ending."""
    match = _SIGN.match(barline)
    return match[0] if match else ""


def repeat_times(barline: str) -> int:
    """Return how often the music before a barline is played by its repeat sign: twice for ``:|``, 3 times for ``::|``.

    Args:
        barline: The barline, such as ``|:`` (1, as no repeat ends there) or ``::`` (2).
    """
    sign = sign_of(barline)
    colons = len(sign) - len(sign.lstrip(":"))
    return 1 + ((colons + 1) // 2 if colons == len(sign) else colons)


def _signs(barlines: Sequence[tuple[str, str]]) -> Iterator[tuple[int, bool, str]]:
    before = ""
    for bar, (left, right) in enumerate(barlines):
        if ":" in left and not repeats_sign(before, left):
            yield bar, True, left
        if ":" in right:
            yield bar, False, right
        before = right
