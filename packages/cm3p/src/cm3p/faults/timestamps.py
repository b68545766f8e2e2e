"""Editor timestamps of objects, such as ``00:12:345 (1,2) - ``, which the game's editor opens on a click."""

from __future__ import annotations

import math
from collections.abc import Sequence
from urllib.parse import quote

from cm3p.beatmap import Beatmap
from cm3p.beatmap.combo import combo_numbers
from cm3p.beatmap.objects import MANIA

_PLAYFIELD_WIDTH = 512


class Timestamps:
    """Timestamps of the objects of a map.

    In brackets stand the combo numbers of the objects, as the editor has them; in osu!mania time and column, with
    columns from 0.

    Args:
        beatmap: The map.
    """

    def __init__(self, beatmap: Beatmap) -> None:
        self._beatmap = beatmap
        self._numbers = [] if beatmap.mode == MANIA else combo_numbers(beatmap)

    def of(self, indices: Sequence[int]) -> str:
        """Return the timestamp of some objects, such as ``00:12:345 (1,2) - ``.

        Args:
            indices: At least one index into ``beatmap.hit_objects``; the time is that of the earliest.
        """
        objects = self._beatmap.hit_objects
        order = sorted(indices, key=lambda index: objects[index].time_ms)
        names = ",".join(map(self._name, order))
        return f"{clock(objects[order[0]].time_ms)} ({names}) - "

    def _name(self, index: int) -> str:
        if self._beatmap.mode != MANIA:
            return str(self._numbers[index])
        item, keys = self._beatmap.hit_objects[index], max(1, int(self._beatmap.circle_size))
        column = min(max(math.floor(item.x * keys / _PLAYFIELD_WIDTH), 0), keys - 1)
        return f"{int(item.time_ms)}|{column}"


def clock(time_ms: float) -> str:
    """Return a time as minutes, seconds and milliseconds: ``00:12:345``; minutes go on beyond 59."""
    whole = abs(int(time_ms))
    return f"{'-' if time_ms < 0 else ''}{whole // 60_000:02d}:{whole // 1000 % 60:02d}:{whole % 1000:03d}"


def editor_link(timestamp: str) -> str:
    """Return the address that opens a timestamp in the editor: ``osu://edit/00:12:345%20(1,2)``."""
    return "osu://edit/" + quote(timestamp.removesuffix(" - "), safe=":(),")
