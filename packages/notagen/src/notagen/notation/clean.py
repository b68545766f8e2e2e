"""Cleaning: reduces ABC from a MusicXML converter to the characters and fields that the models know."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from notagen.notation.bars import is_field
from notagen.notation.dialect import without_foreign_notation
from notagen.notation.named_marks import NAMED_MARK
from notagen.score.losses import lost

#: Longest text above or below a staff that is kept, in characters including quotes.
ANNOTATION_CHARACTERS = 40

_DROPPED = ("X:", "T:", "C:", "W:", "w:", "Z:", "%%MIDI")
_QUOTED = re.compile(r'"[^"\n]*"')
# Dynamics, tremolos, fingerings and octave lines that the original's MusicXML converter never wrote.
_FOREIGN = re.compile(r"!(?:sfp{0,2}|sffz|fp|fz|rfz?|/{1,4}|trem[1-4]|[0-5]|(?:8v|15m)[ab][()])!")
_PLAIN_FORMS = {
    "!invertedfermata!": "!fermata!", "!turnx!": "!turn!", "!invertedturnx!": "!invertedturn!",
}  # fmt: skip
_FORM = re.compile("|".join(_PLAIN_FORMS))
# Slur signs, and before them what may contain such characters without meaning them.
_SLUR_SIGN = re.compile(
    r'"[^"]*"|![^!]*!|\[[A-Za-z]:[^\]]*\]|%.*|(?P<grace>\{[^}]*\})|(?P<start>\.?\((?!\d))|(?P<end>\))'
)
# The training data have the numbers of common and cut time, and not their signs.
_TIME_SIGN = re.compile(r"(?:^|(?<=\[))M:[ ]*(C\|?)(?=[ ]*(?:\]|$))")
_TIME_NUMBERS = {"C": "M:4/4", "C|": "M:2/2"}
_BAR_NUMBER = re.compile(r"%\d+\s*\Z")
_REPEATED_SIGN = re.compile(r"([^A-Za-z0-9])\1+")
# Characters that do not decompose into an ASCII letter and marks. The flat and natural signs are dropped: they have
# no ASCII equivalent, and the original drops the flat.
_LETTERS = {
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D",
    "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ł": "l", "Ł": "L", "ħ": "h", "Ħ": "H", "\u0131": "i",
    "ŋ": "ng", "Ŋ": "NG", "ĸ": "k", "ŧ": "t", "Ŧ": "T", "ə": "e", "Ə": "E", "ƒ": "f", "\xd7": "x",
    "÷": "/", "\u2044": "/", "•": "*", "·": ".", "©": "(c)", "®": "(r)", "°": "deg", "♯": "#", "♭": "",
    "♮": "", "\t": " ",
}  # fmt: skip
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
# Double quotes become single quotes too, because they would end the quoted string that contains them.
_QUOTES = "\u2018\u2019\u201a\u201b\u2032\u201c\u201d\u201e\u201f\u2033\u2039\u203a\xab\xbb"
_TRANSLITERATION = str.maketrans(_LETTERS | dict.fromkeys(_DASHES, "-") | dict.fromkeys(_QUOTES, "'"))


def clean(text: str) -> str:
    """Clean a tune in standard layout.

    Dropped are blank lines, titles, composers, lyrics, tune and bar numbers, escaped quotes, decorations that the
    training data lack, slurs inside grace notes or without an end in their voice, and quoted strings that are
    empty, contain a barline, or are longer than ``ANNOTATION_CHARACTERS``. Common and cut time get their numbers,
    repeats are played twice, and quarter tones go to the natural, which is counted (:mod:`notagen.score.losses`). The
    result is printable ASCII.

    Args:
        text: The tune, with any Unicode text.

    Returns:
        The cleaned tune; every line ends with a newline.
    """
    lines = [
        _TIME_SIGN.sub(lambda sign: _TIME_NUMBERS[sign[1]], to_ascii(line)) for line in text.splitlines()
    ]
    lines = [_in_dialect(line) for line in lines if line.strip() and not _is_dropped(line)]
    start = max((i for i, line in enumerate(lines) if line.strip() == "V:1"), default=len(lines))
    lines[start:] = [_BAR_NUMBER.sub("", line).rstrip() for line in lines[start:]]
    lines[start:] = _with_paired_slurs(lines[start:])
    cleaned = (
        line
        if is_field(line) or line.startswith("%")
        else _decorations(_QUOTED.sub(_clean_string, line.replace('\\"', "")))
        for line in lines
    )
    return "".join(f"{line}\n" for line in cleaned if line.strip())


def _decorations(line: str) -> str:
    """Leave out what the original's MusicXML converter never wrote, and forms of marks that it did not tell apart."""
    plain = _FORM.sub(lambda form: _PLAIN_FORMS[form[0]], line)
    return NAMED_MARK.sub("", _FOREIGN.sub("", plain))


def _in_dialect(line: str) -> str:
    if is_field(line) or line.startswith("%"):
        return line
    spelled, foreign = without_foreign_notation(line)
    for kind, count in foreign.items():
        lost(kind, count)
    return spelled


def _with_paired_slurs(lines: Sequence[str]) -> list[str]:
    """Remove the slur signs that have no counterpart in their voice, and those inside grace notes."""
    opened: list[tuple[int, int, int]] = []  # line, first and last character of a sign
    removed: list[tuple[int, int, int]] = []
    for number, line in enumerate(lines):
        if line.startswith("V:"):
            removed += opened
            opened = []
        if is_field(line) or line.startswith("%"):
            continue
        for match in _SLUR_SIGN.finditer(line):
            place = (number, *match.span())
            if match["start"]:
                opened.append(place)
            elif match["end"]:
                if opened:
                    opened.pop()
                else:
                    removed.append(place)
            elif match["grace"]:
                inside = re.finditer(r"\.?\((?!\d)|\)", match["grace"])
                removed += [
                    (number, match.start() + sign.start(), match.start() + sign.end()) for sign in inside
                ]
    result = list(lines)
    for number, first, last in sorted(removed + opened, reverse=True):
        result[number] = result[number][:first] + result[number][last:]
    return result


def to_ascii(text: str) -> str:
    """Transliterate Latin letters, quotes and dashes to printable ASCII; drop all other characters.

    Args:
        text: One line; line ends are dropped too.

    Returns:
        The text, with characters from blank to ``~`` only.
    """
    decomposed = unicodedata.normalize("NFKD", text.translate(_TRANSLITERATION))
    return "".join(
        character for character in decomposed.translate(_TRANSLITERATION) if " " <= character <= "~"
    )


def _is_dropped(line: str) -> bool:
    return line.startswith(_DROPPED) and (line.startswith("%") or is_field(line))


def _clean_string(match: re.Match[str]) -> str:
    string = match.group()
    if len(string) == 2 or "|" in string or "::" in string:
        return ""
    if string[1] not in "^_":
        return string
    string = _REPEATED_SIGN.sub(r"\1", string)
    return string if len(string) <= ANNOTATION_CHARACTERS else ""
