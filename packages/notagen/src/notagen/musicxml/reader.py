"""Converts MusicXML to ABC in standard layout, the form of the training data before cleaning.

Notes under an octave line (``!8va(!``) are written in their sounding octave, as MusicXML has them. Not converted are
layout, playback details and cue notes; what music loses by it is counted, see :mod:`notagen.score.losses`.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from notagen.musicxml.bar_text import BarWriter
from notagen.musicxml.document import Document, read_document
from notagen.musicxml.marks import plain_text
from notagen.musicxml.measures import XmlPart, read_part
from notagen.musicxml.meters import fit_meters
from notagen.musicxml.values import Time, XmlKey, XmlMeter
from notagen.musicxml.voices import VoiceMeasure, XmlVoice, build_voices
from notagen.notation.repeats import repeat_times, sign_of
from notagen.score.losses import lost
from notagen.score.lyrics import written_verse
from notagen.score.model import Transposition
from pentatonic.errors import FormatError

#: Longest line of music, in characters, unless a single bar is longer.
LINE_CHARACTERS = 100
MAX_ABC_CHARACTERS = 1 << 24

MAX_COMPOSERS = 10
MAX_GROUPS = 256

_BRACKETS = {"bracket": "[]", "square": "[]", "brace": "{}"}
_NO_METER = XmlMeter("none", None)
#: Creators besides the composer that are read; ABC has no fields for them.
_ROLES = ("lyricist", "poet", "arranger", "translator", "transcriber")
_C_MAJOR = XmlKey("C", 0)


@dataclass(frozen=True)
class _PartGroup:
    """A group of parts.

    Attributes:
        first: Index of its first part.
        last: Index of its last part.
        brackets: Opening and closing bracket in ``%%score``; empty without a bracket.
        barlines: Whether barlines go through all its parts.
    """

    first: int
    last: int
    brackets: str
    barlines: bool


def musicxml_to_abc(source: Path | bytes) -> str:
    """Read a MusicXML score as ABC in standard layout, with ``L:1/8``.

    All voices have the same bars, with the same lengths and barlines. Pitches are as written; a transposing instrument
    has ``transpose=`` on its ``V:`` line.

    Args:
        source: A ``.musicxml``, ``.xml`` or ``.mxl`` file, or its content.

    Returns:
        The header; then, for each voice, a line ``V:n`` and its bars, with the number of the last bar as a comment at
        the end of each line. Titles and names may contain any Unicode text.

    Raises:
        FormatError: The source is not MusicXML, is damaged, exceeds a limit, or has a value that ABC cannot express;
            with the path if ``source`` is one.
    """
    try:
        with _without_collections():
            return _abc(read_document(source))
    except FormatError as error:
        if error.path is not None or not isinstance(source, Path):
            raise
        raise FormatError(error.reason, path=source, line=error.line, column=error.column) from None


@contextmanager
def _without_collections() -> Iterator[None]:
    """Pause the search for reference cycles: a score has none, and to search its many objects takes half the time."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _abc(document: Document) -> str:
    names = [name for name in _listed_parts(document.root) if name in document.parts]
    names += [name for name in document.parts if name not in set(names)]
    parts = [read_part(name, document.parts[name]) for name in names]
    voices = build_voices(parts)
    barlines = _barlines(parts)
    fit_meters(voices, barlines)
    tempo, tempos = _tempos(parts)
    key, meter = _initial_key(voices[0]), _initial_meter(voices[0])
    lines = ["X:1", *_titles(document.root)]
    if len(voices) > 1:
        lines.append(f"%%score {_score(document.root, names, voices)}")
    lines += ["L:1/8", *([f"Q:{tempo}"] if tempo else []), f"M:{meter.name}", f"K:{(key or _C_MAJOR).name}"]
    lines += _declarations(document.root, names, parts, voices)
    characters = 0
    for number, voice in enumerate(voices, 1):
        lines.append(f"V:{number}")
        for line in _music(voice, key or _C_MAJOR, meter, barlines, tempos if number == 1 else {}):
            characters += len(line)
            if characters > MAX_ABC_CHARACTERS:
                raise FormatError(f"the score needs more than {MAX_ABC_CHARACTERS} characters of ABC")
            lines.append(line)
    return "\n".join(lines) + "\n"


def _music(
    voice: XmlVoice,
    key: XmlKey,
    meter: XmlMeter,
    barlines: Sequence[str],
    tempos: dict[int, list[tuple[Time, str]]],
) -> Iterator[str]:
    """Yield the lines of a voice: its bars with the number of the last one as a comment, and the lyrics below them."""
    own = _initial_key(voice)
    writer = BarWriter(own, meter, _initial_clef(voice), _initial_transpose(voice), voice.staff)
    prefix = f"[K:{own.name}]" if own and own.fifths != key.fifths else ""
    line, start = prefix + barlines[0], 0
    for index, measure in enumerate(voice.measures):
        try:
            bar = f" {writer.bar(measure, tempos.get(index, ()))} {barlines[index + 1]}"
        except FormatError as error:
            raise FormatError(f"measure {index + 1}: {error.reason}") from None
        if index and len(line) + len(bar) > LINE_CHARACTERS:
            yield f"{line} %{index}"
            yield from _lyrics(voice.measures[start:index])
            line, start = "", index
        line += bar
    yield f"{line} %{len(voice.measures)}"
    yield from _lyrics(voice.measures[start:])


def _lyrics(measures: Sequence[VoiceMeasure]) -> Iterator[str]:
    """Yield a ``w:`` line for each verse, up to the last one, of some bars."""
    notes = [event for measure in measures for event in measure.events if event.tones]
    for verse in range(1, max((max(note.lyrics, default=0) for note in notes), default=0) + 1):
        yield f"w:{written_verse(note.lyrics.get(verse) for note in notes) or '*'}"


def _initial_key(voice: XmlVoice) -> XmlKey | None:
    if voice.percussion:
        return None
    return next((each.value for each in _first_changes(voice) if isinstance(each.value, XmlKey)), _C_MAJOR)


def _initial_meter(voice: XmlVoice) -> XmlMeter:
    return next((each.value for each in _first_changes(voice) if isinstance(each.value, XmlMeter)), _NO_METER)


def _initial_transpose(voice: XmlVoice) -> int:
    changes = (each.value for each in _first_changes(voice))
    return next((value.semitones for value in changes if isinstance(value, Transposition)), 0)


def _initial_clef(voice: XmlVoice) -> str:
    if voice.percussion:
        return "perc"
    return next((each.value for each in _first_changes(voice) if isinstance(each.value, str)), "treble")


def _first_changes(voice: XmlVoice) -> list:
    return [change for change in voice.measures[0].changes if not change.onset]


def _barlines(parts: Sequence[XmlPart]) -> list[str]:
    """Return the barline before the first measure and after each measure, merged over all parts, with endings."""
    count = len(parts[0].measures)
    signs = [["", ""] for _ in range(count + 1)]  # of the measure before, of the measure after
    voltas = [""] * (count + 1)
    for part in parts:
        for index, measure in enumerate(part.measures):
            signs[index + 1][0] = _stronger(signs[index + 1][0], measure.right)
            signs[index][1] = _stronger(signs[index][1], measure.left)
            voltas[index] = voltas[index] or measure.volta
    barlines = [signs[0][1] if signs[0][1] == "|:" else ""]
    for (before, after), volta in zip(signs[1:], voltas[1:], strict=True):
        both = _stronger(before, after) or "|"
        if before.endswith(":|") and after == "|:":
            both = "::" if before == ":|" else f"{before}:"
        barlines.append(both + volta)
    if not barlines[-1].startswith(":"):
        barlines[-1] = "|]"
    return _with_times(barlines)


def _with_times(barlines: Sequence[str]) -> list[str]:
    """Write a colon for each further time at the start of a repeat, too, as at its end: ``|:: … ::|``."""
    found = list(barlines)
    start: int | None = None
    for index, barline in enumerate(barlines):
        if start is not None and (times := repeat_times(barline)) > 2:
            sign = sign_of(found[start])
            opened = sign[:-1] if sign != "::" else ":|"
            found[start] = opened + ":" * (times - 1) + found[start].removeprefix(sign)
        if sign_of(barline).endswith(":"):
            start = index
    return found


def _stronger(one: str, other: str) -> str:
    """Return the barline of higher rank; repeat signs rank highest, and of equal ones the first is taken."""
    order = ("", "[|", "||", "|]", "|:")
    return max(one, other, key=lambda sign: len(order) + len(sign) if sign[:1] == ":" else order.index(sign))


def _tempos(parts: Sequence[XmlPart]) -> tuple[str | None, dict[int, list[tuple[Time, str]]]]:
    """Return the tempo at the start, and the changes by measure; a change in several parts counts once."""
    found: dict[tuple[int, Time], str] = {}
    for part in parts:
        for index, measure in enumerate(part.measures):
            for onset, beats in measure.tempos:
                found.setdefault((index, onset), beats)
    initial = current = found.pop((0, 0), None)
    changes: dict[int, list[tuple[Time, str]]] = {}
    for (index, onset), beats in sorted(found.items()):
        if beats != current:
            changes.setdefault(index, []).append((onset, beats))
        current = beats
    return initial, changes


def _titles(root: Element) -> Iterator[str]:
    """Yield the fields for titles and names; texts of the page that are none of them are counted as lost."""
    titles = [plain_text(root.findtext(path)) for path in ("work/work-title", "movement-title")]
    credits = [
        (credit.findtext("credit-type", "").strip(), _credit_text(credit))
        for credit in root.findall("credit")
    ]
    if not any(titles):
        titles = [text for kind, text in credits if kind == "title"][:1]
    names = list(_names_by_role(root))
    yield from (f"T:{title}" for title in titles if title)
    yield from (f"C:{name}" for role, name in names if role == "composer")
    yield from (f"Z:{role}: {name}" for role, name in names if role != "composer")
    shown = {*titles, *(name for _, name in names), ""}
    lost("text on the page", sum(text not in shown and kind != "page number" for kind, text in credits))


def _credit_text(credit: Element) -> str:
    return plain_text(" ".join(words.text or "" for words in credit.findall("credit-words")))


def _names_by_role(root: Element) -> Iterator[tuple[str, str]]:
    """Yield the role and name of the authors of a score, the composers first."""
    creators = [
        (each.get("type", "composer"), plain_text(each.text))
        for each in root.findall("identification/creator")
    ]
    named = [(role, name) for role, name in creators if name]
    composers = [creator for creator in named if creator[0] == "composer"]
    others = [creator for creator in named if creator[0] in _ROLES]
    rights = [("rights", plain_text(each.text)) for each in root.findall("identification/rights")]
    rights = [owner for owner in rights if owner[1]]
    kept = [*composers[:MAX_COMPOSERS], *others[:MAX_COMPOSERS], *rights[:MAX_COMPOSERS]]
    lost("name of an author", len(named) + len(rights) - len(kept))
    yield from kept


def _listed_parts(root: Element) -> dict[str, Element]:
    """Return the ``<score-part>`` elements by identifier."""
    return {part.get("id", ""): part for part in root.findall("part-list/score-part")}


def _declarations(
    root: Element, names: Sequence[str], parts: Sequence[XmlPart], voices: Sequence[XmlVoice]
) -> Iterator[str]:
    """Yield the ``V:`` lines; the first voice of a part has the name and abbreviation of the part."""
    listed = _listed_parts(root)
    named: set[int] = set()
    for name in names:
        instruments = listed[name].findall("midi-instrument/midi-program") if name in listed else ()
        lost("MIDI program of a further instrument of a part", max(len(instruments) - 1, 0))
    for number, voice in enumerate(voices, 1):
        part = parts[voice.part]
        line = f"V:{number} {_initial_clef(voice)}"
        if transpose := _initial_transpose(voice):
            line += f" transpose={transpose}"
        if (staff_lines := part.staff_lines.get(voice.staff, 5)) != 5:
            line += f" stafflines={staff_lines}"
        line += " "
        entry = listed.get(names[voice.part])
        if voice.part not in named and entry is not None:
            line += _names(entry)
        named.add(voice.part)
        yield line
        if voice.percussion:
            yield "K:none"
        elif entry is not None and (programme := _programme(entry)) is not None:
            yield f"%%MIDI program {programme}"


def _programme(entry: Element) -> int | None:
    """Return the MIDI program of a part, from 0."""
    text = entry.findtext("midi-instrument/midi-program", "").strip()
    return int(text) - 1 if re.fullmatch("[0-9]{1,3}", text) and 0 < int(text) <= 128 else None


def _names(entry: Element) -> str:
    name, short = (plain_text(entry.findtext(tag)) for tag in ("part-name", "part-abbreviation"))
    return " ".join(f'{field}="{text}"' for field, text in (("nm", name), ("snm", short)) if text)


def _score(root: Element, names: Sequence[str], voices: Sequence[XmlVoice]) -> str:
    """Return the value of ``%%score``: voices grouped in staves, parts and groups."""
    groups = _groups(root, {name: index for index, name in enumerate(names)})
    tokens: list[str] = []
    for index in range(len(names)):
        if index and any(g.barlines and g.first < index <= g.last for g in groups):
            tokens.append("|")
        tokens += [g.brackets[0] for g in groups if g.brackets and g.first == index]
        tokens += _part_score([(n, voice) for n, voice in enumerate(voices, 1) if voice.part == index])
        tokens += [g.brackets[1] for g in reversed(groups) if g.brackets and g.last == index]
    return " ".join(tokens)


def _part_score(voices: Sequence[tuple[int, XmlVoice]]) -> list[str]:
    staves: dict[int, list[str]] = {}
    for number, voice in voices:
        staves.setdefault(voice.staff, []).append(str(number))
    listed = [" ".join(names) if len(names) == 1 else f"( {' '.join(names)} )" for names in staves.values()]
    return listed if len(listed) == 1 else [f"{{ {' | '.join(listed)} }}"]


def _groups(root: Element, order: dict[str, int]) -> list[_PartGroup]:
    """Return the groups of parts, outer ones first; of two that overlap, the second has no brackets."""
    opened: dict[str, tuple[int, str, bool]] = {}
    groups: list[_PartGroup] = []
    last = -1
    for element in root.findall("part-list/*"):
        if element.tag == "score-part":
            last = order.get(element.get("id", ""), last)
        elif element.tag == "part-group":
            number = element.get("number", "1")
            if element.get("type") == "start":
                symbol = _BRACKETS.get(element.findtext("group-symbol", "").strip(), "")
                barlines = element.findtext("group-barline", "").strip() == "yes"
                opened[number] = (last + 1, symbol, barlines)
            elif number in opened:
                first, symbol, barlines = opened.pop(number)
                if first <= last:
                    groups.append(_PartGroup(first, last, symbol, barlines))
    if len(groups) > MAX_GROUPS:
        raise FormatError(f"{len(groups)} groups of parts; at most {MAX_GROUPS} are allowed")
    groups.sort(key=lambda group: (group.first, -group.last))
    nested: list[_PartGroup] = []
    ends: list[int] = []
    for group in groups:
        while ends and ends[-1] < group.first:
            ends.pop()
        crosses = bool(ends) and ends[-1] < group.last
        nested.append(_PartGroup(group.first, group.last, "" if crosses else group.brackets, group.barlines))
        if not crosses:
            ends.append(group.last)
    return nested
