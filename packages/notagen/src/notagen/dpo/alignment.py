"""Whether the voices of a generated piece agree bar by bar: the first exclusion rule of CLaMP-DPO.

The original turns the interleaved text into standard layout, reads that again, and compares every voice with
voice 1. It takes texts and barlines by their places alone, so that an empty bar between two different barlines makes
it compare notes with barlines. :func:`check_alignment` gives its results, with a list of what differs where; its strict
mode reads the text with the parser of the package instead and knows the meter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from notagen.dpo.bar_lengths import counted_length
from notagen.notation.bars import BARLINES
from notagen.notation.validation import Issue, validate
from pentatonic.errors import FormatError

Kind = Literal["text", "barline", "count", "duration"]

#: Longest line of the text in standard layout, in characters.
LINE_CHARACTERS = 100

_BARLINE = re.compile("(" + "|".join(map(re.escape, BARLINES)) + ")")
_VOLTA = re.compile(r"[0-9:][0-9,.\-:]*")
_ONLY_FIELDS = re.compile(r"(?:\s*\[[A-Za-z]:[^\]]*\])+\s*")
# Kinds of issues of the strict mode; all others do not concern alignment.
_STRICT: dict[str, Kind] = {
    "size": "text",
    "no-music": "text",
    "stray-text": "text",
    "unparsable": "duration",
    "duration": "duration",
    "meter": "duration",
    "barline": "barline",
    "undeclared-voice": "count",
    "repeated-voice": "count",
}


@dataclass(frozen=True)
class Problem:
    """One difference between the voices.

    Args:
        kind: ``text``: it cannot be read at all; ``barline``, ``count`` (of bars) or ``duration``.
        bar: Number of the bar, from 1; None where it concerns the whole piece.
        voice: Name of the voice; None where it concerns all of them.
        expected: What voice 1 has, or the meter asks for; empty where only ``found`` says what is wrong.
        found: What is there.
    """

    kind: Kind
    bar: int | None
    voice: str | None
    expected: str
    found: str

    def __str__(self) -> str:
        places = [f"bar {self.bar}"] if self.bar is not None else []
        places += [f"voice {self.voice}"] if self.voice is not None else []
        expected = f", expected {self.expected}" if self.expected else ""
        return f"{' '.join([*places, self.kind])}: {self.found}{expected}"


@dataclass(frozen=True)
class AlignmentReport:
    """Result of :func:`check_alignment`.

    Args:
        barlines_equal: Whether all voices have the barlines of voice 1; None where the text cannot be read.
        bar_counts_equal: Whether they have as many bars.
        durations_equal: Whether each bar is as long as that of voice 1, and that one has a known length.
        problems: What differs, in the order of the bars; empty exactly where the piece passes.
    """

    barlines_equal: bool | None
    bar_counts_equal: bool | None
    durations_equal: bool | None
    problems: tuple[Problem, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether the piece may be chosen."""
        return bool(self.barlines_equal and self.bar_counts_equal and self.durations_equal)


def check_alignment(text: str, *, strict: bool = False) -> AlignmentReport:
    """Compare the voices of a piece.

    Args:
        text: Interleaved text with every voice on every line; countdown tags do not matter.
        strict: Judge with the parser of the package and by the meter, see :func:`notagen.notation.validation.validate`:
            bars that are equally wrong in all voices fail, barlines in quoted text do not count, and a voice that a
            line leaves out rests. False: exactly as the original, to which only voice 1 is a measure.

    Returns:
        The report; nothing is raised.
    """
    if strict:
        return _strict_report(text)
    try:
        voices = _read_standard(standard_layout(text))
        return _compared(voices)
    except FormatError as error:
        return AlignmentReport(None, None, None, (Problem("text", None, None, "", str(error)),))


def standard_layout(text: str) -> str:
    """Return the text in standard layout, as the original's check lays it out.

    Lines of the body may have more than one bar of a voice; of the first one a barline before the bar and fields before
    that barline are kept, of later ones only the last bar.

    Args:
        text: Interleaved text with every voice on every line.

    Raises:
        FormatError: A line lacks a voice or a barline, or a voice is declared twice or without a number.
    """
    lines = _lines(text)
    start = next((i for i, line in enumerate(lines) if "[V:1]" in line), None)
    if start is None:  # the original looks for music among all lines
        header, body, start = lines, lines, 0
    else:
        header, body = lines[:start], lines[start:]
    names = _voice_names(header)
    rows = [_voice_texts(line, names, number) for number, line in enumerate(body, start + 1)]
    written = list(header)
    for voice, name in enumerate(names):
        written.append(f"V:{name}\n")
        written.append(_voice_lines([row[voice] for row in rows], start + 1) + "\n")
    return "".join(written)


def _lines(text: str) -> list[str]:
    """Return the lines with their newlines; other line ends are ordinary characters."""
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop().removesuffix("\n")
    return [*lines, last] if last else lines


def _voice_names(header: Sequence[str]) -> list[str]:
    names = [line.split()[0][2:] for line in header if line.startswith("V:")]
    for name in names:
        if not re.fullmatch("[0-9]{1,9}", name):
            raise FormatError(f"voice {name[:40]!r} is not a number; the layout is for V:1, V:2, …")
    return sorted(names, key=int)


def _voice_texts(line: str, names: Sequence[str], number: int) -> list[str]:
    """Return the text of each voice on a line."""
    places = []
    for name in names:
        place = line.find(f"[V:{name}]")
        if place < 0:
            raise FormatError(f"the line has no [V:{name}]; every voice must be on it", line=number)
        places.append(place)
    ends = [*places[1:], len(line)]
    texts = [
        line[place + len(f"[V:{name}]") : end] for name, place, end in zip(names, places, ends, strict=True)
    ]
    if empty := [name for name, text in zip(names, texts, strict=True) if not text]:
        raise FormatError(f"voice {empty[0]} is empty or not in the order of the header", line=number)
    return texts


def _voice_lines(texts: Sequence[str], first_line: int) -> str:
    """Return the music of one voice, from its text on each line."""
    opening, units = "", []
    for number, text in enumerate(texts, first_line):
        parts = _BARLINE.split(text)
        if len(parts) < 3:
            raise FormatError("a voice has no barline; every bar ends with one", line=number)
        parts[-2:] = ["".join(parts[-2:])]
        if number == first_line:
            if len(parts) > 4:
                raise FormatError("a voice has more than one bar on the first line of music", line=number)
            if len(parts) == 4:
                run, parts[2] = _leading_volta(parts[2], number)
                opening = parts[0] + parts[1] + run
        units.append(f"{parts[-2]} {parts[-1]} ")
    lines = [opening + " "]
    for unit in units:
        if len(lines[-1]) + len(unit) > LINE_CHARACTERS:
            lines.append(" ")
        lines[-1] += unit
    return "\n".join(lines)


def _leading_volta(text: str, line: int | None = None) -> tuple[str, str]:
    """Split off the numbers of an ending at the start of a text, never its last character."""
    if not text:
        raise FormatError("a voice has no text between the barlines of its first bar", line=line)
    match = _VOLTA.match(text[:-1])
    run = match[0] if match else ""
    return run, text[len(run) :]


@dataclass(frozen=True)
class _VoiceBars:
    lefts: list[str]
    texts: list[str]
    rights: list[str]


def _read_standard(text: str) -> dict[str, _VoiceBars]:
    """Read standard layout; texts and barlines of a voice take turns, whatever they are."""
    lines = text.split("\n")
    start = max(i for i, line in enumerate(lines) if line == "V:1" or not i)
    music: dict[str, list[str]] = {}
    name = ""
    for line in lines[start:]:
        if line.startswith("V:"):
            name = line[2:]
            music[name] = []
        elif name:
            music[name].append(line + "\n")
    return {name: _read_voice("".join(parts), name) for name, parts in music.items()}


def _read_voice(text: str, name: str) -> _VoiceBars:
    elements: list[str] = []
    for element in _BARLINE.split(text.strip()):
        if element.strip() and element not in elements[-1:]:
            elements.append(element)
    for index in range(_first_bar(elements), len(elements), 2):
        run, rest = _leading_volta(elements[index].strip().replace("\n", ""))
        if index:
            elements[index - 1 : index + 1] = [elements[index - 1] + run, rest]
        else:
            elements[index] = run + rest
    start = _first_bar(elements)  # a barline with the numbers of an ending is none any more
    texts, rights = elements[start::2], elements[start + 1 :: 2]
    if start:
        lefts = elements[start - 1 : -1 : 2]
    else:
        texts = texts[: len(rights)]
        lefts = ["", *rights[:-1]] if rights else []
    if not len(lefts) == len(texts) == len(rights):
        raise FormatError(f"voice {name}: bars and barlines do not take turns; is a bar empty?")
    return _VoiceBars(lefts, texts, rights)


def _first_bar(elements: Sequence[str]) -> int:
    if not elements:
        return 0
    if _BARLINE.fullmatch(elements[0]):
        return 1
    return 2 if _ONLY_FIELDS.fullmatch(elements[0]) else 0


def _compared(voices: dict[str, _VoiceBars]) -> AlignmentReport:
    first = voices.get("1")
    if first is None:
        raise FormatError("there is no voice 1, with which the others are compared")
    barlines = [
        Problem("barline", bar, name, repr(expected), repr(found))
        for name, voice in voices.items()
        for wanted, there in ((first.lefts, voice.lefts), (first.rights, voice.rights))
        # Barlines that are missing at the end are a matter of the count.
        for bar, (expected, found) in enumerate(zip(wanted, there, strict=False), 1)
        if found != expected
    ]
    counts = [
        Problem("count", None, name, f"{len(first.texts)} bars", f"{len(voice.texts)} bars")
        for name, voice in voices.items()
        if len(voice.texts) != len(first.texts)
    ]
    lengths, readable = _length_problems(voices, first)
    problems = sorted((*barlines, *counts, *lengths), key=lambda problem: problem.bar or 0)
    equal = all((voice.lefts, voice.rights) == (first.lefts, first.rights) for voice in voices.values())
    flags = (equal, not counts, not lengths) if readable else (None, None, None)
    return AlignmentReport(*flags, tuple(dict.fromkeys(problems)))


def _length_problems(voices: dict[str, _VoiceBars], first: _VoiceBars) -> tuple[list[Problem], bool]:
    """Compare lengths; also return False where a bar of another voice is missing or has a chord that is none."""
    problems: list[Problem] = []
    readable = True
    others = [(name, voice) for name, voice in voices.items() if voice is not first]
    for index in range(len(first.texts)):
        expected: Fraction | None = None
        for name, voice in [("1", first), *others]:
            found: Fraction | None = None
            reason = "no bar"
            if index < len(voice.texts):
                reason = f"no length can be read from {voice.texts[index][:60]!r}"
                try:
                    found = counted_length(voice.texts[index])
                except FormatError as error:
                    reason, readable = str(error), False
            else:
                readable = False
            if name == "1":
                expected = found
            if found is None or found != expected:
                wanted = "" if expected is None else _shown(expected)
                shown = reason if found is None else _shown(found)
                problems.append(Problem("duration", index + 1, name, wanted, shown))
            if expected is None:
                return problems, readable
    return problems, readable


def _shown(length: Fraction) -> str:
    return str(length) if length.denominator < 10**6 else f"about {float(length):.6f}"


def _strict_report(text: str) -> AlignmentReport:
    problems = tuple(_problem(issue) for issue in validate(text).errors() if issue.kind in _STRICT)
    kinds = {problem.kind for problem in problems}
    if "text" in kinds:
        return AlignmentReport(None, None, None, problems)
    return AlignmentReport("barline" not in kinds, "count" not in kinds, "duration" not in kinds, problems)


def _problem(issue: Issue) -> Problem:
    return Problem(_STRICT[issue.kind], issue.bar, issue.voice, "", issue.message)
