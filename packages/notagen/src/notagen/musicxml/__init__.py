"""MusicXML: scores read to ABC and written from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pentatonic.lazy import lazy_names

if TYPE_CHECKING:
    from notagen.musicxml.reader import musicxml_to_abc
    from notagen.musicxml.writer import abc_to_musicxml

__all__ = ["abc_to_musicxml", "musicxml_to_abc"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {"abc_to_musicxml": "notagen.musicxml.writer", "musicxml_to_abc": "notagen.musicxml.reader"},
)
