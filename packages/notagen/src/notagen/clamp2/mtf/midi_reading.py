"""Reads the messages of a MIDI file.

Libraries lose what MTF has: release velocities, notes that are switched off by velocity 0, the order of messages at one
tick. Nothing is taken on trust: sizes are compared with the file, and messages are counted before any is made.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from notagen.clamp2.mtf.messages import (
    CHANNEL_STATUS,
    KEY_NAMES,
    MAX_MESSAGES,
    META_TYPES,
    SMPTE_RANGES,
    SMPTE_RATES,
    SYSTEM_STATUS,
    TEXT_TYPES,
    Message,
    MidiError,
    Value,
)

MAX_REMARKS = 16
"""Most remarks about one file; further ones are counted."""

_META = 0xFF
_SYSEX = (0xF0, 0xF7)
_CHANNEL_KINDS = {status >> 4: kind for kind, status in CHANNEL_STATUS.items()}
_SYSTEM_KINDS = {status: kind for kind, status in SYSTEM_STATUS.items()}
_META_KINDS = {number: kind for kind, number in META_TYPES.items()}
# Data bytes after a status byte: of messages to a channel by its upper half, of others by all of it.
_CHANNEL_DATA = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}
_SYSTEM_DATA = {status: 0 for status in _SYSTEM_KINDS} | {0xF1: 1, 0xF2: 2, 0xF3: 1}
_REAL_TIME = 0xF8
_LEAST_HEADER = 6
_LONGEST_NUMBER = 4
_LEAST_MESSAGE = 2  # bytes: a time, and one data byte under running status


@dataclass(frozen=True)
class MidiContent:
    """The messages of a MIDI file.

    Attributes:
        ticks_per_beat: The division of the header, signed as 16 bits: negative for SMPTE time.
        messages: Those of all tracks in order of time, at one tick in the order of the tracks; the only
            ``end_of_track`` is the last.
        notes: What was passed over, at most :data:`MAX_REMARKS` remarks and their number beyond.
    """

    ticks_per_beat: int
    messages: tuple[Message, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Chunk:
    """The bytes of a track: position of the first, and of the byte after the last."""

    number: int
    start: int
    end: int


def read_midi(
    data: bytes,
    *,
    preserve_time: bool = True,
    max_messages: int = MAX_MESSAGES,
    path: str | Path | None = None,
) -> MidiContent:
    """Read a standard MIDI file of format 0 or 1, also in a RIFF wrapping.

    Args:
        data: The content of the file.
        preserve_time: Count the time before meta messages of unknown type. Without it they have time 0, and what comes
            after them in their track is early, as in the data of M3.
        max_messages: Most messages that are accepted.
        path: Name for errors.

    Returns:
        The messages. Chunks that are no tracks, meta messages that cannot be read, and bytes after the last track are
        passed over with a note; so are tracks that are missing.

    Raises:
        MidiError: This is not a MIDI file, it has more messages, its tracks are independent of each other (format 2), a
            track is cut off or its size is wrong, or a byte has a value that it must not have; with track and byte.
    """
    notes: list[str] = []
    try:
        ticks, chunks = _chunks(data, notes)
        _check_count(data, chunks, max_messages)
        events: list[tuple[int, str, tuple[Value, ...]]] = []
        end = 0
        for chunk in chunks:
            end = max(end, _read_track(data, chunk, preserve_time, events, notes))
    except MidiError as error:
        raise error.in_file(path) from None
    events.sort(key=lambda event: event[0])
    messages, tick = [], 0
    for at, kind, values in events:
        messages.append(Message(kind, at - tick, values))
        tick = at
    messages.append(Message("end_of_track", end - tick, ()))
    if len(notes) > MAX_REMARKS:
        notes[MAX_REMARKS:] = [f"{len(notes) - MAX_REMARKS} further remarks"]
    return MidiContent(ticks, tuple(messages), tuple(notes))


def _chunks(data: bytes, notes: list[str]) -> tuple[int, list[_Chunk]]:
    """Return the division and the tracks."""
    position, size = _header(data)
    if size < _LEAST_HEADER or position + size > len(data):
        reason = f"the header is {size} bytes long; it must have at least {_LEAST_HEADER}, inside the file"
        raise MidiError(reason, byte=position - 4)
    form, count, ticks = struct.unpack_from(">HHh", data, position)
    if form == 2:
        raise MidiError("the file has format 2, independent tracks; formats 0 and 1 are read", byte=position)
    position += size
    chunks: list[_Chunk] = []
    while len(chunks) < count and position + 8 <= len(data):
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8])
        start, end = position + 8, position + 8 + size
        if name == b"MTrk":
            if end > len(data):
                reason = (
                    f"the track should have {size} bytes; the file ends after {len(data) - start} of them"
                )
                raise MidiError(reason, track=len(chunks) + 1, byte=position + 4)
            chunks.append(_Chunk(len(chunks) + 1, start, end))
        else:
            notes.append(f"the chunk {name.decode('latin-1')!r} at byte {position} is not a track")
        position = end
    if len(chunks) < count:
        if not chunks:
            raise MidiError(f"there is no track; the header announces {count}", byte=min(position, len(data)))
        notes.append(f"the header announces {count} tracks; there are {len(chunks)}")
    elif position < len(data):
        notes.append(f"{len(data) - position} bytes after the last track, from byte {position}, are not read")
    return ticks, chunks


def _header(data: bytes) -> tuple[int, int]:
    """Return where the content of the header chunk starts, and its size."""
    position = 0
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        position = 12
        while data[position : position + 4] != b"data" and position + 8 <= len(data):
            size = int.from_bytes(data[position + 4 : position + 8], "little")
            position += 8 + size + size % 2
        position += 8
    if data[position : position + 4] != b"MThd" or position + 8 > len(data):
        raise MidiError("there is no MThd header; a MIDI file starts with one", byte=min(position, len(data)))
    return position + 8, int.from_bytes(data[position + 4 : position + 8])


def _check_count(data: bytes, chunks: list[_Chunk], limit: int) -> None:
    """Count the messages where the sizes of the tracks alone do not show that there are few enough."""
    if sum(chunk.end - chunk.start for chunk in chunks) // _LEAST_MESSAGE <= limit:
        return
    found = itertools.chain.from_iterable(_events(data, chunk) for chunk in chunks)
    if next(itertools.islice(found, limit, None), None) is not None:
        raise MidiError(f"the file has more than {limit} messages, the most that are accepted")


def _read_track(
    data: bytes,
    chunk: _Chunk,
    preserve_time: bool,
    events: list[tuple[int, str, tuple[Value, ...]]],
    notes: list[str],
) -> int:
    """Append the messages of a track with their ticks, ends of the track left out; return its last tick."""
    tick = 0
    for position, time, status, start, end in _events(data, chunk):
        content = data[start:end]
        if status > _META:
            number = status & 0xFF
            kind = _META_KINDS.get(number)
            if kind is None:
                tick += time if preserve_time else 0
                events.append((tick, "unknown_meta", (number, content)))
                continue
            tick += time
            try:
                values = _meta_values(kind, content)
            except (ValueError, IndexError, KeyError):
                reason = f"the {kind} message {content[:32].hex(' ')!r} cannot be read"
                notes.append(f"track {chunk.number}, byte {position}: {reason}; it is left out")
                continue
            if kind != "end_of_track":
                events.append((tick, kind, values))
            continue
        tick += time
        if status in _SYSEX:
            events.append((tick, "sysex", (_sysex(content, start, chunk.number),)))
        elif kind := _CHANNEL_KINDS.get(status >> 4):
            channel = status & 0xF
            values = (content[0] + 128 * content[1] - 8192,) if kind == "pitchwheel" else content
            events.append((tick, kind, (channel, *values)))
        elif status == SYSTEM_STATUS["songpos"]:
            events.append((tick, "songpos", (content[0] + 128 * content[1],)))
        elif status == SYSTEM_STATUS["quarter_frame"]:
            events.append((tick, "quarter_frame", divmod(content[0], 16)))
        else:
            events.append((tick, _SYSTEM_KINDS[status], tuple(content)))
    return tick


def _events(data: bytes, chunk: _Chunk) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield the messages of a track.

    Yields:
        Position of the message, time before it, status byte, and where its data start and end. The status of a meta
        message is 0xff00 and its type.
    """
    position, running, number = chunk.start, None, chunk.number
    while position < chunk.end:
        time, position = _variable(data, position, chunk)
        first = position
        if position >= chunk.end:
            raise _cut_off(chunk, first)
        status = data[position]
        if status >= 0x80:
            position += 1
        elif running is None:
            reason = f"data byte {status} without a status byte before it; it must be 128 or more"
            raise MidiError(reason, track=number, byte=position)
        else:
            status = running
        if status < 0xF0:
            running = status
            end = position + _CHANNEL_DATA[status >> 4]
        elif status == _META or status in _SYSEX:
            if status == _META:
                if position >= chunk.end:
                    raise _cut_off(chunk, first)
                status = _META << 8 | data[position]
                position += 1
            else:
                running = None
            size, position = _variable(data, position, chunk)
            if position + size > chunk.end:
                raise _cut_off(chunk, first)
            yield first, time, status, position, position + size
            position += size
            continue
        else:
            if status not in _SYSTEM_DATA:
                raise MidiError(f"the status byte {status:#x} is undefined", track=number, byte=first)
            if status < _REAL_TIME:
                running = None
            end = position + _SYSTEM_DATA[status]
        if end > chunk.end:
            raise _cut_off(chunk, first)
        for place in range(position, end):
            if data[place] > 127:
                reason = f"data byte {data[place]} of a message; allowed: 0 to 127"
                raise MidiError(reason, track=number, byte=place)
        yield first, time, status, position, end
        position = end


def _cut_off(chunk: _Chunk, position: int) -> MidiError:
    size = chunk.end - chunk.start
    reason = f"a message goes beyond the end of the track, which should have {size} bytes"
    return MidiError(reason, track=chunk.number, byte=position)


def _variable(data: bytes, position: int, chunk: _Chunk) -> tuple[int, int]:
    """Read a number of 7 bits to the byte; return it and the position behind it."""
    value, start = 0, position
    while position < chunk.end:
        byte = data[position]
        position += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position
        if position - start == _LONGEST_NUMBER:
            reason = f"a time or size has more than {_LONGEST_NUMBER} bytes"
            raise MidiError(reason, track=chunk.number, byte=start)
    raise _cut_off(chunk, start)


def _sysex(content: bytes, start: int, track: int) -> bytes:
    """Return the data of a system exclusive message without the bytes around them."""
    trimmed = content.removeprefix(b"\xf0").removesuffix(b"\xf7")
    for place, byte in enumerate(trimmed):
        if byte > 127:
            reason = f"byte {byte} of a system exclusive message; allowed: 0 to 127"
            byte_at = start + place + content.startswith(b"\xf0")
            raise MidiError(reason, track=track, byte=byte_at)
    return trimmed


def _meta_values(kind: str, content: bytes) -> tuple[Value, ...]:
    """Return the values of a meta message of a known type.

    Raises:
        ValueError, IndexError, KeyError: It cannot be read.
    """
    if kind in TEXT_TYPES:
        return (content.decode("latin-1"),)
    if kind == "set_tempo":
        return (content[0] << 16 | content[1] << 8 | content[2],)
    if kind == "time_signature":
        numerator, exponent, clocks, notated = content[0], content[1], content[2], content[3]
        return numerator, 1 << exponent, clocks, notated
    if kind == "key_signature":
        return (KEY_NAMES[content[0] - (256 if content[0] > 127 else 0), content[1]],)
    if kind == "smpte_offset":
        values = (content[0] & 0x1F, content[1], content[2], content[3], content[4])
        if any(value > bound.most for value, bound in zip(values, SMPTE_RANGES, strict=True)):
            raise ValueError
        return SMPTE_RATES[content[0] >> 5], *values
    if kind == "sequence_number":
        high, low = content or b"\0\0"
        return (high << 8 | low,)
    if kind == "midi_port":
        return (content[0] if content else 0,)
    if kind == "channel_prefix":
        return (content[0],)
    return (content,) if kind == "sequencer_specific" else ()
