"""Standard ABC as the text that CLaMP 2 reads: interleaved, one bar of all voices on a line.

These are the steps by which the data of CLaMP 2 and 3 were made from converted MusicXML. They differ from the
preparation for NotaGen (:func:`notagen.notation.tunebook.prepare_tune`): silent bars are cut off at both ends, texts
and decorations stay as they are, and nothing is transliterated, because the patches are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from notagen.notation.bars import (
    BARLINES,
    BarTable,
    VoiceBars,
    is_field,
    read_tune,
    split_segment,
)
from notagen.notation.layout import interleaved, without_comment
from notagen.notation.tunebook import standard_tune
from pentatonic.errors import FormatError

_DROPPED = ("X:", "T:", "C:", "W:", "w:", "Z:", "%%MIDI")
_FIRST_VOICE = "V:1"
_BAR_NUMBER = re.compile(r"%\d+\s*$")
_STRING = re.compile(r'"[^"\n]*"')
_BARLINE_IN_STRING = re.compile(r"\||::")
_DECORATIONS = re.compile(r'![^!]*!|"[\^_<>@][^"]*"')
_INLINE_FIELD = re.compile(r"\[[A-Za-z]:[^\]]*\]")
_SOUND, _NOTE = re.compile("[A-WYa-wy]"), re.compile("[A-Ga-g]")
_MUSIC_FIELDS = "KLMQV"
# For compat: the barlines as the original splits at them.
_ANY_BARLINE = re.compile(f"({'|'.join(map(re.escape, BARLINES))})")
_INLINE_FIELDS = re.compile(r"(?:\s*\[[A-Za-z]:[^\]]*\])+\s*")
_VOLTA = re.compile(r"[\d:][\d,.\-:]*")
_VOICE_LINE = re.compile(r"V:(\w+)\s*")


def interleaved_abc(text: str, *, compat: bool = False) -> str:
    """Interleave a tune in standard layout, and cut off bars at both ends in which every voice is silent.

    Titles, composers, lyrics and blank lines are dropped, and so are quoted strings that contain a barline. A bar in
    which one voice has a chord symbol, or at the beginning an inline field, is not silent.

    Args:
        text: One tune in standard layout. A tune without ``V:`` has one voice, and is brought into the usual form first
            (:func:`notagen.notation.tunebook.standard_tune`).
        compat: As in the original, the music must start with a line ``V:1``. Neighbouring barlines that differ, escaped
            quotes on a line with a barline in quotes, comments, and music after the last barline are garbled or lost.

    Returns:
        The header, then the bars; every line ends with a newline.

    Raises:
        FormatError: There is no music, every bar is silent, or the voices have different numbers of bars.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = [line for line in text.split("\n") if line.strip()]
    if compat:
        return _compat(lines)
    if not any(line.lstrip().startswith("V:") for line in lines):
        lines = standard_tune(text).splitlines()
    kept = (line for line in lines if not _is_dropped(line))
    tune = read_tune("\n".join(_with_last_barlines(_music_cleaned(kept))))
    return interleaved(_trimmed(tune))


def _is_dropped(line: str) -> bool:
    return line.startswith(_DROPPED) and (line.startswith("%") or is_field(line))


def _music_cleaned(lines: Iterable[str]) -> list[str]:
    """Remove comments and strings with barlines from the music; the header stays."""
    cleaned: list[str] = []
    music = False
    for line in lines:
        if line.startswith("%"):
            if not music:
                cleaned.append(line)
        elif is_field(line):
            if not music or line[0] in _MUSIC_FIELDS:
                cleaned.append(without_comment(line) if music else line)
        else:
            music = True
            plain = without_comment(line.replace('\\"', "")).removesuffix("\\")
            cleaned.append(_STRING.sub(_without_barline, plain))
    return cleaned


def _without_barline(string: re.Match[str]) -> str:
    return "" if _BARLINE_IN_STRING.search(string[0]) else string[0]


def _with_last_barlines(lines: list[str]) -> list[str]:
    """Return the lines with a barline after the last bar of each voice, where it lacks one."""
    closed = list(lines)
    last: int | None = None
    for index, line in enumerate([*lines, "V:"]):
        if line.startswith("V:") and last is not None:
            if not split_segment(closed[last]).right:
                closed[last] += " |]"
            last = None
        elif not is_field(line) and not line.startswith("%"):
            last = index
    return closed


def _trimmed(tune: BarTable) -> BarTable:
    """Cut off bars at both ends; barlines and prefixes there move to the new ends.

    Raises:
        FormatError: Every bar is silent, or the voices have different numbers of bars.
    """
    count = tune.bar_count
    bars = [[_DECORATIONS.sub("", voice.bars[i]) for voice in tune.voices.values()] for i in range(count)]
    sounding = [i for i, voices in enumerate(bars) if any(map(_SOUND.search, voices))]
    played = [
        i for i, voices in enumerate(bars) if any(_NOTE.search(_INLINE_FIELD.sub("", bar)) for bar in voices)
    ]
    if not played:
        raise FormatError("there are no notes: every bar is silent")
    first, last = sounding[0], played[-1]
    voices = {
        name: VoiceBars(
            voice.prefix,
            voice.bars[first : last + 1],
            (voice.barlines[0], *voice.right_barlines[first:last], voice.barlines[-1]),
        )
        for name, voice in tune.voices.items()
    }
    return BarTable(tune.header, voices)


def _compat(lines: list[str]) -> str:
    """Interleave as the original does."""
    lines = [line for line in lines if not line.startswith(_DROPPED)]
    starts = [i for i, line in enumerate(lines) if line.strip() == _FIRST_VOICE]
    if not starts:
        raise FormatError(f"no line is {_FIRST_VOICE}, with which the music starts")
    header, body = lines[: starts[-1]], lines[starts[-1] :]
    parts: dict[str, list[str]] = {}
    part: list[str] = []
    for line in map(_compat_cleaned, body):
        if line.startswith("V:"):
            if not (voice := _VOICE_LINE.fullmatch(line)):
                raise FormatError(f"the line {line[:80]!r} in the music has more than the name of a voice")
            part = parts.setdefault(voice[1], [])
        else:
            part.append(line)
    tune = BarTable(tuple(header), {name: _compat_split("\n".join(part)) for name, part in parts.items()})
    voices: Mapping[str, VoiceBars] = {
        name: _compat_split(_joined(voice)) for name, voice in _trimmed(tune).voices.items()
    }
    if not any(voice.bars for voice in voices.values()):
        raise FormatError("there are no notes: every bar is silent")
    return interleaved(BarTable(tuple(header), voices))


def _compat_cleaned(line: str) -> str:
    line = _BAR_NUMBER.sub("", line)
    if is_field(line) or line.startswith("%"):
        return line
    # Where a string goes, backslashes stay: the original looks for strings in the line as it was.
    found = [string for string in _STRING.findall(line) if _BARLINE_IN_STRING.search(string)]
    if not found:
        return line.replace('\\"', "")
    for string in found:
        line = line.replace(string, "")
    return line


def _compat_split(text: str) -> VoiceBars:
    """Split a voice as the original does: after two different barlines in a row, bars are taken for barlines."""
    pieces = [piece for piece in _ANY_BARLINE.split(text) if piece.strip()]
    pieces = [piece for i, piece in enumerate(pieces) if i == 0 or piece != pieces[i - 1]]
    if not pieces:
        return VoiceBars("", (), ("",))
    prefix = ""
    if not _ANY_BARLINE.fullmatch(pieces[0]):
        if _INLINE_FIELDS.fullmatch(pieces[0]):
            prefix = pieces.pop(0).replace("\n", "").strip()
        else:
            pieces.insert(0, "")
    barlines, bars = pieces[0::2], pieces[1::2]
    for i, bar in enumerate(bars):
        if volta := _VOLTA.match(bar):
            barlines[i] += volta[0]
            bars[i] = bar[volta.end() :]
    bars = [bar.replace("\n", "").strip() for bar in bars[: len(barlines) - 1]]
    return VoiceBars(prefix, tuple(bars), tuple(barlines[: len(bars) + 1]))


def _joined(voice: VoiceBars) -> str:
    bars = "".join(bar + barline for bar, barline in zip(voice.bars, voice.right_barlines, strict=True))
    return voice.prefix + voice.barlines[0] + bars
