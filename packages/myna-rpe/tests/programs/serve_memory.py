"""``myna-rpe serve`` over a library in memory: the real command, server and port, without an index.

The variables REQUEST_WAIT_S and SHUTDOWN_WAIT_S set the time limits of the server.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pentatonic.cli import make_app, run
from pentatonic.errors import InputError

MANY = 1000


@dataclass(frozen=True)
class Track:
    id: str
    path: Path
    title: str
    artist: str | None = None
    album: str | None = None
    duration_s: float | None = None
    year: int | None = None
    track: int | None = None
    flags: Sequence[str] = ()


@dataclass(frozen=True)
class Match:
    track: Track
    similarity: float


class Library:
    """Sound is the number in the id: ``s0`` and ``s1`` are near, ``s0`` and ``s999`` are far."""

    def __init__(self) -> None:
        tracks = [Track(f"s{i}", Path(f"music/{i}.mp3"), f"Song {i}") for i in range(MANY)]
        tracks[0] = Track("s0", Path(__file__).with_name("a.FLAC"), "Erste", "Ä", "B", 61.6, 1999, 7)
        odd = Path("music/\udcff\x07.mp3")
        tracks[1] = Track("s1", odd, odd.stem, 'Q<>&"\x01', flags=("short (1 s)", "quiet (silence)"))
        tracks[2] = Track("s2", Path(__file__), "This file")
        tracks.append(Track("silent", Path("music/silent.mp3"), "Silence"))
        self.tracks = {track.id: track for track in tracks}

    def get(self, key: str) -> Track | None:
        if key == "broken":
            raise RuntimeError("pick a secret word: xyzzy")
        if key == "slow":
            time.sleep(1.5)
        return self.tracks.get(key)

    def search(self, query: str, count: int, offset: int) -> list[Track]:
        found = [track for track in self.tracks.values() if query.lower() in track.title.lower()]
        return found[offset : offset + count]

    def similar(self, ids: Sequence[str], count: int) -> list[Match]:
        place = self._place(ids[0])
        others = sorted((i for i in range(MANY) if i != place), key=lambda i: abs(i - place))
        # As rounding may give them: a little above 1, below 0, and not a number.
        odd = {1: 1.0000001, 2: -0.2, 3: float("nan")}
        return [Match(self.tracks[f"s{i}"], odd.get(i, 1 - abs(i - place) / MANY)) for i in others[:count]]

    def path_between(self, start_id: str, end_id: str, count: int) -> list[Match]:
        start, end = self._place(start_id), self._place(end_id)
        steps = min(count, abs(end - start) + 1) - 1
        places = [start + (end - start) * i // steps for i in range(steps + 1)]
        return [Match(self.tracks[f"s{i}"], 1 - abs(i - start) / MANY) for i in places]

    def _place(self, key: str) -> int:
        if key == "silent":
            raise InputError(f"{self.tracks[key].path}: cannot be compared")
        return int(key[1:])


if __name__ == "__main__":
    module = ModuleType("myna_rpe.library.commands")
    module.open_library = lambda index, name: Library()  # type: ignore[attr-defined]
    sys.modules["myna_rpe.library"] = ModuleType("myna_rpe.library")
    sys.modules["myna_rpe.library.commands"] = module
    from myna_rpe.server import connections
    from myna_rpe.server.commands import serve_command

    for name in ("REQUEST_WAIT_S", "SHUTDOWN_WAIT_S"):
        setattr(connections, name, int(os.environ.get(name, getattr(connections, name))))
    app = make_app("myna-rpe", "Test.")
    app.command("serve")(serve_command)
    app.command("other")(lambda: None)
    run(app, sys.argv[1:])
