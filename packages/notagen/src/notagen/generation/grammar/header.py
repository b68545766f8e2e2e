"""The rules of the lines before the music: ``%%score``, ``L:``, optionally ``Q:``, ``M:``, ``K:``, then the voices.

Lines of the prompt may come in any order; missing lines follow in this order. ``%%score`` is optional in a piece for
one voice. Voices are numbered from 1; meters, keys, note lengths and tempos come from the tables below; a voice may
have a clef, a transposition, a number of staff lines, names and a key.
"""

from __future__ import annotations

import copy
import re
from fractions import Fraction

from notagen.abc.duration import Meter, default_unit_length, parse_key, parse_meter, parse_unit_length
from notagen.generation.grammar.rules import (
    TEXT,
    NextIds,
    PatchCursor,
    Rule,
    bits,
    free_text,
    literal,
    spell,
    spell_in,
)
from notagen.generation.grammar.words import Words
from notagen.notation.bars import declared_voice
from notagen.notation.lines import keyless_voices
from pentatonic.errors import FormatError

MAX_VOICES = 40
MAX_COMMENTS = 3
MAX_TEXT = 60

_TONICS = [letter + sign for letter in "CGDAEBF" for sign in ("", "#", "b")]
_SHORT_MODES = ("min", "maj", "dor", "mix", "lyd", "phr", "loc", "aeo", "ion")
_LONG_MODES = ("minor", "major", "dorian", "mixolydian", "lydian", "phrygian", "locrian", "aeolian", "ionian")
_MODES = ("", "m", *(f(mode) for f in (str.lower, str.title) for mode in (*_SHORT_MODES, *_LONG_MODES)))
#: Values of ``K:``.
KEYS = (
    *(
        tonic + blank + mode
        for tonic in _TONICS
        for mode in _MODES
        for blank in ("", *((" ",) if len(mode) > 1 else ()))
        if abs(parse_key(tonic + mode).fifths) < 8
    ),
    "none",
)
#: Values of ``M:`` that are written; in the header also ``C|`` and ``none``.
METERS = ("4/4", *(f"{beats}/{unit}" for unit in (1, 2, 4, 8, 16, 32) for beats in range(1, 25)), "C")
#: Values of ``Q:``.
TEMPOS = tuple(
    f"{beat}={count}"
    for beat in ("1/4", "1/8", "1/2", "3/8", "3/4", "1/16", "3/16", "1/1", "3/2")
    for count in range(10, 401)
)
_UNITS = ("1/8", "1/4", "1/16", "1/2", "1/32")
_CLEFS = tuple(
    clef + octave
    for clef in ("treble", "alto", "tenor", "bass", "perc")
    for octave in ("", "-8", "+8", "-15", "+15")
)
_ATTRIBUTES = ("transpose=", "stafflines=", "nm=", "snm=")
_TRANSPOSITIONS = tuple(str(steps) for steps in range(-36, 37))
_SCORE_NAME = re.compile(r"\w+")
_REQUIRED = "SLMK"  # S is the line %%score
_CLOSERS = {"(": ")", "{": "}", "[": "]"}


def lines_of(values: tuple[str, ...], ends: str = "\n") -> tuple[str, ...]:
    """Return each value followed by each of the characters that may end it."""
    return tuple(value + end for value in values for end in ends)


_KEY_LINES, _METER_LINES = lines_of(KEYS), lines_of((*METERS, "C|", "none"))
_TEMPO_LINES, _UNIT_LINES, _CLEF_ENDS = lines_of(TEMPOS), lines_of(_UNITS), lines_of(_CLEFS, " \n")


class HeaderRules:
    """The rules of the header, and what its lines so far say.

    Args:
        lines: Header lines of the prompt, without line ends.
        cursor: Position of the next id in its patch.
        words: What the vocabulary allows.

    Attributes:
        voices: Names of the declared voices, in order.
        keyless: Voices declared with ``K:none``.
        meter: Meter at the start of the music; None for free meter.
        unit: ``L:`` in whole notes; None without one.

    Raises:
        FormatError: A field cannot be parsed.
    """

    def __init__(self, lines: list[str], cursor: PatchCursor, words: Words) -> None:
        self.cursor, self.words = cursor, words
        self.voices: list[str] = []
        self.meter: Meter | None = None
        self.unit: Fraction | None = None
        self._score: list[str] = []
        self._fields = ""
        self._comments = 0
        self._takes_key = False  # whether K: of the voice written last may follow
        for number, line in enumerate(lines, 1):
            self._read(line, number)
        self.keyless = keyless_voices(lines)

    def copy(self, cursor: PatchCursor) -> HeaderRules:
        """Return a copy between two lines, for another cursor."""
        other = copy.copy(self)
        other.cursor = cursor
        other.voices, other.keyless, other._score = list(self.voices), set(self.keyless), list(self._score)
        return other

    @property
    def complete(self) -> bool:
        """Whether music may follow."""
        return self._missing == "" and bool(self.voices) and not self._undeclared

    @property
    def patches_to_close(self) -> int:
        """Upper bound for the patches of the short path to the end of the header, now and after one more patch."""
        return 16 + 2 * (len(self._undeclared) if "S" in self._fields else len(self._score) + 8)

    @property
    def _missing(self) -> str:
        optional = "S" if len(self.voices) == 1 else ""
        return "".join(name for name in _REQUIRED if name not in self._fields + optional)

    @property
    def _undeclared(self) -> list[str]:
        if "S" not in self._fields:
            return [] if self.voices else ["1"]
        return [name for name in self._score if name not in self.voices]

    def _read(self, line: str, number: int) -> None:
        name, value = line[:1], line[2:]
        if line.startswith("%%score"):
            self._fields += "S"
            self._score = _SCORE_NAME.findall(line.removeprefix("%%score"))
        elif line.startswith("%"):
            self._comments += 1
        elif line.startswith("V:"):
            voice = declared_voice(line)
            if voice is None:
                raise FormatError("V: needs a name of letters and digits, such as V:1", line=number)
            self.voices.append(voice)
        elif line[1:2] == ":":
            self._fields += name
            if name == "M":
                self.meter = parse_meter(value, line=number)
            elif name == "L":
                self.unit = parse_unit_length(value, line=number)
        else:
            raise FormatError(
                "not a header line; allowed: a field such as K:C, or a comment after %", line=number
            )

    @property
    def unit_length(self) -> Fraction:
        """The note length in force at the start of the music."""
        return self.unit or default_unit_length(self.meter)

    def rule(self) -> Rule[None]:
        """Write the missing lines, and the ``[`` that the first line of music starts with."""
        rules = {"%": self._percent, "L": self._unit, "Q": self._tempo, "M": self._meter, "K": self._key}
        while True:
            names = self._next_lines()
            chosen = chr((yield NextIds(bits(names), ord(names[0]))))
            if chosen == "[":
                return
            yield from rules.get(chosen, self._voice)()
            yield from self.cursor.cut()

    def _next_lines(self) -> str:
        """Return the characters that the next line may start with; the first is on the short path to the end."""
        missing = self._missing
        if missing == "S" and self.voices:
            return "%"
        rest = missing.replace("S", "")
        tempo = rest[:1] in ("M", "K") and "Q" not in self._fields and "L" in self._fields
        names = (rest[0] if rest else "[" if self.complete else "V") + ("Q" if tempo else "")
        if "S" in missing:
            return names + "%" if self._fields else "%" + names
        return names + ("K" if self._takes_key else "")

    def _percent(self) -> Rule[None]:
        comments = not self._fields and not self.voices and self._comments < MAX_COMMENTS
        chosen = yield NextIds(bits("%") | (TEXT & ~bits(" ") if comments else 0), ord("%"))
        if chosen == ord("%"):
            yield from literal("score ")
            yield from self._score_line()
            self._fields += "S"
        else:
            self._comments += 1
            yield from free_text(TEXT, MAX_TEXT, "\n")

    def _score_line(self) -> Rule[None]:
        """Write the voices in their brackets: ``( )`` for a staff, ``{ }`` for a part, ``[ ]`` for a group."""
        opened, before = "", "|"
        while before:
            rest = [name for name in self.voices if name not in self._score]
            more = bool(rest) or (not self.voices and len(self._score) < MAX_VOICES)
            name = rest[0] if rest else str(len(self._score) + 1)
            symbols = [name] if more else []
            if more and "(" not in opened:
                symbols += ["(", *["{"] * ("{" not in opened), *["["] * (opened in ("", "["))]
            if before not in _CLOSERS and before != "|":
                symbols += [_CLOSERS[opened[-1]]] if opened else []
                symbols += ["|"] if more and "(" not in opened else []
            words = [word for symbol in symbols for word in self._score_words(symbol, opened, rest)]
            closers = [symbol for symbol in symbols if symbol in _CLOSERS.values() and not rest]
            closing = (closers or [name])[0]
            word = yield from spell(tuple(words), close=self._score_words(closing, opened, rest)[-1])
            before = word[:-1]
            if before in _CLOSERS:
                opened += before
            elif before in _CLOSERS.values():
                opened = opened[:-1]
            elif before != "|":
                self._score.append(before)
            before = "" if word[-1] == "\n" else before

    def _score_words(self, symbol: str, opened: str, rest: list[str]) -> list[str]:
        """Return a symbol followed by a blank where more may follow, and by a line end where it may be the last."""
        if symbol in _CLOSERS or symbol == "|":
            return [symbol + " "]
        closes = symbol in _CLOSERS.values()
        if (opened[:-1] if closes else opened) or (rest and rest != [symbol]):
            return [symbol + " "]
        full = bool(self.voices) or len(self._score) + (not closes) >= MAX_VOICES
        return [symbol + "\n"] if full else [symbol + " ", symbol + "\n"]

    def _unit(self) -> Rule[None]:
        self._fields += "L"
        yield from literal(":")
        self.unit = parse_unit_length((yield from spell(_UNIT_LINES, close="1/8\n")))

    def _tempo(self) -> Rule[None]:
        self._fields += "Q"
        yield from literal(":")
        yield from spell(_TEMPO_LINES)

    def _meter(self) -> Rule[None]:
        self._fields += "M"
        yield from literal(":")
        self.meter = parse_meter((yield from spell(_METER_LINES, close="4/4\n")))

    def _key(self) -> Rule[None]:
        yield from literal(":")
        value = yield from spell(_KEY_LINES, close="C\n")
        if self._takes_key and value.strip().lower() == "none":
            self.keyless.add(self.voices[-1])
        self._fields += "K"
        self._takes_key = False

    def _voice(self) -> Rule[None]:
        name = self._undeclared[0]
        yield from literal(f":{name} ")
        word = yield from spell(_CLEF_ENDS, close="treble\n")
        attributes = _ATTRIBUTES
        while word[-1] == " ":
            word = yield from spell((*attributes, "\n"), close="\n")
            if word == "\n":
                break
            attributes = attributes[attributes.index(word) + 1 :]
            values = _TRANSPOSITIONS if word == "transpose=" else tuple("123456")
            if word.endswith("nm="):
                yield from literal('"')
                if self.words.names is not None:
                    yield from spell_in(self.words.names)
                else:
                    yield from free_text(TEXT, MAX_TEXT, '"')
                values = ("",)
            word = yield from spell(lines_of(values, " \n"))
        self.voices.append(name)
        self._takes_key = True
