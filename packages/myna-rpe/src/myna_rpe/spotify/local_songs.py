"""What the tags of local files say that helps to find them at Spotify."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from myna_rpe.library.tags import TagReader
from pentatonic.errors import InputError


@dataclass(frozen=True)
class LocalSong:
    """Tags of one file; None where it says nothing.

    Args:
        title: Title.
        artist: Artist.
        isrc: International code of the recording.
        duration_s: Length in seconds.
    """

    title: str | None = None
    artist: str | None = None
    isrc: str | None = None
    duration_s: float | None = None


def read_songs(paths: Iterable[Path]) -> Iterator[tuple[Path, LocalSong | InputError]]:
    """Read the tags of files as the library does: repaired, in a process that a hostile file may crash.

    Args:
        paths: The files.

    Yields:
        Path, and its tags or why they cannot be read.

    Raises:
        MissingExtra: tinytag is not installed.
    """
    with TagReader() as reader:
        for path in paths:
            yield path, _read_song(reader, path)


def _read_song(reader: TagReader, path: Path) -> LocalSong | InputError:
    try:
        found = reader.read_recording(path)
    except InputError as error:
        return error
    return LocalSong(found.tags.title, found.tags.artist, found.isrc, found.duration_s)
