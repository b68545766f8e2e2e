"""Labels in the usual text files: ``.lab`` with start, end and label, and ``.beats`` with time and position."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

from omar_rq.probing.data.recording import Span
from pentatonic.errors import FormatError
from pentatonic.untrusted.files import read_text

MAX_BYTES = 16 << 20
_LONGEST_S = 1e6
_SEPARATORS = re.compile(r"[\s,;]+")


def read_spans(path: Path) -> tuple[Span, ...]:
    """Read lines of start, end and label, with blanks, tabs, commas or semicolons between them.

    Raises:
        FormatError: A line has another form, or ends before it starts.
    """
    spans = []
    for number, line in _lines(path):
        parts = _SEPARATORS.split(line, maxsplit=2)
        if len(parts) < 3:
            raise FormatError("a line needs start, end and label", path=path, line=number)
        start, end = (_seconds(part, path, number) for part in parts[:2])
        if end < start:
            raise FormatError(f"the end {end:g} is before the start {start:g}", path=path, line=number)
        spans.append((start, end, parts[2].strip("\"' ")))
    return tuple(sorted(spans))


def read_boundaries(path: Path) -> tuple[Span, ...]:
    """Read lines of start and label, each lasting until the next; the last line, of any label, is the end.

    Raises:
        FormatError: A line has another form, or is earlier than the one before.
    """
    starts = []
    for number, line in _lines(path):
        time, _, label = line.partition(" ") if " " in line else line.partition("\t")
        starts.append((_seconds(time, path, number), label.strip()))
        if len(starts) > 1 and starts[-1][0] < starts[-2][0]:
            raise FormatError("is earlier than the line before", path=path, line=number)
    return tuple((start, end, label) for (start, label), (end, _) in pairwise(starts))


def read_beats(path: Path) -> tuple[tuple[float, int], ...]:
    """Read lines of a time and, where it is known, the position in the bar from 1; further columns are passed over.

    Raises:
        FormatError: A line has another form.
    """
    beats = []
    for number, line in _lines(path):
        parts = _SEPARATORS.split(line)
        position = 0
        if len(parts) > 1:
            value = _seconds(parts[1], path, number)
            if value != int(value):
                raise FormatError(f"the position {parts[1]!r} is not a whole number", path=path, line=number)
            position = int(value)
        beats.append((_seconds(parts[0], path, number), position))
    return tuple(sorted(beats))


def read_word(path: Path) -> str:
    """Read the first line, such as the key of a recording.

    Raises:
        FormatError: There is none.
    """
    for _, line in _lines(path):
        return line
    raise FormatError("is empty; needed: one line", path=path)


def _lines(path: Path) -> list[tuple[int, str]]:
    text = read_text(path, max_bytes=MAX_BYTES, error=FormatError)
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def _seconds(text: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= _LONGEST_S:
        raise FormatError(f"{text[:40]!r} is not a number from 0 on", path=path, line=line)
    return value
