"""Tools for texts in the dialect: drop chord symbols, compare two texts, write one from a list of events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

from notagen.yue2.checking import TOKEN, parse_key, parse_meter, read_song
from notagen.yue2.song import CHORD, KEYS, VOICES, Bar, DialectError, Note
from notagen.yue2.writing import write_song

SECTIONS = ("intro", "verse", "pre-chorus", "chorus", "bridge", "interlude", "outro", "instrumental")
Which = Literal["both", "Vocal", "Ins"]
_TIME = re.compile(r"[+-]?[0-9]{1,9}(?:/[0-9]{1,9}|\.[0-9]{1,9})?")


def strip_chords(text: str, keep_voice: Which = "both") -> str:
    """Drop the chord symbols of a text; all else stays byte for byte.

    Args:
        text: A text in the dialect.
        keep_voice: With one voice kept, each note of the other becomes a rest of its length.

    Raises:
        DialectError: The text, or what is left of it, is not in the dialect.
    """
    read_song(text)
    lines = text.splitlines(keepends=True)
    voice = ""
    for index, line in enumerate(lines[8:], 8):
        if line.startswith("V: "):
            voice = line[3:].strip()
        elif not line.startswith(("% ", "M:", "K:")):
            silent = keep_voice not in ("both", voice)
            lines[index] = TOKEN.sub(lambda match, silent=silent: _stripped(match, silent), line)
    stripped = "".join(lines)
    read_song(stripped)
    return stripped


def _stripped(match: re.Match[str], silent: bool) -> str:
    if match[1] is not None:
        return ""
    return f"z{match[6]}" if silent and match[4] else match[0]


def differences(
    before: str, after: str, *, voices: Which = "both", allow_tempo_change: bool = False
) -> list[str]:
    """Compare what sounds in two texts; chords, keys, labels, units and ties do not count.

    Returns:
        ``tempo``, ``<voice>:grid`` for other bars, and ``<voice>:notes@<n>`` for the first other note, from 1.

    Raises:
        DialectError: A text is not in the dialect.
    """
    first, second = read_song(before), read_song(after)
    found = ["tempo"] if first.bpm != second.bpm and not allow_tempo_change else []
    for name in VOICES if voices == "both" else (voices,):
        one, other = first.voices[name], second.voices[name]
        if one.bars != other.bars:
            found.append(f"{name}:grid")
        if one.notes != other.notes:
            pairs = zip(one.notes, other.notes, strict=False)
            shorter = min(len(one.notes), len(other.notes))
            place = next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)
            found.append(f"{name}:notes@{place + 1}")
    return found


def compile_events(events: Any) -> str:
    """Write a text from a list of events: the melody goes to Ins, Vocal has rests and chord symbols.

    Args:
        events: Mapping with ``bpm``, ``key`` (default C), ``bars``, ``notes`` as [onset, length, MIDI number] and
            ``chords`` as [onset, symbol]. Times are integers, or texts such as ``3/2``, in quarters. Bars are mappings
            with ``meter``, ``key`` and ``section``; what one lacks it has from the bar before.

    Raises:
        DialectError: An event is wrong; its ``kind`` says in what.
    """
    if not isinstance(events, Mapping) or events.keys() - {"bpm", "key", "bars", "notes", "chords"}:
        raise DialectError("unknown_field", "allowed are bpm, key, bars, notes and chords")
    bpm = events.get("bpm")
    if type(bpm) is not int or bpm < 1:
        raise DialectError("bpm", f"bpm is {bpm!r}; it must be a positive integer")
    bars = _bars(events.get("bars"), _key(events.get("key", "C")))
    end = sum((bar.length for bar in bars), Fraction(0))
    notes = _notes(events["notes"], end) if "notes" in events else []
    return write_song(
        bpm, bars, {"Ins": notes}, _chords(events.get("chords", []), end), least_unit=_least_unit(bars)
    )


def _least_unit(bars: list[Bar]) -> int:
    return max(32, *(4 * bar.meter[1] for bar in bars))


def _key(value: object) -> str:
    if not isinstance(value, str) or value not in KEYS:
        raise DialectError("key_unsupported", f"key {str(value)[:40]!r} is not one of {' '.join(KEYS)}")
    return parse_key(value)


def _bars(value: object, key: str) -> list[Bar]:
    if not isinstance(value, list) or not value:
        raise DialectError("bars", "bars must be a list of at least one bar")
    bars: list[Bar] = []
    bar = Bar(key=key)
    for item in value:
        if not isinstance(item, dict) or item.keys() - {"meter", "key", "section"}:
            raise DialectError("bar_fields", "a bar has only meter, key and section")
        meter, section = item.get("meter"), item.get("section", bar.label)
        try:
            numbers = bar.meter if meter is None else parse_meter(str(meter))
        except DialectError as error:
            raise DialectError("meter", error.reason) from None
        if section and section not in SECTIONS:
            raise DialectError("section", f"section {section!r} is not one of {', '.join(SECTIONS)}")
        bar = Bar(numbers, _key(item.get("key", bar.key)), section or "")
        bars.append(bar)
    return bars


def _time(value: object) -> Fraction:
    if type(value) is int or (
        isinstance(value, str) and _TIME.fullmatch(value.strip()) and not value.endswith("/0")
    ):
        return Fraction(value)
    raise DialectError("time_value", f"time {value!r} is neither an integer nor a text such as '3/2'")


def _notes(value: object, end: Fraction) -> list[Note]:
    if not isinstance(value, list) or not value:
        raise DialectError("no_notes", "notes must be a list of at least one note")
    notes: list[Note] = []
    for item in value:
        if not isinstance(item, list) or len(item) != 3:
            raise DialectError("time_value", "a note is [onset, length, MIDI number]")
        onset, length, pitch = _time(item[0]), _time(item[1]), item[2]
        if type(pitch) is not int or not 0 <= pitch <= 127:
            raise DialectError("pitch", f"pitch {pitch!r} is not an integer from 0 to 127")
        if onset < 0 or length <= 0 or onset + length > end:
            raise DialectError(
                "note_outside", f"the note at {onset} is not inside the bars, which end at {end}"
            )
        notes.append(Note(onset, length, pitch))
    notes.sort(key=lambda note: note.onset)
    if any(before.end > after.onset for before, after in pairwise(notes)):
        raise DialectError("overlap", "two notes sound at once")
    return notes


def _chords(value: object, end: Fraction) -> list[tuple[Fraction, str]]:
    if not isinstance(value, list):
        raise DialectError("chord_event", "chords must be a list")
    chords: dict[Fraction, str] = {}
    for item in value:
        if (
            not isinstance(item, list)
            or len(item) != 2
            or not isinstance(item[1], str)
            or not CHORD.fullmatch(item[1])
        ):
            raise DialectError("chord_event", f"{str(item)[:40]} is not [onset, symbol of the vocabulary]")
        onset = _time(item[0])
        if not 0 <= onset < end:
            raise DialectError(
                "chord_event", f"the chord at {onset} is not inside the bars, which end at {end}"
            )
        if onset in chords:
            raise DialectError("chord_conflict", f"two chords at {onset}")
        chords[onset] = item[1]
    return sorted(chords.items())
