"""Keys on the line of fifths, and the choice of a key each time a piece is read in fine-tuning.

Fifths count from C: F is -1, G is 1. For a major key this is the number of sharps; flats are negative. Every key is
represented by the major key with the same signature, and a piece is stored once for each of the 15 in
:data:`MAJOR_KEYS`.
"""

from __future__ import annotations

import random
import re
from functools import lru_cache
from itertools import accumulate

from notagen.abc.clefs import changes_key
from notagen.abc.duration import parse_key
from pentatonic.errors import FormatError

#: The 15 major keys, from seven flats to seven sharps.
MAJOR_KEYS = ("Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#")

_KEY_ACCIDENTAL = re.compile(r"(?<=[\sA-Ga-g])(\^\^?|__?|=)([A-Ga-g])(?=\s|\^|_|=|\Z)")
_MAX_SIGNS = 7
_SIGNS = {-2: "__", -1: "_", 0: "=", 1: "^", 2: "^^"}
_ALTERATIONS = {sign: alteration for alteration, sign in _SIGNS.items()}
# Relative frequencies of moving a piece by -3, …, 3 semitones.
_WEIGHTS = (1, 2, 3, 4, 3, 2, 1)
# Pitch classes with two names, and the probability of the first name.
_ENHARMONIC = {1: ("Db", "C#", 0.8), 6: ("F#", "Gb", 0.5), 11: ("B", "Cb", 0.8)}


@lru_cache(maxsize=256)
def fifths(name: str) -> int:
    """Return the fifths of a note name such as ``F#``, or of the major key with that tonic."""
    return "FCGDAEB".index(name[0]) - 1 + 7 * (name.count("#") - name[1:].count("b"))


@lru_cache(maxsize=256)
def pitch_class(name: str) -> int:
    """Return the semitones of a note name above C, 0..11."""
    return fifths(name) * 7 % 12


def key_with_fifths(count: int) -> str:
    """Return the major key with this number of fifths; beyond -7..7 its enharmonic equivalent: Ab for 8."""
    while count > 7:
        count -= 12
    while count < -7:
        count += 12
    return MAJOR_KEYS[count + 7]


def major_key(key: str) -> str:
    """Return the major key with the signature of a key: C for ``Amin``, and for ``none``.

    Args:
        key: The value of a ``K:`` field.

    Returns:
        One of :data:`MAJOR_KEYS`; for a signature of more than seven signs its enharmonic equivalent.

    Raises:
        FormatError: ``key`` is not a key.
    """
    return key_with_fifths(parse_key(key).fifths)


def move_key(key: str, steps: int, *, plain: bool = False) -> str:
    """Move a key along the line of fifths, with the accidentals after it; the rest of the field stays unchanged.

    Args:
        key: The value of a ``K:`` field.
        steps: Number of fifths to go up.
        plain: Take the enharmonic equivalent also where the signature would have more than seven signs: C# minor in
            place of Db minor, which the training data have; the tonic may then be one such as G#.

    Returns:
        The new value. Its tonic is one of :data:`MAJOR_KEYS`, if necessary the enharmonic equivalent.

    Raises:
        FormatError: ``key`` is not a key, or an accidental after it would need more than two signs.
    """
    parsed = parse_key(key)
    tonic = parsed.tonic
    if not tonic:
        return key
    moved = key_with_fifths(fifths(tonic) + steps)
    signature = fifths(moved) + parsed.fifths - fifths(tonic)
    if plain and abs(signature) > _MAX_SIGNS:
        moved = _note_with_fifths(fifths(moved) + (12 if signature < 0 else -12))
    # A key of more than seven signs becomes its enharmonic equivalent, and its accidentals move with it.
    steps = fifths(moved) - fifths(tonic)
    return moved + _KEY_ACCIDENTAL.sub(lambda match: _moved_sign(match, steps), key.strip()[len(tonic) :])


def _note_with_fifths(count: int) -> str:
    """Return the name of a note: G# for 8, Fb for -8."""
    signs, letter = divmod(count + 1, 7)
    return "FCGDAEB"[letter] + ("#" * signs if signs > 0 else "b" * -signs)


def _moved_sign(match: re.Match[str], steps: int) -> str:
    """Return an accidental of a key field, such as ``^f``, after a move by this many fifths."""
    letter = match[2]
    place = "FCGDAEB".index(letter.upper()) - 1 + 7 * _ALTERATIONS[match[1]] + steps
    alteration = (place + 1) // 7
    if abs(alteration) > 2:
        raise FormatError(
            f"the accidental {match[0]} of the key would need {abs(alteration)} signs after the move"
        )
    moved = "FCGDAEB"[(place + 1) % 7]
    return _SIGNS[alteration] + (moved.lower() if letter.islower() else moved)


def global_key(text: str) -> str:
    """Return the value of the first ``K:`` line of a tune; ``C`` for ``none`` and without such a line."""
    for line in text.splitlines():
        if line.startswith("K:"):
            value = line[2:].strip()
            return value if changes_key(value) and value.lower() not in ("none", "") else "C"
    return "C"


def choose_key(key: str, rng: random.Random) -> str:
    """Choose a key at most three semitones from the key of a piece; distant keys are chosen less often.

    Args:
        key: The key of the piece, in any mode.
        rng: Source of one uniform number, and of a second one if the pitch class has two names.

    Returns:
        One of :data:`MAJOR_KEYS`.

    Raises:
        FormatError: ``key`` is not a key.
    """
    draw = rng.random() * sum(_WEIGHTS)
    offset = next(index for index, bound in enumerate(accumulate(_WEIGHTS)) if draw < bound) - 3
    target = (pitch_class(major_key(key)) + offset) % 12
    if target in _ENHARMONIC:
        first, second, probability = _ENHARMONIC[target]
        return first if rng.random() < probability else second
    return next(name for name in MAJOR_KEYS if pitch_class(name) == target)
