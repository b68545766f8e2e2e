"""Converts marks of a MusicXML score to ABC: ornaments, articulations, dynamics, words and chord symbols."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from xml.etree.ElementTree import Element

from notagen.musicxml.values import Time
from notagen.notation import named_marks
from notagen.score.losses import lost

MAX_TEXT_CHARACTERS = 200

_NOTATIONS = {
    "staccato": ".", "accent": "!>!", "strong-accent": "!^!", "tenuto": "!tenuto!", "staccatissimo": "!wedge!",
    "spiccato": "!wedge!", "breath-mark": "!breath!", "scoop": "!slide!",
    "trill-mark": "T", "mordent": "M", "inverted-mordent": "P", "turn": "!turn!",
    "inverted-turn": "!invertedturn!", "up-bow": "u", "down-bow": "v", "open-string": "!open!",
    "stopped": "!plus!", "snap-pizzicato": "!snap!", "thumb-position": "!thumb!",
    "fermata": "!fermata!", "arpeggiate": "!arpeggio!",
}  # fmt: skip
#: Element, and its type or whether it has a slash -> the decoration of this form.
_FORMS = {
    ("turn", "yes"): "!turnx!", ("inverted-turn", "yes"): "!invertedturnx!",
    ("fermata", "inverted"): "!invertedfermata!",
}  # fmt: skip
_LOST_FORMS = frozenset({("strong-accent", "down"), ("arpeggiate", "up"), ("arpeggiate", "down")})
_FINGERS = frozenset("012345")
_UNSEEN = frozenset({"wavy-line"})  # the middle of a line
_READ_ELSEWHERE = frozenset({"tied", "slur", "tuplet"})
_GROUPS = ("articulations", "ornaments", "technical")
_NOTE_LINE_ENDS = frozenset(f"!{name})!" for name, _, _ in named_marks.NOTE_LINES.values())
_DYNAMICS = frozenset({
    "pppp", "ppp", "pp", "p", "mp", "mf", "f", "ff", "fff", "ffff", "sfz",
    "sf", "sfp", "sfpp", "fp", "fz", "rf", "rfz", "sffz",
}) | named_marks.DYNAMICS  # fmt: skip
#: Element and type at the start of a line, and for octave lines the size -> the decoration of ABC.
_LINES = {
    ("wedge", "crescendo", ""): "!<(!", ("wedge", "diminuendo", ""): "!>(!", ("pedal", "start", ""): "!ped!",
    ("pedal", "resume", ""): "!ped-resume!", ("dashes", "start", ""): "!dashes(!",
    ("octave-shift", "down", "8"): "!8va(!", ("octave-shift", "up", "8"): "!8vb(!",
    ("octave-shift", "down", "15"): "!15ma(!", ("octave-shift", "up", "15"): "!15mb(!",
    **{
        ("bracket", "start", f"{end}{line}"): f"!bracket-{end}{line}(!"
        for end in named_marks.BRACKET_ENDS for line in named_marks.BRACKET_LINES
    },
}  # fmt: skip
_LINE_NAMES = {
    "wedge": "hairpin", "pedal": "pedal line", "octave-shift": "octave line", "dashes": "dashed line",
    "bracket": "bracket over notes",
}  # fmt: skip
_JUMPS = {"dacapo": "!D.C.!", "dalsegno": "!D.S.!", "fine": "!fine!", "tocoda": "!dacoda!"}
_CHORD_KINDS = {
    "major": "", "minor": "m", "augmented": "+", "diminished": "dim", "dominant": "7", "major-seventh": "maj7",
    "minor-seventh": "m7", "diminished-seventh": "dim7", "augmented-seventh": "+7", "half-diminished": "m7b5",
    "major-minor": "mMaj7", "major-sixth": "6", "minor-sixth": "m6", "dominant-ninth": "9", "major-ninth": "maj9",
    "minor-ninth": "m9", "dominant-11th": "11", "major-11th": "maj11", "minor-11th": "m11", "dominant-13th": "13",
    "major-13th": "maj13", "minor-13th": "m13", "suspended-second": "sus2", "suspended-fourth": "sus4", "power": "5",
}  # fmt: skip
_SHORT_VALUES = ("quarter", "eighth", "16th", "32nd", "64th", "128th", "256th", "512th", "1024th")
#: Name of a note value -> its length in whole notes.
NOTE_VALUES = {"long": Fraction(4), "breve": Fraction(2), "whole": Fraction(1), "half": Fraction(1, 2)} | {
    name: Fraction(1, 4 << power) for power, name in enumerate(_SHORT_VALUES)
}
_NUMBER = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,6})?")
_SIGNS = {-2: "bb", -1: "b", 0: "", 1: "#", 2: "##"}


def note_marks(notations: Element) -> list[str]:
    """Return the decorations of one ``<notations>``; lines that end come before lines that start."""
    found: list[str] = []
    for element in notations:
        if element.tag in _GROUPS:
            for mark in element:
                found += _marks(mark)
        elif element.tag == "dynamics":
            found += _dynamics(element)
        elif element.tag not in _READ_ELSEWHERE:
            found += _marks(element)
    return sorted(found, key=lambda mark: mark not in _NOTE_LINE_ENDS)


def _marks(mark: Element) -> Sequence[str]:
    """Return the decorations of a mark of a note; what has none is counted."""
    tag, kind, value = mark.tag, mark.get("type", ""), (mark.text or "").strip()
    if (form := _FORMS.get((tag, kind or mark.get("slash", "")))) is not None:
        return (form,)
    if tag in _NOTATIONS:
        if (tag, kind or mark.get("direction", "")) in _LOST_FORMS:
            lost(f"direction of a mark of a note: {_plain(mark)}")
        return (_NOTATIONS[tag],)
    if tag == "detached-legato":
        return (".", "!tenuto!")  # the mark that both are together
    if tag in named_marks.MARKS:
        return (f"!{tag}!",)
    if tag in named_marks.VALUES and named_marks.VALUES[tag][1].fullmatch(value):
        return (f"!{tag}={value}!",)
    if tag in named_marks.NOTE_LINES and kind in ("start", "stop"):
        return (_note_line(mark, tag, kind),)
    if tag == "non-arpeggiate":
        return (f"!{named_marks.NON_ARPEGGIO}!",)
    if tag == "harmonic":
        said = [name for name in named_marks.HARMONICS if _says_harmonic(mark, name)]
        return (f"!harmonic={','.join(said)}!" if said else "!harmonic!",)
    if tag == "wavy-line" and kind in ("start", "stop"):
        return ("!trill(!" if kind == "start" else "!trill)!",)
    if tag == "tremolo" and kind in ("", "single", "start") and value != "0":
        strokes = _tremolo(mark)
        return (f"!trem{strokes}!" if kind == "start" else f"!{'/' * strokes}!",)
    if tag == "fingering" and value in _FINGERS:
        return (f"!{value}!",)
    if tag not in _UNSEEN and kind != "stop":
        lost(f"mark of a note: {_plain(mark)}")
    return ()


def _says_harmonic(mark: Element, name: str) -> bool:
    return mark.find(name) is not None or mark.find(f"{name}-pitch") is not None


def _note_line(mark: Element, tag: str, kind: str) -> str:
    """Return the start or end of a line between notes."""
    name, group, line = named_marks.NOTE_LINES[tag]
    if kind == "start" and not group:
        if mark.get("line-type", line) != line:
            lost(f"type of the line of a {tag}")
        if (mark.text or "").strip():
            lost(f"text of a {tag}")
    return f"!{name}{'(' if kind == 'start' else ')'}!"


def notehead(note: Element) -> str | None:
    """Return the decoration for the shape of a note head; None for the usual one."""
    head = note.find("notehead")
    if head is None:
        return None
    shape = (head.text or "").strip()
    if shape not in named_marks.HEADS:
        lost("note head that ABC does not have")
        return None
    details = [
        detail for detail, (name, value) in named_marks.HEAD_DETAILS.items() if head.get(name) == value
    ]
    if shape == "normal" and not details:
        return None
    return f"!style={','.join([named_marks.HEADS[shape], *details])}!"


def _tremolo(mark: Element) -> int:
    """Return the strokes of a tremolo, 1 to 4."""
    text = (mark.text or "").strip()
    return min(max(int(text), 1), 4) if text.isascii() and text.isdigit() and len(text) < 3 else 3


def _plain(element: Element) -> str:
    """Return the name of an element as plain words, with the name of a sign that only its text tells."""
    return element.tag[:40].replace("-", " ")


@dataclass(frozen=True, slots=True)
class StaffMark:
    """A decoration or quoted text of a direction, with its time, staff and voice (None where the file names none).

    ``closing`` says that it ends an octave line, which in ABC stands at the last note under the line.
    """

    onset: Time
    staff: int
    voice: str | None
    text: str
    closing: bool = False


@dataclass(frozen=True, slots=True)
class _LineEnd:
    """The start or end of a line, and the element that it is made of."""

    element: str
    number: str
    mark: StaffMark


class Directions:
    """Reads the ``<direction>`` elements of one part, and keeps track of open lines: hairpins, octave lines, others."""

    def __init__(self) -> None:
        self._open: list[_LineEnd] = []
        self._ends: list[_LineEnd] = []  # whose starts may come later in the measure

    def marks(self, direction: Element, place: StaffMark) -> Iterator[StaffMark]:
        """Yield quoted text and decorations, in the order of the file; the end of a line is where its start was.

        Args:
            direction: The element.
            place: A mark with its time, staff and voice.
        """
        jumps = [mark for name, mark in _JUMPS.items() if _says(direction.find("sound"), name)]
        for kind in direction.findall("direction-type/*"):
            if kind.tag in _LINE_NAMES:
                yield from self._line(kind, place)
            else:
                for text in _direction_texts(kind, direction.get("placement", ""), bool(jumps)):
                    yield replace(place, text=text)
        yield from (replace(place, text=jump) for jump in jumps)

    def end_measure(self) -> None:
        """Count the ends whose start has not come."""
        self._count_lost(self._ends)
        self._ends = []

    def finish(self) -> None:
        """Count the lines that have no end."""
        self._count_lost(self._open)

    def _count_lost(self, ends: Iterable[_LineEnd]) -> None:
        for end in ends:
            lost(f"{_LINE_NAMES[end.element]} without a start or end")

    def _line(self, element: Element, place: StaffMark) -> Iterator[StaffMark]:
        tag, kind, number = element.tag, element.get("type", ""), element.get("number", "1")
        size = _form(element)
        if (tag, kind) == ("pedal", "change"):
            yield replace(place, text="!ped-change!")
        elif kind == "stop" or (tag, kind) == ("pedal", "discontinue"):
            text = (
                f"!ped-{kind}!" if kind == "discontinue" else f"!bracket-{size})!" if tag == "bracket" else ""
            )
            end = _LineEnd(tag, number, replace(place, text=text, closing=tag == "octave-shift"))
            if start := _counterpart(self._open, end):
                self._open.remove(start)
                yield _ended(start, end)
            else:
                self._ends.append(end)
        elif sign := _LINES.get((tag, kind, size)):
            start = _LineEnd(tag, number, replace(place, text=sign))
            yield start.mark
            again = [line for line in self._open if _same(line, start)]
            self._count_lost(again)  # a second start with their number
            self._open = [line for line in self._open if line not in again]
            if end := _counterpart([end for end in self._ends if end.mark.onset > place.onset], start):
                self._ends.remove(end)
                yield _ended(start, end)
            else:
                self._open.append(start)
        elif kind != "continue":
            lost(f"{_LINE_NAMES[tag]}: {kind[:20]}" if kind else _LINE_NAMES[tag])


def _same(one: _LineEnd, other: _LineEnd) -> bool:
    return replace(one, mark=other.mark) == other and (
        (one.mark.staff, one.mark.voice) == (other.mark.staff, other.mark.voice)
    )


def _counterpart(lines: Sequence[_LineEnd], sign: _LineEnd) -> _LineEnd | None:
    """Return the newest of some lines with the number of a sign; best one of its staff and voice."""
    same = [line for line in lines if (line.element, line.number) == (sign.element, sign.number)]
    on_staff = [line for line in same if line.mark.staff == sign.mark.staff]
    in_voice = [line for line in on_staff if line.mark.voice == sign.mark.voice]
    return next(reversed(in_voice or on_staff or same), None)


def _form(element: Element) -> str:
    """Return the size of an octave line, and the end and line of a bracket, whose end has no line of its own."""
    if element.tag == "octave-shift":
        return element.get("size", "8")
    if element.tag != "bracket":
        return ""
    line = element.get("line-type", "solid") if element.get("type") == "start" else "solid"
    return element.get("line-end", "none") + (f"-{line}" if line != "solid" else "")


def _ended(start: _LineEnd, end: _LineEnd) -> StaffMark:
    """Return the decoration at the end of a line, in the voice of its start."""
    closing = "!ped-up!" if start.element == "pedal" else start.mark.text.replace("(", ")")
    text = end.mark.text or closing
    return replace(start.mark, onset=end.mark.onset, text=text, closing=end.mark.closing)


def _direction_texts(kind: Element, placement: str, jump: bool) -> Iterator[str]:
    """Yield what one ``<direction-type>`` says that is no line; the words of a jump are part of its decoration."""
    if kind.tag == "dynamics":
        yield from _dynamics(kind)
    elif kind.tag in ("segno", "coda"):
        yield f"!{kind.tag}!"
    elif kind.tag in ("words", "rehearsal"):
        if not jump and (text := plain_text(kind.text)):
            yield f'"{"_" if placement == "below" else "^"}{text}"'
    elif (name := _named_direction(kind)) is not None:
        yield f"!{name}!"
    elif kind.tag != "metronome" and kind.get("type") not in ("stop", "continue"):
        lost(f"direction: {_plain(kind)}")


def _named_direction(kind: Element) -> str | None:
    """Return the decoration, without ``!``, that is named after a direction; None without one."""
    if kind.tag in named_marks.DIRECTIONS:
        return kind.tag
    if kind.tag in named_marks.DIRECTION_VALUES:
        attribute, values = named_marks.DIRECTION_VALUES[kind.tag]
        value = kind.get(attribute, "")
        return f"{kind.tag}={value}" if values.fullmatch(value) else None
    if kind.tag == "accordion-registration":
        middle = kind.findtext("accordion-middle", "0").strip()
        high, low = (kind.find(f"accordion-{place}") is not None for place in ("high", "low"))
        return named_marks.registration(high, int(middle), low) if middle in ("0", "1", "2", "3") else None
    return None


def tempo(element: Element) -> str | None:
    """Return the tempo that a ``<direction>`` or ``<sound>`` sets, such as ``1/4=92``; None without one."""
    metronome = element.find("direction-type/metronome")
    if metronome is not None:
        beat = NOTE_VALUES.get(metronome.findtext("beat-unit", ""))
        number = _NUMBER.search(metronome.findtext("per-minute", ""))
        if beat is not None and number is not None and len(metronome.findall("beat-unit")) == 1:
            dots = len(metronome.findall("beat-unit-dot"))
            if dots < 3 and (per_minute := round(float(number[0]))):
                return f"{beat * (2 - Fraction(1, 2**dots))}={per_minute}"
    sound = element if element.tag == "sound" else element.find("sound")
    number = _NUMBER.fullmatch(sound.get("tempo", "")) if sound is not None else None
    per_minute = round(float(number[0])) if number else 0
    return f"1/4={per_minute}" if per_minute else None


def chord_symbol(harmony: Element) -> str | None:
    """Return a chord symbol such as ``Gm7/D``; None without a root or with an unknown kind."""
    root = _root(harmony, "root")
    kind = harmony.find("kind")
    name = kind.text.strip() if kind is not None and kind.text else ""
    if root is None or kind is None or name not in _CHORD_KINDS:
        lost("chord symbol that ABC does not have")
        return None
    bass = _root(harmony, "bass")
    degrees = "".join(_degree(degree) for degree in harmony.findall("degree"))
    return f"{root}{_CHORD_KINDS[name]}{degrees}{f'/{bass}' if bass else ''}"


def plain_text(text: str | None) -> str:
    """Return text that fits between quotes on one line: with single blanks and quotes, and of limited length."""
    plain = " ".join((text or "").replace('"', "'").replace("\\", "/").split())
    if len(plain) > MAX_TEXT_CHARACTERS:
        lost(f"end of a text beyond {MAX_TEXT_CHARACTERS} characters")
    return plain[:MAX_TEXT_CHARACTERS].strip()


def _dynamics(dynamics: Element) -> list[str]:
    """Return dynamic marks as decorations, and words among them as text below the staff."""
    found: list[str] = []
    for mark in dynamics:
        if mark.tag in _DYNAMICS:
            found.append(f"!{mark.tag}!")
        elif mark.tag == "other-dynamics" and (text := plain_text(mark.text)):
            found.append(f'"_{text}"')
        else:
            lost("dynamic mark that ABC does not have")
    return found


def _says(sound: Element | None, name: str) -> bool:
    return sound is not None and sound.get(name, "no") not in ("no", "")


def _root(harmony: Element, name: str) -> str | None:
    """Return the note that ``<root>`` or ``<bass>`` names."""
    step = harmony.findtext(f"{name}/{name}-step", "").strip()
    alter = harmony.findtext(f"{name}/{name}-alter", "0").strip()
    signs = {str(alteration): sign for alteration, sign in _SIGNS.items()}
    return step + signs[alter] if len(step) == 1 and step in "ABCDEFG" and alter in signs else None


def _degree(degree: Element) -> str:
    value, alter, kind = (
        degree.findtext(name, "").strip() for name in ("degree-value", "degree-alter", "degree-type")
    )
    if not re.fullmatch("[0-9]{1,2}", value):
        return ""
    if kind == "subtract":
        return f"(no{value})"
    sign = {"-1": "b", "1": "#"}.get(alter, "")
    # In parentheses, so that a flat is not read as part of the root.
    return f"({sign}{value})" if sign else f"(add{value})"
