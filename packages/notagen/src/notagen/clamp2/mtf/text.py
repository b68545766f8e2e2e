"""Messages as lines of text, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from notagen.clamp2.mtf.messages import (
    CHANNEL_STATUS,
    KEYS,
    MAX_MESSAGES,
    MAX_TICKS,
    RANGES,
    SMPTE_RANGES,
    SMPTE_RATES,
    SYSTEM_STATUS,
    TEXT_TYPES,
    Message,
    Value,
    ValueRange,
)
from notagen.clamp2.mtf.midi_reading import read_midi
from notagen.clamp2.mtf.midi_writing import midi_bytes
from notagen.clamp2.patches import MTF_FIRST_WORD
from pentatonic.errors import FormatError

Keep = Literal["m3", "clamp3", "all"]
"""Which messages are kept: M3 drops texts, system exclusive and sequencer-specific messages, CLaMP 3 only texts."""

_DROPPED: dict[str, frozenset[str]] = {
    "m3": frozenset({*TEXT_TYPES, "sysex", "sequencer_specific"}),
    "clamp3": frozenset(TEXT_TYPES),
    "all": frozenset(),
}
_TIME_FIRST = frozenset({*CHANNEL_STATUS, *SYSTEM_STATUS})
_TICKS = ValueRange("ticks_per_beat", -0x8000, 0x7FFF)
_TIME = ValueRange("time", 0, MAX_TICKS)
_BYTE_NUMBER = ValueRange("type_byte", 0, 255)
_WHOLE = re.compile(r"(-?\d{1,80})(?:\.0*)?", re.ASCII)
_ESCAPE = re.compile(r"\\(?:([\\nrt])|x([0-9a-f]{2}))|\\")
_ESCAPED = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}
_CLOSING = {"[": "]", "(": ")"}


@dataclass(frozen=True)
class MtfText:
    """A MIDI file as text.

    Attributes:
        text: ASCII lines, without a newline at the end.
        notes: What was passed over in the file.
    """

    text: str
    notes: tuple[str, ...] = ()


def midi_to_mtf(
    data: bytes,
    *,
    keep: Keep = "m3",
    preserve_time: bool = False,
    max_messages: int = MAX_MESSAGES,
    path: str | Path | None = None,
) -> MtfText:
    """Turn a MIDI file into text.

    Args:
        data: The content of the file.
        keep: Which messages are kept.
        preserve_time: Keep the time before messages that are dropped or of unknown type, so that later ones do not come
            early. The models were trained on text without it. With ``keep="all"`` nothing is lost.
        max_messages: Most messages that are accepted, dropped ones included.
        path: Name for errors.

    Raises:
        MidiError: As for :func:`~notagen.clamp2.mtf.midi_reading.read_midi`.
    """
    content = read_midi(data, preserve_time=preserve_time, max_messages=max_messages, path=path)
    lines, waited = [f"{MTF_FIRST_WORD} {content.ticks_per_beat}"], 0
    for message in content.messages:
        if message.kind in _DROPPED[keep]:
            waited += message.time if preserve_time else 0
        else:
            lines.append(_line(message._replace(time=message.time + waited)))
            waited = 0
    return MtfText("\n".join(lines), content.notes)


def mtf_to_midi(text: str, *, compat: bool = False) -> bytes:
    """Turn text into a MIDI file of one track.

    Args:
        text: MTF, of any mode.
        compat: As in the original, lines with the word ``unknown_meta`` are left out, and the second word of the first
            line is the number of ticks, whatever the first one is.

    Raises:
        FormatError: As for :func:`parse_mtf`.
    """
    return midi_bytes(*parse_mtf(text, compat=compat))


def parse_mtf(text: str, *, compat: bool = False) -> tuple[int, list[Message]]:
    """Read the messages of a text.

    Args:
        text: MTF, of any mode, with or without a newline at the end. Values beyond those of a message are ignored.
        compat: As for :func:`mtf_to_midi`.

    Returns:
        Ticks per beat, and the messages as they are written.

    Raises:
        FormatError: A line is not a message, or too late for a MIDI file; with its number.
    """
    first, *lines = text.removesuffix("\n").split("\n")
    word, _, ticks = first.partition(" ")
    try:
        if word != MTF_FIRST_WORD and not compat:
            raise FormatError(f"the first line is {first[:80]!r}; it must be {MTF_FIRST_WORD} and a number")
        (ticks_per_beat,) = _numbers(ticks.split(" "), (_TICKS,))
    except FormatError as error:
        raise FormatError(error.reason, line=1) from None
    messages: list[Message] = []
    waited = 0
    for number, line in enumerate(lines, 2):
        if compat and "unknown_meta" in line:
            continue
        try:
            messages.append(message := _message(line))
            waited += message.time
            if waited > MAX_TICKS:
                raise FormatError(f"{waited} ticks after the message before; at most {MAX_TICKS} are allowed")
        except FormatError as error:
            raise FormatError(error.reason, line=number) from None
        waited = waited if message.kind == "end_of_track" else 0
    return ticks_per_beat, messages


def _line(message: Message) -> str:
    kind, time, values = message
    if kind in _TIME_FIRST:
        return " ".join([kind, str(time), *map(str, values)])
    if kind == "sysex":
        return f"sysex {time} {list(values[0])}"  # type: ignore[arg-type]
    return " ".join([kind, *map(_printed, values), str(time)])


def _printed(value: Value) -> str:
    if isinstance(value, bytes):
        return str(tuple(value))
    if isinstance(value, str):
        return value.encode("unicode_escape").decode("ascii")
    return str(value)


def _message(line: str) -> Message:
    """Read one line.

    Raises:
        FormatError: It is not a message.
    """
    kind, blank, rest = line.partition(" ")
    if not kind or not blank:
        raise FormatError(f"the line {line[:80]!r} has no values; a message is a kind, a blank and values")
    if kind in TEXT_TYPES:
        content, blank, time = rest.rpartition(" ")
        if not blank:
            raise FormatError(f"{kind} needs a text and a time")
        return Message(kind, _time(time), (_text(content),))
    if kind == "sysex":
        time, _, content = rest.partition(" ")
        data, _ = _bytes(content, "[", 127)
        return Message(kind, _time(time), (data,))
    if kind == "sequencer_specific":
        data, words = _bytes(rest, "(", 255)
        return Message(kind, _time(words), (data,))
    if kind == "unknown_meta":
        number, _, content = rest.partition(" ")
        data, words = _bytes(content, "(", 255)
        return Message(kind, _time(words), (*_numbers([number], (_BYTE_NUMBER,)), data))
    words = rest.split(" ")
    if kind == "key_signature":
        if words[0] not in KEYS:
            raise FormatError(f"the key {words[0][:20]!r} does not exist; allowed: {' '.join(KEYS)}")
        return Message(kind, _time(" ".join(words[1:])), (words[0],))
    if kind == "smpte_offset":
        rates = {str(rate): rate for rate in SMPTE_RATES}
        if words[0] not in rates:
            raise FormatError(f"the rate {words[0][:20]!r} does not exist; allowed: {' '.join(rates)}")
        *values, time = _numbers(words[1:], (*SMPTE_RANGES, _TIME))
        return Message(kind, time, (rates[words[0]], *values))
    if kind not in RANGES:
        raise FormatError(f"the message {kind[:40]!r} does not exist")
    if kind in _TIME_FIRST:
        time, *values = _numbers(words, (_TIME, *RANGES[kind]))
    else:
        *values, time = _numbers(words, (*RANGES[kind], _TIME))
    if kind == "time_signature" and values[1].bit_count() != 1:
        raise FormatError(f"the denominator {values[1]} is not a power of two")
    return Message(kind, time, tuple(values))


def _numbers(words: list[str], ranges: tuple[ValueRange, ...]) -> list[int]:
    """Read whole numbers; words beyond them are ignored."""
    if len(words) < len(ranges):
        names = ", ".join(bound.name for bound in ranges)
        raise FormatError(f"{len(words)} values; {len(ranges)} are needed: {names}")
    return list(map(_number, words, ranges))


def _number(word: str, bound: ValueRange) -> int:
    match = _WHOLE.fullmatch(word)
    value = int(match[1]) if match else None
    if value is None or not bound.least <= value <= bound.most:
        allowed = f"whole numbers from {bound.least} to {bound.most}"
        raise FormatError(f"{bound.name} is {word[:80]!r}; allowed: {allowed}")
    return value


def _time(words: str) -> int:
    return _numbers(words.split(" "), (_TIME,))[0]


def _bytes(content: str, opening: str, most: int) -> tuple[bytes, str]:
    """Read a list ``[1, 2]`` or tuple ``(1, 2)``, ``(1,)``; return it and the words after it."""
    inside, closing, rest = content.partition(_CLOSING[opening])
    if not content.startswith(opening) or not closing:
        raise FormatError(f"{content[:40]!r} is not a list such as {opening}1, 2{_CLOSING[opening]}")
    words = [word.strip(" ") for word in inside[1:].split(",")]
    if not words[-1]:
        words.pop()  # an empty list, or the comma of a tuple with one element
    return bytes(_number(word, ValueRange("byte", 0, most)) for word in words), rest.removeprefix(" ")


def _text(content: str) -> str:
    """Read a text with escapes.

    Raises:
        FormatError: There is another escape than those that are written, or a character that is not Latin-1.
    """
    text = "".join(_unescaped(content))
    try:
        text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise FormatError(f"the text has {text[error.start]!r}; allowed: Latin-1 characters") from None
    return text


def _unescaped(content: str) -> Iterator[str]:
    position = 0
    for match in _ESCAPE.finditer(content):
        yield content[position : match.start()]
        position = match.end()
        if match[1]:
            yield _ESCAPED[match[1]]
        elif match[2]:
            yield chr(int(match[2], 16))
        else:
            found = content[match.start() : match.start() + 4]
            raise FormatError(rf"{found!r} is not an escape; allowed: \\ \n \r \t \xNN")
    yield content[position:]
