"""Converts marks of a MusicXML score to ABC: ornaments, articulations, dynamics, words and chord symbols."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from xml.etree.ElementTree import Element

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
_UNSEEN = frozenset({"accidental-mark", "wavy-line"})  # the middle of a line
_READ_ELSEWHERE = frozenset({"tied", "slur", "tuplet", "accidental-mark"})
_GROUPS = ("articulations", "ornaments", "technical")
_DYNAMICS = frozenset({
    "pppp", "ppp", "pp", "p", "mp", "mf", "f", "ff", "fff", "ffff", "sfz",
    "sf", "sfp", "sfpp", "fp", "fz", "rf", "rfz", "sffz",
})  # fmt: skip
_WEDGES = {"crescendo": "<", "diminuendo": ">"}
_DIRECTIONS = {"octave-shift": "octave line", "dashes": "dashed line", "bracket": "bracket over notes"}
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
    """Return the decorations of one ``<notations>``, without those that the training data do not have."""
    found: list[str] = []
    for element in notations:
        if element.tag in _GROUPS:
            for mark in element:
                if mark.tag in _NOTATIONS:
                    found.append(_NOTATIONS[mark.tag])
                elif mark.tag == "wavy-line" and mark.get("type") in ("start", "stop"):
                    found.append("!trill(!" if mark.get("type") == "start" else "!trill)!")
                elif mark.tag == "tremolo" and mark.get("type", "single") == "single":
                    found.append(f"!{'/' * _tremolo(mark)}!")
                elif mark.tag not in _UNSEEN:
                    lost(f"mark of a note: {_plain(mark)}")
        elif element.tag in _NOTATIONS:
            found.append(_NOTATIONS[element.tag])
        elif element.tag == "dynamics":
            found += _dynamics(element)
        elif element.tag not in _READ_ELSEWHERE and element.get("type") != "stop":
            lost(f"mark of a note: {_plain(element)}")
    return found


def _tremolo(mark: Element) -> int:
    """Return the strokes of a tremolo, 1 to 4."""
    text = (mark.text or "").strip()
    return min(max(int(text), 1), 4) if text.isascii() and text.isdigit() and len(text) < 3 else 3


def _plain(element: Element) -> str:
    """Return the name of an element as plain words, with the name of a sign that only its text tells."""
    return element.tag[:40].replace("-", " ")


class Directions:
    """Reads the ``<direction>`` elements of one part, and keeps track of open hairpins."""

    def __init__(self) -> None:
        self._wedges: dict[str, str] = {}

    def marks(self, direction: Element) -> Iterator[str]:
        """Yield quoted text and decorations, in the order of the file."""
        jumps = [mark for name, mark in _JUMPS.items() if _says(direction.find("sound"), name)]
        place = "_" if direction.get("placement") == "below" else "^"
        for kind in direction.findall("direction-type/*"):
            if kind.tag == "dynamics":
                yield from _dynamics(kind)
            elif kind.tag == "wedge":
                yield from self._wedge(kind)
            elif kind.tag in ("segno", "coda"):
                yield f"!{kind.tag}!"
            elif kind.tag == "pedal" and kind.get("type") in ("start", "stop"):
                yield "!ped!" if kind.get("type") == "start" else "!ped-up!"
            elif kind.tag in ("words", "rehearsal"):
                if not jumps and (text := plain_text(kind.text)):
                    yield f'"{place}{text}"'
            elif kind.tag not in ("metronome", "pedal") and kind.get("type") not in ("stop", "continue"):
                lost(_DIRECTIONS.get(kind.tag, f"direction: {_plain(kind)}"))
        yield from jumps

    def _wedge(self, wedge: Element) -> Iterator[str]:
        number, kind = wedge.get("number", "1"), wedge.get("type", "")
        if kind in _WEDGES:
            self._wedges[number] = _WEDGES[kind]
            yield f"!{_WEDGES[kind]}(!"
        elif kind == "stop" and number in self._wedges:
            yield f"!{self._wedges.pop(number)})!"


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
    return " ".join((text or "").replace('"', "'").replace("\\", "/").split())[:MAX_TEXT_CHARACTERS].strip()


def _dynamics(dynamics: Element) -> list[str]:
    for mark in dynamics:
        if mark.tag not in _DYNAMICS:
            lost("dynamic mark that ABC does not have")
    return [f"!{mark.tag}!" for mark in dynamics if mark.tag in _DYNAMICS]


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
