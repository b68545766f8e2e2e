"""Printer: syntax tree to text, in the spelling of the source."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from notagen.abc import syntax


def print_tune(tune: syntax.Tune) -> str:
    """Return the text of a tune; each line ends with a newline.

    Parsing it again gives an equal tune. It equals the source except for blank lines, blanks before ``[V:…]``, at
    line ends and inside ``| :``, and leading zeros in tuplet marks.
    """
    return "".join(f"{_line(line)}\n" for line in (*tune.header.lines, *tune.body))


def print_bar(bar: syntax.Bar) -> str:
    """Return the text of a bar: prefix, left barline, content, right barline."""
    left, right = (_barline(barline) if barline else "" for barline in (bar.left, bar.right))
    return f"{print_elements(bar.prefix)}{left}{print_elements(bar.elements)}{right}"


def print_elements(elements: Iterable[syntax.Element]) -> str:
    """Return the text of some elements of a bar."""
    return "".join([_PRINTERS[element.__class__](element) for element in elements])


def _line(line: syntax.MusicLine | syntax.Field | syntax.Comment) -> str:
    if isinstance(line, syntax.Field):
        return f"{line.name}:{line.value}"
    if isinstance(line, syntax.Comment):
        return line.text
    parts = [print_elements((line.countdown,))] if line.countdown else []
    for voice in line.voices:
        if voice.voice is not None:
            parts.append(f"[V:{voice.voice}]")
        parts += map(print_bar, voice.bars)
    if line.comment:
        parts.append(f" {line.comment}")
    return "".join(parts)


def _barline(barline: syntax.Barline) -> str:
    return f"{barline.sign}{barline.gap}{barline.volta}"


def _note(note: syntax.Note) -> str:
    return f"{note.accidental}{note.letter}{note.marks}{note.length_text}{'-' if note.tie else ''}"


def _chord(chord: syntax.Chord) -> str:
    return f"[{print_elements(chord.elements)}]{chord.length_text}{'-' if chord.tie else ''}"


def _tuplet(tuplet: syntax.Tuplet) -> str:
    numbers = ":".join("" if number is None else str(number) for number in (tuplet.p, tuplet.q, tuplet.r))
    return f"({numbers.rstrip(':')}{':' * tuplet.colons}"


def _text(element: Any) -> str:
    return element.text


_PRINTERS: dict[type, Callable[[Any], str]] = {
    syntax.Note: _note,
    syntax.Rest: lambda rest: f"{rest.letter}{rest.length_text}",
    syntax.Spacer: lambda spacer: f"y{spacer.length_text}",
    syntax.Chord: _chord,
    syntax.Grace: lambda grace: f"{{{'/' if grace.slash else ''}{print_elements(grace.elements)}}}",
    syntax.Tuplet: _tuplet,
    syntax.InlineField: lambda field: f"[{field.name}:{field.value}]",
    syntax.Tie: lambda _: "-",
    syntax.Overlay: lambda _: "&",
    **dict.fromkeys(
        (syntax.Space, syntax.Broken, syntax.Slur, syntax.Decoration, syntax.QuotedText, syntax.LineBreak),
        _text,
    ),
}
