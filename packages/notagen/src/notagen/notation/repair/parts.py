"""What one voice has on a line: its tokens, and the changes of key, note length and meter among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from notagen.abc.duration import Meter, total_duration
from notagen.abc.lexer import kind_of, split_tokens
from notagen.abc.parser import parse_bar
from notagen.abc.syntax import Bar
from notagen.notation.bars import split_segment
from notagen.notation.repair.header import PARSERS
from notagen.notation.validation import barlines_of
from pentatonic.errors import FormatError

_SILENT = "z"  # stands for a rest of the right length
_TIMED = frozenset({"note", "chord", "rest", "bar_rest"})

Note = Callable[[str], None]


@dataclass
class Part:
    """One voice of a line.

    Attributes:
        name: Of the voice.
        tokens: Its text, which is a bar of ABC.
        written: Whether the line has it.
        music: Whether it has notes or rests of its own.
        bar: Its elements, once :meth:`read` was called, as all below.
        left: Barline before them.
        right: Barline after them.
        length: Duration; None where rests have to take the place of the music.
    """

    name: str
    tokens: list[str]
    written: bool = True
    music: bool = True
    bar: Bar = Bar(())  # noqa: RUF009  it is immutable
    left: str = ""
    right: str = ""
    length: Fraction | None = None

    def read(self, meter: Meter | None, bar_length: Fraction | None, note: Note) -> None:
        """Read the tokens, in the meter that is in force."""
        self.bar = parse_bar("".join(self.tokens))
        self.left, self.right = barlines_of(self.bar)
        if self.music:
            try:
                self.length = total_duration(self.bar, meter=meter, bar_length=bar_length)
            except FormatError as error:
                note(f"rests instead of music without a length: {error.reason}")

    def take_changes(self, note: Note) -> list[Change]:
        """Return the changes among the tokens, after dropping those that are not understood."""
        found: list[Change] = []
        kept: list[str] = []
        leading = True
        for token in self.tokens:
            kind = kind_of(token)
            leading = leading and kind not in _TIMED
            if kind == "field" and token[1] in PARSERS:
                try:
                    found.append(Change(token, leading, PARSERS[token[1]](token[3:-1])))
                except FormatError as error:
                    note(f"dropped {token[:40]}: {error.reason}")
                    continue
            kept.append(token)
        self.tokens = kept
        return found

    def set_changes(self, name: str, changes: Iterable[Change]) -> None:
        """Replace the changes of one kind, ``K``, ``L`` or ``M``."""
        kept = [token for token in self.tokens if not (kind_of(token) == "field" and token[1] == name)]
        end = [kept.pop()] if kept and kind_of(kept[-1]) == "barline" else []
        leading, trailing = ([c.token for c in changes if c.leading is when] for when in (True, False))
        self.tokens = [*leading, *kept, *trailing, *end]


@dataclass(frozen=True)
class Change:
    """A change of key, note length or meter.

    Args:
        token: The field.
        leading: Whether it stands before the first note.
        value: What it changes to.
    """

    token: str
    leading: bool
    value: Any


def silent_part(name: str) -> Part:
    """Return a voice that is not on the line."""
    return Part(name, [_SILENT], written=False, music=False)


def written_part(name: str, text: str, note: Note) -> Part:
    """Return a voice of a line; a rest stands for what is no bar of ABC, and in an empty one.

    Args:
        name: Of the voice.
        text: What follows its ``[V:name]``.
        note: Takes the descriptions of changes.
    """
    tokens = split_tokens(text.strip())
    if tokens and tokens[-1].startswith("%"):
        note("dropped a comment")
        tokens.pop()
    if lone := [token for token in tokens if token in ("!", "*")]:  # line breaks of old tunes
        note(f"dropped a lone {lone[0]!r}")
        tokens = [token for token in tokens if token not in lone]
    try:
        parse_bar("".join(tokens))
    except FormatError as error:
        note(f"rests instead of what is no ABC: {error.reason}")
        return Part(name, _without_music(tokens), music=False)
    if any(kind_of(token) in _TIMED for token in tokens):
        return Part(name, tokens)
    note("rests in an empty bar")
    tokens.insert(len(tokens) - (bool(tokens) and kind_of(tokens[-1]) == "barline"), _SILENT)
    return Part(name, tokens, music=False)


def _without_music(tokens: Sequence[str]) -> list[str]:
    """Return the changes and the barlines, and a rest that stands for the music."""
    timed = next((i for i, token in enumerate(tokens) if kind_of(token) in _TIMED), len(tokens))
    before, after = (
        [token for token in part if kind_of(token) == "field" and token[1] in PARSERS]
        for part in (tokens[:timed], tokens[timed:])
    )
    segment = split_segment("".join(tokens))
    left, right = (
        [barline] if kind_of(barline := "".join(text.split())) == "barline" else []
        for text in (segment.left, segment.right)
    )
    return [*before, *left, _SILENT, *after, *right]
