"""General MIDI programmes and drums for voices, by their names in scores."""

from __future__ import annotations

import re

PIANO = 0

# The first entry found at the start of a word counts: "bass clarinet" is a clarinet, and "bassoon" is not a bass.
_PROGRAMMES = (
    ("piccolo", 72),
    ("flute|flaut|flot|traverso", 73),
    ("recorder|blockfl", 74),
    ("english horn|cor anglais|corno inglese", 69),
    ("oboe|hautb", 68),
    ("clarinet|klarinet", 71),
    ("contrabassoon|bassoon|fagott|basson", 70),
    ("sax", 66),
    ("horn|corn[oi]|cor ", 60),
    ("trumpet|tromp|tromba|trombe$|cornet", 56),
    ("trombon|posaun", 57),
    ("tuba|euphonium", 58),
    ("timpani|pauken|kettle", 47),
    ("glockenspiel", 9),
    ("xylophon", 13),
    ("marimba", 12),
    ("vibraphon", 11),
    ("celest", 8),
    ("violoncell|cello|vcl", 42),
    ("contrab|double bass|kontrab|violone", 43),
    ("violin|violon|geige|fiddle", 40),
    ("viola|bratsche|alto viola", 41),
    ("viol|gamba|string|streich", 48),
    ("harpsichord|cembal|clavecin|clavicemb|.*continuo", 6),
    ("harp|arp", 46),
    ("organ|orgel|orgue", 19),
    ("accordion|akkordeon", 21),
    ("guitar|chitarra|lute|theorb", 24),
    ("mandolin", 25),
    ("bass guitar", 33),
    ("piano|klavier|clavier|keyboard|pianoforte", PIANO),
    ("voice|vocal|sopran|mezzo|alto|contralto|tenor|bariton|bass|cho[ir]|chorus|canto|singstimme|gesang", 52),
)
_PATTERNS = tuple((re.compile(rf"\b(?:{words})"), programme) for words, programme in _PROGRAMMES)

# By name; a percussion voice with an unknown name is a drum set, with drums by the position on the staff.
_DRUMS = (
    ("bass drum|gran ?cassa|grosse", 36),
    ("snare|side drum|tambour\\b", 38),
    ("cymbal|piatti", 49),
    ("triang", 81),
    ("tambourin", 54),
    ("tam|gong", 52),
    ("wood ?block", 76),
    ("claves|castan", 75),
    ("tom", 45),
)
_DRUM_PATTERNS = tuple((re.compile(rf"\b(?:{words})"), pitch) for words, pitch in _DRUMS)
_SNARE = 38
_DRUM_SET = {
    62: 44,
    64: 35,
    65: 36,
    67: 41,
    69: 45,
    71: _SNARE,
    72: _SNARE,
    74: 47,
    76: 48,
    77: 51,
    79: 42,
    81: 49,
}


def programme_of(name: str) -> int:
    """Return the General MIDI programme, from 0, for the name of an instrument or voice; piano for unknown names."""
    name = name.lower()
    return next((programme for pattern, programme in _PATTERNS if pattern.search(name)), PIANO)


def drum_of(name: str, pitch: int) -> int:
    """Return the General MIDI drum for a note of a percussion voice.

    Args:
        name: Name of the voice.
        pitch: MIDI number of the position on the staff in treble clef.
    """
    name = name.lower()
    named = next((drum for pattern, drum in _DRUM_PATTERNS if pattern.search(name)), None)
    return named if named is not None else _DRUM_SET.get(pitch, _SNARE)
