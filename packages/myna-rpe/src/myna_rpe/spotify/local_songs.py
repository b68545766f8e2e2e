"""What the tags of local files say that helps to find them at Spotify."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pentatonic.child_process import ChildFailure, ChildProcess, Message
from pentatonic.errors import InputError, MissingExtra

_SECONDS, _MEMORY_BYTES = 20.0, 2**30
_MOST_CHARACTERS = 300


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
    """Read the tags of files in a process of their own, which a hostile file may crash.

    Args:
        paths: The files.

    Yields:
        Path, and its tags or why they cannot be read.

    Raises:
        MissingExtra: tinytag is not installed.
    """
    _import_tinytag()
    child = ChildProcess("myna_rpe.spotify.local_songs:answer", seconds=_SECONDS, memory_bytes=_MEMORY_BYTES)
    with child:
        for path in paths:
            absolute = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  (the child works in another folder)
            try:
                yield path, LocalSong(**child.ask(Message({"path": absolute})).value)
            except ChildFailure as failure:
                yield path, InputError(f"the reader of its tags {failure}")
            except InputError as error:
                yield path, error


def answer(request: Message) -> Message:
    """Read the tags of ``request.value["path"]``, in the child.

    Raises:
        InputError: They cannot be read.
    """
    tinytag = _import_tinytag()
    try:
        found = tinytag.TinyTag.get(request.value["path"])
    except Exception as error:  # a parser of hostile files raises errors of any kind
        raise InputError(f"its tags cannot be read ({type(error).__name__})") from error
    codes = found.other.get("isrc") or [None]
    song = LocalSong(
        _text(found.title), _text(found.artist or found.albumartist), _text(codes[0]), found.duration
    )
    return Message(asdict(song))


def _text(value: Any) -> str | None:
    return " ".join(value.split())[:_MOST_CHARACTERS] or None if isinstance(value, str) else None


def _import_tinytag() -> Any:
    try:
        import tinytag
    except ImportError as error:
        raise MissingExtra("Reading tags", "myna-rpe[spotify]") from error
    return tinytag
