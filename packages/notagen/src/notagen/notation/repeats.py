"""Repeat signs of a piece, and those that have no partner."""

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
        left: Whether it is the barline before that bar, and not the one after it.
        end: Whether it is the ``:|`` of the barline that lacks a partner, and not the ``|:``.
        opened: For a ``|:`` within a repeat: index of the bar with the earlier ``|:``; else None.
    """

    bar: int
    left: bool
    end: bool
    opened: int | None = None


def unbalanced_repeats(barlines: Sequence[tuple[str, str]]) -> Iterator[Unbalanced]:
    """Find the repeat signs that lack a partner.

    The first ``:|`` needs no ``|:`` before it, nor does one in an ending that a ``:|2`` starts. A sign that is
    both at the end of a bar and at the start of the next one counts once.

    Args:
        barlines: Of each bar the one before it (empty where none is written) and the one after it, without blanks,
            with the number of an ending that starts there.

    Yields:
        Signs in the order of the piece, but the ``|:`` of a repeat without an end last. Without these the others
        are balanced.
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
    """Whether the barline at the start of a bar is the sign that the bar before it ends with, written again."""
    return left == before or (sign_of(before).endswith(":") and not left.startswith(":"))


def sign_of(barline: str) -> str:
    """Return a barline without the number of an ending."""
    match = _SIGN.match(barline)
    return match[0] if match else ""


def _signs(barlines: Sequence[tuple[str, str]]) -> Iterator[tuple[int, bool, str]]:
    before = ""
    for bar, (left, right) in enumerate(barlines):
        if ":" in left and not repeats_sign(before, left):
            yield bar, True, left
        if ":" in right:
            yield bar, False, right
        before = right
