"""Repair of one voice on one line: its tokens, and the changes of key, note length and meter among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from notagen.abc.lexer import kind_of, split_tokens
from notagen.abc.parser import parse_bar
from notagen.abc.syntax import Bar
from notagen.notation.bars import split_segment
from notagen.notation.lines import (
    FIELD_PARSERS,
    TIMED_TOKENS,
    FieldChange,
    InterleavedReader,
    is_change,
    token_changes,
)
from pentatonic.errors import FormatError

_REST = "z"  # replaced by a rest of the right length

#: Takes the description of a change.
ReportChange = Callable[[str], None]


@dataclass
class EditableVoice:
    """One voice on one line, with tokens that can be changed before they are read.

    Attributes:
        name: Name of the voice.
        tokens: Tokens of its text, which is one bar of ABC.
        written: Whether the line has the voice.
        music: Whether the line has notes or rests of the voice.
        bar: The parsed bar; this and the attributes below are set by :meth:`read`.
        left: Barline before the bar.
        right: Barline after the bar.
        length: Duration; None where the music must be replaced by rests.
    """

    name: str
    tokens: list[str]
    written: bool = True
    music: bool = True
    bar: Bar = Bar(())  # noqa: RUF009  it is immutable
    left: str = ""
    right: str = ""
    length: Fraction | None = None

    def read(self, reader: InterleavedReader, report: ReportChange) -> None:
        """Read the tokens with the meter and note length of the reader."""
        voice = reader.read_voice(self.name, "".join(self.tokens))
        self.bar, self.left, self.right = voice.parsed(), voice.left, voice.right
        if self.music:
            self.length = voice.length
            if voice.error:
                report(f"rests instead of music without a length: {voice.error.reason}")

    def take_changes(self, report: ReportChange) -> list[FieldChange]:
        """Return the changes among the tokens, after dropping those that cannot be read."""
        found: list[FieldChange] = []
        for change in token_changes(self.tokens):
            if change.error is None:
                found.append(change)
                continue
            report(f"dropped {change.token[:40]}: {change.error.reason}")
            self.tokens = [token for token in self.tokens if token != change.token]
        return found

    def set_changes(self, name: str, changes: Iterable[FieldChange]) -> None:
        """Replace the changes of one kind: ``K``, ``L`` or ``M``."""
        kept = [token for token in self.tokens if not (is_change(token, kind_of(token)) and token[1] == name)]
        end = [kept.pop()] if kept and kind_of(kept[-1]) == "barline" else []
        leading, trailing = ([c.token for c in changes if c.leading is when] for when in (True, False))
        self.tokens = [*leading, *kept, *trailing, *end]


def silent_voice(name: str) -> EditableVoice:
    """Return a voice that is not on the line."""
    return EditableVoice(name, [_REST], written=False, music=False)


def written_voice(name: str, text: str, report: ReportChange) -> EditableVoice:
    """Return a voice of a line, in which bars that cannot be parsed and empty bars become rests.

    Args:
        name: Name of the voice.
        text: What follows its ``[V:name]``.
        report: Is told of each change.
    """
    tokens = split_tokens(text.strip())
    if tokens and tokens[-1].startswith("%"):
        report("dropped a comment")
        tokens.pop()
    if lone := [token for token in tokens if token in ("!", "*")]:  # line breaks in old tunes
        report(f"dropped a lone {lone[0]!r}")
        tokens = [token for token in tokens if token not in lone]
    try:
        parse_bar("".join(tokens))
    except FormatError as error:
        report(f"rests instead of a bar that cannot be parsed: {error.reason}")
        return EditableVoice(name, _without_music(tokens), music=False)
    if any(kind_of(token) in TIMED_TOKENS for token in tokens):
        return EditableVoice(name, tokens)
    report("rests in an empty bar")
    tokens.insert(len(tokens) - (bool(tokens) and kind_of(tokens[-1]) == "barline"), _REST)
    return EditableVoice(name, tokens, music=False)


def _without_music(tokens: Sequence[str]) -> list[str]:
    """Return the changes and the barlines of a bar, with a rest instead of its music."""
    timed = next((i for i, token in enumerate(tokens) if kind_of(token) in TIMED_TOKENS), len(tokens))
    before, after = (
        [token for token in part if kind_of(token) == "field" and token[1] in FIELD_PARSERS]
        for part in (tokens[:timed], tokens[timed:])
    )
    segment = split_segment("".join(tokens))
    left, right = (
        [barline] if kind_of(barline := "".join(text.split())) == "barline" else []
        for text in (segment.left, segment.right)
    )
    return [*before, *left, _REST, *after, *right]
