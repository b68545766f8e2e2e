"""``myna-rpe serve`` over a library in memory: the real command, server and port, without an index."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from pentatonic.cli import make_app, run

MANY = 1000


@dataclass(frozen=True)
class Track:
    id: str
    path: str
    title: str | None = None
    artist: str | None = None
    album: str | None = None
    duration_s: float | None = None
    year: int | None = None
    track: int | None = None
    size: int | None = None
    suffix: str | None = None
    flags: Sequence[str] = ()


class Library:
    """Sound is the number in the id: ``s0`` and ``s1`` are near, ``s0`` and ``s999`` are far."""

    def __init__(self, index: object) -> None:
        tracks = [Track(f"s{i}", f"music/{i}.mp3", f"Song {i}") for i in range(MANY)]
        tracks[0] = Track("s0", "music/a.flac", "Erste", "Ä", "B", 61.6, 1999, 7, 1234, ".FLAC")
        tracks[1] = Track("s1", "music/\udcff\x07.mp3", None, 'Q<>&"\x01', flags=("short", "quiet"))
        tracks.append(Track("silent", "music/silent.mp3", "Silence"))
        self.tracks = {track.id: track for track in tracks}

    def track(self, id: str) -> Track | None:
        if id == "broken":
            raise RuntimeError("pick a secret word: xyzzy")
        return self.tracks.get(id)

    def search(self, query: str, count: int, offset: int) -> list[Track]:
        found = [track for track in self.tracks.values() if query.lower() in (track.title or "").lower()]
        return found[offset : offset + count]

    def similar(self, ids: Sequence[str], count: int) -> list[tuple[Track, float]]:
        place = self._place(ids[0])
        others = sorted((i for i in range(MANY) if i != place), key=lambda i: abs(i - place))
        # As an index may give them: a little above 1 by rounding, below 0, and not a number.
        odd = {1: 1.0000001, 2: -0.2, 3: float("nan")}
        return [(self.tracks[f"s{i}"], odd.get(i, 1 - abs(i - place) / MANY)) for i in others[:count]]

    def path_between(self, start_id: str, end_id: str, count: int) -> list[tuple[Track, float]]:
        start, end = self._place(start_id), self._place(end_id)
        steps = min(count, abs(end - start) + 1) - 1
        places = [start + (end - start) * i // steps for i in range(steps + 1)]
        return [(self.tracks[f"s{i}"], 1 - abs(i - start) / MANY) for i in places]

    def _place(self, id: str) -> int:
        from myna_rpe.server.sonic_library import NoEmbedding

        if id == "silent":
            raise NoEmbedding(id)
        return int(id[1:])


if __name__ == "__main__":
    module = ModuleType("myna_rpe.library")
    module.Library = Library  # type: ignore[attr-defined]
    sys.modules["myna_rpe.library"] = module
    from myna_rpe.server.commands import serve_command

    app = make_app("myna-rpe", "Test.")
    app.command("serve")(serve_command)
    app.command("other")(lambda: None)
    run(app, sys.argv[1:])
