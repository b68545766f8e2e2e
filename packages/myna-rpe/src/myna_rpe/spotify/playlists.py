"""Playlists of Spotify as files, and files as playlists."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from myna_rpe.spotify.api import Api, Unclear
from pentatonic.cli import json_text
from pentatonic.errors import InputError
from pentatonic.untrusted.files import read_json, shortened

BATCH = 100
"""Most tracks that one call may add."""

_ID = re.compile(
    r"(?:spotify:track:|https://open\.spotify\.com/track/)?([0-9A-Za-z]{22})(?:\?\S*)?", re.ASCII
)
_PLAYLIST_ID = re.compile(
    r"(?:spotify:playlist:|https://open\.spotify\.com/playlist/)?([0-9A-Za-z]{22})(?:\?\S*)?", re.ASCII
)
_MAX_LIST_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Song:
    """One track of Spotify.

    Args:
        id: Its id; None: a file of the user's that Spotify only lists.
        title: Title.
        artists: Names.
        isrc: International code of the recording.
        duration_s: Length in seconds.
    """

    id: str | None
    title: str
    artists: tuple[str, ...]
    isrc: str | None
    duration_s: float | None

    @classmethod
    def from_track(cls, track: Mapping[str, Any]) -> Song:
        """Read the object of the API."""
        milliseconds = track.get("duration_ms")
        return cls(
            id=track.get("id"),
            title=track.get("name") or "",
            artists=tuple(artist.get("name") or "" for artist in track.get("artists") or ()),
            isrc=(track.get("external_ids") or {}).get("isrc"),
            duration_s=None if milliseconds is None else milliseconds / 1000,
        )


def playlist_id(text: str) -> str:
    """Read the id of a playlist: itself, its URI or its address.

    Raises:
        InputError: It is something else.
    """
    if match := _PLAYLIST_ID.fullmatch(text.strip()):
        return match[1]
    raise InputError(
        f"{shortened(text)} is not a playlist; allowed: an id of 22 letters and digits, a URI or an address"
    )


def songs(items: Iterable[Mapping[str, Any]]) -> Iterator[Song]:
    """The songs among the items of a playlist; episodes, and tracks that no longer exist, are left out."""
    for item in items:
        track = item.get("item") or item.get("track")
        if track and track.get("type", "track") == "track":
            yield Song.from_track(track)


def to_json(found: Sequence[Song]) -> str:
    """Write songs as a list that :func:`read_list` reads."""
    return json_text({"tracks": [asdict(song) for song in found]}) + "\n"


def to_csv(found: Sequence[Song]) -> str:
    """Write songs as a table; several artists are separated by ``; ``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "title", "artists", "isrc", "duration_s"])
    for song in found:
        writer.writerow([song.id, song.title, "; ".join(song.artists), song.isrc, song.duration_s])
    return text.getvalue()


def absolute(path: str | Path) -> str:
    """The path under which a local file is looked up."""
    return str(Path(path).absolute())


@dataclass(frozen=True)
class TrackList:
    """What a file asks for.

    Args:
        ids: Tracks of Spotify in order.
        missing: Local files that have no track.
    """

    ids: tuple[str, ...]
    missing: tuple[str, ...]


def read_list(path: Path, matches: Mapping[str, str] | None = None) -> TrackList:
    """Read a JSON file: a list of objects, or an object with such a list as ``tracks`` or ``steps``.

    Args:
        path: The file.
        matches: Absolute path -> track id: each object is looked up by its ``path``, as in the playlists of a library.
            None: each object has the track in ``id``.

    Raises:
        InputError: The file cannot be read, or an object lacks what is needed.
    """
    content = read_json(path, max_bytes=_MAX_LIST_BYTES, error=InputError)
    entries = content.get("tracks", content.get("steps")) if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise InputError(f"{path}: allowed: a list of objects, or an object with it as 'tracks' or 'steps'")
    key = "id" if matches is None else "path"
    ids, missing = [], []
    for number, entry in enumerate(entries, 1):
        value = entry.get(key) if isinstance(entry, dict) else None
        if matches is None and value is None and isinstance(entry, dict) and entry.get("title"):
            missing.append(str(entry["title"]))  # exported from a playlist that lists a file of the user's
            continue
        if not isinstance(value, str):
            raise InputError(f"{path}: entry {number} has no text {key!r}; allowed: an object with it")
        found = value if matches is None else matches.get(absolute(value))
        if found is None:
            missing.append(value)
            continue
        if (match := _ID.fullmatch(found)) is None:
            raise InputError(
                f"{path}: entry {number} is {shortened(found)}; allowed: the id of a track of Spotify"
            )
        ids.append(match[1])
    return TrackList(tuple(ids), tuple(missing))


def add_missing(
    api: Api, playlist: str, ids: Sequence[str], *, added: Callable[[int], object] = lambda _: None
) -> int:
    """Add the tracks that a playlist does not hold yet, each as often as it is asked for.

    The playlist is read first, and again after a call without an answer, so that nothing is added twice.

    Args:
        api: The API.
        playlist: Id of the playlist.
        ids: What it should hold.
        added: Is told how many tracks each call has added.

    Returns:
        How many tracks were missing at the start.

    Raises:
        SpotifyError: As :class:`Api`; what was added stays, and the next call goes on from there.
    """
    missing = at_start = _missing(ids, api.playlist_items(playlist))
    failures = 0
    while missing:
        batch = missing[:BATCH]
        try:
            api.add(playlist, batch)
        except Unclear:
            failures += 1
            if failures == api.patience.attempts:
                raise
            api.wait(failures)
            before, missing = len(missing), _missing(ids, api.playlist_items(playlist))
            if len(missing) < before:
                added(before - len(missing))
            continue
        failures = 0
        added(len(batch))
        missing = missing[BATCH:]
    return len(at_start)


def _missing(ids: Sequence[str], items: Iterable[Mapping[str, Any]]) -> list[str]:
    there = Counter(song.id for song in songs(items))
    missing = []
    for id in ids:
        if there[id]:
            there[id] -= 1
        else:
            missing.append(id)
    return missing
