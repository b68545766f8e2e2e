"""Repair of the header: fields, voices and ``%%score``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from notagen.abc.duration import default_unit_length, parse_meter
from notagen.notation.bars import declared_voice, is_field
from notagen.notation.lines import FIELD_PARSERS
from pentatonic.errors import FormatError

_SCORE_PART = re.compile(r"[(){}\[\]|*]|[^\s()\[\]{}|*]+")
_CLOSING = {"(": ")", "[": "]", "{": "}"}

#: Takes the description of a change and the number of its line, 0 where there is none.
ReportChange = Callable[[str, int], None]


def repaired_header(
    lines: Sequence[tuple[int, str]], sounding: Sequence[str], report: ReportChange
) -> list[str]:
    """Return the header with everything in it that a piece must have.

    Args:
        lines: Numbers and texts of the lines before the music.
        sounding: Names of the voices that have music; they are declared where the header declares none.
        report: Is told of each change.

    Returns:
        The lines, with ``L:``, ``M:``, ``K:``, a ``V:`` for each voice and, for several voices, ``%%score``.
    """
    kept = _valid_lines(lines, report)
    voices = [name for _, line in kept if (name := declared_voice(line))]
    if not voices:
        report(f"no V: lines; declared {' '.join(sounding)}", 0)
        kept += [(0, f"V:{name}") for name in sounding]
        voices = list(sounding)
    _add_fields(kept, report)
    for index, (number, line) in enumerate(kept):
        if line.startswith("%%score"):
            kept[index] = (number, _score(line, voices, lambda what, at=number: report(what, at)))
            break
    else:
        if len(voices) > 1:
            report("no %%score; added", 0)
            first = next((i for i, (_, line) in enumerate(kept) if is_field(line) and line[0] in "LQMKV"), 0)
            kept.insert(first, (0, f"%%score {' '.join(voices)}"))
    return [line for _, line in kept]


def _valid_lines(lines: Sequence[tuple[int, str]], report: ReportChange) -> list[tuple[int, str]]:
    kept: list[tuple[int, str]] = []
    voices: set[str] = set()
    for number, line in lines:
        wrong = _fault(line, voices)
        if wrong:
            report(f"dropped a line of the header: {wrong}", number)
            continue
        if name := declared_voice(line):
            voices.add(name)
        kept.append((number, line))
    return kept


def _fault(line: str, voices: set[str]) -> str | None:
    if line.startswith("%"):
        return None
    if not is_field(line):
        return "neither a field nor a comment"
    if line.startswith("V:"):
        name = declared_voice(line)
        if name is None:
            return "V: without a name of letters and digits"
        return f"voice {name} is declared already" if name in voices else None
    try:
        FIELD_PARSERS.get(line[0], str)(line[2:])
    except FormatError as error:
        return error.reason
    return None


def _add_fields(lines: list[tuple[int, str]], report: ReportChange) -> None:
    """Add the fields ``L:``, ``M:`` and ``K:`` that are missing, where they belong."""
    fields = {line[0]: line[2:] for _, line in reversed(lines) if is_field(line)}
    unit = default_unit_length(parse_meter(fields["M"]) if "M" in fields else None)
    for name, value, before in (("L", str(unit), "QMKV"), ("M", "none", "KV"), ("K", "none", "V")):
        if name not in fields:
            report(f"no {name}: in the header; added {name}:{value}", 0)
            place = next((i for i, (_, line) in enumerate(lines) if is_field(line) and line[0] in before), 0)
            lines.insert(place, (0, f"{name}:{value}"))


def _score(line: str, voices: Sequence[str], report: Callable[[str], None]) -> str:
    """Return ``%%score`` with each voice once and with matching brackets; the line itself if nothing is wrong."""
    parts: list[str] = []
    opened: list[str] = []
    seen: set[str] = set()
    known = frozenset(voices)
    wrong: list[str] = []
    for part in _SCORE_PART.findall(line.removeprefix("%%score")):
        if part in _CLOSING:
            opened.append(_CLOSING[part])
        elif part in _CLOSING.values():
            if not opened or opened[-1] != part:
                wrong.append(f"{part!r} closes nothing")
                continue
            _close(parts, opened.pop())
            continue
        elif part not in "|*" and (part not in known or part in seen):
            wrong.append(f"{part[:40]} twice" if part in seen else f"{part[:40]} without a V: line")
            continue
        seen.add(part)
        parts.append(part)
    if opened:
        wrong.append(f"no closing {' '.join(reversed(opened))}")
        for closing in reversed(opened):
            _close(parts, closing)
    if absent := [name for name in voices if name not in seen]:
        wrong.append(f"no voice {' '.join(absent)}")
        parts += absent
    if not wrong:
        return line
    report(f"%%score: {'; '.join(wrong)}")
    return f"%%score {' '.join(parts)}"


def _close(parts: list[str], closing: str) -> None:
    """Add a closing bracket; of a group without voices drop the opening bracket instead."""
    if parts and parts[-1] in _CLOSING:
        parts.pop()
    else:
        parts.append(closing)
