"""Writes messages as a MIDI file of one track."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from notagen.clamp2.mtf.messages import (
    CHANNEL_STATUS,
    KEYS,
    META_TYPES,
    SMPTE_RATES,
    SYSTEM_STATUS,
    TEXT_TYPES,
    Message,
)

_META = 0xFF
_END_OF_TRACK = b"\xff\x2f\x00"


def midi_bytes(ticks_per_beat: int, messages: Iterable[Message]) -> bytes:
    """Return the content of a MIDI file of format 1 with one track.

    Args:
        ticks_per_beat: -32768 to 32767.
        messages: With times up to :data:`~notagen.clamp2.mtf.messages.MAX_TICKS` and values in their ranges.
            ``end_of_track`` is written once, at the end; the time before another one goes to the message after it.
    """
    track = bytearray()
    running, waited = None, 0
    for kind, time, values in messages:
        waited += time
        if kind == "end_of_track":
            continue
        content = _content(kind, values)
        track += _variable(waited)
        waited = 0
        if kind in CHANNEL_STATUS:
            track += content[1:] if content[0] == running else content
            running = content[0]
        else:
            track += content
            running = None
    track += _variable(waited) + _END_OF_TRACK
    header = b"MThd" + struct.pack(">IHHh", 6, 1, 1, ticks_per_beat)
    return header + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def _content(kind: str, values: tuple) -> bytes:
    """Return the bytes of a message."""
    if kind in CHANNEL_STATUS:
        channel, *others = values
        if kind == "pitchwheel":
            others = _two_bytes(others[0] + 8192)
        return bytes([CHANNEL_STATUS[kind] | channel, *others])
    if kind == "sysex":
        return b"\xf0" + _variable(len(values[0]) + 1) + values[0] + b"\xf7"
    if kind in SYSTEM_STATUS:
        if kind == "songpos":
            values = _two_bytes(values[0])
        elif kind == "quarter_frame":
            values = (values[0] << 4 | values[1],)
        return bytes([SYSTEM_STATUS[kind], *values])
    if kind == "unknown_meta":
        number, content = values
    else:
        number, content = META_TYPES[kind], _meta_content(kind, values)
    return bytes([_META, number]) + _variable(len(content)) + content


def _meta_content(kind: str, values: tuple) -> bytes:
    if kind in TEXT_TYPES:
        return values[0].encode("latin-1")
    if kind == "set_tempo":
        return values[0].to_bytes(3)
    if kind == "time_signature":
        numerator, denominator, *others = values
        return bytes([numerator, denominator.bit_length() - 1, *others])
    if kind == "key_signature":
        sharps, mode = KEYS[values[0]]
        return bytes([sharps & 0xFF, mode])
    if kind == "smpte_offset":
        rate, hours, *others = values
        return bytes([SMPTE_RATES.index(rate) << 5 | hours, *others])
    if kind == "sequence_number":
        return values[0].to_bytes(2)
    if kind == "sequencer_specific":
        return values[0]
    return bytes(values)  # channel_prefix, midi_port


def _two_bytes(value: int) -> tuple[int, int]:
    return value & 0x7F, value >> 7


def _variable(value: int) -> bytes:
    """Return a number as 7 bits to the byte, of which all but the last have the top bit."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))
