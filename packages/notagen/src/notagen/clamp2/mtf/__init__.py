"""MTF, the MIDI text format of M3: a MIDI file as lines of text, one message per line, and back.

The first line is ``ticks_per_beat N``. Then come the messages of all tracks in order of time, each with the ticks since
the one before, such as ``note_on 48 0 60 64``: 48 ticks later, channel 0, note 60, velocity 64.
"""

from notagen.clamp2.mtf.messages import MAX_MESSAGES, Message, MidiError
from notagen.clamp2.mtf.midi_reading import MidiContent, read_midi
from notagen.clamp2.mtf.midi_writing import midi_bytes
from notagen.clamp2.mtf.text import Keep, MtfText, midi_to_mtf, mtf_to_midi, parse_mtf

__all__ = [
    "MAX_MESSAGES",
    "Keep",
    "Message",
    "MidiContent",
    "MidiError",
    "MtfText",
    "midi_bytes",
    "midi_to_mtf",
    "mtf_to_midi",
    "parse_mtf",
    "read_midi",
]
