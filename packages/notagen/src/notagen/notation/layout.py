"""The two layouts of a tune: interleaved, which the models read, and standard, which other programs read."""

from __future__ import annotations

import re

from notagen.notation.bars import (
    BarTable,
    VoiceBars,
    is_field,
    read_tune,
    spelled_out,
    split_segment,
    split_voice,
    voice_segments,
)
from notagen.notation.countdown import has_countdown, with_countdown, without_countdown
from pentatonic.errors import FormatError

#: Longest line of standard layout, in characters, unless a single bar is longer.
LINE_CHARACTERS = 100

_QUOTED_OR_COMMENT = re.compile(r'"[^"\n]*"|(%.*)')
_INFORMATION = re.compile("[^KLMQV]:")  # fields of free text, where % does not start a comment


def interleave(text: str) -> str:
    """Turn standard layout into interleaved layout: one line per bar, every voice on it.

    Args:
        text: A tune in standard layout (an interleaved one comes back in normal form). Comments at the ends of its
            lines, such as numbers of bars, are left out.

    Returns:
        The header, then the bars; every line ends with a newline.

    Raises:
        FormatError: The voices have different numbers of bars, or there is no music.
    """
    lines = (
        line if is_field(line) and _INFORMATION.match(line) else without_comment(line)
        for line in text.splitlines()
    )
    return interleaved(read_tune("\n".join(lines)))


def deinterleave(text: str) -> str:
    """Turn interleaved layout, with every voice on every line, into standard layout.

    Args:
        text: A tune in interleaved layout; tunes with rests left out go through
            :func:`notagen.notation.rests.complete_rests` first.

    Returns:
        The header, then a block per voice, opened by ``V:n``, in lines of at most ``LINE_CHARACTERS``.

    Raises:
        FormatError: A line lacks a voice or has one twice (the error has the line), or there is no music.
    """
    tune = read_tune(text)
    for number, line in enumerate(text.splitlines(), 1):
        found = [name for name, _ in voice_segments(without_countdown(line))]
        if found and sorted(found) != sorted(tune.voices):
            wanted = " ".join(tune.voices)
            raise FormatError(
                f"the line has voices {' '.join(found)}; each of {wanted} must be on it once", line=number
            )
    return standard(tune)


def one_bar_per_line(text: str) -> str:
    """Write each bar of an interleaved text on a line of its own, also those of a rest of several bars ``Zn``.

    Countdown tags are counted anew where the number of lines changes. A line whose voices have different numbers of
    bars stays as it is.

    Args:
        text: A text in interleaved layout, also with silent voices left out or damaged.

    Returns:
        The text; the same string where every line has one bar already.

    Raises:
        FormatError: A rest has more bars than :data:`notagen.notation.bars.MAX_BARS`.
    """
    lines: list[str] = []
    tagged = False
    for line in text.split("\n"):
        found = [] if line.lstrip().startswith("%") or is_field(line) else voice_segments(line)
        voices = [(name, spelled_out(split_voice(segment))) for name, segment in found]
        counts = {len(voice.bars) for _, voice in voices}
        if (
            len(counts) != 1
            or counts <= {0, 1}
            or not all(_ends_with_barline(segment) for _, segment in found)
        ):
            lines.append(line)
            continue
        tagged |= has_countdown(line)
        for index in range(counts.pop()):
            lines.append("".join(f"[V:{name}]{bar_text(voice, index)}" for name, voice in voices))
    if len(lines) == text.count("\n") + 1:
        return text
    if tagged:
        music = [i for i, line in enumerate(lines) if not line.startswith("%") and voice_segments(line)]
        counted = with_countdown([without_countdown(lines[i]) for i in music])
        for i, line in zip(music, counted, strict=True):
            lines[i] = line
    return "\n".join(lines)


def is_interleaved(text: str) -> bool:
    """Whether a text is in interleaved layout, one bar of all voices to a line, and not in standard layout.

    A countdown tag or a line with several voices shows that it is. Where every line has one voice, a text without
    ``X:`` is interleaved, because models do not write one; a tune with ``X:`` is so if it has only one voice, with
    ``[V:n]`` before each bar.

    Args:
        text: A tune, with or without header; it may be damaged.
    """
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("%")]
    music = [line for line in lines if not is_field(line)]
    voices = [voice_segments(line) for line in music]
    if any(
        len(found) > 1 or (found and has_countdown(line)) for line, found in zip(music, voices, strict=True)
    ):
        return True
    if not any(line.startswith("X:") for line in lines):
        return any(voices)
    names = {name for found in voices for name, _ in found}
    return len(names) == 1 and all(found and len(split_voice(found[0][1]).bars) < 2 for found in voices)


def without_comment(line: str) -> str:
    """Return a line without the comment at its end; a line that is a comment as a whole comes back unchanged."""
    if line.lstrip().startswith("%"):
        return line
    start = next((match.start(1) for match in _QUOTED_OR_COMMENT.finditer(line) if match[1]), len(line))
    return line[:start]


def interleaved(tune: BarTable) -> str:
    """Write a tune in interleaved layout.

    Raises:
        FormatError: The voices have different numbers of bars.
    """
    lines = list(tune.header)
    for index in range(tune.bar_count):
        lines.append("".join(f"[V:{name}]{bar_text(voice, index)}" for name, voice in tune.voices.items()))
    return "\n".join(lines) + "\n"


def standard(tune: BarTable) -> str:
    """Write a tune in standard layout, with its voices in numerical order."""
    lines = list(tune.header)
    for name in sorted(tune.voices, key=by_number):
        lines += [f"V:{name}", *_wrapped(tune.voices[name])]
    return "\n".join(lines) + "\n"


def bar_text(voice: VoiceBars, index: int) -> str:
    """Return a bar with the barline after it, the first bar also with its prefix and the barline before it."""
    opening = voice.prefix + voice.barlines[0] if index == 0 else ""
    return opening + voice.bars[index] + voice.barlines[index + 1]


def by_number(name: str) -> tuple[bool, int, str]:
    """Return the sort key of a voice name: numbers come first, in numerical order, then words."""
    number = name.isdecimal() and len(name) < 10
    return (not number, int(name) if number else 0, name)


def _ends_with_barline(segment: str) -> bool:
    return bool(split_segment(segment).right)


def _wrapped(voice: VoiceBars) -> list[str]:
    lines = [voice.prefix + voice.barlines[0]]
    for bar, barline in zip(voice.bars, voice.right_barlines, strict=True):
        words = f" {bar} {barline}"
        if lines[-1] and len(lines[-1]) + len(words) > LINE_CHARACTERS:
            lines.append("")
        lines[-1] += words
    return lines
