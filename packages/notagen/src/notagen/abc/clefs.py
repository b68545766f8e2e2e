"""Clefs in the values of ``V:`` and ``K:`` fields, and the octaves by which they move the notes under them."""

from __future__ import annotations

import re
from functools import lru_cache

_CLEF = re.compile(
    r"(?:clef=)?\"?((?:treble|alto|tenor|bass|perc|soprano|mezzosoprano|baritone|none|[GFC](?=\d))\d?(?:[+-](?:8|15))?)\"?"
)
_ATTRIBUTE = re.compile(r"(?:clef|transpose|octave|middle|m|stafflines|staffscale|score|sound|shift)=\S+")
_OCTAVES = {"-15": -2, "-8": -1, "+8": 1, "+15": 2}


def read_clef(value: str) -> str:
    """Return the clef word in a ``V:`` or ``K:`` value, with or without ``clef=``; empty for none."""
    words = re.sub(r'(?<!clef=)"[^"]*"', "", value).split()
    return next((match[1] for word in words if (match := _CLEF.fullmatch(word))), "")


@lru_cache(maxsize=256)
def clef_octaves(word: str) -> int:
    """Return the octaves, -2..2, from a note on the staff to its sound: -1 for ``treble-8``."""
    sign = max(word.find("-"), word.find("+"))
    return _OCTAVES.get(word[sign:], 0) if sign > 0 else 0


@lru_cache(maxsize=1024)
def changes_key(value: str) -> bool:
    """Whether the value of a ``K:`` field sets a key; ``bass`` and ``clef=bass`` set only the clef."""
    words = value.partition("%")[0].split()
    word = words[0] if words else ""
    # "none" is both a key and a clef; alone it is the key.
    return word == "none" or not (_ATTRIBUTE.fullmatch(word) or _CLEF.fullmatch(word))
