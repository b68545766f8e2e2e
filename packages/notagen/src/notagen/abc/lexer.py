"""Lines of music to tokens, in linear time.

A token is the text itself: joined, the tokens of a line give the line back, so a token's column follows from the
lengths of those before it (:func:`column_of`). Quoted strings, decorations and fields are single tokens, whatever
they hold (fields: anything but brackets); so are chords and grace notes, whose content :func:`split_tokens` splits
in turn. All quantifiers are possessive, and what may fail to end stops at its own opening mark, so the time is linear.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LENGTH = r"[0-9]*+/*+[0-9]*+"
_PATTERNS = {
    "note": rf"(?:\^\^?+|__?+|=)?+[A-Ga-g][',]*+{LENGTH}-?+",
    "space": r"[ \t`]++",
    "barline": r"(?:\||\[(?=\|)|:(?=[:|]|\[\|))(?:[|:\]]|\[(?=\|))*+(?:[ ]*+\[?+[0-9]++(?:[,.-][0-9]++)*+)?+",
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
    """Return what a token is: a note, a barline, …; ``"unknown"`` where the text is not ABC."""
    match = _KINDS.fullmatch(token)
    return match.lastgroup or "unknown" if match else "unknown"


def column_of(before: Sequence[str], start: int = 1) -> int:
    """Return the 1-based column of what follows these tokens when the first of them stands at ``start``."""
    return start + sum(map(len, before))
