"""Transposition of ABC as people write it: the text stays as it is, but for notes, keys and chord symbols.

The tunes of training data are transposed by :mod:`notagen.notation.transpose`, whose spelling this follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from notagen.abc.accidentals import Alteration
from notagen.abc.clefs import changes_key, clef_octaves, read_clef
from notagen.abc.duration import parse_key
from notagen.notation.bars import declared_voice, is_field
from notagen.notation.keys import fifths, major_key, move_key, pitch_class
from notagen.notation.layout import without_comment
from notagen.notation.transpose import BarJoiner, BarSplitter
from notagen.score.losses import lost
from pentatonic.errors import FormatError, UsageError

MAX_SEMITONES = 36

#: A chord symbol in quotes, and not other text that begins with a letter of a note, such as "Fine".
CHORD_SYMBOL = re.compile(
    r'"[A-G][#b]?(?:min|maj|mi|ma|dim|aug|sus|add|no|omit|alt|[mMo+^0-9()#b,-])*(?:/[A-G][#b]?)?"'
)
_TONIC = re.compile("[A-G][#b]?")
_VOICE_OR_OLD_MARK = re.compile(r'(\[V:[^\[\]\n]*\]|"[^"\n]*"|\+[a-z.]+\+)')
_TUNE = re.compile(r"^(?=X:(?![|:]))", re.MULTILINE)


@dataclass(frozen=True)
class Interval:
    """By how much to transpose: one of the two.

    Args:
        semitones: Up, from -36 to 36; keys get the fewest signs.
        tonic: Note such as ``Bb`` that becomes the tonic, by the nearest way, at most six semitones up; modes stay.

    Raises:
        UsageError: Not one of the two is given, or it is out of range.
    """

    semitones: int | None = None
    tonic: str | None = None

    def __post_init__(self) -> None:
        if (self.semitones is None) == (self.tonic is None):
            raise UsageError("give either semitones or a tonic")
        if self.semitones is not None and abs(self.semitones) > MAX_SEMITONES:
            raise UsageError(f"{self.semitones} semitones; allowed are {-MAX_SEMITONES} to {MAX_SEMITONES}")
        if self.tonic is not None and not _TONIC.fullmatch(self.tonic):
            raise UsageError(f"the tonic {self.tonic[:20]!r} is not a note; allowed are A to G, with # or b")

    def of_key(self, key: str) -> tuple[int, int]:
        """Return what a piece in a key needs: fifths to go up, and octaves beside the nearest way.

        Raises:
            FormatError: The value of a ``K:`` field is not a key.
        """
        own = fifths(major_key(key))
        if self.tonic is not None:
            moved = move_key(key, fifths(self.tonic) - fifths(parse_key(key).tonic or "C"))
            return fifths(major_key(moved)) - own, 0
        semitones = self.semitones or 0
        if semitones % 12 == 0:
            return 0, semitones // 12
        target = (own + 7 * semitones) % 12
        target -= 12 if target > 6 or (target == 6 and own < 0) else 0
        nearest = (pitch_class("C") + 7 * (target - own)) % 12
        nearest -= 12 if nearest > 6 else 0
        return target - own, (semitones - nearest) // 12


# Where a note is played on a string instrument, which another pitch changes.
_STRINGS = re.compile("!(?:string|fret)=[^!]*!")


def transpose_text(text: str, interval: Interval) -> str:
    """Transpose all tunes of a text of ABC, in any layout.

    Percussion, and voices and passages with ``K:none``, stay as they are; so do lyrics, comments and all other text.

    Args:
        text: One tune or a tune book.
        interval: By how much.

    Raises:
        FormatError: There is no tune, or a tune has no key, or one that is not a key.
    """
    if not re.search("^K:", text, re.MULTILINE):
        raise FormatError("this is not a tune: it has no K: line, which ends the header of ABC")
    return "".join(_Tune(interval).text(tune) for tune in _TUNE.split(text))


@dataclass
class _Voice:
    """Where one voice is: its key and clef, and the accidentals of the bar before and after the move."""

    splitter: BarSplitter
    joiner: BarJoiner
    before: dict[tuple[int, int], Alteration] = field(default_factory=dict)
    after: dict[tuple[int, int], Alteration] = field(default_factory=dict)

    def text(self, text: str) -> str:
        return self.joiner.text(self.splitter.parts(text, self.before), self.after)


class _Tune:
    def __init__(self, interval: Interval) -> None:
        self._interval = interval
        self._key: str | None = None
        self._steps = self._shift = 0
        self._keys: dict[str, str] = {}  # of voices that have one of their own
        self._octaves: dict[str, int] = {}
        self._drums: set[str] = set()
        self._voices: dict[str, _Voice] = {}
        self._name = ""

    def text(self, tune: str) -> str:
        lines = [self._line(line) for line in tune.splitlines(keepends=True)]
        if self._key is None and re.search(r"^X:", tune, re.MULTILINE):
            raise FormatError("this is not a tune: it has no K: line, which ends the header of ABC")
        return "".join(lines)

    def _line(self, line: str) -> str:
        if line.startswith(("%", "+:")) or not line.strip():
            return line
        if is_field(line):
            return self._field(line)
        music = without_comment(line)
        return line if self._key is None else self._music(music) + line[len(music) :]

    def _field(self, line: str) -> str:
        value = without_comment(line)[2:].strip()
        if line.startswith("V:"):
            self._declare(declared_voice(line) or value.split(" ")[0], value)
            return line
        if not line.startswith("K:"):
            return line
        rest = line[2:].partition(value)[2] if value else line[2:]
        if self._key is None:
            self._key = value if changes_key(value) and value else "C"
            self._steps, self._shift = self._interval.of_key(self._key)
            self._octaves[""] = clef_octaves(read_clef(value))
            moved = move_key(self._key, self._steps, plain=True)
            return f"K:{moved if changes_key(value) and value else f'{moved} {value}'.strip()}{rest}"
        if self._name in self._drums or not value:
            return line
        if self._name not in self._voices and changes_key(value):
            self._keys[self._name] = value
            return f"K:{move_key(value, self._steps, plain=True)}{rest}"
        return f"K:{self._voice().text(f'[K:{value}]')[3:-1]}{rest}"

    def _declare(self, name: str, value: str) -> None:
        self._name = name
        if clef := read_clef(value):
            self._octaves[name] = clef_octaves(clef)
            if clef.startswith("perc"):
                self._drums.add(name)

    def _voice(self) -> _Voice:
        if self._name not in self._voices:
            key = self._keys.get(self._name, self._key or "C")
            octaves = self._octaves.get(self._name, self._octaves.get("", 0))
            self._voices[self._name] = _Voice(
                BarSplitter(key, octaves, CHORD_SYMBOL),
                BarJoiner(key, self._steps, octaves, shift=self._shift, plain=True),
            )
        return self._voices[self._name]

    def _music(self, music: str) -> str:
        out, pending = [], ""
        for piece in _VOICE_OR_OLD_MARK.split(music):
            if piece.startswith(("[V:", "+")) and piece[-1:] in "]+":
                out += [self._moved(pending), piece]
                pending = ""
                if piece.startswith("[V:"):
                    value = piece[3:-1].strip()
                    self._declare(value.split(" ")[0], value)
            else:
                pending += piece
        return "".join([*out, self._moved(pending)])

    def _moved(self, music: str) -> str:
        if self._name in self._drums or not music:
            return music
        if self._steps or self._shift:
            music, count = _STRINGS.subn("", music)
            lost("string or fret of a transposed note", count)
        return self._voice().text(music)
