"""Reads fields of the header: declarations of voices, meter, tempo, and staves and parts in ``%%score``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from notagen.abc.clefs import read_clef
from notagen.abc.duration import parse_meter
from notagen.score.model import Group, Part, Tempo, TimeSignature

_ATTRIBUTE = re.compile(r"(?<!\w)(\w++)=(?:\"([^\"]*)\"|(\S+))")
_OCTAVE = re.compile(r"(?<!\w)octave=([+-]?\d)(?!\d)")
_NUMBER = re.compile(r"[+-]?\d{1,3}")
_TEMPO = re.compile(r"(?:((?:\d{1,3}/\d{1,3}\s*+)++)=\s*+)?(\d{1,4}(?:\.\d{1,3})?)")
_SCORE_ITEM = re.compile(r"[()\[\]{}|]|[^\s()\[\]{}|*]+")
_CLOSING = {"}": "{", "]": "[", ")": "("}
_SYMBOLS: dict[str, Literal["brace", "bracket"]] = {"{": "brace", "[": "bracket"}
_MAX_STAFF_LINES = 9
#: Most sections that a part order plays.
MAX_SECTIONS = 256
_MAX_TRANSPOSE = 127


@dataclass(frozen=True)
class Declaration:
    """The attributes in a ``V:`` line; ``clef`` is empty where it has none."""

    clef: str = ""
    full_name: str = ""
    abbreviation: str = ""
    transpose: int = 0
    staff_lines: int | None = None
    octave: int | None = None


def read_octave(value: str) -> int | None:
    """Return the octaves by which ``octave=`` in a ``V:`` or ``K:`` value moves notes up, -9 to 9; None without it."""
    match = _OCTAVE.search(re.sub(r'"[^"]*"', "", value))
    return int(match[1]) if match else None


def read_declaration(value: str) -> Declaration:
    """Read the value of a ``V:`` field after the name: a clef and attributes in any order; other words are ignored."""
    attributes = {match[1]: match[2] or match[3] or "" for match in _ATTRIBUTE.finditer(value)}
    lines = _number(attributes.get("stafflines", ""), _MAX_STAFF_LINES)
    return Declaration(
        read_clef(value),
        (attributes.get("nm") or attributes.get("name") or "").strip(),
        (attributes.get("snm") or attributes.get("sname") or attributes.get("subname") or "").strip(),
        _number(attributes.get("transpose", ""), _MAX_TRANSPOSE) or 0,
        lines if lines is None or lines >= 0 else None,
        read_octave(value),
    )


def read_part_order(value: str) -> tuple[str, ...]:
    """Read the value of ``P:`` in a header: the labels of sections in playing order.

    Args:
        value: Such as ``AAB``, ``A2B`` or ``(AB)3C``: labels of one letter; a number after a label or bracket repeats
            it. Blanks and dots have no meaning. Text of another form is not an order.

    Returns:
        The labels, at most ``MAX_SECTIONS``; empty where the value is not an order.
    """
    items = re.sub(r"[\s.]", "", value)
    if not re.fullmatch(r"(?:[A-Z]\d{0,2}|\(|\)\d{0,2})*", items) or len(items) > MAX_SECTIONS:
        return ()
    frames: list[tuple[str, ...]] = [()]
    for label, count in re.findall(r"([A-Z()])(\d*)", items):
        played: tuple[str, ...] = (label,)
        if label == "(":
            frames.append(())
            continue
        if label == ")":
            if len(frames) == 1:
                return ()
            played = frames.pop()
        frames[-1] += played * int(count or 1)
        if len(frames[-1]) > MAX_SECTIONS:
            return ()
    return frames[0] if len(frames) == 1 else ()


def read_time(value: str, *, line: int | None = None, column: int | None = None) -> TimeSignature:
    """Read the value of an ``M:`` field.

    Raises:
        FormatError: ``value`` is not a meter.
    """
    text = "".join(value.partition("%")[0].split())
    return TimeSignature(parse_meter(text, line=line, column=column), text)


def read_tempo(value: str, unit_length: Fraction) -> Tempo | None:
    """Read the value of a ``Q:`` field, such as ``"Allegro" 1/4=120``.

    Args:
        value: Text in quotes, a beat and a number in any order; a number alone counts unit lengths a minute.
        unit_length: Unit note length in whole notes.

    Returns:
        The tempo; None where the value has neither a readable tempo nor text.
    """
    text = " ".join(part.strip() for part in re.findall(r'"([^"]*)"', value)).strip()
    match = _TEMPO.fullmatch(re.sub(r'"[^"]*"', " ", value.partition("%")[0]).strip())
    if match and (match[1] is None or not re.search("/0+(?![0-9])", match[1])):
        beat = sum(map(Fraction, match[1].split())) if match[1] else unit_length
        per_minute = Fraction(match[2])
        if beat and per_minute:
            return Tempo(Fraction(beat), per_minute, text)
    return Tempo(None, None, text) if text else None


@dataclass
class _Frame:
    """An open bracket of ``%%score`` and its contents."""

    sign: str
    members: list[Part | Group] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    joined: bool = False


def read_layout(value: str, named: Mapping[str, bool]) -> tuple[Part | Group, ...]:
    """Read the value of ``%%score``.

    Voices in ``( )`` share a staff. Staves in ``{ }`` are one part, unless a lower staff has a name of its own: then
    they are separate parts under a brace. A closing bracket that does not match the last open one is ignored, and open
    brackets are closed at the end of the line.

    Args:
        value: Such as ``1 { ( 2 3 ) | 4 }``; unknown and repeated names are ignored.
        named: All voices -> whether they have an instrument name.

    Returns:
        The layout of all voices; voices that the value does not name come last, each as a part.
    """
    left = dict(named)
    frames = [_Frame("")]
    for item in _SCORE_ITEM.findall(value):
        if item in _CLOSING.values():
            frames.append(_Frame(item))
        elif item in _CLOSING:
            if frames[-1].sign == _CLOSING[item]:
                _close(frames, named)
        elif item == "|":
            frames[-1].joined = True
        elif item in left:
            del left[item]
            if frames[-1].sign == "(":
                frames[-1].names.append(item)
            else:
                frames[-1].members.append(Part(((item,),)))
    while len(frames) > 1:
        _close(frames, named)
    return (*frames[0].members, *(Part(((name,),)) for name in left))


def _close(frames: list[_Frame], named: Mapping[str, bool]) -> None:
    """Close the innermost bracket, and add its contents to the one around it."""
    frame = frames.pop()
    members = frame.members
    if frame.names:
        members = [Part((tuple(frame.names),)), *members]
    if frame.sign in _SYMBOLS and len(members) > 1:
        members = [_grouped(frame, members, named)]
    frames[-1].members += members


def _grouped(frame: _Frame, members: Sequence[Part | Group], named: Mapping[str, bool]) -> Part | Group:
    staves = [member for member in members if isinstance(member, Part)]
    named_below = any(named[name] for staff in staves[1:] for name in staff.voices)
    if frame.sign == "{" and len(staves) == len(members) and not named_below:
        return Part(tuple(names for staff in staves for names in staff.staves))
    return Group(_SYMBOLS[frame.sign], tuple(members), frame.joined)


def _number(text: str, limit: int) -> int | None:
    match = _NUMBER.fullmatch(text)
    return int(text) if match and abs(int(text)) <= limit else None
