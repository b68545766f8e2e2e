"""Melodic lines of MIDI files: one for each channel of each track, percussion left out."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

from notagen.clamp2.melody.lines import Line, LineNote
from notagen.clamp2.mtf.messages import Message
from notagen.clamp2.mtf.midi_reading import read_midi
from pentatonic.errors import FormatError

MIDI_SUFFIXES = (".mid", ".midi")

_PERCUSSION = 9
# MIDI files do not say how a note is written; these are the usual names from C on.
_FIFTHS = (0, 7, 2, -3, 4, -1, 6, 1, -4, 3, -2, 5)


@dataclass
class _Bars:
    """Bar numbers by the time signatures; 4/4 before the first one."""

    ticks_per_beat: int
    starts: list[int]
    lengths: list[int]
    numbers: list[int]

    def number(self, tick: int) -> int:
        """Number of the bar at a tick, from 1."""
        place = bisect_right(self.starts, tick) - 1
        return self.numbers[place] + (tick - self.starts[place]) // self.lengths[place]


def midi_lines(data: bytes) -> list[Line]:
    """Return the melodic lines of a MIDI file that have notes.

    Notes that start together count as a chord. A line is named by its track, and by its channel where the track has
    several.

    Args:
        data: The content of the file.

    Raises:
        FormatError: It is not a MIDI file that can be read, or its times are not in beats.
    """
    whole = read_midi(data)  # also finds every error, with its place in the file
    if whole.ticks_per_beat <= 0:
        raise FormatError("the times of the MIDI file are in seconds, not in beats, which melodies need")
    bars = _bars(whole.messages, whole.ticks_per_beat)
    lines = []
    for number, track in enumerate(_single_tracks(data), 1):
        channels = _channels(read_midi(track).messages)
        for channel, sounds in sorted(channels.items()):
            name = f"track {number}" + (f" channel {channel + 1}" if len(channels) > 1 else "")
            lines.append(Line(name, _melody(sounds, bars)))
    return lines


def _single_tracks(data: bytes) -> list[bytes]:
    """Return each track as a MIDI file of its own."""
    start = data.index(b"MThd")
    position = start + 8 + int.from_bytes(data[start + 4 : start + 8])
    count, division = int.from_bytes(data[start + 10 : start + 12]), data[start + 12 : start + 14]
    header = b"MThd\x00\x00\x00\x06\x00\x00\x00\x01" + division
    tracks: list[bytes] = []
    while len(tracks) < count and position + 8 <= len(data):
        end = position + 8 + int.from_bytes(data[position + 4 : position + 8])
        if data[position : position + 4] == b"MTrk":
            tracks.append(header + data[position:end])
        position = end
    return tracks


def _bars(messages: tuple[Message, ...], ticks_per_beat: int) -> _Bars:
    bars = _Bars(ticks_per_beat, [0], [4 * ticks_per_beat], [1])
    tick = 0
    for message in messages:
        tick += message.time
        if message.kind != "time_signature":
            continue
        beats, unit = (int(value) for value in message.values[:2])
        length = max(4 * ticks_per_beat * beats // unit, 1)
        # A new signature starts a bar, also in the middle of the one before.
        last, lasted = bars.starts[-1], bars.lengths[-1]
        number = bars.numbers[-1] + -(-(tick - last) // lasted)
        if tick == last:
            bars.lengths[-1] = length
        else:
            for values, value in ((bars.starts, tick), (bars.lengths, length), (bars.numbers, number)):
                values.append(value)
    return bars


def _channels(messages: tuple[Message, ...]) -> dict[int, list[tuple[int, int, int]]]:
    """Return start, end and pitch of the notes of each channel, in order of their starts."""
    found: dict[int, list[tuple[int, int, int]]] = {}
    sounding: dict[tuple[int, int], list[int]] = {}
    tick = 0
    for message in messages:
        tick += message.time
        if message.kind not in ("note_on", "note_off"):
            continue
        channel, pitch, velocity = (int(value) for value in message.values)
        if channel == _PERCUSSION:
            continue
        if message.kind == "note_on" and velocity:
            sounding.setdefault((channel, pitch), []).append(tick)
        elif starts := sounding.get((channel, pitch)):
            found.setdefault(channel, []).append((starts.pop(0), tick, pitch))
    for (channel, pitch), starts in sounding.items():  # notes that are never switched off
        found.setdefault(channel, []).extend((start, tick, pitch) for start in starts)
    return {channel: sorted(notes) for channel, notes in found.items()}


def _melody(sounds: list[tuple[int, int, int]], bars: _Bars) -> tuple[LineNote, ...]:
    highest: dict[int, tuple[int, int]] = {}
    for start, end, pitch in sounds:
        if start not in highest or pitch > highest[start][0]:
            highest[start] = pitch, end
    whole = 4 * bars.ticks_per_beat
    return tuple(
        LineNote(
            pitch,
            _FIFTHS[pitch % 12],
            bars.number(start),
            Fraction(start, whole),
            Fraction(end - start, whole),
        )
        for start, (pitch, end) in highest.items()
    )
