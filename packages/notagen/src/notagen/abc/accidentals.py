"""Accidentals of notes: signs and alterations in semitones, quarter tones included."""

from __future__ import annotations

from fractions import Fraction

#: Semitones from the natural note; a whole number but for quarter tones.
Alteration = int | Fraction

_HALF = Fraction(1, 2)
#: Alteration -> the sign before a note.
SIGNS: dict[Alteration, str] = {
    -2: "__", -3 * _HALF: "_3/2", -1: "_", -_HALF: "_/", 0: "=", _HALF: "^/", 1: "^", 3 * _HALF: "^3/2", 2: "^^",
}  # fmt: skip
_ALTERATIONS = {sign: alteration for alteration, sign in SIGNS.items()}
#: Regular expression of the signs, in all spellings: a quarter tone is ``^/``, ``^/2``, ``^1/`` or ``^1/2``.
PATTERN = r"(?:\^(?:\^|[13]?+/2?+)?+|_(?:_|[13]?+/2?+)?+|=)"


def alteration_of(sign: str) -> Alteration:
    """Return the alteration of a sign that :data:`PATTERN` matches, -2 to 2 semitones."""
    if "/" not in sign:
        return _ALTERATIONS[sign]
    quarters = Fraction(3 if "3" in sign else 1, 2)
    return quarters if sign[0] == "^" else -quarters
