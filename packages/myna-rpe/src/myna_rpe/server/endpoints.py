"""What the endpoints answer, as plain functions of the library and the parameters of a request."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from myna_rpe.server.envelope import SubsonicError
from myna_rpe.server.parameters import Parameters
from myna_rpe.server.sonic_library import SonicLibrary, SonicMatch, SonicTrack
from pentatonic.errors import InputError
from pentatonic.untrusted.files import shortened

MAX_COUNT = 500
"""Most songs in one answer, however many are asked for."""

_ROLES = (
    *("admin", "settings", "download", "upload", "playlist", "coverArt", "comment", "podcast"),
    *("stream", "jukebox", "share", "videoConversion"),
)
_CONTENT_TYPES = {
    "aac": "audio/aac",
    "aif": "audio/aiff",
    "aiff": "audio/aiff",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "mp3": "audio/mpeg",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "wav": "audio/wav",
    "wma": "audio/x-ms-wma",
}


@dataclass(frozen=True)
class Request:
    """One request whose login is right.

    Args:
        library: Where the songs are.
        parameters: What is asked.
        user: Who asks.
    """

    library: SonicLibrary
    parameters: Parameters
    user: str


Endpoint = Callable[[Request], Mapping[str, Any]]


def extensions(*, api_keys: bool) -> dict[str, Any]:
    """The extensions that work here, the one answer that needs no login.

    Args:
        api_keys: Whether there are API keys to log in with.
    """
    names = ["sonicSimilarity", "formPost", *(["apiKeyAuthentication"] if api_keys else [])]
    return {"openSubsonicExtensions": [{"name": name, "versions": [1]} for name in names]}


def _ping(request: Request) -> dict[str, Any]:
    return {}


def _license(request: Request) -> dict[str, Any]:
    return {"license": {"valid": True}}


def _token_info(request: Request) -> dict[str, Any]:
    request.parameters.require("apiKey")
    return {"tokenInfo": {"username": request.user}}


def _user(request: Request) -> dict[str, Any]:
    if request.parameters.require("username") != request.user:
        raise SubsonicError(SubsonicError.FORBIDDEN, "only your own user is shown")
    roles = {f"{role}Role": False for role in _ROLES}
    return {"user": {"username": request.user, "scrobblingEnabled": False, **roles, "folder": [1]}}


def _music_folders(request: Request) -> dict[str, Any]:
    return {"musicFolders": {"musicFolder": [{"id": 1, "name": "Music"}]}}


def _song(request: Request) -> dict[str, Any]:
    return {"song": _child(_known(request, "id"))}


def _search(request: Request) -> dict[str, Any]:
    query = request.parameters.get("query") or ""
    count = request.parameters.count("songCount", 20, most=MAX_COUNT)
    offset = request.parameters.count("songOffset", 0, most=2**31)
    found = request.library.search(
        "" if query == '""' else query, count, offset
    )  # what some clients send for all
    return {"searchResult3": {"artist": [], "album": [], "song": [_child(track) for track in found]}}


def _similar_songs(name: str) -> Endpoint:
    def answer(request: Request) -> dict[str, Any]:
        return {name: {"song": [_child(match.track) for match in _similar(request, default=50)]}}

    return answer


def _sonic_similar_tracks(request: Request) -> dict[str, Any]:
    return _matches(_similar(request, default=10))


def _sonic_path(request: Request) -> dict[str, Any]:
    count = request.parameters.count("count", 25, least=1, most=MAX_COUNT)
    start, end = _known(request, "startSongId"), _known(request, "endSongId")
    if start.id == end.id:
        return {"sonicMatch": [_match(start, 1.0)]}
    if count < 2:
        raise SubsonicError(
            SubsonicError.GENERIC, "count is 1; allowed: 2 or more between two different songs"
        )
    try:
        return _matches(request.library.path_between(start.id, end.id, count))
    except InputError as error:
        raise SubsonicError(SubsonicError.NOT_FOUND, str(error)) from error


ENDPOINTS: Mapping[str, Endpoint] = {
    "ping": _ping,
    "getLicense": _license,
    "tokenInfo": _token_info,
    "getUser": _user,
    "getMusicFolders": _music_folders,
    "getSong": _song,
    "search3": _search,
    "getSimilarSongs": _similar_songs("similarSongs"),
    "getSimilarSongs2": _similar_songs("similarSongs2"),
    "getSonicSimilarTracks": _sonic_similar_tracks,
    "findSonicPath": _sonic_path,
}
"""Name -> endpoint, of those that need a login."""


def _known(request: Request, name: str) -> SonicTrack:
    id = request.parameters.require(name)
    track = request.library.get(id)
    if track is None:
        raise SubsonicError(
            SubsonicError.NOT_FOUND, f"{name} is {shortened(id)}, which is not the id of a song here"
        )
    return track


def _similar(request: Request, *, default: int) -> Iterable[SonicMatch]:
    count = request.parameters.count("count", default, most=MAX_COUNT)
    track = _known(request, "id")
    try:
        return request.library.similar([track.id], count)
    except InputError:
        return []


def _matches(found: Iterable[SonicMatch]) -> dict[str, Any]:
    return {"sonicMatch": [_match(each.track, each.similarity) for each in found]}


def _match(track: SonicTrack, similarity: float) -> dict[str, Any]:
    return {"entry": _child(track), "similarity": _similarity(similarity)}


def _similarity(value: float) -> float:
    """A number in [0, 1]; -1, "not known", where it is not a number."""
    return min(max(float(value), 0.0), 1.0) if math.isfinite(value) else -1.0


def _child(track: SonicTrack) -> dict[str, Any]:
    """A song as the specification's ``Child``, without what is not known."""
    suffix = track.path.suffix.removeprefix(".").lower()
    known = {
        "artist": track.artist,
        "album": track.album,
        "track": track.track,
        "year": track.year,
        "duration": None if track.duration_s is None else round(track.duration_s),
        "size": _size(track.path),
        "suffix": suffix,
        "contentType": _CONTENT_TYPES.get(suffix),
        "comment": ", ".join(track.flags),
    }
    return {
        "id": track.id,
        "isDir": False,
        "title": track.title,
        "path": str(track.path),
        "type": "music",
        "mediaType": "song",
        **{name: value for name, value in known.items() if value not in (None, "")},
    }


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # it was moved, or its name is not one
        return None
