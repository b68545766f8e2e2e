"""The two-voice ABC dialect of the song model YuE2: a lead sheet of two melodies, ``Vocal`` and ``Ins``, with chords.

It is neither general ABC nor the interleaved ABC of NotaGen. Times are exact fractions of a quarter note.
"""

from notagen.yue2.checking import check, read_song
from notagen.yue2.song import Bar, DialectError, Note, Song, VoiceMusic
from notagen.yue2.writing import write_song

__all__ = ["Bar", "DialectError", "Note", "Song", "VoiceMusic", "check", "read_song", "write_song"]
