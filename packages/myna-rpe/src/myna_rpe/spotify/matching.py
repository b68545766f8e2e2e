"""Which track of Spotify a local file is: by the code of its recording, or by title, artist and length.

The answers are kept in a file of their own beside the music, and never written into tags.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from myna_rpe.spotify.api import Api
from myna_rpe.spotify.local_songs import LocalSong
from myna_rpe.spotify.playlists import Song
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import json_text
from pentatonic.errors import InputError
from pentatonic.untrusted.config import read_fields
from pentatonic.untrusted.files import read_json

_VERSION = 1
_MOST_SECONDS_APART = 3.0
_ISRC = re.compile(r"[A-Z]{2}[0-9A-Z]{3}[0-9]{7}", re.ASCII)
_IN_BRACKETS = re.compile(r"[(\[][^)\]]*[)\]]")
_GUESTS = re.compile(r"\b(?:feat|ft|featuring)\b.*")
_MAX_FILE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Match:
    """What was found for a local file.

    Args:
        id: Track of Spotify; None: none fits.
        by: What it was found by, or why it was not.
    """

    id: str | None
    by: Literal["isrc", "tags", "not found", "no tags"]


def find_match(api: Api, song: LocalSong) -> Match:
    """Look a file up.

    Args:
        api: The API.
        song: Its tags.

    Returns:
        The first track with its ISRC; else the first with the same title and one same artist, compared without case,
        accents, punctuation and additions in brackets, whose length is at most 3 seconds off.
    """
    code = _code(song.isrc)
    if _ISRC.fullmatch(code):
        for track in api.search_tracks(f"isrc:{code}"):
            if (found := Song.from_track(track)).id and _code(found.isrc) in ("", code):
                return Match(found.id, "isrc")
    if not (song.title and song.artist):
        return Match(None, "not found" if code else "no tags")
    for track in api.search_tracks(f"track:{_quoted(song.title)} artist:{_quoted(song.artist)}"):
        if (found := Song.from_track(track)).id and _is_same(song, found):
            return Match(found.id, "tags")
    return Match(None, "not found")


def _code(isrc: str | None) -> str:
    return re.sub(r"[\s-]", "", isrc or "").upper()


def load_matches(path: Path) -> dict[str, Match]:
    """Read what :func:`save_matches` has written; a missing file has no matches.

    Raises:
        InputError: The file cannot be read or is something else.
    """
    if not path.exists():
        return {}
    content = read_json(path, max_bytes=_MAX_FILE_BYTES, error=InputError)
    matches = content.get("matches") if isinstance(content, dict) else None
    if not isinstance(matches, dict) or content.get("version") != _VERSION:
        raise InputError(f"{path}: allowed: a file of `myna-rpe spotify match-local`, version {_VERSION}")
    return {key: read_fields(Match, value, f"{path}: {key}") for key, value in matches.items()}


def save_matches(path: Path, matches: Mapping[str, Match]) -> None:
    """Write matches; the file appears whole or not at all.

    Raises:
        CheckpointError: It cannot be written.
    """
    values: dict[str, Any] = {key: asdict(match) for key, match in sorted(matches.items())}
    with atomic_file(path, "w") as file:
        file.write(json_text({"version": _VERSION, "matches": values}) + "\n")


def _is_same(song: LocalSong, found: Song) -> bool:
    own_s, found_s = song.duration_s, found.duration_s
    if own_s is not None and found_s is not None and abs(own_s - found_s) > _MOST_SECONDS_APART:
        return False
    artists = {_plain(name) for name in found.artists}
    own = {_plain(song.artist or ""), *(_plain(name) for name in re.split(r"[;/,&]", song.artist or ""))} - {
        ""
    }
    return _plain(song.title or "") == _plain(found.title) and bool(artists & own)


def _plain(text: str) -> str:
    """Letters and digits, without what editions of one recording differ in; one of signs alone, as !!!, unchanged."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    short = _GUESTS.sub("", _IN_BRACKETS.sub("", letters))
    if not _alphanumeric(letters):
        return "".join(letters.split())
    return "".join(c for c in (short if _alphanumeric(short) else letters) if c.isalnum())


def _alphanumeric(text: str) -> bool:
    return any(c.isalnum() for c in text)


def _quoted(text: str) -> str:
    return '"' + " ".join(re.sub(r'["\\:]', " ", text).split())[:100] + '"'
