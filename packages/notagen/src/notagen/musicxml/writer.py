"""Converts a piece in ABC to MusicXML 4.0, for notation programs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from math import lcm
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from notagen.musicxml.writer_elements import add
from notagen.musicxml.writer_notes import pieces
from notagen.musicxml.writer_part import PartWriter
from notagen.score import Group, Part, Score, Voice, read_score
from pentatonic.errors import FormatError

#: Largest number of divisions of a quarter note.
MAX_DIVISIONS = 1 << 24


def abc_to_musicxml(text: str, *, title: str | None = None) -> bytes:
    """Write a piece as MusicXML.

    Each voice becomes a staff; voices in ``( )`` of ``%%score`` share one. A ``{ }`` becomes one part of several staves
    if only its first voice has a name. Rests as long as the bar are left out where they are invisible and the part has
    other voices, and where they are alone on a lower staff of a part.

    Args:
        text: One tune in any layout; see :func:`notagen.score.read_score`.
        title: Title of the score; None: the title of the tune.

    Returns:
        A ``score-partwise`` document in UTF-8, the same for the same text.

    Raises:
        FormatError: The text is not a tune, or MusicXML cannot express a length or pitch in it; with the line, and in
            the message the voice and the bar.
    """
    score = read_score(text)
    document = Element("score-partwise", {"version": "4.0"})
    title = score.title if title is None else title
    if title:
        add(add(document, "work"), "work-title", title)
    if score.subtitle:
        add(document, "movement-title", score.subtitle)
    identification = SubElement(document, "identification")
    for role, name in score.credits:
        if role != "rights":
            add(identification, "creator", name, {"type": role})
    for role, name in score.credits:
        if role == "rights":
            add(identification, "rights", name)
    add(add(identification, "encoding"), "software", "notagen")
    _credits(document, title, score)
    parts = score.parts
    names = {part: f"P{number}" for number, part in enumerate(parts, 1)}
    _part_list(SubElement(document, "part-list"), score, score.layout, names, count(1))
    divisions = _divisions(score)
    for part in parts:
        element = add(document, "part", None, {"id": names[part]})
        PartWriter(score, part, divisions, leads=part is parts[0]).write(element)
    indent(document, " ")
    return tostring(document, encoding="UTF-8", xml_declaration=True) + b"\n"


def _credits(document: Element, title: str, score: Score) -> None:
    """Write the head of the first page: titles in the middle, authors of words left, of music right, then rights."""
    _credit(document, "title", title, "center", "top", 24)
    _credit(document, "subtitle", score.subtitle, "center", "top", 14)
    for role, name in score.credits:
        if role in ("lyricist", "poet", "translator"):
            _credit(document, "lyricist", name, "left", "bottom", 10)
        elif role in ("composer", "arranger"):
            _credit(document, role, name, "right", "bottom", 10)
        elif role == "rights":
            _credit(document, role, name, "center", "bottom", 8)


def _credit(document: Element, kind: str, text: str, side: str, height: str, size: int) -> None:
    if text:
        credit = add(document, "credit", None, {"page": "1"})
        add(credit, "credit-type", kind)
        place = {"justify": side, "halign": side, "valign": height, "font-size": str(size)}
        add(credit, "credit-words", text, place)


def _part_list(
    parent: Element, score: Score, layout: Sequence[Part | Group], names: dict[Part, str], numbers: count[int]
) -> None:
    for node in layout:
        if isinstance(node, Part):
            voice = score.voices[node.voices[0]]
            part = add(parent, "score-part", None, {"id": names[node]})
            add(part, "part-name", voice.full_name)
            if voice.abbreviation:
                add(part, "part-abbreviation", voice.abbreviation)
            _programme(part, names[node], voice)
            continue
        number = str(next(numbers))
        group = add(parent, "part-group", None, {"type": "start", "number": number})
        add(group, "group-symbol", node.symbol)
        add(group, "group-barline", "yes" if node.joined else "no")
        _part_list(parent, score, node.members, names, numbers)
        add(parent, "part-group", None, {"type": "stop", "number": number})


def _programme(parent: Element, part: str, voice: Voice) -> None:
    if voice.programme is None:
        return
    name = {"id": f"{part}-I1"}
    add(add(parent, "score-instrument", None, name), "instrument-name", voice.full_name)
    add(add(parent, "midi-instrument", None, name), "midi-program", voice.programme + 1)


def _divisions(score: Score) -> int:
    """Return the divisions of a quarter note with which every duration is a whole number."""
    divisions = 1
    for voice in score.voices.values():
        for index, measure in enumerate(voice.measures, 1):
            try:
                for layer in measure.layers:
                    for event in layer.events:
                        divisions = lcm(divisions, *((4 * piece[0]).denominator for piece in pieces(event)))
            except FormatError as error:
                reason = f"voice {voice.name}, bar {index}: {error.reason}"
                raise FormatError(reason, line=measure.line) from None
            if divisions > MAX_DIVISIONS:
                reason = f"voice {voice.name}, bar {index}: the note lengths need more than {MAX_DIVISIONS} divisions"
                raise FormatError(reason, line=measure.line)
    return divisions
