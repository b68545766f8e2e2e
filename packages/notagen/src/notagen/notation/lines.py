"""The lines of an interleaved tune, read in order, with the meter, note length and slurs that are in force.

:class:`InterleavedReader` is what validation, repair, infilling and the grammar of generation share: which fields
``[K:]``, ``[L:]`` and ``[M:]`` a line has and from where on they hold, how long its bars last, and which slurs are
open at its end.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from notagen.abc.clefs import changes_key
from notagen.abc.duration import (
    Meter,
    default_unit_length,
    parse_key,
    parse_meter,
    parse_unit_length,
    total_duration,
)
from notagen.abc.lexer import kind_of, split_tokens
from notagen.abc.parser import parse_bar
from notagen.abc.syntax import Bar, Barline, Slur
from notagen.notation.bars import declared_voice, is_field, split_segment, voice_segments
from pentatonic.errors import FormatError

#: Fields that change how the bars after them are read -> functions that read their values.
FIELD_PARSERS = {"K": parse_key, "L": parse_unit_length, "M": parse_meter}
#: Tokens that last some time.
TIMED_TOKENS = frozenset({"note", "chord", "rest", "bar_rest"})


@dataclass(frozen=True)
class FieldChange:
    """A field ``[K:]``, ``[L:]`` or ``[M:]`` in a bar.

    Attributes:
        token: The field as written, such as ``[M:3/4]``.
        leading: Whether it stands before the first note, chord or rest.
        value: What it changes to: a key, a length or a meter; None for free meter, and where it cannot be read.
        error: Why the value cannot be read; None where it can.
    """

    token: str
    leading: bool
    value: Any
    error: FormatError | None = None

    @property
    def name(self) -> str:
        """``K``, ``L`` or ``M``."""
        return self.token[1]

    @property
    def text(self) -> str:
        """The value as written."""
        return self.token[3:-1].strip()


@dataclass(frozen=True)
class VoiceOnLine:
    """The bar of one voice on one line.

    Attributes:
        name: Name of the voice.
        text: What follows its ``[V:n]``, as given.
        changes: Changes of key, note length and meter, in their order.
        bar: The parsed bar; None where the text is not one bar of ABC.
        left: Barline before the bar, without blanks; empty for none.
        right: Barline after the bar, likewise.
        length: Duration in units of ``L:``; None where it is unknown.
        slurs: Number of slurs of the voice that are open after the bar.
        error: Why ``bar`` or ``length`` is None; else None.
    """

    name: str
    text: str
    changes: tuple[FieldChange, ...]
    bar: Bar | None
    left: str
    right: str
    length: Fraction | None
    slurs: int
    error: FormatError | None

    def parsed(self) -> Bar:
        """Return the bar.

        Raises:
            FormatError: The text is not one bar of ABC.
        """
        if self.bar is None:
            raise self.error or FormatError("the text is not one bar")
        return self.bar


class InterleavedReader:
    """Reads lines of music one after another.

    Args:
        meter: In force before the first line; None for free meter.
        unit: Note length in force before the first line, in whole notes; None: the default for the meter.

    Attributes:
        meter: In force in the current line.
        unit: Note length in force in the current line, in whole notes.
        slurs: Voice -> number of open slurs.
    """

    def __init__(self, meter: Meter | None = None, unit: Fraction | None = None) -> None:
        self.meter = meter
        self.unit = unit or default_unit_length(meter)
        self.slurs: dict[str, int] = {}
        self._next: dict[str, Any] = {}  # values that come into force at the end of the line

    @property
    def bar_length(self) -> Fraction | None:
        """Length of a full bar in units of ``L:``; None in free meter."""
        return self.meter.length / self.unit if self.meter else None

    def copy(self) -> InterleavedReader:
        """Return a copy that can read other lines."""
        other = copy.copy(self)
        other.slurs, other._next = dict(self.slurs), dict(self._next)
        return other

    def read(self, line: str) -> list[VoiceOnLine]:
        """Read a whole line.

        Args:
            line: With or without its countdown tag; text before the first ``[V:n]`` is ignored.

        Returns:
            The voices in the order of the line.
        """
        segments = [(name, text, field_changes(text)) for name, text in voice_segments(line)]
        self.begin_line([changes for _, _, changes in segments])
        return [self.read_voice(name, text, changes) for name, text, changes in segments]

    def begin_line(self, changes: Iterable[Sequence[FieldChange]]) -> None:
        """Start a line: put the changes before its first note in force; the others come into force at its end.

        Args:
            changes: The changes of each voice. For each kind of field those of the first voice that has it count. A
                note length that cannot be read is ignored; a meter that cannot be read counts as free.
        """
        self.end_line()
        decided: set[str] = set()
        for of_voice in changes:
            for change in of_voice:
                if change.name in decided or change.name == "K" or not (change.value or change.name == "M"):
                    continue
                if change.leading:
                    self._set(change.name, change.value)
                else:
                    self._next[change.name] = change.value
            decided |= {change.name for change in of_voice}

    def end_line(self) -> None:
        """End the line: put the changes after its first note in force."""
        for name, value in self._next.items():
            self._set(name, value)
        self._next = {}

    def read_voice(self, name: str, text: str, changes: Sequence[FieldChange] = ()) -> VoiceOnLine:
        """Read the bar of one voice of the current line, and count its slurs."""
        bar, length, error = None, None, None
        left = right = ""
        try:
            bar = parse_bar(text.strip())
            left, right = barlines_of(bar)
            length = total_duration(bar, meter=self.meter, bar_length=self.bar_length)
        except FormatError as caught:
            error = caught
            if bar is None:
                segment = split_segment(text)
                left, right = ("".join(part.split()) for part in (segment.left, segment.right))
        if bar is not None:
            self._count_slurs(name, bar)
        return VoiceOnLine(
            name, text, tuple(changes), bar, left, right, length, self.slurs.get(name, 0), error
        )

    def _count_slurs(self, name: str, bar: Bar) -> None:
        slurs = self.slurs.get(name, 0)
        for element in bar.elements:
            if isinstance(element, Slur):
                slurs = max(slurs - 1, 0) if element.text == ")" else slurs + 1
        self.slurs[name] = slurs

    def _set(self, name: str, value: Any) -> None:
        if name == "M":
            self.meter = value
        else:
            self.unit = value


def is_music(line: str) -> bool:
    """Whether a line, without blanks around it, has a ``[V:n]``."""
    return not line.startswith("%") and not is_field(line) and bool(voice_segments(line))


def field_changes(text: str) -> list[FieldChange]:
    """Return the fields ``[K:]``, ``[L:]`` and ``[M:]`` in the text of a bar."""
    return token_changes(split_tokens(text)) if any(f"[{name}:" in text for name in FIELD_PARSERS) else []


def token_changes(tokens: Iterable[str]) -> list[FieldChange]:
    """Return the fields ``[K:]``, ``[L:]`` and ``[M:]`` among the tokens of a bar, not those that only set a clef."""
    found: list[FieldChange] = []
    leading = True
    for token in tokens:
        kind = kind_of(token)
        leading = leading and kind not in TIMED_TOKENS
        if not is_change(token, kind):
            continue
        try:
            found.append(FieldChange(token, leading, FIELD_PARSERS[token[1]](token[3:-1].strip())))
        except FormatError as error:
            found.append(FieldChange(token, leading, None, error))
    return found


def is_change(token: str, kind: str) -> bool:
    """Whether a token, of this kind, is a field ``[K:]``, ``[L:]`` or ``[M:]`` and not only a clef."""
    return kind == "field" and token[1] in FIELD_PARSERS and (token[1] != "K" or changes_key(token[3:-1]))


def barlines_of(bar: Bar) -> tuple[str, str]:
    """Return the barlines before and after a bar, without blanks; empty where there is none."""
    left, right = (_spelled(barline) for barline in (bar.left, bar.right))
    # The only barline of an empty bar is the one at its end.
    return (left, right) if bar.elements or right else ("", left)


def keyless_voices(header: Iterable[str]) -> set[str]:
    """Return the voices that the header declares with ``K:none`` after their ``V:`` line: they have no key changes.

    The first ``K:`` of a header is the key of the tune, wherever it comes.
    """
    keyless: set[str] = set()
    voice, has_key = None, False
    for line in header:
        if line.startswith("V:"):
            voice = declared_voice(line)
        elif line.startswith("K:"):
            if has_key and voice is not None and _is_no_key(line[2:]):
                keyless.add(voice)
            has_key = True
    return keyless


def _is_no_key(value: str) -> bool:
    try:
        return changes_key(value) and not parse_key(value).tonic
    except FormatError:
        return False


def _spelled(barline: Barline | None) -> str:
    if barline is None:
        return ""
    return (barline.sign or "[") + barline.volta
