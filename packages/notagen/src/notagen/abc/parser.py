"""Parser: text to syntax tree, in linear time.

Blank lines, trailing blanks of voices and lines, and blanks inside the barlines ``| :`` and ``: |`` are dropped;
everything else is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from notagen.abc.accidentals import PATTERN as ACCIDENTAL
from notagen.abc.lexer import column_of, kind_of, split_tokens
from notagen.abc.syntax import (
    Bar,
    Barline,
    Broken,
    Chord,
    Comment,
    Decoration,
    Element,
    Field,
    Grace,
    Header,
    InlineField,
    LineBreak,
    MusicLine,
    Note,
    Overlay,
    QuotedText,
    Rest,
    Slur,
    Space,
    Spacer,
    Tie,
    Tune,
    Tuplet,
    VoiceLine,
    length_of,
)
from pentatonic.errors import FormatError

MAX_LINE_CHARACTERS = 1 << 16
MAX_TUNE_CHARACTERS = 1 << 24
MAX_TUPLET = 99
MAX_OCTAVE_MARKS = 9
MAX_SHARED_CHARACTERS = 32

# A line that starts with "c:|" is music.
_FIELD = re.compile(r"(?:[H-WYh-wy+]|[A-GXZa-gxz](?!:[|:])):")
_NOTE = re.compile(rf"({ACCIDENTAL}?+)([A-Ga-g])([',]*+)([0-9/]*+)(-?+)")
_BARLINE = re.compile(r"([|:\]]*+(?:\[(?=\|)[|:\]]*+)*+)([ ]*+\[?+)([0-9.,-]*+)")
_BLANK_IN_BARLINE = re.compile(r"(?<=\|)[ \t]+(?=:)|(?<=:)[ \t]+(?=\|)")
_OLD_LINE_BREAKS = frozenset("!*")
_MISSING_END = {'"': 'a closing "', "!": "a closing !", "{": "a closing }", "[": "a closing ]"}


def parse_tune(text: str) -> Tune:
    """Read one tune, in plain or interleaved ABC.

    Args:
        text: The tune, from its first comment or field to its end. A file of several tunes must be cut at its ``X:``
            lines first.

    Returns:
        The tune. Values of fields are not parsed; see :mod:`notagen.abc.duration` for that.

    Raises:
        FormatError: The text is not ABC, has a second ``X:``, or exceeds ``MAX_TUNE_CHARACTERS`` or
            ``MAX_LINE_CHARACTERS``; with line and column.
    """
    if len(text) > MAX_TUNE_CHARACTERS:
        raise FormatError(
            f"{len(text)} characters; a tune has at most {MAX_TUNE_CHARACTERS}", line=1, column=1
        )
    lines = [
        _line(source.removesuffix("\r"), number)
        for number, source in enumerate(text.split("\n"), 1)
        if source.strip()
    ]
    lines = [line for line in lines if line != MusicLine(())]  # back quotes count as blanks
    body = _header_length(lines)
    header = [line for line in lines[:body] if not isinstance(line, MusicLine)]
    return Tune(Header(tuple(header)), tuple(lines[body:]))


def parse_bar(text: str, *, line: int = 1, column: int = 1) -> Bar:
    """Read one bar of one voice: its fields, barlines and content, without ``[V:…]``.

    Args:
        text: The bar, such as ``"[K:D]|: d2 (3efg |1"``; barlines may be missing.
        line: Line of its start in the source, for messages.
        column: Column of its start.

    Raises:
        FormatError: The text is not a single bar of ABC, with line and column.
    """
    if len(text) > MAX_LINE_CHARACTERS or "\n" in text:
        reason = f"a bar is one line of at most {MAX_LINE_CHARACTERS} characters"
        raise FormatError(reason, line=line, column=column)
    music = _music(text, line, column)
    bars = [bar for voice in music.voices for bar in voice.bars]
    if len(bars) > 1 or music.comment or any(voice.voice is not None for voice in music.voices):
        where = bars[1] if len(bars) > 1 else Bar((), line=line, column=column)
        raise FormatError("this is more than one bar of one voice", line=where.line, column=where.column)
    bar = bars[0] if bars else Bar((), line=line, column=column)
    if music.countdown is None:
        return bar
    fields = (music.countdown,)
    if bar.left is None:
        return Bar(fields + bar.elements, bar.right, line=line, column=column)
    return Bar(bar.elements, bar.right, fields + bar.prefix, bar.left, line, column)


def _line(text: str, number: int) -> MusicLine | Field | Comment:
    if len(text) > MAX_LINE_CHARACTERS:
        reason = f"{len(text)} characters; a line has at most {MAX_LINE_CHARACTERS}"
        raise FormatError(reason, line=number, column=MAX_LINE_CHARACTERS + 1)
    if text.startswith("%"):
        return Comment(text, number)
    if _FIELD.match(text):
        return Field(text[0], text[2:], number)
    return _music(text, number)


def _header_length(lines: list[MusicLine | Field | Comment]) -> int:
    """Return the number of lines before the body, which starts with music or with a second ``V:`` of a voice."""
    voices: set[str] = set()
    start: int | None = None
    seen_field = False
    for index, line in enumerate(lines):
        if isinstance(line, Field):
            if line.name == "X" and (seen_field or start is not None):
                raise FormatError("a second tune starts here; cut the text at X:", line=line.line, column=1)
            seen_field = True
            voice = (line.value.split() or [""])[0]
            if line.name == "V" and start is None and voice in voices:
                start = index
            elif line.name == "V":
                voices.add(voice)
        elif isinstance(line, MusicLine) and start is None:
            start = index
    return len(lines) if start is None else start


class _LineReader:
    """Collects elements into bars, and bars into voices."""

    def __init__(self, line: int, column: int) -> None:
        self.line, self.column = line, column
        self.voices: list[VoiceLine] = []
        self.begin_voice(None, column)

    def begin_voice(self, voice: str | None, column: int) -> None:
        self.voice, self.column = voice, column
        self.bars: list[Bar] = []
        self.elements: list[Element] = []
        self.prefix: tuple[Element, ...] = ()
        self.left: Barline | None = None

    def barline(self, barline: Barline, column: int) -> None:
        elements = tuple(self.elements)
        self.elements = []
        first = not self.bars and self.left is None
        if first and all(isinstance(element, (InlineField, Space)) for element in elements):
            self.prefix, self.left = elements, barline
            return
        self.bars.append(Bar(elements, barline, self.prefix, self.left, self.line, self.column))
        self.prefix, self.left, self.column = (), None, column

    def end_voice(self) -> None:
        if self.elements and isinstance(self.elements[-1], Space):
            self.elements.pop()
        if self.elements or self.left is not None:
            self.bars.append(Bar(tuple(self.elements), None, self.prefix, self.left, self.line, self.column))
        if self.bars or self.voice is not None:
            self.voices.append(VoiceLine(self.voice, tuple(self.bars)))


def _music(text: str, line: int, column: int = 1) -> MusicLine:
    tokens = split_tokens(text)
    reader = _LineReader(line, column)
    countdown: InlineField | None = None
    comment = ""
    index, counted = 0, 0  # the tokens before ``counted`` end at ``column``
    try:
        for index, token in enumerate(tokens):
            node = _node(token) if token not in _OLD_LINE_BREAKS else _line_break(tokens, index)
            if node.__class__ is Barline:
                column, counted = column_of(tokens[counted : index + 1], column), index + 1
                reader.barline(node, column)
            elif node.__class__ is InlineField and node.name == "V":
                column, counted = column_of(tokens[counted : index + 1], column), index + 1
                reader.end_voice()
                reader.begin_voice(node.value, column)
            elif node.__class__ is InlineField and node.name == "r" and index == 0:
                countdown = node
                column, counted = column_of(tokens[:1], column), 1
                reader.column = column
            elif node.__class__ is Comment:
                comment = node.text
            else:
                reader.elements.append(node)
    except FormatError as error:
        start = column_of(tokens[counted:index], column)
        raise FormatError(error.reason, line=line, column=start + (error.column or 1) - 1) from None
    reader.end_voice()
    return MusicLine(tuple(reader.voices), countdown, comment, line)


def _line_break(tokens: list[str], index: int) -> Any:
    """Return the node of a lone ``!`` or ``*``: a line break of old tunes after a barline or at a line end."""
    at_end = not "".join(tokens[index + 1 : index + 3]).strip()
    if at_end or (index and kind_of(tokens[index - 1]) == "barline"):
        return LineBreak(tokens[index])
    return _node(tokens[index])


def _node(token: str) -> Any:
    """Return the node of one token; the column of an error counts from the start of the token."""
    return _shared_node(token) if len(token) <= MAX_SHARED_CHARACTERS else _build(token)


def _build(token: str) -> Any:
    return _BUILDERS[kind_of(token)](token)


# Equal tokens share one immutable node. Errors are not cached.
_shared_node = lru_cache(maxsize=1 << 14)(_build)


def _note(token: str) -> Note:
    match = _NOTE.fullmatch(token)
    if match is None:
        raise FormatError(f"{token[:40]!r} is not a note", column=1)
    accidental, letter, marks, length, tie = match.groups()
    if len(marks) > MAX_OCTAVE_MARKS:
        raise FormatError(f"{len(marks)} octave marks; at most {MAX_OCTAVE_MARKS}", column=1)
    length_of(length)
    return Note(accidental, letter, marks, length, bool(tie))


def _rest(token: str) -> Rest:
    length_of(token[1:])
    return Rest(token[0], token[1:])


def _spacer(token: str) -> Spacer:
    length_of(token[1:])
    return Spacer(token[1:])


def _barline(token: str) -> Barline:
    match = _BARLINE.fullmatch(_BLANK_IN_BARLINE.sub("", token))
    if match is None:
        raise FormatError(f"{token[:40]!r} is not a barline", column=1)
    sign, gap, volta = match.groups()
    return Barline(sign, volta, gap)


def _chord(token: str) -> Chord:
    content, _, after = token[1:].rpartition("]")
    length = after.removesuffix("-")
    length_of(length)
    elements = _inner(content, 2, _IN_CHORD, "a chord")
    if not any(element.__class__ is Note for element in elements):
        raise FormatError("a chord needs at least one note", column=1)
    return Chord(elements, length, after.endswith("-"))


def _grace(token: str) -> Grace:
    slash = token.startswith("{/")
    return Grace(_inner(token[1 + slash : -1], 2 + slash, _IN_GRACE, "grace notes"), slash)


def _inner(text: str, column: int, allowed: tuple[type, ...], where: str) -> tuple[Element, ...]:
    elements: list[Element] = []
    for token in split_tokens(text):
        try:
            element = _node(token)
        except FormatError as error:
            raise FormatError(error.reason, column=column + (error.column or 1) - 1) from None
        if not isinstance(element, allowed):
            raise FormatError(f"{token[:40]!r} is not allowed inside {where}", column=column)
        elements.append(element)
        column += len(token)
    return tuple(elements)


def _tuplet(token: str) -> Tuplet:
    numbers = [number.lstrip("0") or number[:1] for number in token[1:].split(":")]
    if any(len(number) > 2 for number in numbers):
        raise FormatError(f"tuplet {token[:40]!r}: its numbers are at most {MAX_TUPLET}", column=1)
    p, q, r = [int(number) if number else None for number in (*numbers, "", "")[:3]]
    if not p or q == 0 or r == 0:
        raise FormatError(f"tuplet {token!r}: its numbers are 1 to {MAX_TUPLET}", column=1)
    return Tuplet(p, q, r, len(token) - len(token.rstrip(":")))


def _unknown(token: str) -> Element:
    if token in _MISSING_END:
        raise FormatError(f"{token!r} without {_MISSING_END[token]} on the line", column=1)
    raise FormatError(f"{token!r} has no meaning here", column=1)


_IN_CHORD = (Note, Rest, Decoration, QuotedText, Slur, Space, Tie)
_IN_GRACE = (*_IN_CHORD, Chord, Tuplet, Broken)
_BUILDERS: dict[str, Callable[[str], Any]] = {
    "note": _note,
    "space": Space,
    "barline": _barline,
    "ending": _barline,
    "field": lambda token: InlineField(token[1], token[3:-1]),
    "chord": _chord,
    "rest": _rest,
    "bar_rest": _rest,
    "annotation": QuotedText,
    "decoration": Decoration,
    "tuplet": _tuplet,
    "slur": Slur,
    "broken": Broken,
    "grace": _grace,
    "tie": lambda _: Tie(),
    "overlay": lambda _: Overlay(),
    "spacer": _spacer,
    "line_break": LineBreak,
    "comment": Comment,
    "unknown": _unknown,
}
