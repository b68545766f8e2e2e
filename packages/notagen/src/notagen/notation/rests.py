"""Bars of rest: omitted from training text, and restored in generated text.

In training text a line has only the voices that play. A generated tune is therefore completed before other programs
read it: each missing voice gets a rest as long as the bars of the others and, in the first bar, the changes of key,
note length and meter that all others have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from notagen.abc.duration import parse_meter, parse_unit_length
from notagen.notation.bars import (
    BarTable,
    declared_voice,
    split_segment,
    voice_segments,
)
from notagen.notation.countdown import without_countdown
from notagen.notation.layout import bar_text
from notagen.notation.lines import (
    FIELD_PARSERS,
    FieldChange,
    InterleavedReader,
    field_changes,
    keyless_voices,
)
from pentatonic.errors import FormatError

_SOUND = re.compile("[A-WYa-wy]")
_MAX_NUMBER = 9999  # largest numerator or denominator of a length
_CLOSING = {"{": "}", "[": "]", "(": ")"}

Duration = Callable[[str], Fraction | None]


@dataclass(frozen=True)
class Completion:
    """A tune with its rests restored.

    Args:
        text: The tune in interleaved layout, with every declared voice on every line.
        undeclared: ``(line, voice)`` of each bar that was dropped because the header does not declare its voice; lines
            count from 1 in the input.
    """

    text: str
    undeclared: tuple[tuple[int, str], ...]


def omit_rests(tune: BarTable, *, keep_silent_bars: bool = True) -> str:
    """Write a tune in the form of the training text: interleaved, without voices that rest.

    A voice is kept on a line if its bar has any letter besides ``z Z x X``; letters of marks and fields count too.

    Args:
        tune: The tune.
        keep_silent_bars: Keep the first voice of a bar in which all voices rest. The original writes an empty line
            there, which its encoder drops, so that the bar count becomes wrong.

    Returns:
        The header, then the bars; every line ends with a newline.

    Raises:
        FormatError: The voices have different numbers of bars.
    """
    lines = list(tune.header)
    for index in range(tune.bar_count):
        playing = [name for name, voice in tune.voices.items() if _SOUND.search(voice.bars[index])]
        if not playing and keep_silent_bars:
            playing = [next(iter(tune.voices))]
        lines.append("".join(f"[V:{name}]{bar_text(tune.voices[name], index)}" for name in playing))
    return "\n".join(lines) + "\n"


def complete_rests(text: str, *, duration: Duration | None = None) -> Completion:
    """Restore the voices that rest in generated text.

    A restored bar is a rest with the barlines and the most frequent length of the bars on its line. Where no length is
    known, it has the length of the line before; at the start the length by the meter. The rest is invisible (``x``) in
    every voice except the first of a ``( )`` group of ``%%score``. A change of key, note length or meter that all
    bars on the first line have is given to the restored bars too, because :func:`omit_rests` leaves out voices
    that rest there together with their changes; a key is not given to voices declared with ``K:none``.

    Args:
        text: Interleaved layout with any voices left out; countdown tags are dropped. Lines of the music without
            ``[V:n]`` are dropped.
        duration: Text of a bar -> its length in units of ``L:``, None if unknown. Without it, bars are read in the
            meter in force.

    Returns:
        The completed tune, each line with all voices in the order of the header; a text without any ``[V:n]``
        comes back as it is, without empty lines.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    start = next((i for i, (_, line) in enumerate(lines) if voice_segments(line)), len(lines))
    header = [line for _, line in lines[:start]]
    rests = rest_letters(header)
    keyless = keyless_voices(header)
    reader = _header_reader(header)
    length = reader.bar_length or 1 / reader.unit
    completed = list(header)
    undeclared: list[tuple[int, str]] = []
    for number, line in lines[start:]:
        contents: dict[str, str] = {}
        for name, content in voice_segments(without_countdown(line)):
            if name in rests:
                contents[name] = contents.get(name, "") + content.strip()
            else:
                undeclared.append((number, name))
        if not contents:
            continue
        present = [split_segment(content) for content in contents.values()]
        changes = {name: field_changes(content) for name, content in contents.items()}
        reader.begin_line(changes.values())
        if duration:
            lengths = [duration(segment.text) for segment in present]
        else:
            lengths = [reader.read_voice(name, content).length for name, content in contents.items()]
        length = _most_frequent(lengths) or length
        left = next((segment.left for segment in present if segment.left), "")
        common = _common_changes(changes, keyless) if len(completed) == len(header) else []
        for name in rests.keys() - contents.keys():
            fields = [change for change in common if change.name != "K" or name not in keyless]
            before, after = (
                "".join(field.token for field in fields if field.leading is leads) for leads in (True, False)
            )
            contents[name] = f"{before}{left}{rests[name]}{length}{after}{present[-1].right}"
        completed.append("".join(f"[V:{name}]{contents[name]}" for name in rests))
    return Completion("".join(f"{line}\n" for line in completed), tuple(undeclared))


def complete_score_brackets(line: str) -> str:
    """Append the closing brackets that a ``%%score`` line lacks, innermost first, before its line end.

    A closing bracket that does not match the last open bracket is ignored.
    """
    content = line.rstrip("\r\n")
    missing: list[str] = []
    for character in content:
        if character in _CLOSING:
            missing.append(_CLOSING[character])
        elif missing and character == missing[-1]:
            missing.pop()
    return content + "".join(reversed(missing)) + line[len(content) :]


def final_text(text: str, *, duration: Duration | None = None) -> str:
    """Turn generated text into a tune that other programs can read.

    Rests and brackets of ``%%score`` are completed, the comment lines of the prompt are dropped, and the tune gets
    ``X:1``. The final text of a valid piece is valid.

    Args:
        text: Generated text, with or without its prompt.
        duration: As in :func:`complete_rests`.

    Returns:
        The tune in interleaved layout.
    """
    lines = complete_rests(text, duration=duration).text.splitlines()
    kept = [line for line in lines if line.startswith("%%") or not line.startswith(("%", "X:"))]
    closed = [complete_score_brackets(line) if line.startswith("%%score") else line for line in kept]
    return "".join(f"{line}\n" for line in ("X:1", *closed))


def rest_letters(header: Iterable[str]) -> dict[str, str]:
    """Return for each declared voice the letter of its rests: ``z``, or ``x`` where they are invisible."""
    score = next((line for line in header if line.startswith("%%score")), "")
    later = {name for group in re.findall(r"\(([^()]*)", score) for name in group.split()[1:]}
    names = (declared_voice(line) for line in header)
    return {name: "x" if name in later else "z" for name in names if name}


def _common_changes(
    changes: Mapping[str, Sequence[FieldChange]], keyless: Collection[str]
) -> list[FieldChange]:
    """Return the fields of each kind that all bars of a line have, as the first of them has them."""
    common: list[FieldChange] = []
    for kind in FIELD_PARSERS:
        having = [
            [change for change in of_voice if change.name == kind]
            for name, of_voice in changes.items()
            if kind != "K" or name not in keyless
        ]
        # A voice may change its clef alone.
        if having and all(having) and "clef" not in having[0][0].text:
            common += having[0]
    return common


def _most_frequent(lengths: Iterable[Fraction | None]) -> Fraction | None:
    # Lengths with larger numbers cannot be read again.
    counts = Counter(length for length in lengths if length and max(length.as_integer_ratio()) <= _MAX_NUMBER)
    return max(counts, key=counts.__getitem__) if counts else None


def _header_reader(header: Iterable[str]) -> InterleavedReader:
    """Return a reader with the meter and note length of the header; free meter and 1/8 where they are invalid."""
    fields = {line[0]: line[2:] for line in header if line[1:2] == ":"}
    try:
        return InterleavedReader(parse_meter(fields.get("M", "")), parse_unit_length(fields.get("L", "1/8")))
    except FormatError:
        return InterleavedReader(None, Fraction(1, 8))
