"""The text of one bar: its tokens with their times in units of ``L:``, and changes that leave what sounds."""

from __future__ import annotations

import re
from collections.abc import Iterator

from notagen.yue2.checking import TOKEN
from notagen.yue2.writing import split_length

_MAX_DIGITS = 9

Timed = tuple[int, re.Match[str]]


def tokens(bar: str) -> list[Timed] | None:
    """Return the tokens of a bar with their starts in units; None where something is no token."""
    found: list[Timed] = []
    at = time = 0
    while at < len(bar):
        if bar[at].isspace():
            at += 1
            continue
        match = TOKEN.match(bar, at)
        if match is None:
            return None
        found.append((time, match))
        time, at = time + length_of(match), match.end()
    return found


def length_of(match: re.Match[str]) -> int:
    """Return the length of a note or rest in units, of other tokens 0."""
    return 0 if match[4] is None else int(match[6][:_MAX_DIGITS] or 1)


def is_rest(bar: str) -> bool:
    """Whether a bar is one of rest, ``Z``."""
    return bar.strip() == "Z"


def rests(length: int) -> str:
    """Return rests of a length in units."""
    return "".join(_written("z", length))


def of_length(match: re.Match[str], length: int) -> str:
    """Return a note or rest with another length, in several tied ones where the dialect lacks it; its tie stays."""
    pitch = f"{match[3] or ''}{match[4]}{match[5]}"
    return _joint(match).join(_written(pitch, length)) + match[7]


def inserted(bar: str, time: int, what: str, length: int) -> str | None:
    """Return a bar with a chord symbol or key at a time; a note or rest that is held there is split.

    A key stands before what is at its time already, a chord symbol after it.

    Args:
        bar: Text of the bar, also ``Z``.
        time: In units from the start of the bar.
        what: The token.
        length: Of the bar in units.

    Returns:
        The text; None where the bar cannot be read, or ends before.
    """
    if is_rest(bar):
        return rests(time) + what + rests(length - time)
    found = tokens(bar)
    if found is None:
        return None
    for start, match in found:
        end = start + length_of(match)
        if start == time and (match[4] is not None or what.startswith("[")):
            return bar[: match.start()] + what + bar[match.start() :]
        if start < time < end:
            join = _joint(match)
            first = join.join(_written(f"{match[3] or ''}{match[4]}{match[5]}", time - start))
            second = join.join(_written(f"{match[4]}{match[5]}", end - time))
            return f"{bar[: match.start()]}{first}{join}{what}{second}{match[7]}{bar[match.end() :]}"
    return None


def _joint(match: re.Match[str]) -> str:
    return "" if match[4] == "z" else "-"


def _written(pitch: str, length: int) -> Iterator[str]:
    return (f"{pitch}{part if part > 1 else ''}" for part in split_length(length))
