"""The countdown tag ``[r:done/left]`` at the start of a line of music, in the text that the models read and write.

``done`` is the number of bars before the line, ``left`` the number of bars after it: the first of eight bars has
``[r:0/7]``, the last one ``[r:7/0]``. The tags tell a model how much of the piece is still to come.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: What every countdown tag starts with.
COUNTDOWN = "[r:"

_TAG = re.compile(r"\s*\[r:[^\[\]\n]*\]")
_COUNTS = re.compile(r"\[r:([0-9]{1,9})/([0-9]{1,9})\]")


def countdown_tag(done: int, left: int) -> str:
    """Return the tag of a line with this many bars before and after it."""
    return f"[r:{done}/{left}]"


def with_countdown(lines: Sequence[str]) -> list[str]:
    """Return the lines of a whole piece, each after its tag."""
    return [countdown_tag(done, len(lines) - 1 - done) + line for done, line in enumerate(lines)]


def read_countdown(line: str) -> tuple[int, int] | None:
    """Return ``done`` and ``left`` of the tag that a line starts with; None without a well-formed tag."""
    match = _COUNTS.match(line)
    return (int(match[1]), int(match[2])) if match else None


def has_countdown(line: str) -> bool:
    """Whether a line starts with a tag, well-formed or not."""
    return _TAG.match(line) is not None


def without_countdown(line: str) -> str:
    """Return a line without the tag that it starts with, and without the blanks before the tag."""
    match = _TAG.match(line)
    return line[match.end() :] if match else line
