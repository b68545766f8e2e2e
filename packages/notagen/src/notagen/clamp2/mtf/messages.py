"""Messages of MIDI files: their kinds, the order and ranges of their values, and how they are coded in bytes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pentatonic.errors import FormatError

MAX_MESSAGES = 1 << 19
"""Most messages of a file, unless a caller sets another limit."""
MAX_TICKS = (1 << 28) - 1
"""Longest time between two messages of a file."""

Value = int | float | str | bytes


class Message(NamedTuple):
    """One message.

    Attributes:
        kind: Its name in MTF, such as ``note_on``.
        time: Ticks since the message before.
        values: Numbers in the order of MTF; text, a key and the bytes of a system exclusive message are one value.
    """

    kind: str
    time: int
    values: tuple[Value, ...]


class MidiError(FormatError):
    """A MIDI file is damaged, or of a form that is not read.

    Args:
        reason: What is wrong, and what would be allowed.
        path: The file, when there is one.
        track: Number of the track, from 1.
        byte: Position in the file, from 0.
    """

    def __init__(
        self,
        reason: str,
        *,
        path: str | Path | None = None,
        track: int | None = None,
        byte: int | None = None,
    ) -> None:
        self.track, self.byte = track, byte
        places = [f"track {track}" if track is not None else "", f"byte {byte}" if byte is not None else ""]
        where = ", ".join(filter(None, places))
        super().__init__(f"{where}: {reason}" if where else reason, path=path)

    def in_file(self, path: str | Path | None) -> MidiError:
        """Return the error with the name of the file."""
        named = MidiError(self.reason, path=path)
        named.track, named.byte = self.track, self.byte
        return named


class ValueRange(NamedTuple):
    """Name of a value and the least and greatest whole number that it may be."""

    name: str
    least: int
    most: int


def _seven_bits(*names: str) -> tuple[ValueRange, ...]:
    return tuple(ValueRange(name, 0, 127) for name in names)


_CHANNEL = ValueRange("channel", 0, 15)

CHANNEL_STATUS = {
    "note_off": 0x80,
    "note_on": 0x90,
    "polytouch": 0xA0,
    "control_change": 0xB0,
    "program_change": 0xC0,
    "aftertouch": 0xD0,
    "pitchwheel": 0xE0,
}
"""Kinds of messages to a channel -> status byte of channel 0."""
SYSTEM_STATUS = {
    "quarter_frame": 0xF1,
    "songpos": 0xF2,
    "song_select": 0xF3,
    "tune_request": 0xF6,
    "clock": 0xF8,
    "start": 0xFA,
    "continue": 0xFB,
    "stop": 0xFC,
    "active_sensing": 0xFE,
}
"""Kinds of messages to all channels -> status byte."""
TEXT_TYPES = {
    "text": 1,
    "copyright": 2,
    "track_name": 3,
    "instrument_name": 4,
    "lyrics": 5,
    "marker": 6,
    "cue_marker": 7,
    "device_name": 9,
}
"""Kinds of meta messages with a text -> type byte."""
META_TYPES = {
    "sequence_number": 0x00,
    **TEXT_TYPES,
    "channel_prefix": 0x20,
    "midi_port": 0x21,
    "end_of_track": 0x2F,
    "set_tempo": 0x51,
    "smpte_offset": 0x54,
    "time_signature": 0x58,
    "key_signature": 0x59,
    "sequencer_specific": 0x7F,
}
"""Kinds of meta messages -> type byte; one of another type is ``unknown_meta``."""

RANGES: dict[str, tuple[ValueRange, ...]] = {
    "note_off": (_CHANNEL, *_seven_bits("note", "velocity")),
    "note_on": (_CHANNEL, *_seven_bits("note", "velocity")),
    "polytouch": (_CHANNEL, *_seven_bits("note", "value")),
    "control_change": (_CHANNEL, *_seven_bits("control", "value")),
    "program_change": (_CHANNEL, *_seven_bits("program")),
    "aftertouch": (_CHANNEL, *_seven_bits("value")),
    "pitchwheel": (_CHANNEL, ValueRange("pitch", -8192, 8191)),
    "quarter_frame": (ValueRange("frame_type", 0, 7), ValueRange("frame_value", 0, 15)),
    "songpos": (ValueRange("pos", 0, (1 << 14) - 1),),
    **dict.fromkeys(("tune_request", "clock", "start", "continue", "stop", "active_sensing"), ()),
    "song_select": _seven_bits("song"),
    "sequence_number": (ValueRange("number", 0, 0xFFFF),),
    "channel_prefix": (ValueRange("channel", 0, 255),),
    "midi_port": (ValueRange("port", 0, 255),),
    "end_of_track": (),
    "set_tempo": (ValueRange("tempo", 0, 0xFFFFFF),),
    "time_signature": (
        ValueRange("numerator", 0, 255),
        ValueRange("denominator", 1, 1 << 255),
        ValueRange("clocks_per_click", 0, 255),
        ValueRange("notated_32nd_notes_per_beat", 0, 255),
    ),
}
"""Kinds whose values are all whole numbers -> their ranges, in the order of MTF."""

SMPTE_RATES = (24, 25, 29.97, 30)
"""Frames per second, by the code in the top bits of the hour byte."""
SMPTE_RANGES = (
    ValueRange("hours", 0, 31),
    ValueRange("minutes", 0, 59),
    ValueRange("seconds", 0, 59),
    ValueRange("frames", 0, 255),
    ValueRange("sub_frames", 0, 99),
)
_MAJOR_KEYS = ("Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#")
_MINOR_TONICS = ("Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#", "G#", "D#", "A#")
KEYS = {
    name: (sharps, mode)
    for mode, names in enumerate((_MAJOR_KEYS, [f"{tonic}m" for tonic in _MINOR_TONICS]))
    for sharps, name in enumerate(names, -7)
}
"""Names of keys -> sharps (negative: flats) and 0 for major, 1 for minor."""
KEY_NAMES = {code: name for name, code in KEYS.items()}
