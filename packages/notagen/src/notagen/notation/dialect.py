"""Notation that ABC has and the dialect of the models has not: repeats played more than twice, and quarter tones."""

from __future__ import annotations

import re
from collections import Counter

from notagen.abc.accidentals import PATTERN as ACCIDENTAL
from notagen.abc.accidentals import SIGNS, alteration_of
from notagen.notation.repeats import repeat_times

# What may contain such signs without meaning them, or one of the signs.
_SIGN = re.compile(
    r'"[^"\n]*"|![^!\n]*!|\[[A-Za-z]:[^\[\]\n]*\]|%.*'
    rf"|(?P<accidental>{ACCIDENTAL})(?=[A-Ga-g])"
    r"|(?P<repeat>:{2,}\|:*(?!\|)|:?\|:{2,}(?!\|))"
)
_REPEATS = {(True, True): "::", (True, False): ":|", (False, True): "|:"}


def without_foreign_notation(music: str) -> tuple[str, Counter[str]]:
    """Write a line of music in the dialect: repeats are played twice, quarter tones go to the natural.

    Args:
        music: The line; text in quotes, decorations, fields and comments stay.

    Returns:
        The line, and the kind of what it lost -> number.
    """
    lost: Counter[str] = Counter()

    def spelled(match: re.Match[str]) -> str:
        sign = match[0]
        if match["repeat"]:
            lost["number of times of a repeat"] += repeat_times(sign) > 2  # counted at its end
            return _REPEATS[sign.startswith(":"), sign.endswith(":")]
        if match["accidental"] and "/" in sign:
            lost["quarter tone"] += 1
            return SIGNS[int(alteration_of(sign))]
        return sign

    return _SIGN.sub(spelled, music), lost
