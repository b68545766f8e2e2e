"""Maps from whatever names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cm3p.beatmap import Beatmap, read_beatmap
from pentatonic.errors import UsageError


def load_beatmap(beatmap: Any) -> Beatmap:
    """Return a map.

    Args:
        beatmap: Path of an ``.osu`` file, an open file, of which only the name counts, or a map.

    Raises:
        UsageError: It is something else.
        FormatError: The file cannot be read, or is not a map.
    """
    if isinstance(beatmap, Beatmap):
        return beatmap
    path = beatmap if isinstance(beatmap, str | Path) else getattr(beatmap, "name", None)
    if not isinstance(path, str | Path):
        kind = type(beatmap).__name__
        raise UsageError(
            f"beatmap is of type {kind}; allowed: a path, an open file, a Beatmap, a list of these"
        )
    return read_beatmap(Path(path))
