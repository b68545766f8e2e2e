"""Maps: reading ``.osu`` files, and what follows from them.

>>> beatmap = read_beatmap(Path("song.osu"))
>>> ends = token_ends([item for item in beatmap.hit_objects if isinstance(item, Slider)])
"""

from cm3p.beatmap.archive import AudioSource
from cm3p.beatmap.combo import max_combo
from cm3p.beatmap.errors import FormatError, LimitExceeded, NotABeatmap
from cm3p.beatmap.objects import (
    RULESETS,
    Beatmap,
    Break,
    Circle,
    HitObject,
    Hold,
    ReadWarning,
    Segment,
    Slider,
    Spinner,
    TimingPoint,
)
from cm3p.beatmap.path import SliderPath, natural_length
from cm3p.beatmap.play import GameTiming, SliderEvent, SliderPlay
from cm3p.beatmap.reader import read_beatmap
from cm3p.beatmap.songs import MapEntry, find_maps, id_of_content, map_id, set_id
from cm3p.beatmap.timing import Timing
from cm3p.beatmap.token_end import token_end, token_ends, truncated
from cm3p.beatmap.writer import save_beatmap, write_beatmap

__all__ = [
    "RULESETS",
    "AudioSource",
    "Beatmap",
    "Break",
    "Circle",
    "FormatError",
    "GameTiming",
    "HitObject",
    "Hold",
    "LimitExceeded",
    "MapEntry",
    "NotABeatmap",
    "ReadWarning",
    "Segment",
    "Slider",
    "SliderEvent",
    "SliderPath",
    "SliderPlay",
    "Spinner",
    "Timing",
    "TimingPoint",
    "find_maps",
    "id_of_content",
    "map_id",
    "max_combo",
    "natural_length",
    "read_beatmap",
    "save_beatmap",
    "set_id",
    "token_end",
    "token_ends",
    "truncated",
    "write_beatmap",
]
