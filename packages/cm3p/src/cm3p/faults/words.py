"""Tokens in words that mappers use."""

from __future__ import annotations

import re

from cm3p.faults.tokens import Aspect

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_SETS = {1: "normal", 2: "soft", 3: "drum"}
_SOUNDS = {2: "whistle", 4: "finish", 8: "clap"}
_TIME, _COMBO = "[TIME_SHIFT_", "_NEW_COMBO]"


def wording(token: str, aspect: Aspect) -> str:
    """Return a token in words, such as ``clap, soft set`` for ``[HITSOUND_8_2_2]``."""
    numbers = _NUMBER.findall(token)
    if aspect is Aspect.NEW_COMBO:
        return "new combo" if token.endswith("NEW_COMBO]") else "no new combo"
    if token.startswith("[HITSOUND_") and len(numbers) == 3:
        bits, normal, addition = map(int, numbers)
        sounds = [name for bit, name in _SOUNDS.items() if bits & bit] or ["no addition"]
        sets = [_SETS.get(normal, "?"), *([_SETS.get(addition, "?")] if addition != normal else [])]
        return f"{' and '.join(sounds)}, {' with '.join(sets)} set"
    if token.startswith("[VOLUME_"):
        return f"volume {numbers[0]} %"
    if token.startswith("[POS_"):
        return " ".join(part.lower() for part in token.strip("[]").split("_")[1:])
    if token.startswith(_TIME):
        return f"{numbers[0]} ms into the window"
    return token.removesuffix(_COMBO).strip("[]").replace("_", " ").lower()


def expectation(found: str, expected: str, aspect: Aspect) -> str:
    """Return the expected token in words; a time as the distance from what is there, such as ``20 ms later``."""
    if found.startswith(_TIME) and expected.startswith(_TIME):
        shift = int(_NUMBER.findall(expected)[0]) - int(_NUMBER.findall(found)[0])
        return f"{abs(shift)} ms {'later' if shift > 0 else 'earlier'}" if shift else "the same time"
    return wording(expected, aspect)
