"""Maps: reading ``.osu`` files, and what follows from them.

>>> beatmap = read_beatmap(Path("song.osu"))
>>> ends = token_ends([item for item in beatmap.hit_objects if isinstance(item, Slider)])
"""

from cm3p.beatmap.errors import FormatError, LimitExceeded, NotABeatmap
from cm3p.beatmap.objects import (
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
from cm3p.beatmap.reader import read_beatmap
from cm3p.beatmap.timing import Timing
from cm3p.beatmap.token_end import token_end, token_ends, truncated

__all__ = [
    "Beatmap",
    "Break",
    "Circle",
    "FormatError",
    "HitObject",
    "Hold",
    "LimitExceeded",
    "NotABeatmap",
    "ReadWarning",
    "Segment",
    "Slider",
    "Spinner",
    "Timing",
    "TimingPoint",
    "read_beatmap",
    "token_end",
    "token_ends",
    "truncated",
]
