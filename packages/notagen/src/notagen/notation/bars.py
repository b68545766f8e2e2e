"""Splits tunes into voices and bars of text.

The content of a bar is not parsed here. Quoted strings, inline fields and tuplet marks are skipped, so a barline
sign inside them does not count. A tune has one of two layouts, and :func:`read_tune` reads both:

- *standard*: one block per voice, opened by a line ``V:n``;
- *interleaved*: one text line per bar, with ``[V:n]`` before the bar of each voice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from notagen.abc.duration import bar_duration
from notagen.notation.countdown import without_countdown
from pentatonic.errors import FormatError

#: Barlines, in the order in which they are matched.
BARLINES = ("||:", ":||", "[|:", ":|]", "|]:", ":[|", "|:", "::", ":|", "[|", "||", "|]", "|")

_OPAQUE = r'"[^"\n]*"|\[[A-Za-z]:[^\[\]\n]*\]|\(\d+(?:::?\d+)*'
# Some programs write blanks inside the barlines |: and :|.
_SPACED = (r"\|[ \t]+:(?![|:\[])", r"(?<![|:\]]):[ \t]+\|")
# Repeats that are played more than twice: |:: … ::|
_MANY_TIMES = (r":{2,}\|:*(?!\|)", r":?\|:{2,}(?!\|)")
_BARLINE = re.compile(f"{_OPAQUE}|({'|'.join((*_SPACED, *_MANY_TIMES, *map(re.escape, BARLINES)))})")
# A bar that is only a rest of several bars, with marks around it.
_BAR_RESTS = re.compile(r"((?:\"[^\"]*\"|![^!]*!|\[[A-Za-z]:[^\[\]]*\]|\s)*+)([ZX])(\d{1,4})(.*)", re.DOTALL)
_INLINE_FIELDS = re.compile(r"(?:\s*\[[A-Za-z]:[^\[\]\n]*\])+\s*")
# A separator belongs to the volta if a number or nothing follows: in `|1.a` the dot belongs to the note.
_VOLTA = re.compile(r"[:\d][:\d]*(?:[,.\-](?=\d|\s|$)[:\d]*)*")
_VOICE_MARK = re.compile(r"\[V:[ \t]*(\w+)(?:[ \t][^\[\]\n]*)?\]")
_VOICE_LINE = re.compile(r"V:[ \t]*(\w+)(?!\S)")
_FIELD = re.compile(r"(?![A-GXZa-gxz]:[|:])[A-Za-z]:")
_OPAQUE_TEXT = re.compile(r'"[^"]*"|![^!]*!|\[[A-Za-z]:[^\[\]]*\]')
_INLINE_KINDS = "KLMQ"
#: Most bars of a voice when rests of whole bars are spelled out.
MAX_BARS = 1 << 16
_NO_MUSIC = "there is no music: every line is a field, a comment or a countdown tag"


class UnequalVoicesError(FormatError):
    """The voices of a tune have different numbers of bars; each voice can be read."""


@dataclass(frozen=True)
class VoiceBars:
    """The bars of one voice.

    Args:
        prefix: Inline fields before the first barline, such as ``[K:D]``; often empty.
        bars: The text of each bar, without barlines and outer blanks.
        barlines: The barline before the first bar (often empty), then the barline after each bar. Volta numbers are
            part of the barline that they follow: ``|1``, ``:|2``.
    """

    prefix: str
    bars: tuple[str, ...]
    barlines: tuple[str, ...]

    @property
    def right_barlines(self) -> tuple[str, ...]:
        """The barline after each bar."""
        return self.barlines[1:]


@dataclass(frozen=True)
class BarTable:
    """A tune split into voices and bars.

    Args:
        header: The lines before the music, without line ends, with a ``V:`` line for every voice.
        voices: Voice name -> bars, in the order of the file. Names are mostly ``"1"``, ``"2"``, ….
    """

    header: tuple[str, ...]
    voices: Mapping[str, VoiceBars]

    @property
    def bar_count(self) -> int:
        """Number of bars in each voice.

        Raises:
            FormatError: The voices have different numbers of bars; the message names them.
        """
        counts = {name: len(voice.bars) for name, voice in self.voices.items()}
        if len(set(counts.values())) > 1:
            listing = ", ".join(f"V:{name} {count}" for name, count in counts.items())
            raise UnequalVoicesError(f"voices have different numbers of bars ({listing}); they must be equal")
        return next(iter(counts.values()))


@dataclass(frozen=True)
class Segment:
    """The text of one voice on one line of an interleaved tune: ``prefix left text right``.

    ``text`` contains barlines if the line has several bars of the voice; ``right`` is empty if the line is unfinished.
    """

    prefix: str
    left: str
    text: str
    right: str


@dataclass(frozen=True)
class Alignment:
    """Whether the voices of a tune agree with its first voice.

    Args:
        barlines: Whether the barlines are the same.
        counts: Whether the numbers of bars are the same.
        durations: Whether all durations are known, and each bar is as long as that of the first voice.
    """

    barlines: bool
    counts: bool
    durations: bool


def split_voice(text: str) -> VoiceBars:
    """Split the music of one voice into bars.

    Text after the last barline is dropped, because it is not a complete bar. Neighbouring barlines become one.

    Args:
        text: Music of one voice, on any number of lines.

    Returns:
        The bars; none when there is no barline.
    """
    texts, barlines = _pieces(text)
    if not barlines:
        return VoiceBars("", (), ("",))
    prefix, first = "", texts[0]
    if first and _INLINE_FIELDS.fullmatch(first):
        prefix, first = first, ""
    if first:
        return VoiceBars("", tuple(texts[:-1]), ("", *barlines))
    return VoiceBars(prefix, tuple(texts[1:-1]), tuple(barlines))


def split_segment(text: str) -> Segment:
    """Split the text after one ``[V:n]`` of an interleaved line.

    Args:
        text: Text up to the next ``[V:n]`` or the line end.

    Returns:
        The four parts; joined they give ``text`` without outer blanks.
    """
    text = text.strip()
    marks = [match.span(1) for match in _BARLINE.finditer(text) if match[1]]
    prefix = left = right = ""
    if marks and _is_volta(text[marks[-1][1] :]):
        right, text = text[marks[-1][0] :], text[: marks.pop()[0]].strip()
    if marks:
        start, end = marks[0]
        head = text[:start].strip()
        if not head or _INLINE_FIELDS.fullmatch(head):
            if volta := _VOLTA.match(text, end):
                end = volta.end()
            prefix, left, text = head, text[start:end], text[end:].strip()
    return Segment(prefix, left, text, right)


def voice_segments(line: str) -> list[tuple[str, str]]:
    """Split one line of an interleaved tune at its ``[V:n]``.

    Args:
        line: One line; a countdown tag at its start is dropped.

    Returns:
        Pairs of voice name and text, in the order of the line; empty without any ``[V:n]``. Text before the first
        ``[V:n]`` is dropped.
    """
    pieces = _VOICE_MARK.split(line.strip())
    return list(zip(pieces[1::2], pieces[2::2], strict=True))


def read_tune(text: str) -> BarTable:
    """Read a tune in standard or interleaved layout.

    A bar that is only the rest ``Zn`` or ``Xn`` becomes ``n`` bars. The music starts at the first line that is neither
    a field nor a comment, or at the ``V:`` line before it. In the music, field lines ``K: L: M: Q:`` become inline
    fields; comments, other fields and countdown tags are dropped. A
    voice that the header does not declare gets a ``V:`` line there; music without any ``V:`` is voice 1.

    Args:
        text: The tune.

    Returns:
        The tune. Voices may have different numbers of bars.

    Raises:
        FormatError: There is no music, a ``V:`` line has no name of letters and digits, a voice has no complete bar,
            or rests of whole bars come to more than ``MAX_BARS`` bars of a voice.
    """
    lines = [(number, line.lstrip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    start = _music_start(lines)
    header = [line for _, line in lines[:start]]
    declared = {_voice_name(line, number) for number, line in lines[:start] if line.startswith("V:")}
    parts: dict[str, list[str]] = {}
    current = "1"
    for number, line in lines[start:]:
        if line.startswith("V:"):
            current = _voice_name(line, number)
            if current not in declared:
                declared.add(current)
                header.append(line)
        elif is_field(line):
            if line[0] in _INLINE_KINDS:
                parts.setdefault(current, []).append(f"[{line}]")
        elif not line.startswith("%"):
            content = without_countdown(line)
            before = content[: mark.start()] if (mark := _VOICE_MARK.search(content)) else content
            if before.strip():
                parts.setdefault(current, []).append(before)
            for name, segment in voice_segments(content):
                parts.setdefault(name, []).append(segment)
                current = name
    header += [f"V:{name}" for name in parts if name not in declared]
    voices = {name: spelled_out(split_voice("\n".join(part))) for name, part in parts.items()}
    if not voices:
        raise FormatError(_NO_MUSIC)
    for name, voice in voices.items():
        if not voice.bars:
            raise FormatError(f"voice {name} has no complete bar; every bar ends with a barline")
    return BarTable(tuple(header), voices)


def alignment(tune: BarTable, *, duration: Callable[[str], Fraction | None] = bar_duration) -> Alignment:
    """Compare every voice with the first one, bar by bar.

    Args:
        tune: The tune.
        duration: Text of a bar -> its length in units of ``L:``, None if unknown.

    Returns:
        The three flags; ``durations`` is False if the counts differ.
    """
    first, *others = tune.voices.values()
    counts = all(len(voice.bars) == len(first.bars) for voice in others)
    lengths = [duration(bar) for bar in first.bars] if counts else []
    return Alignment(
        barlines=all(voice.barlines == first.barlines for voice in others),
        counts=counts,
        durations=counts
        and None not in lengths
        and all([duration(bar) for bar in voice.bars] == lengths for voice in others),
    )


def spelled_out(voice: VoiceBars) -> VoiceBars:
    """Return the bars of a voice with ``n`` bars in place of a bar that is only the rest ``Zn`` or ``Xn``.

    Raises:
        FormatError: There would be more than ``MAX_BARS`` bars.
    """
    if not any("Z" in bar or "X" in bar for bar in voice.bars):
        return voice
    bars: list[str] = []
    barlines = [voice.barlines[0]]
    for bar, barline in zip(voice.bars, voice.right_barlines, strict=True):
        match = _BAR_RESTS.fullmatch(bar)
        count = (
            int(match[3]) if match and not re.search("[A-Ga-gXZxz&]", _OPAQUE_TEXT.sub("", match[4])) else 1
        )
        if match is None or count < 2:
            bars.append(bar)
        elif len(bars) + count > MAX_BARS:
            raise FormatError(f"more than {MAX_BARS} bars")
        else:
            bars += [match[1] + match[2], *[match[2]] * (count - 2), match[2] + match[4]]
            barlines += ["|"] * (count - 1)
        barlines.append(barline)
    return VoiceBars(voice.prefix, tuple(bars), tuple(barlines))


def is_field(line: str) -> bool:
    """Whether a line is a field such as ``K:D``; ``C:|`` is a note before a repeat sign."""
    return _FIELD.match(line) is not None


def declared_voice(line: str) -> str | None:
    """Return the name, of letters and digits, in a line ``V:name …``; None for any other line."""
    match = _VOICE_LINE.match(line)
    return match[1] if match else None


def _pieces(text: str) -> tuple[list[str], list[str]]:
    """Return n + 1 texts and the n barlines between them."""
    texts: list[str] = []
    barlines: list[str] = []
    position = 0
    for match in _BARLINE.finditer(text):
        if not match[1]:
            continue
        piece, position = text[position : match.start()], match.end()
        barline = "".join(match[1].split())
        if barlines and not piece.strip():
            barlines[-1] = _joined(barlines[-1], barline)
        else:
            texts.append(_bar_text(piece, barlines))
            barlines.append(barline)
    texts.append(_bar_text(text[position:], barlines))
    return texts, barlines


def _bar_text(piece: str, barlines: list[str]) -> str:
    """Return the text of a bar; a volta number at its start is moved to the last barline."""
    if barlines and (volta := _VOLTA.match(piece)):
        barlines[-1] += volta.group()
        piece = piece[volta.end() :]
    return piece.replace("\n", "").strip()


def _joined(before: str, after: str) -> str:
    """Merge two barlines with nothing between them."""
    if before == after:
        return before
    if before.startswith(":") and after.endswith(":") and not before.endswith(":"):
        return before + after
    return max(before, after, key=lambda barline: (barline.count(":"), len(barline)))


def _is_volta(text: str) -> bool:
    volta = _VOLTA.match(text)
    return text == (volta.group() if volta else "")


def _music_start(lines: list[tuple[int, str]]) -> int:
    """Return the index of the first line of music, or of the ``V:`` line before it."""
    start = next(
        (i for i, (_, line) in enumerate(lines) if not is_field(line) and not line.startswith("%")),
        len(lines),
    )
    if start == len(lines):
        raise FormatError(_NO_MUSIC)
    if _VOICE_MARK.search(lines[start][1]):
        return start
    opening = next((i for i in range(start - 1, -1, -1) if lines[i][1].startswith("V:")), start)
    # If the key comes after the `V:` line, that line is part of the header.
    return opening if any(line.startswith("K:") for _, line in lines[:opening]) else start


def _voice_name(line: str, number: int) -> str:
    name = declared_voice(line)
    if name is None:
        raise FormatError("V: needs a name of letters and digits, such as V:1", line=number)
    return name
