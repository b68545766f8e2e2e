"""Lexer: splits lines of music into tokens, in linear time.

Tokens are substrings: joined, the tokens of a line give the line, so a token's column follows from the lengths of the
tokens before it (:func:`column_of`). Quoted strings, decorations and fields are single tokens with any content (fields:
except brackets). So are chords and grace notes, whose content :func:`split_tokens` can split in turn. Time is linear
because all quantifiers are possessive, and an unclosed token is cut after its opening character.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from notagen.abc.accidentals import PATTERN as ACCIDENTAL

LENGTH = r"[0-9]*+/*+[0-9]*+"
_PATTERNS = {
    "note": rf"{ACCIDENTAL}?+[A-Ga-g][',]*+{LENGTH}-?+",
    "space": r"[ \t`]++",
    "barline": (
        r"(?:\||\[(?=\|)|:(?=[:|]|\[\|)|:[ \t]++(?=\|))"
        # Some programs write blanks inside |: and :|.
        r"(?:[|:\]]|\[(?=\|)|(?<=\|)[ \t]++:(?![|:\[]|[ \t]++\|))*+"
        r"(?:[ ]*+\[?+[0-9]++(?:[,.-][0-9]++)*+)?+"
    ),
    "field": r"\[[A-Za-z]:[^\[\]]*+\]",
    "ending": r"\[[0-9]++(?:[,.-][0-9]++)*+",
    "chord": rf"\[[^\[\]]*+\]{LENGTH}-?+",
    "rest": rf"[zx]{LENGTH}",
    "bar_rest": r"[ZX][0-9]*+",
    "annotation": r'"[^"]*+"',
    "tuplet": r"\([0-9]++(?::[0-9]*+){0,2}+",
    "slur": r"\.?+\((?![0-9])|\)",
    "decoration": r"![^!]++!|\+[^+|]++\+|[.~H-Wh-w][0-9]*+",
    "broken": r">++|<++",
    "grace": r"\{[^{}]*+\}",
    "tie": r"-",
    "overlay": r"&",
    "spacer": rf"y{LENGTH}",
    "line_break": r"[$\\]",
    "comment": r"%.*+",
    "unknown": r".",
}
_SPLIT = re.compile("|".join(_PATTERNS.values()), re.DOTALL)
_KINDS = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _PATTERNS.items()), re.DOTALL)


def split_tokens(text: str) -> list[str]:
    """Split a line of music, or a part of one; ``"".join`` of the result is ``text``."""
    return _SPLIT.findall(text)


def kind_of(token: str) -> str:
    """Return the kind of a token, such as ``"note"`` or ``"barline"``; ``"unknown"`` where the text is not ABC."""
    match = _KINDS.fullmatch(token)
    return match.lastgroup or "unknown" if match else "unknown"


def column_of(before: Sequence[str], start: int = 1) -> int:
    """Return the 1-based column after these tokens if the first of them is at column ``start``."""
    return start + sum(map(len, before))
