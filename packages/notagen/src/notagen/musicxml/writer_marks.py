"""Writes decorations, texts, chord symbols and tempos as MusicXML.

Decorations without a MusicXML element, and hairpins, pedals, trill lines and octave lines without a start or end, are
left out and counted.
Jumps such as ``D.C.alfine`` become words and a ``<sound>`` for playback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from xml.etree.ElementTree import Element, SubElement

from notagen.musicxml.writer_elements import add, value_name
from notagen.notation import named_marks
from notagen.score import Annotation, Layer, Marks, Tempo, Voice
from notagen.score.losses import lost

_LINE_LETTERS = {"hammer-on": "H", "pull-off": "P"}
#: Decoration -> group (a child of ``<notations>``, or empty), element, attributes, text.
_NOTATIONS: dict[str, tuple[str, str, dict[str, str], str]] = {
    **{name: ("articulations", tag, {}, "") for name, tag in {
        "staccato": "staccato", "accent": "accent", ">": "accent", "emphasis": "accent",
        "^": "strong-accent", "marcato": "strong-accent", "tenuto": "tenuto", "wedge": "staccatissimo",
        "breath": "breath-mark", "slide": "scoop", "shortphrase": "caesura", "mediumphrase": "caesura",
        "longphrase": "caesura",
    }.items()},
    **{name: ("ornaments", tag, {}, "") for name, tag in {
        "trill": "trill-mark", "lowermordent": "mordent", "mordent": "mordent",
        "uppermordent": "inverted-mordent", "pralltriller": "inverted-mordent", "turn": "turn",
        "roll": "turn", "invertedturn": "inverted-turn",
    }.items()},
    "turnx": ("ornaments", "turn", {"slash": "yes"}, ""),
    "invertedturnx": ("ornaments", "inverted-turn", {"slash": "yes"}, ""),
    **{"/" * n: ("ornaments", "tremolo", {"type": "single"}, str(n)) for n in (1, 2, 3, 4)},
    **{name: ("technical", tag, {}, "") for name, tag in {
        "upbow": "up-bow", "downbow": "down-bow", "open": "open-string", "plus": "stopped", "+": "stopped",
        "snap": "snap-pizzicato", "thumb": "thumb-position",
    }.items()},
    **{f"trem{n}": ("ornaments", "tremolo", {"type": "start"}, str(n)) for n in (1, 2, 3, 4)},
    **{f"trem{n})": ("ornaments", "tremolo", {"type": "stop"}, str(n)) for n in (1, 2, 3, 4)},
    **{str(finger): ("technical", "fingering", {}, str(finger)) for finger in range(6)},
    "fermata": ("", "fermata", {"type": "upright"}, ""),
    "invertedfermata": ("", "fermata", {"type": "inverted"}, ""),
    "arpeggio": ("", "arpeggiate", {}, ""),
    **{f"{named_marks.NON_ARPEGGIO}.{end}": ("", "non-arpeggiate", {"type": end}, "") for end in ("bottom", "top")},
    **{name: (group, name, {}, "") for name, group in named_marks.MARKS.items()},
    **{
        f"{name}{sign}": (group, tag, {"type": kind, "number": "1"}, _LINE_LETTERS.get(tag, "") if sign == "(" else "")
        for tag, (name, group, _) in named_marks.NOTE_LINES.items()
        for sign, kind in (("(", "start"), (")", "stop"))
    },
}  # fmt: skip
_GROUPS = ("ornaments", "technical", "articulations", "")
_DYNAMICS = frozenset(
    ("p", "pp", "ppp", "pppp", "f", "ff", "fff", "ffff", "mp", "mf", "sf", "sfp", "sfpp", "fp", "rf", "rfz", "sfz",
     "sffz", "fz")
) | named_marks.DYNAMICS  # fmt: skip
_NOTEHEADS = {name: shape for shape, name in named_marks.HEADS.items()}
#: Jump -> words and the attribute of ``<sound>``.
_JUMPS = {
    "D.C.": ("D.C.", "dacapo", "yes"), "dacapo": ("D.C.", "dacapo", "yes"),
    "D.C.alfine": ("D.C. al Fine", "dacapo", "yes"), "D.C.alcoda": ("D.C. al Coda", "dacapo", "yes"),
    "D.S.": ("D.S.", "dalsegno", "segno"), "D.S.alfine": ("D.S. al Fine", "dalsegno", "segno"),
    "D.S.alcoda": ("D.S. al Coda", "dalsegno", "segno"), "dacoda": ("To Coda", "tocoda", "coda"),
    "fine": ("Fine", "fine", "yes"),
}  # fmt: skip
#: Octave line -> where its notes are printed; the pitches are those that sound.
_OCTAVE_LINES = {"8va": "down", "8vb": "up", "15ma": "down", "15mb": "up"}
#: Decoration at the start or end of a line -> kind of line, and the value of ``type``.
_LINES = {
    "<(": ("crescendo", "crescendo"), "<)": ("crescendo", "stop"),
    ">(": ("diminuendo", "diminuendo"), ">)": ("diminuendo", "stop"),
    "ped": ("pedal", "start"), "ped-up": ("pedal", "stop"),
    "ped-resume": ("pedal", "resume"), "ped-discontinue": ("pedal", "discontinue"),
    "dashes(": ("dashes", "start"), "dashes)": ("dashes", "stop"),
    **{
        f"bracket-{end}{line}{sign}": ("bracket", kind)
        for end in named_marks.BRACKET_ENDS for line in named_marks.BRACKET_LINES
        for sign, kind in (("(", "start"), (")", "stop"))
    },
    **{
        f"{name}{sign}": (tag, kind) for tag, (name, _, _) in named_marks.NOTE_LINES.items()
        for sign, kind in (("(", "start"), (")", "stop"))
    },
    "trill(": ("trill", "start"), "trill)": ("trill", "stop"),
    **{f"{name}(": (name, kind) for name, kind in _OCTAVE_LINES.items()},
    **{f"{name})": (name, "stop") for name in _OCTAVE_LINES},
}  # fmt: skip
_ENDS = frozenset({"stop", "discontinue"})
#: Lines that belong to the notes at their ends.
_NOTE_LINES = frozenset({"trill", *named_marks.NOTE_LINES})
#: Type of a change of a pedal -> whether it has a line and a sign.
_PEDALS = {"change": ("yes", "no"), "discontinue": ("no", "no"), "resume": ("yes", "yes")}
_TWO_NOTES = re.compile("trem[1-4]")
_LINE_NAMES = {
    "crescendo": "hairpin", "diminuendo": "hairpin", "pedal": "pedal line", "trill": "trill line",
    "dashes": "dashed line", "bracket": "bracket over notes",
} | {tag: tag.replace("-", " ") for tag in named_marks.NOTE_LINES}  # fmt: skip
_SYNONYMS = {"crescendo(": "<(", "crescendo)": "<)", "diminuendo(": ">(", "diminuendo)": ">)"}

_CHORD = re.compile(
    r"([A-G])(##|bb|[#b])?((?:maj|min|dim|aug|sus|add|omit|no|alt|[Mm0-9+\-°ø()#b, ])*+)"
    r"(?:/([A-G])(##|bb|[#b])?)?"
)
_KINDS = {
    "": "major", "maj": "major", "M": "major", "m": "minor", "min": "minor", "-": "minor",
    "7": "dominant", "maj7": "major-seventh", "M7": "major-seventh", "m7": "minor-seventh",
    "min7": "minor-seventh", "-7": "minor-seventh", "dim": "diminished", "°": "diminished",
    "dim7": "diminished-seventh", "°7": "diminished-seventh", "aug": "augmented", "+": "augmented",
    "aug7": "augmented-seventh", "+7": "augmented-seventh", "7+": "augmented-seventh", "6": "major-sixth",
    "m6": "minor-sixth", "min6": "minor-sixth", "9": "dominant-ninth", "maj9": "major-ninth",
    "M9": "major-ninth", "m9": "minor-ninth", "min9": "minor-ninth", "11": "dominant-11th",
    "maj11": "major-11th", "m11": "minor-11th", "13": "dominant-13th", "maj13": "major-13th",
    "m13": "minor-13th", "sus": "suspended-fourth", "sus4": "suspended-fourth", "sus2": "suspended-second",
    "m7b5": "half-diminished", "ø": "half-diminished", "ø7": "half-diminished", "5": "power",
    "mMaj7": "major-minor", "mmaj7": "major-minor", "mM7": "major-minor",
}  # fmt: skip
_ALTERS = {"": "", None: "", "#": "1", "##": "2", "b": "-1", "bb": "-2"}


@dataclass(frozen=True)
class Place:
    """Voice number and staff in a part.

    Args:
        voice: Number of the voice, from 1.
        staff: Number of its staff, from 1; None in a part of one staff.
        percussion: Whether its notes have no pitch.
    """

    voice: int
    staff: int | None = None
    percussion: bool = False

    def number(self, index: int) -> str:
        """Return a value of ``number``, 1 to 16, that tells the wedges of this voice from those of others."""
        return str((4 * (self.voice - 1) + index - 1) % 16 + 1)


#: Position of a decoration in a voice: indices of measure, layer, event (one past the last for trailing marks) and
#: decoration.
Position = tuple[int, int, int, int]


def line_ends(voice: Voice) -> frozenset[Position]:
    """Return the positions of starts and ends of hairpins, pedals, trill and other lines that have both."""
    found: set[Position] = set()
    opened: dict[tuple[int, str], Position] = {}
    for index, measure in enumerate(voice.measures):
        for layer_index, layer in enumerate(measure.layers):
            for event_index, marks in enumerate(_all_marks(layer)):
                for place, name in enumerate(marks.decorations):
                    kind, end = _LINES.get(_SYNONYMS.get(name, name), ("", ""))
                    position = (index, layer_index, event_index, place)
                    if kind in _NOTE_LINES and event_index == len(layer.events):
                        continue  # it needs a note
                    if kind and end not in _ENDS:
                        opened[layer_index, kind] = position
                    elif kind and (start := opened.pop((layer_index, kind), None)):
                        found |= {start, position}
    return frozenset(found)


def _all_marks(layer: Layer) -> Iterator[Marks]:
    yield from (event.marks for event in layer.events)
    yield layer.trailing


def with_tremolos(layer: Layer) -> Iterator[Marks]:
    """Yield the marks of each event, with ``trem3)`` where a tremolo of two notes, ``trem3`` at the first, ends."""
    end = ""
    for index, event in enumerate(layer.events):
        marks = event.marks if not end else replace(event.marks, decorations=(*event.marks.decorations, end))
        end = next((f"{name})" for name in event.marks.decorations if _TWO_NOTES.fullmatch(name)), "")
        if end and (index + 1 == len(layer.events) or layer.events[index + 1].rest):
            lost("tremolo of two notes without the second")
            kept = (name for name in marks.decorations if name != end[:-1])
            marks, end = replace(marks, decorations=tuple(kept)), ""
        yield marks


def is_line_end(decoration: str) -> bool:
    """Whether a decoration starts or ends a line, such as a hairpin, a pedal, a trill line or an octave line."""
    return _SYNONYMS.get(decoration, decoration) in _LINES


def count_lost_end(decoration: str) -> None:
    """Count the start or end of a line that has no counterpart."""
    kind = _LINES[_SYNONYMS.get(decoration, decoration)][0]
    lost(f"{_LINE_NAMES.get(kind, 'octave line')} without a start or end")


def write_notations(notations: Element, decorations: Sequence[str]) -> None:
    """Append ornaments, articulations and other marks of a note to its ``<notations>``."""
    found: dict[str, list[tuple[str, dict[str, str], str]]] = {}
    for name in dict.fromkeys(decorations):
        kind, _, value = name.partition("=")
        if name in _NOTATIONS:
            group, tag, attributes, text = _NOTATIONS[name]
            found.setdefault(group, []).append((tag, attributes, text))
        elif value and kind in named_marks.VALUES and kind != "accidental-mark":
            found.setdefault(named_marks.VALUES[kind][0], []).append((kind, {}, value))
        elif kind == "harmonic":
            found.setdefault("technical", []).append((kind, {}, value))
        elif name in ("trill(", "trill)"):
            signs = found.setdefault("ornaments", [])
            if name == "trill(" and "trill" not in decorations:
                signs.append(("trill-mark", {}, ""))
            signs.append(("wavy-line", {"type": "start" if name == "trill(" else "stop", "number": "1"}, ""))
    for name in decorations:
        kind, _, value = name.partition("=")
        if kind == "accidental-mark":  # it comes after the ornament that it belongs to
            found.setdefault("ornaments" if "ornaments" in found else "", []).append((kind, {}, value))
    for group in _GROUPS:
        if group in found:
            parent = SubElement(notations, group) if group else notations
            for tag, attributes, text in found[group]:
                _write_notation(parent, tag, attributes, text)


def _write_notation(parent: Element, tag: str, attributes: dict[str, str], text: str) -> None:
    if tag != "harmonic":
        add(parent, tag, text or None, attributes)
        return
    harmonic = add(parent, tag)
    for name in named_marks.HARMONICS:
        if name in text.split(","):
            add(harmonic, name if name in ("natural", "artificial") else f"{name}-pitch")


def notehead(decorations: Iterable[str]) -> tuple[str, dict[str, str]] | None:
    """Return the value and the attributes of ``<notehead>`` for ``!style=…!``; None without one."""
    styles = (name.removeprefix("style=").split(",") for name in decorations if name.startswith("style="))
    for name, *details in styles:
        if name in _NOTEHEADS:
            known = (named_marks.HEAD_DETAILS[each] for each in details if each in named_marks.HEAD_DETAILS)
            return _NOTEHEADS[name], dict(known)
    return None


def write_directions(measure: Element, marks: Marks, place: Place) -> None:
    """Write the directions before a note: dynamics, hairpins, texts, chord symbols and jumps.

    Args:
        measure: Element to append to.
        marks: Marks of the note, without lines of which an end is missing.
        place: Staff and voice number.
    """
    for symbol in marks.chord_symbols:
        _write_chord_symbol(measure, symbol, place)
    for annotation in marks.annotations:
        _write_words(measure, annotation, place)
    for decoration in marks.decorations:
        name = _SYNONYMS.get(decoration, decoration)
        kind, end = _LINES.get(name, ("", ""))
        sound: dict[str, str] = {}
        if name in _DYNAMICS:
            add(add(_direction(measure, "below"), "dynamics"), name)
        elif name in _JUMPS:
            words, attribute, value = _JUMPS[name]
            add(_direction(measure, "above"), "words", words)
            sound = {attribute: value}
        elif name in ("segno", "coda"):
            add(_direction(measure, "above"), name)
            sound = {name: name}
        elif kind == "pedal" or name == "ped-change":
            kind = end or "change"
            line, sign = _PEDALS.get(kind, ("no", "yes"))
            add(_direction(measure, "below"), "pedal", None, {"type": kind, "line": line, "sign": sign})
        elif kind == "dashes":
            add(_direction(measure, ""), kind, None, {"type": end, "number": place.number(1)})
        elif kind == "bracket":
            _, form, line = f"{name[:-1]}-".split("-", 2)
            shape = {"type": end, "number": place.number(1), "line-end": form}
            shape |= {"line-type": line.rstrip("-")} if line and end == "start" else {}
            add(_direction(measure, ""), kind, None, shape)
        elif _is_named_direction(name):
            _write_named_direction(measure, name)
        elif kind in _OCTAVE_LINES:
            if end == "stop":
                continue  # it comes after the note
            write_octave_line(measure, kind, end, place)
            continue
        elif kind in ("crescendo", "diminuendo"):
            number = place.number(1 if kind == "crescendo" else 2)
            add(_direction(measure, "below"), "wedge", None, {"type": end, "number": number})
        else:
            if name not in _NOTATIONS and kind not in _NOTE_LINES and not _is_named_notation(name):
                lost("decoration that MusicXML does not have")
            continue  # it belongs to the notations of the note, or MusicXML has no element for it
        _finish(measure[-1], place, sound)


def _is_named_notation(name: str) -> bool:
    """Whether a decoration is written in the notations of a note although no table has it."""
    kind, _, value = name.partition("=")
    pattern = named_marks.VALUES.get(kind, ("", None))[1]
    if kind == "style":
        return notehead((name,)) is not None
    return kind in ("harmonic", named_marks.NON_ARPEGGIO) or bool(pattern and pattern.fullmatch(value))


def _is_named_direction(name: str) -> bool:
    kind, _, value = name.partition("=")
    known = named_marks.DIRECTION_VALUES.get(kind)
    valued = known is not None and known[1].fullmatch(value) is not None
    return name in named_marks.DIRECTIONS or valued or named_marks.registers(name) is not None


def _write_named_direction(measure: Element, name: str) -> None:
    kind, _, value = name.partition("=")
    direction = _direction(measure, "")
    if registers := named_marks.registers(name):
        high, middle, low = registers
        registration = add(direction, "accordion-registration")
        for place, text in (("high", high), ("middle", middle), ("low", low)):
            if text:
                add(registration, f"accordion-{place}", str(middle) if place == "middle" else None)
        return
    attributes = {named_marks.DIRECTION_VALUES[kind][0]: value} if value else {}
    add(direction, kind, None, attributes)


def write_octave_ends(measure: Element, marks: Marks, place: Place) -> None:
    """Write the ends of octave lines, after the last note under them."""
    for name in marks.decorations:
        kind, end = _LINES.get(name, ("", ""))
        if kind in _OCTAVE_LINES and end == "stop":
            write_octave_line(measure, kind, end, place)


def write_octave_line(measure: Element, name: str, end: str, place: Place) -> None:
    """Write the start or end of an octave line such as ``8va``."""
    above = _OCTAVE_LINES[name] == "down"
    size, number = "8" if name.startswith("8") else "15", place.number(3 if above else 4)
    element = _direction(measure, "above" if above else "below")
    add(element, "octave-shift", None, {"type": end, "size": size, "number": number})
    _finish(measure[-1], place)


def write_tempo(measure: Element, tempo: Tempo, place: Place) -> None:
    """Write a tempo as words, metronome mark and playback speed."""
    direction = add(measure, "direction", None, {"placement": "above"})
    if tempo.text:
        add(add(direction, "direction-type"), "words", tempo.text)
    if tempo.beat is None or tempo.per_minute is None:
        _finish(direction, place)
        return
    if beat := value_name(tempo.beat):
        metronome = add(add(direction, "direction-type"), "metronome")
        add(metronome, "beat-unit", beat[0])
        for _ in range(beat[1]):
            add(metronome, "beat-unit-dot")
        add(metronome, "per-minute", _decimal(tempo.per_minute))
    elif not tempo.text:
        add(add(direction, "direction-type"), "words", f"{tempo.beat} = {_decimal(tempo.per_minute)}")
    _finish(direction, place, {"tempo": _decimal(4 * tempo.beat * tempo.per_minute)})


def write_label(measure: Element, text: str, place: Place) -> None:
    """Write a section label."""
    add(_direction(measure, "above"), "rehearsal", text)
    _finish(measure[-1], place)


def _direction(measure: Element, placement: str) -> Element:
    """Begin a ``<direction>`` and return its first ``<direction-type>``."""
    direction = add(measure, "direction", None, {"placement": placement} if placement else {})
    return add(direction, "direction-type")


def _finish(direction: Element, place: Place, sound: dict[str, str] | None = None) -> None:
    add(direction, "voice", place.voice)
    if place.staff is not None:
        add(direction, "staff", place.staff)
    if sound:
        add(direction, "sound", None, sound)


def _write_words(measure: Element, annotation: Annotation, place: Place) -> None:
    if annotation.text:
        placement = annotation.placement if annotation.placement in ("above", "below") else "above"
        add(_direction(measure, placement), "words", annotation.text)
        _finish(measure[-1], place)


def _write_chord_symbol(measure: Element, symbol: str, place: Place) -> None:
    match = _CHORD.fullmatch(symbol)
    if match is None:
        _write_words(measure, Annotation(symbol, "above"), place)
        return
    root, sign, kind, bass, bass_sign = match.groups()
    harmony = add(measure, "harmony")
    _write_root(harmony, "root", root, sign)
    add(harmony, "kind", _KINDS.get(kind.strip(), "other"), {"text": kind.strip()} if kind.strip() else {})
    if bass:
        _write_root(harmony, "bass", bass, bass_sign)
    if place.staff is not None:
        add(harmony, "staff", place.staff)


def _write_root(harmony: Element, name: str, step: str, sign: str | None) -> None:
    root = add(harmony, name)
    add(root, f"{name}-step", step)
    if alter := _ALTERS[sign]:
        add(root, f"{name}-alter", alter)


def _decimal(value: Fraction) -> str:
    return f"{float(value):.6f}".rstrip("0").rstrip(".")
