"""Transposition of a tune to another key, spelt as in the data the models were trained on.

Only notes, accidentals, key fields and chord symbols change; everything else in a bar is copied. Accidentals
hold for the same letter in the same octave, up to the next barline or change of key.

Terms: a *letter* is 0..6 for C..B, an *alteration* is -2..2 signs (flats negative), a *pitch* counts
semitones from the C of octave 0, so that middle C (``C``) is 60 and ``c`` is 72.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from notagen.abc.duration import parse_key
from notagen.bars import BarTable, VoiceBars, declared_voice
from notagen.keys import MAJOR_KEYS, fifths, major_key, move_key, pitch_class

_LETTERS = "CDEFGAB"
_NATURALS = (0, 2, 4, 5, 7, 9, 11)
_SIGNS = {-2: "__", -1: "_", 0: "=", 1: "^", 2: "^^"}
_ALTERATIONS = {sign: alteration for alteration, sign in _SIGNS.items()}
_SHARPS = "FCGDAEB"
# Longest upward move; larger intervals go down.
_HIGHEST_INTERVAL = 6

_NOTE = re.compile(r"(\^\^?|__?|=)?([A-Ga-g])([,']*)")
_TOKEN = re.compile(rf'("[^"\n]*"|![^!\n]*!|\[[A-Za-z]:[^\[\]\n]*\]|\|)|{_NOTE.pattern}')
_ROOT = re.compile("[A-G][#b]?")
_QUOTED = re.compile(r'"[^"\n]*"')


@dataclass(frozen=True)
class Pitch:
    """A written pitch: letter 0..6, alteration -2..2, octave (5 for ``C``, 6 for ``c``)."""

    letter: int
    alteration: int
    octave: int

    @property
    def semitones(self) -> int:
        """Semitones above the C of octave 0."""
        return 12 * self.octave + _NATURALS[self.letter] + self.alteration


@dataclass(frozen=True)
class Move:
    """The way from one major key to another.

    Args:
        source: The major key of the notes as they are.
        target: The major key they go to. The interval is -5..6 semitones.
    """

    source: str
    target: str

    @cached_property
    def interval(self) -> int:
        """Semitones to go up."""
        semitones = (pitch_class(self.target) - pitch_class(self.source)) % 12
        return semitones if semitones <= _HIGHEST_INTERVAL else semitones - 12

    @cached_property
    def letters(self) -> int:
        """Letters to go up, 0..6."""
        return (_LETTERS.index(self.target[0]) - _LETTERS.index(self.source[0])) % 7

    def pitch(self, pitch: Pitch) -> Pitch:
        """Return the transposed pitch; its letter changes where it would need more than two signs."""
        semitones = pitch.semitones + self.interval
        letter = (pitch.letter + self.letters) % 7
        while abs(alteration := _alteration(semitones, letter)) > 2:
            letter = (letter + (1 if alteration > 0 else -1)) % 7
        return Pitch(letter, alteration, (semitones - alteration - _NATURALS[letter]) // 12)

    def root(self, root: str) -> str:
        """Return the transposed root of a chord symbol, a letter and perhaps ``#`` or ``b``.

        The letter changes once where more than one sign would be needed.
        """
        semitones = pitch_class(root) + self.interval
        letter = (_LETTERS.index(root[0]) + self.letters) % 7
        alteration = _alteration(semitones, letter)
        if abs(alteration) > 1:
            letter = (letter + (1 if alteration > 0 else -1)) % 7
            alteration = _alteration(semitones, letter)
        return _LETTERS[letter] + ("#" if alteration > 0 else "b") * abs(alteration)


def transpose(tune: BarTable, key: str) -> BarTable:
    """Transpose a tune to the key with the signature of a major key, or its enharmonic where simpler.

    Percussion, and voices with a line ``K:none`` of their own, stay as they are. A voice with a ``K:`` line
    of its own, as of a transposing instrument, moves by the same interval.

    Args:
        tune: The tune; its first ``K:`` line is its key, C major without one and for ``none``.
        key: One of :data:`notagen.keys.MAJOR_KEYS`.

    Returns:
        The transposed tune, of the same bars.

    Raises:
        FormatError: A ``K:`` line or inline field is no key.
    """
    own, owners = _keys(tune.header)
    moved = move_key(own, fifths(key) - fifths(major_key(own)))
    # C# major asked of a minor tune gives Bb minor, with the signature of Db: other keys follow that.
    steps = fifths(major_key(moved)) - fifths(major_key(own))
    percussion = {name for line in tune.header if (name := declared_voice(line)) and _is_percussion(line)}
    header = list(tune.header)
    sources: dict[str, str] = {}
    for index, line in enumerate(tune.header):
        owner = owners.get(index)
        if line.startswith("K:") and owner not in percussion:
            value = line[2:].strip()
            header[index] = f"K:{move_key(value, steps) if owner else moved}"
            if owner:
                sources[owner] = value
    voices = {
        name: voice if name in percussion else _moved_voice(voice, sources.get(name, own), steps)
        for name, voice in tune.voices.items()
    }
    return replace(tune, header=tuple(header), voices=voices)


def transpose_text(text: str, source: str, target: str) -> str:
    """Transpose the music of one voice, with or without barlines.

    Args:
        text: The music.
        source: Its key, any mode.
        target: One of :data:`notagen.keys.MAJOR_KEYS`.

    Returns:
        The transposed music. An accidental is written where the one in force differs.

    Raises:
        FormatError: ``source`` or an inline ``K:`` field is no key.
    """
    steps = fifths(target) - fifths(major_key(source))
    return _Scanner(source, steps).text(text)


def _moved_voice(voice: VoiceBars, key: str, steps: int) -> VoiceBars:
    scanner = _Scanner(key, steps)
    return replace(
        voice, prefix=scanner.text(voice.prefix), bars=tuple(scanner.text(bar) for bar in voice.bars)
    )


@lru_cache(maxsize=len(MAJOR_KEYS))
def _signature(key: str) -> tuple[int, ...]:
    """Return the alteration of each letter in a major key."""
    count = fifths(key)
    altered = _SHARPS[:count] if count > 0 else _SHARPS[7 + count :]
    return tuple((1 if count > 0 else -1) if letter in altered else 0 for letter in _LETTERS)


class _Accidentals:
    """The alterations in force in one bar of a major key; a place is letter and octave."""

    def __init__(self, key: str) -> None:
        self.signature = _signature(key)
        self.written: dict[tuple[int, int], int] = {}

    def at(self, place: tuple[int, int]) -> int:
        return self.written.get(place, self.signature[place[0]])


class _Scanner:
    """Goes through the bars of one voice and keeps the key and the accidentals in force."""

    def __init__(self, key: str, steps: int) -> None:
        self.steps = steps
        self.set_key(key)

    def set_key(self, key: str) -> str:
        """Enter a key, and return it moved; in ``none`` nothing moves."""
        moved = move_key(key, self.steps)
        self.move = Move(major_key(key), major_key(moved)) if parse_key(key).tonic else None
        self.moved: dict[tuple[tuple[int, int], int], Pitch] = {}
        self.bar()
        return moved

    def bar(self) -> None:
        """Forget the accidentals."""
        if self.move:
            self.before, self.after = _Accidentals(self.move.source), _Accidentals(self.move.target)

    def text(self, text: str) -> str:
        """Return the next bar, transposed."""
        self.bar()
        return _TOKEN.sub(self._token, text)

    def _token(self, match: re.Match[str]) -> str:
        opaque, move = match[1], self.move
        if opaque is None:
            return self._note(move, match[2], match[3], match[4]) if move else match.group()
        if opaque.startswith("[K:"):
            return f"[K:{self.set_key(opaque[3:-1])}]"
        if opaque.startswith("|"):
            self.bar()
        if move and opaque[0] == '"' and opaque[1] in "ABCDEFG":
            return _ROOT.sub(lambda root: move.root(root.group()), opaque)
        return opaque

    def _note(self, move: Move, sign: str | None, name: str, marks: str) -> str:
        place = _place(name, marks)
        alteration = _ALTERATIONS[sign] if sign else self.before.at(place)
        self.before.written[place] = alteration
        # Few different notes make up a voice.
        moved = self.moved.get((place, alteration)) or move.pitch(Pitch(place[0], alteration, place[1]))
        self.moved[place, alteration] = moved
        place = moved.letter, moved.octave
        in_force = self.after.at(place)
        self.after.written[place] = moved.alteration
        return ("" if moved.alteration == in_force else _SIGNS[moved.alteration]) + _note_name(*place)


@lru_cache(maxsize=1024)
def _place(name: str, marks: str) -> tuple[int, int]:
    return _LETTERS.index(name.upper()), 5 + name.islower() + marks.count("'") - marks.count(",")


@lru_cache(maxsize=1024)
def _note_name(letter: int, octave: int) -> str:
    name = _LETTERS[letter]
    return name.lower() + "'" * (octave - 6) if octave > 5 else name + "," * (5 - octave)


def _alteration(semitones: int, letter: int) -> int:
    """The signs, -6..5, with which a letter has the pitch class of a pitch."""
    return (semitones - _NATURALS[letter] + 6) % 12 - 6


def _is_percussion(line: str) -> bool:
    return "perc" in _QUOTED.sub("", line).split()


def _keys(header: tuple[str, ...]) -> tuple[str, dict[int, str]]:
    """Return the key of the tune, and the voice that each other ``K:`` line belongs to, by its index.

    A ``K:`` line after a ``V:`` line belongs to that voice, unless it is the first one.
    """
    key: str | None = None
    owner: str | None = None
    owners: dict[int, str] = {}
    for index, line in enumerate(header):
        if line.startswith("V:"):
            owner = declared_voice(line)
        elif line.startswith("K:") and key is None:
            key = line[2:].strip()
        elif line.startswith("K:") and owner is not None:
            owners[index] = owner
    return key if key and parse_key(key).tonic else "C", owners
