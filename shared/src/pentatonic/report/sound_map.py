"""Drawings whose dots are recordings: each says its name, and sounds in one player below the drawing.

Coordinates are units of the drawing, from its upper left corner.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pentatonic.errors import UsageError
from pentatonic.report.urls import is_file_url

Point = tuple[float, float]
"""x and y."""


@dataclass(frozen=True)
class Dot:
    """A recording in a drawing.

    Args:
        at: Its place.
        name: What hovering over it shows.
        about: What choosing it shows, such as title, artist and album.
        sound: ``file:`` URL of the recording, or id of a player of the same report; empty: it has no sound.
        label: Text beside it. A dot with a label is larger, and can be reached by keyboard.
        label_at: Where its label begins, on the base line of the text.
        accent: 0, 1 or 2: grey, blue or orange.
    """

    at: Point
    name: str
    about: tuple[str, ...]
    sound: str = ""
    label: str = ""
    label_at: Point = (0.0, 0.0)
    accent: int = 0


@dataclass(frozen=True)
class SoundMap:
    """A drawing of recordings.

    Args:
        size: Width and height.
        dots: The recordings; later ones are drawn above earlier ones, and reached by keyboard after them.
        area: Corners of an area below the dots.
        line: Points of a dashed line below the dots.
    """

    size: Point
    dots: Sequence[Dot]
    area: Sequence[Point] = ()
    line: Sequence[Point] = ()


def map_block(drawing: SoundMap, label: str, players: Collection[str]) -> dict[str, Any]:
    """Return what the template of a section needs.

    Args:
        drawing: The drawing.
        label: What it shows, for readers of screens.
        players: Ids of the players of the report.

    Raises:
        UsageError: The sound of a dot is neither the ``file:`` URL of a file nor one of the players.
    """
    for dot in drawing.dots:
        if dot.sound and dot.sound not in players and not is_file_url(dot.sound):
            raise UsageError(
                f"sound: {dot.sound!r} of a dot is neither the file: URL of a file of this machine nor a player"
            )
    return {
        "kind": "map",
        "label": label,
        "drawing": drawing,
        "plays_files": any(is_file_url(dot.sound) for dot in drawing.dots),
        "data": [{"about": dot.about, "sound": dot.sound} for dot in drawing.dots],
    }
