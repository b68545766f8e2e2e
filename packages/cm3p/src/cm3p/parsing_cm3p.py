"""The original's module name for the event parser."""

from cm3p.events.groups import EVENT_TYPES_WITH_NEW_COMBO, EventType, Group
from cm3p.events.loading import load_beatmap
from cm3p.events.parser import CM3PBeatmapParser
from cm3p.events.song_length import get_song_length

__all__ = [
    "EVENT_TYPES_WITH_NEW_COMBO",
    "CM3PBeatmapParser",
    "EventType",
    "Group",
    "get_song_length",
    "load_beatmap",
]
