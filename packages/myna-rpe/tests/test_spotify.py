"""Playlists to and from Spotify, with a stand-in for the service: no network and no login."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import stat
import sys
import wave
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("spotipy")
pytest.importorskip("tinytag")

from requests.exceptions import ConnectionError as NoConnection
from spotipy.exceptions import SpotifyException, SpotifyOauthError

from myna_rpe.spotify import login
from myna_rpe.spotify.api import (
    Api,
    EndpointGone,
    LoginFailed,
    Patience,
    RateLimited,
    SpotifyError,
    Unclear,
)
from myna_rpe.spotify.commands import app
from myna_rpe.spotify.local_songs import LocalSong, read_songs
from myna_rpe.spotify.matching import Match, find_match, load_matches, save_matches
from myna_rpe.spotify.playlists import add_missing, playlist_id, read_list
from pentatonic.errors import InputError, UsageError

PLAYLIST = "P" * 22
GONE = SpotifyException(410, -1, "https://api.example/v1/x?q=1:\n gone")


def key(number: int) -> str:
    return f"{number:022d}"


def track(number: int, **changes: Any) -> dict[str, Any]:
    return {
        **{"type": "track", "id": key(number), "name": f"Song {number}", "duration_ms": 61_500},
        **{"artists": [{"name": "Ann"}, {"name": "Bo"}], "external_ids": {"isrc": f"DEABC26{number:05d}"}},
        **changes,
    }


class Fake:
    """Spotify with one playlist. ``failures`` are raised one after the other, before or after a call takes effect."""

    def __init__(self, tracks: Sequence[dict[str, Any]] = (), field: str = "item") -> None:
        self.tracks, self.field = list(tracks), field
        self.before: list[Exception | None] = []
        self.after: list[Exception | None] = []
        self.calls: list[tuple[Any, ...]] = []
        self.found: dict[str, list[Any]] = {}

    def _fail(self, failures: list[Exception | None]) -> None:
        if failures and (failure := failures.pop(0)) is not None:
            raise failure

    def playlist_items(self, playlist_id: str, *, limit: int, offset: int) -> Any:
        self.calls.append(("items", playlist_id, offset))
        self._fail(self.before)
        page = self.tracks[offset : offset + limit]
        more = offset + limit < len(self.tracks)
        return {"items": [{self.field: each} for each in page], "next": "https://x" if more else None}

    def current_user_saved_tracks(self, *, limit: int, offset: int) -> Any:
        self.calls.append(("saved", offset))
        return {"items": [{"track": each} for each in self.tracks[offset : offset + limit]], "next": None}

    def current_user_playlist_create(self, name: str, *, public: bool, description: str) -> Any:
        self.calls.append(("create", name, public))
        self._fail(self.before)
        return {"id": PLAYLIST}

    def playlist_add_items(self, playlist_id: str, items: list[str]) -> Any:
        self.calls.append(("add", playlist_id, len(items)))
        self._fail(self.before)
        assert len(items) <= 100 and all(item.startswith("spotify:track:") for item in items)
        self.tracks += [track(int(item[-22:])) for item in items]
        self._fail(self.after)

    def search(self, q: str, *, limit: int, type: str) -> Any:
        self.calls.append(("search", q))
        self._fail(self.before)
        assert limit <= 10 and type == "track"
        return {"tracks": {"items": self.found.get(q, [])}}

    def count(self, kind: str) -> int:
        return sum(call[0] == kind for call in self.calls)

    @property
    def ids(self) -> list[str]:
        return [each["id"] for each in self.tracks]


class Waits(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def make_api(fake: Fake, waits: Waits | None = None, **patience: Any) -> Api:
    return Api(
        fake, Patience(**patience), sleep=Waits() if waits is None else waits, jitter=lambda low, high: high
    )


def status(number: int, said: str = "no", **headers: str) -> SpotifyException:
    return SpotifyException(
        number,
        -1,
        f"https://api.example/v1/x?market=secret:\n {said}",
        headers={k.replace("_", "-"): v for k, v in headers.items()},
    )


# Calls.


def test_temporary_failures_are_repeated_with_growing_waits() -> None:
    fake, waits = Fake([track(1)]), Waits()
    fake.before = [status(502), NoConnection(), status(503), status(504)]
    assert len(list(make_api(fake, waits, longest_s=3.0).playlist_items(PLAYLIST))) == 1
    assert waits == [1.0, 2.0, 3.0, 3.0]


def test_waits_are_random() -> None:
    fake, waits = Fake(), Waits()
    fake.before = [status(502)] * 5
    list(Api(fake, sleep=waits).playlist_items(PLAYLIST))
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, (1, 2, 4, 8, 16), strict=True))
    assert waits != [1, 2, 4, 8, 16]


def test_a_wait_that_spotify_asks_for_is_kept() -> None:
    fake, waits = Fake(), Waits()
    fake.before = [status(429, Retry_After="17"), status(429)]
    list(make_api(fake, waits).playlist_items(PLAYLIST))
    assert waits == [17.0 + 1.0, 2.0]
    fake.before = [status(429, Retry_After="86400")]
    with pytest.raises(RateLimited, match="no calls for 86400 seconds"):
        list(make_api(fake, waits).playlist_items(PLAYLIST))
    assert len(waits) == 2


def test_failures_come_to_an_end() -> None:
    for failure, expected in [(status(500), SpotifyError), (status(429, Retry_After="1"), RateLimited)]:
        fake, waits = Fake(), Waits()
        fake.before = [failure] * 100
        with pytest.raises(expected):
            list(make_api(fake, waits, attempts=3).playlist_items(PLAYLIST))
        assert fake.count("items") == 3 and len(waits) == 2


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (status(410), EndpointGone),
        (status(404), EndpointGone),
        (status(403), EndpointGone),
        (status(403, "Insufficient client scope"), LoginFailed),
        (status(401), LoginFailed),
        (status(418), SpotifyError),
        (SpotifyOauthError("token abc", error="invalid_grant"), LoginFailed),
    ],
)
def test_refusals_are_typed_and_not_repeated(failure: Exception, expected: type[Exception]) -> None:
    fake = Fake()
    fake.before = [failure]
    with pytest.raises(SpotifyError) as caught:
        make_api(fake).search_tracks("x")
    assert type(caught.value) is expected and fake.count("search") == 1
    assert "secret" not in str(caught.value) and "abc" not in str(caught.value)


def test_a_playlist_that_is_not_there_is_no_dead_endpoint() -> None:
    fake = Fake()
    for number in (400, 403, 404):
        fake.before = [status(number)]
        with pytest.raises(InputError, match=f"playlist {PLAYLIST}: not found, or not for you"):
            list(make_api(fake).playlist_items(PLAYLIST))
    fake.before = [GONE]
    with pytest.raises(EndpointGone, match="no longer offers"):
        list(make_api(fake).playlist_items(PLAYLIST))


# Adding.


def test_tracks_are_added_in_batches_of_100() -> None:
    fake = Fake()
    ids = [key(i) for i in range(230)]
    told: list[int] = []
    assert add_missing(make_api(fake), PLAYLIST, ids, added=told.append) == 230
    assert fake.ids == ids and told == [100, 100, 30]


def test_adding_again_adds_only_what_is_missing() -> None:
    fake = Fake([track(i) for i in range(120)])
    ids = [key(i) for i in range(130)]
    assert add_missing(make_api(fake), PLAYLIST, ids) == 10 and fake.ids == ids
    assert add_missing(make_api(fake), PLAYLIST, ids) == 0 and fake.ids == ids and fake.count("add") == 1
    # Each as often as it is asked for.
    assert add_missing(make_api(fake), PLAYLIST, [key(1), key(1)]) == 1 and fake.ids == [*ids, key(1)]


@pytest.mark.parametrize("failure", [status(502), NoConnection()])
def test_what_may_have_been_added_is_looked_up(failure: Exception) -> None:
    ids = [key(i) for i in range(230)]
    for applied in (True, False):
        fake, waits, told = Fake(), Waits(), []
        if applied:
            fake.after = [None, failure]
        else:
            fake.before = [None, None, failure]  # reading, adding, adding
        assert add_missing(make_api(fake, waits), PLAYLIST, ids, added=told.append) == 230
        assert fake.ids == ids and sum(told) == 230 and len(waits) == 1


def test_adding_gives_up() -> None:
    fake = Fake()
    fake.after = [status(502)] * 3
    fake.playlist_items = lambda *_, **__: {"items": [], "next": None}  # type: ignore[method-assign]
    with pytest.raises(Unclear):
        add_missing(make_api(fake, attempts=3), PLAYLIST, [key(1)])
    assert fake.count("add") == 3


# Files.


@pytest.mark.parametrize(
    "text",
    [
        PLAYLIST,
        f"spotify:playlist:{PLAYLIST}",
        f"https://open.spotify.com/playlist/{PLAYLIST}?si=x",
        f" {PLAYLIST}\n",
    ],
)
def test_names_of_playlists(text: str) -> None:
    assert playlist_id(text) == PLAYLIST


@pytest.mark.parametrize("text", ["", "x", "P" * 23, f"../{PLAYLIST}", "spotify:track:" + "P" * 22, "é" * 22])
def test_what_is_not_a_playlist(text: str) -> None:
    with pytest.raises(InputError, match="is not a playlist; allowed"):
        playlist_id(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("5", "allowed: a list of objects"),
        ("{}", "allowed: a list of objects"),
        ('{"tracks": {}}', "allowed: a list of objects"),
        ('{"tracks": [5]}', "entry 1 has no text 'id'"),
        ('{"tracks": [{"id": 5}]}', "entry 1 has no text 'id'"),
        ('{"tracks": [{"id": "short"}]}', "entry 1 is 'short'; allowed: the id of a track"),
        ("{", "not JSON"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_list(path)


@pytest.mark.parametrize("key_of_list", [None, "tracks", "steps"])
def test_entries_are_looked_up_by_path(tmp_path: Path, key_of_list: str | None) -> None:
    path = tmp_path / "list.json"
    entries = [{"id": "index-7", "path": "a.mp3"}, {"path": "b.mp3"}, {"path": str(tmp_path / "c.mp3")}]
    path.write_text(json.dumps(entries if key_of_list is None else {key_of_list: entries}))
    wanted = read_list(path, {str(Path("a.mp3").absolute()): key(1), str(tmp_path / "c.mp3"): key(2)})
    assert (wanted.ids, wanted.missing) == ((key(1), key(2)), ("b.mp3",))


# Matching.

SONG = LocalSong("Für Élise (Remastered)", "Ann", "DE-ABC-26-00001", 60.0)
BY_TAGS = 'track:"Für Élise (Remastered)" artist:"Ann"'


def test_the_code_of_the_recording_comes_first() -> None:
    fake = Fake()
    fake.found = {"isrc:DEABC2600001": [None, track(1)], BY_TAGS: [track(2, name="Fur elise")]}
    assert find_match(make_api(fake), SONG) == Match(key(1), "isrc") and fake.count("search") == 1
    del fake.found["isrc:DEABC2600001"]
    assert find_match(make_api(fake), SONG) == Match(key(2), "tags")


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({"name": "FUR ELISE feat. Cy"}, True),
        ({"name": "Für Elise", "duration_ms": 62_900}, True),
        ({"name": "Für Elise", "duration_ms": 63_100}, False),
        ({"name": "Für Elise", "artists": [{"name": "Bo"}]}, False),
        ({"name": "Für Anna"}, False),
        ({"name": "Für Elise", "id": None}, False),
    ],
)
def test_tags_have_to_agree(changes: dict[str, Any], fits: bool) -> None:
    fake = Fake()
    fake.found = {BY_TAGS: [track(2, **changes)]}
    assert (find_match(make_api(fake), SONG).id is not None) is fits


def test_a_title_in_brackets_is_a_title() -> None:
    fake = Fake()
    fake.found = {'track:"(What)" artist:"Ann"': [track(3, name="(Who)")]}
    assert find_match(make_api(fake), LocalSong("(What)", "Ann")) == Match(None, "not found")


@pytest.mark.parametrize(
    ("song", "found", "fits"),
    [
        (LocalSong("Pardon", "!!!"), {"name": "Pardon", "artists": [{"name": "!!!"}]}, True),
        (LocalSong("Pardon", "!!!"), {"name": "Pardon", "artists": [{"name": "???"}]}, False),
        (LocalSong("...", "Ann"), {"name": "..."}, True),
        (LocalSong("...", "Ann"), {"name": "???"}, False),
        (LocalSong("...", "Ann"), {"name": ""}, False),
    ],
)
def test_names_of_signs_alone_are_compared(song: LocalSong, found: dict[str, Any], fits: bool) -> None:
    fake = Fake()
    fake.search = lambda q, *, limit, type: {"tracks": {"items": [track(2, **found)]}}  # type: ignore[method-assign]
    assert (find_match(make_api(fake), song).id is not None) is fits


def test_an_answer_with_another_code_is_not_taken() -> None:
    fake = Fake()
    other = {"external_ids": {"isrc": "DEABC2699999"}}
    fake.found = {
        "isrc:DEABC2600001": [track(1, **other), track(2, external_ids={"isrc": "de-abc-26-00001"})]
    }
    assert find_match(make_api(fake), SONG) == Match(key(2), "isrc")
    fake.found = {"isrc:DEABC2600001": [track(3, external_ids={})]}
    assert find_match(make_api(fake), SONG) == Match(key(3), "isrc")


def test_without_tags_nothing_is_asked() -> None:
    fake = Fake()
    assert find_match(make_api(fake), LocalSong(title="x", isrc="no code")) == Match(None, "not found")
    assert find_match(make_api(fake), LocalSong()) == Match(None, "no tags") and fake.calls == []


def test_tags_cannot_change_the_search() -> None:
    fake = Fake()
    find_match(make_api(fake), LocalSong('a" year:1999', "b\\"))
    assert fake.calls == [("search", 'track:"a year 1999" artist:"b"')]


def test_matches_come_back(tmp_path: Path) -> None:
    path = tmp_path / "matches.json"
    matches = {"a\udcff.mp3": Match(key(1), "isrc"), "b.mp3": Match(None, "not found")}
    assert load_matches(path) == {}
    save_matches(path, matches)
    assert load_matches(path) == matches
    path.write_text('{"version": 2, "matches": {}}')
    with pytest.raises(InputError, match="version 1"):
        load_matches(path)


def write_song(path: Path, title: str | None = None) -> Path:
    """A second of silence; the tags are a chunk of the file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(b"\x80" * 8000)
    if title is not None:
        fields = b"".join(
            name + len(text).to_bytes(4, "little") + text
            for name, text in ((b"INAM", title.encode().ljust(20, b"\0")), (b"IART", b"Ann\0"))
        )
        chunk = b"LIST" + (4 + len(fields)).to_bytes(4, "little") + b"INFO" + fields
        content = path.read_bytes() + chunk
        path.write_bytes(content[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:])
    return path


def test_tags_of_local_files(tmp_path: Path) -> None:
    good, bad = write_song(tmp_path / "a.wav", "Song 1"), tmp_path / "b.wav"
    bad.write_bytes(b"RIFF")
    found = dict(read_songs([good, bad, tmp_path / "absent.wav"]))
    assert found[good] == LocalSong("Song 1", "Ann", None, 1.0)
    assert isinstance(found[tmp_path / "absent.wav"], InputError)


def test_tags_of_local_files_are_repaired(tmp_path: Path) -> None:
    song = write_song(tmp_path / "a.wav", "CafÃ©\x1b")
    assert dict(read_songs([song])) == {song: LocalSong("Café", "Ann", None, 1.0)}


def test_a_pipe_among_local_files_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ogg")
    (found,) = (song for _, song in read_songs([tmp_path / "pipe.ogg"]))
    assert "named pipe" in str(found)


# Login.

ENVIRONMENT = {"SPOTIPY_CLIENT_ID": "app", "SPOTIPY_REDIRECT_URI": "http://127.0.0.1:8765/back"}


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "",
            "http://localhost:8765/",
            "http://127.0.0.1/",
            "https://127.0.0.1:8765",
            "http://example.org:80",
        ),
        *("http://127.0.0.1:port", "http://127.0.0.1.example.org:80"),
    ],
)
def test_the_code_of_a_login_comes_to_this_machine(uri: str) -> None:
    with pytest.raises(UsageError, match=r"allowed: http://127\.0\.0\.1:PORT/PATH"):
        login.Settings.from_environment({**ENVIRONMENT, "SPOTIPY_REDIRECT_URI": uri})


def test_settings_come_from_the_environment() -> None:
    with pytest.raises(UsageError, match="SPOTIPY_CLIENT_ID is not set"):
        login.Settings.from_environment({})
    settings = login.Settings.from_environment({**ENVIRONMENT, "SPOTIPY_CLIENT_SECRET": "hush"})
    assert settings.client_secret == "hush" and "hush" not in repr(settings)


def test_tokens_are_kept_for_the_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    paths = {
        login.cache_file("app", scopes) for scopes in (login.READ_LIKED, login.READ_PLAYLISTS, login.SEARCH)
    }
    assert len(paths) == 3 and {path.parent for path in paths} == {tmp_path / "myna-rpe"}
    cache = login.TokenCache(login.cache_file("app", login.SEARCH))
    assert cache.get_cached_token() is None
    before = os.umask(0)
    try:
        cache.save_token_to_cache({"access_token": "one"})
        cache.save_token_to_cache({"access_token": "two"})
    finally:
        os.umask(before)
    assert cache.get_cached_token() == {"access_token": "two"}
    assert [path.name for path in cache.path.parent.iterdir()] == [cache.path.name]
    assert stat.S_IMODE(cache.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.path.parent.stat().st_mode) == 0o700
    cache.path.write_text("[")
    assert cache.get_cached_token() is None


def test_a_login_asks_for_no_more_than_it_needs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    caplog.set_level(logging.DEBUG)
    asked: list[dict[str, Any]] = []

    class Session:
        def post(self, url: str, **request: Any) -> Any:
            asked.append({"url": url, **request})
            return self

        def raise_for_status(self) -> None:
            pass

        def json(self) -> dict[str, Any]:
            scope = "playlist-read-private"
            return {"access_token": "hush-1", "refresh_token": "hush-2", "expires_in": 3600, "scope": scope}

    monkeypatch.setattr("spotipy.oauth2.SpotifyPKCE._get_auth_response", lambda *_, **__: "hush-code")
    monkeypatch.setattr("spotipy.oauth2.requests.Session", Session)
    settings = login.Settings.from_environment(ENVIRONMENT)
    for _ in range(2):  # the second time the token is known
        api = login.connect(login.READ_PLAYLISTS, settings)
    assert len(asked) == 1 and asked[0]["data"]["code_verifier"] and "client_secret" not in asked[0]["data"]
    printed = capsys.readouterr()
    assert "scope=playlist-read-private" in printed.err and "code_challenge_method=S256" in printed.err
    assert printed.err.count("Log in to Spotify in the browser") == 1
    assert api.client.auth_manager.get_access_token() == "hush-1"  # type: ignore[attr-defined]
    assert "hush" not in caplog.text + printed.out + printed.err


# Commands.


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """What the commands are connected to; the scopes they ask for are calls, too."""
    fake = Fake()

    def connect(scopes: tuple[str, ...]) -> Api:
        fake.calls.append(("connect", *scopes))
        return make_api(fake)

    monkeypatch.setattr(login, "connect", connect)
    return fake


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("field", ["item", "track"])
def test_export(fake: Fake, tmp_path: Path, field: str) -> None:
    fake.field = field
    episode = {"type": "episode", "id": key(7)}
    own = track(0, id=None, external_ids={}, name='My, "own"', duration_ms=None)
    fake.tracks = [*(track(i) for i in range(60)), None, episode, own]  # type: ignore[list-item]
    out = tmp_path / "list.csv"
    run("export-playlist", PLAYLIST, "--out", out)
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert len(rows) == 61
    assert rows[59] == {
        **{
            "id": key(59),
            "title": "Song 59",
            "artists": "Ann; Bo",
            "isrc": "DEABC2600059",
            "duration_s": "61.5",
        }
    }
    assert (rows[60]["id"], rows[60]["title"], rows[60]["duration_s"]) == ("", 'My, "own"', "")
    exported = json.loads(run("export-playlist", f"spotify:playlist:{PLAYLIST}"))
    assert exported["tracks"][1]["artists"] == ["Ann", "Bo"] and len(exported["tracks"]) == 61
    assert fake.calls[0] == ("connect", "playlist-read-private")
    path = tmp_path / "list.json"
    path.write_text(json.dumps(exported))
    assert read_list(path).ids == tuple(key(i) for i in range(60)) and read_list(path).missing == (
        'My, "own"',
    )


def test_export_of_liked_songs(fake: Fake) -> None:
    fake.tracks = [track(1)]
    assert run("export-playlist", "liked", "--format", "csv").splitlines()[1].startswith(key(1))
    assert fake.calls == [("connect", "user-library-read"), ("saved", 0)]


def test_creation_is_a_dry_run_by_default(fake: Fake, tmp_path: Path) -> None:
    source = tmp_path / "Evening.json"
    source.write_text(json.dumps({"tracks": [{"id": key(1)}, {"id": f"spotify:track:{key(2)}"}]}))
    assert run("create-playlist", "--from", source) == (
        "would put 2 tracks into the new private playlist 'Evening' (--create does it)\n"
    )
    assert fake.calls == [] and [path.name for path in tmp_path.iterdir()] == ["Evening.json"]


def test_creation_goes_on_where_it_stopped(fake: Fake, tmp_path: Path) -> None:
    source = tmp_path / "Evening.json"
    source.write_text(json.dumps({"tracks": [{"id": key(i)} for i in range(150)]}))
    fake.before = [None, None, None, GONE]  # create, read, add, add
    with pytest.raises(EndpointGone):
        run("create-playlist", "--from", source, "--create")
    assert len(fake.tracks) == 100
    assert "50 tracks added" in run("create-playlist", "--from", source, "--create")
    assert "0 tracks added" in run("create-playlist", "--from", source, "--create")
    assert fake.ids == [key(i) for i in range(150)] and fake.count("create") == 1
    assert ("create", "Evening", False) in fake.calls
    assert fake.calls[0] == ("connect", "playlist-modify-private", "playlist-read-private")


def test_a_creation_without_an_answer_is_not_repeated(fake: Fake, tmp_path: Path) -> None:
    source = tmp_path / "list.json"
    source.write_text(json.dumps({"tracks": [{"id": key(1)}]}))
    fake.before = [status(502)]
    with pytest.raises(SpotifyError, match="if it is in your library now, go on with --into ID"):
        run("create-playlist", "--from", source, "--create", "--public")
    assert (
        fake.count("create") == 1
        and ("connect", "playlist-modify-public", "playlist-read-private") in fake.calls
    )
    run("create-playlist", "--from", source, "--create", "--into", PLAYLIST)
    assert fake.ids == [key(1)] and fake.count("create") == 1


def test_nothing_to_create(fake: Fake, tmp_path: Path) -> None:
    source = tmp_path / "list.json"
    source.write_text('{"tracks": []}')
    with pytest.raises(InputError, match="no entry has a track of Spotify"):
        run("create-playlist", "--from", source)


def test_local_files_become_a_playlist(fake: Fake, tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    one, two = write_song(music / "1.wav", "Song 1"), write_song(music / "2.wav")
    fake.found = {'track:"Song 1" artist:"Ann"': [track(1, duration_ms=1000)]}
    out = tmp_path / "matches.json"
    before = one.read_bytes()
    assert run("match-local", music, "--out", out).startswith("1 of 2 files have a track; 2 were looked up")
    assert load_matches(out) == {str(one): Match(key(1), "tags"), str(two): Match(None, "no tags")}
    assert (
        fake.calls == [("connect",), ("search", 'track:"Song 1" artist:"Ann"')] and one.read_bytes() == before
    )
    assert "; 0 were looked up" in run("match-local", music, "--out", out)
    assert "; 1 were looked up" in run("match-local", music, "--out", out, "--retry")
    source = tmp_path / "list.json"
    source.write_text(json.dumps({"tracks": [{"path": str(one)}, {"path": str(two)}]}))
    assert "would put 1 tracks" in run("create-playlist", "--from", source, "--matches", out)


def test_the_files_of_a_library_are_matched(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = write_song(tmp_path / "1.wav", "Song 1")
    fake.found = {'track:"Song 1" artist:"Ann"': [track(1, duration_ms=1000)]}
    asked = []

    def open_library(index: Path | None, name: str) -> Any:
        asked.append((index, name))
        return SimpleNamespace(tracks=[SimpleNamespace(path=song)])

    commands = ModuleType("myna_rpe.library.commands")
    monkeypatch.setitem(sys.modules, "myna_rpe.library", ModuleType("myna_rpe.library"))
    monkeypatch.setitem(sys.modules, commands.__name__, commands)
    monkeypatch.setattr(commands, "open_library", open_library, raising=False)
    out = tmp_path / "matches.json"
    assert run("match-local", "--out", out, "--library", "home").startswith("1 of 1 files have a track")
    assert asked == [(None, "home")] and list(load_matches(out)) == [str(song)]


def test_an_interrupted_matching_keeps_what_it_has(fake: Fake, tmp_path: Path) -> None:
    one, two = (write_song(tmp_path / f"{i}.wav", f"Song {i}") for i in (1, 2))
    fake.before = [None, GONE]
    out = tmp_path / "matches.json"
    with pytest.raises(EndpointGone):
        run("match-local", one, two, "--out", out)
    assert list(load_matches(out)) == [str(one)]
