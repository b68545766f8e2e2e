"""The songs of a playlist in a library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from myna_rpe.library.library import Library, LibraryTrack
from myna_rpe.library.records import printable_path
from myna_rpe.playlists.m3u import (
    LONGEST_PATH,
    M3U,
    M3UEntry,
    candidates,
    is_stream,
    parts_of,
    read_m3u,
)
from pentatonic.errors import InputError


@dataclass(frozen=True)
class Song:
    """An entry whose track the library has.

    Attributes:
        entry: The entry.
        track: The track.
    """

    entry: M3UEntry
    track: LibraryTrack


@dataclass
class Playlist:
    """A playlist and what the library knows of it.

    Attributes:
        path: Its file.
        m3u: What the file holds.
        songs: Entries whose track can be compared, in order.
        unusable: Text of an entry -> why it has no vector.
    """

    path: Path
    m3u: M3U
    songs: list[Song] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)

    @property
    def tracks(self) -> list[LibraryTrack]:
        """Tracks of the songs."""
        return [song.track for song in self.songs]

    def require_songs(self) -> None:
        """Refuse a playlist without songs that can be compared.

        Raises:
            InputError: There are none; the message says why.
        """
        if not self.songs:
            some = [f"{text}: {why}" for text, why in list(self.unusable.items())[:3]]
            reason = f" ({'; '.join(some)})" if some else ": it is empty"
            raise InputError(
                f"{printable_path(str(self.path))}: has no song that the library can compare{reason}"
            )

    def notes(self) -> list[str]:
        """Say of each entry that is left out why, for standard error."""
        return [f"left out  {text}: {why}" for text, why in self.unusable.items()]


def open_playlist(
    path: str | Path, library: Library, *, entries: Iterable[M3UEntry] | None = None
) -> Playlist:
    """Read a playlist, and find its songs in a library.

    Args:
        path: The M3U file.
        library: The library.
        entries: Which of its entries to look for; ``None``: all.

    Raises:
        InputError: There is no such file, or it is not a playlist.
    """
    path = Path(path)
    m3u = read_m3u(path)
    playlist = Playlist(path, m3u)
    finder = Finder(library, path.absolute().parent)
    for entry in m3u.entries if entries is None else entries:
        track = finder.find(entry.text)
        if track is not None and library.row(track) is not None:
            playlist.songs.append(Song(entry, track))
            continue
        text = entry.text.strip()
        shown = printable_path(text if len(text) <= LONGEST_PATH else f"{text[:100]}...")
        if track is not None:
            playlist.unusable[shown] = f"cannot be compared, for it is {', '.join(track.flags)}"
        else:
            playlist.unusable[shown] = finder.why_not(entry.text)
    return playlist


class Finder:
    """Finds the tracks that entries of a playlist mean.

    Args:
        library: The library.
        folder: Folder of the playlist.
    """

    def __init__(self, library: Library, folder: Path) -> None:
        self._library, self._folder = library, folder
        self._by_name: dict[str, list[tuple[tuple[str, ...], LibraryTrack]]] = {}
        for track in library.tracks:
            for path in (track.path, *track.copies):
                parts = tuple(part.casefold() for part in path.parts)
                self._by_name.setdefault(parts[-1], []).append((parts, track))

    def find(self, text: str) -> LibraryTrack | None:
        """Return the track at the path of an entry; else the one that shares most of the end of the path with it.

        A playlist of another machine, such as one with Windows paths, has other folders above the music. Where several
        tracks share as much, none is meant.
        """
        for path in candidates(text, self._folder):
            if (track := self._library.at_path(path)) is not None:
                return track
        parts = tuple(part.casefold() for part in parts_of(text))
        if not parts:
            return None
        shared = [(_common_end(parts, each), track) for each, track in self._by_name.get(parts[-1], [])]
        most = max((count for count, _ in shared), default=0)
        best = {track.id: track for count, track in shared if count == most}
        return next(iter(best.values())) if len(best) == 1 else None

    def why_not(self, text: str) -> str:
        """Say why an entry has no track."""
        if is_stream(text):
            return "an address in a network, and no file"
        if len(text) > LONGEST_PATH:
            return "longer than the path of a file can be"
        for path in candidates(text, self._folder):
            if (failure := self._library.failures.get(str(path))) is not None:
                return f"could not be embedded: {failure.reason}"
            try:
                if path.is_file():
                    return "the library does not have it; scan its folder"
            except (OSError, ValueError):
                continue
        return "there is no such file"


def _common_end(a: Sequence[str], b: Sequence[str]) -> int:
    count = 0
    for one, other in zip(reversed(a), reversed(b), strict=False):
        if one != other:
            break
        count += 1
    return count


def vectors_of(library: Library, tracks: Iterable[LibraryTrack]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the vectors ``(n, O)`` of tracks that have one."""
    rows = [row for track in tracks if (row := library.row(track)) is not None]
    return library.vectors[rows]
