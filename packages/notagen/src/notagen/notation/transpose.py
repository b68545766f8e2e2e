"""Transposition of a tune to another key, with the spelling of the training data.

Only notes, accidentals, key fields and chord symbols change; everything else in a bar is copied. Accidentals
hold for the same letter in the same sounding octave (see the octave clefs of :mod:`notagen.abc.clefs`), up to the next
barline or change of key.

Terms: a *letter* is 0..6 for C..B, an *alteration* is -2..2 signs (flats negative), a *pitch* counts
semitones from the C of octave 0, so that middle C (``C``) is 60 and ``c`` is 72.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from notagen.abc.accidentals import PATTERN as ACCIDENTAL
from notagen.abc.accidentals import SIGNS, Alteration, alteration_of
from notagen.abc.clefs import changes_key, clef_octaves, read_clef
from notagen.abc.duration import parse_key
from notagen.notation.bars import BarTable, VoiceBars, declared_voice
from notagen.notation.keys import fifths, major_key, move_key, pitch_class

_LETTERS = "CDEFGAB"
_NATURALS = (0, 2, 4, 5, 7, 9, 11)
# Largest interval upwards; larger ones go down instead.
_HIGHEST_INTERVAL = 6

_NOTE = re.compile(rf"({ACCIDENTAL})?([A-Ga-g])([,']*)")
_TOKEN = re.compile(rf'("[^"\n]*"|![^!\n]*!|\[[A-Za-z]:[^\[\]\n]*\]|\|)|{_NOTE.pattern}')
_ROOT = re.compile("[A-G][#b]?")
_CHORD_OR_TEXT = re.compile('"[A-G]')
_QUOTED = re.compile(r'"[^"\n]*"')


@dataclass(frozen=True)
class WrittenPitch:
    """A written pitch: letter 0..6, alteration -2..2 in steps of 1/2, octave (5 for ``C``, 6 for ``c``)."""

    letter: int
    alteration: Alteration
    octave: int

    @property
    def semitones(self) -> Alteration:
        """Semitones above the C of octave 0."""
        return 12 * self.octave + _NATURALS[self.letter] + self.alteration


@dataclass(frozen=True)
class Move:
    """The transposition from one major key to another, by -5..6 semitones.

    Args:
        source: Major key of the given notes.
        target: Major key of the transposed notes.
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

    def pitch(self, pitch: WrittenPitch) -> WrittenPitch:
        """Return the transposed pitch; its letter changes where it would need more than two signs."""
        semitones = pitch.semitones + self.interval
        letter = (pitch.letter + self.letters) % 7
        while abs(alteration := _alteration(semitones, letter)) > 2:
            letter = (letter + (1 if alteration > 0 else -1)) % 7
        return WrittenPitch(letter, alteration, int(semitones - alteration - _NATURALS[letter]) // 12)

    def root(self, root: str) -> str:
        """Return the transposed root of a chord symbol, a letter, optionally with ``#`` or ``b``.

        The letter changes once where more than one sign would be needed.
        """
        semitones = pitch_class(root) + self.interval
        letter = (_LETTERS.index(root[0]) + self.letters) % 7
        alteration = _alteration(semitones, letter)
        if abs(alteration) > 1:
            letter = (letter + (1 if alteration > 0 else -1)) % 7
            alteration = _alteration(semitones, letter)
        return _LETTERS[letter] + ("#" if alteration > 0 else "b") * int(abs(alteration))


class Movable:
    """A tune that is parsed once and can be written in many keys.

    Args:
        tune: The tune; its first ``K:`` line is its key; C major without one and for ``none``.

    Raises:
        FormatError: A ``K:`` line or inline field is not a key.
    """

    def __init__(self, tune: BarTable) -> None:
        self._tune = tune
        self._own, self._owners = _keys(tune.header)
        self._first = next((i for i, line in enumerate(tune.header) if line.startswith("K:")), None)
        self._fixed = {
            name for line in tune.header if (name := declared_voice(line)) and _is_percussion(line)
        }
        # Voice -> octaves of the clef that it starts in.
        self._octaves = {
            name: clef_octaves(read_clef(line)) for line in tune.header if (name := declared_voice(line))
        }
        self._sources = {owner: tune.header[index][2:].strip() for index, owner in self._owners.items()}
        self._parts: dict[str, tuple[list[_Fragment], list[list[_Fragment]]]] = {}
        for name, voice in tune.voices.items():
            if name not in self._fixed:
                reader = BarSplitter(self._sources.get(name, self._own), self._octaves.get(name, 0))
                self._parts[name] = reader.parts(voice.prefix), [reader.parts(bar) for bar in voice.bars]

    def to(self, key: str) -> BarTable:
        """Return the tune in another key; see :func:`transpose`."""
        moved = move_key(self._own, fifths(key) - fifths(major_key(self._own)))
        # For a minor tune the folder of C# major gives Bb minor, with the signature of Db; other keys follow that.
        steps = fifths(major_key(moved)) - fifths(major_key(self._own))
        header = list(self._tune.header)
        for index, line in enumerate(header):
            owner = self._owners.get(index)
            if not line.startswith("K:") or owner in self._fixed:
                continue
            if changes_key(line[2:]):
                header[index] = f"K:{move_key(line[2:].strip(), steps) if owner else moved}"
            elif index == self._first:  # a clef without a key: C major
                header[index] = f"K:{moved} {line[2:].strip()}"
        voices = {
            name: self._moved(name, voice, steps) if name in self._parts else voice
            for name, voice in self._tune.voices.items()
        }
        return replace(self._tune, header=tuple(header), voices=voices)

    def _moved(self, name: str, voice: VoiceBars, steps: int) -> VoiceBars:
        writer = BarJoiner(self._sources.get(name, self._own), steps, self._octaves.get(name, 0))
        prefix, bars = self._parts[name]
        return replace(voice, prefix=writer.text(prefix), bars=tuple(writer.text(bar) for bar in bars))


def transpose(tune: BarTable, key: str) -> BarTable:
    """Transpose a tune to the key with the signature of a major key, or to its enharmonic equivalent if simpler.

    Percussion voices, and voices with their own line ``K:none``, do not change. A voice with its own ``K:`` line, such
    as a transposing instrument, is moved by the same interval. Use :class:`Movable` to transpose a tune to several
    keys.

    Args:
        tune: The tune; its first ``K:`` line is its key; C major without one and for ``none``.
        key: One of :data:`notagen.notation.keys.MAJOR_KEYS`.

    Returns:
        The transposed tune.

    Raises:
        FormatError: A ``K:`` line or inline field is not a key.
    """
    return Movable(tune).to(key)


@dataclass(frozen=True, slots=True)
class _KeyField:
    """An inline ``[K:value]``, which may set a key, a clef or both."""

    value: str


@dataclass(frozen=True, slots=True)
class _ChordSymbol:
    """A chord symbol with its quotes."""

    text: str


class _BarlineSign:
    """A ``|``, which cancels accidentals."""


_BARLINE = _BarlineSign()
#: Text that is copied, or a note (letter, octave, alteration), or one of the classes above.
_Fragment = str | tuple[int, int, Alteration] | _KeyField | _ChordSymbol | _BarlineSign


class BarSplitter:
    """Splits the bars of one voice into fragments, and keeps track of the key and of the octave of the clef."""

    def __init__(self, key: str, octaves: int, chord_symbol: re.Pattern[str] = _CHORD_OR_TEXT) -> None:
        self._octaves, self._chord_symbol = octaves, chord_symbol
        self._set_key(key)

    def _set_key(self, key: str) -> None:
        # Without a key, nothing is transposed.
        self._signature = _signature_of(key) if parse_key(key).tonic else None

    def parts(self, text: str, written: dict[tuple[int, int], Alteration] | None = None) -> list[_Fragment]:
        """Return the fragments of the next bar; all notes have the alterations in force.

        Args:
            text: The bar, or some bars.
            written: The accidentals before the text, if that starts inside a bar; changed to those after it.
        """
        parts: list[_Fragment] = []
        written = {} if written is None else written
        position = 0
        for match in _TOKEN.finditer(text):
            opaque, part = match[1], None
            if opaque is None and self._signature:
                place = _place(match[3], match[4])
                sounding = place[0], place[1] + self._octaves
                alteration = alteration_of(match[2]) if match[2] else written.get(sounding)
                alteration = self._signature[place[0]] if alteration is None else alteration
                written[sounding] = alteration
                part = (*place, alteration)
            elif opaque and opaque.startswith("[K:"):
                self._octaves = _octaves_after(opaque[3:-1], self._octaves)
                if changes_key(opaque[3:-1]):  # a clef alone cancels no accidentals
                    self._set_key(opaque[3:-1])
                    written.clear()
                part = _KeyField(opaque[3:-1])
            elif opaque == "|":
                written.clear()
                part = _BARLINE
            elif opaque and self._signature and self._chord_symbol.match(opaque):
                part = _ChordSymbol(opaque)
            if part is not None:
                parts += (text[position : match.start()], part)
                position = match.end()
        return [part for part in (*parts, text[position:]) if part != ""]


class BarJoiner:
    """Joins the fragments of the bars of one voice in another key, and keeps track of the key and the clef's octave.

    Args:
        key: The key before the move.
        steps: Fifths to go up.
        octaves: Of the clef.
        shift: Octaves to go up besides.
        plain: As of :func:`~notagen.notation.keys.move_key`.
    """

    def __init__(self, key: str, steps: int, octaves: int, *, shift: int = 0, plain: bool = False) -> None:
        self._steps, self._octaves, self._shift, self._plain = steps, octaves, shift, plain
        self._set_key(key)

    def _set_key(self, key: str) -> str:
        """Put a key in force, and return the transposed key."""
        moved = move_key(key, self._steps, plain=self._plain)
        self._move = Move(major_key(key), major_key(moved))
        self._signature = _signature_of(moved)
        # Cache, as a voice has few different notes: note -> letter and octave, alteration and name after transposition.
        self._notes: dict[tuple[int, int, Alteration], tuple[tuple[int, int], Alteration, str]] = {}
        return moved

    def text(self, parts: list[_Fragment], written: dict[tuple[int, int], Alteration] | None = None) -> str:
        """Return the text of the next bar; ``written`` is as for the splitter, after the move."""
        out: list[str] = []
        written = {} if written is None else written
        for part in parts:
            if isinstance(part, str):
                out.append(part)
            elif isinstance(part, tuple):
                place, alteration, name = self._notes.get(part) or self._note(part)
                sounding = place[0], place[1] + self._octaves
                in_force = written.get(sounding)
                in_force = self._signature[place[0]] if in_force is None else in_force
                written[sounding] = alteration
                out.append(name if alteration == in_force else SIGNS[alteration] + name)
            elif isinstance(part, _BarlineSign):
                written.clear()
                out.append("|")
            elif isinstance(part, _KeyField):
                self._octaves = _octaves_after(part.value, self._octaves)
                if changes_key(part.value):
                    written.clear()
                    out.append(f"[K:{self._set_key(part.value)}]")
                else:
                    out.append(f"[K:{part.value}]")
            else:
                out.append(_ROOT.sub(lambda root: self._move.root(root.group()), part.text))
        return "".join(out)

    def _note(self, note: tuple[int, int, Alteration]) -> tuple[tuple[int, int], Alteration, str]:
        letter, octave, alteration = note
        moved = self._move.pitch(WrittenPitch(letter, alteration, octave))
        place = moved.letter, moved.octave + self._shift
        self._notes[note] = result = place, moved.alteration, _note_name(*place)
        return result


@lru_cache(maxsize=256)
def _signature_of(key: str) -> tuple[int, ...]:
    """Return the alteration of each letter C to B in the signature of a key, the value of a ``K:`` field."""
    parsed = parse_key(key)
    key_ = replace(parsed, fifths=fifths(major_key(key)))  # without more than seven signs
    return tuple(map(key_.alteration, _LETTERS))


@lru_cache(maxsize=1024)
def _place(name: str, marks: str) -> tuple[int, int]:
    return _LETTERS.index(name.upper()), 5 + name.islower() + marks.count("'") - marks.count(",")


@lru_cache(maxsize=1024)
def _note_name(letter: int, octave: int) -> str:
    name = _LETTERS[letter]
    return name.lower() + "'" * (octave - 6) if octave > 5 else name + "," * (5 - octave)


def _octaves_after(value: str, octaves: int) -> int:
    """Return the octaves of the clef in force after a ``K:`` field; without a clef in it, those before it."""
    clef = read_clef(value)
    return clef_octaves(clef) if clef else octaves


def _alteration(semitones: Alteration, letter: int) -> Alteration:
    """Return the alteration, -6 to below 6, that gives a letter the pitch class of a pitch."""
    return (semitones - _NATURALS[letter] + 6) % 12 - 6


def _is_percussion(line: str) -> bool:
    return "perc" in _QUOTED.sub("", line).split()


def _keys(header: tuple[str, ...]) -> tuple[str, dict[int, str]]:
    """Return the key of the tune, and the voice of each other ``K:`` line, by the index of the line.

    A ``K:`` line after a ``V:`` line belongs to that voice, unless it is the first ``K:`` line.
    """
    key: str | None = None
    owner: str | None = None
    owners: dict[int, str] = {}
    for index, line in enumerate(header):
        if line.startswith("V:"):
            owner = declared_voice(line)
        elif line.startswith("K:") and key is None:
            key = line[2:].strip()
        elif line.startswith("K:") and owner is not None and changes_key(line[2:]):
            owners[index] = owner
    return key if key and parse_key(key).tonic else "C", owners
