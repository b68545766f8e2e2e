"""The similarity server asked by a real client of its protocol, in both ways in which that client asks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")
libopensonic = pytest.importorskip("libopensonic")
errors = pytest.importorskip("libopensonic.errors")

PROGRAM = Path(__file__).parent / "programs" / "serve_memory.py"
PASSWORD, KEY = "sesame", "key-4f1c"
MODES = [{}, {"use_get": True, "use_views": False}]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    command = [sys.executable, "-P", str(PROGRAM), "serve", "--port", "0", "--user", "anna"]
    secrets = {"MYNA_RPE_PASSWORD": PASSWORD, "MYNA_RPE_API_KEY": KEY}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | secrets) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().split()[4].rpartition(":")[2])
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
        finally:
            process.kill()


@pytest.fixture(params=MODES, ids=["form", "query"])
def client(port: int, request: pytest.FixtureRequest) -> Iterator[Any]:
    connection = libopensonic.Connection(
        "http://127.0.0.1", username="anna", password=PASSWORD, port=port, **request.param
    )
    yield connection
    connection.cleanup()


def test_the_client_finds_the_extension(client: Any) -> None:
    assert client.ping() is True
    found = {extension.name: extension.versions for extension in client.get_open_subsonic_extensions()}
    assert found == {"sonicSimilarity": [1], "formPost": [1], "apiKeyAuthentication": [1]}
    assert client.get_license()["license"]["valid"] is True
    user = client.get_user("anna")
    assert user.username == "anna" and user.admin_role is False


def test_the_client_gets_similar_tracks_and_paths(client: Any) -> None:
    [song] = client.search3("erste").song
    assert (song.id, song.artist, song.duration, song.year) == ("s0", "Ä", 62, 1999)
    assert client.get_song("s0").album == "B"
    matches = client.get_sonic_similar_tracks("s50", count=3)
    assert [match.entry.id for match in matches] == ["s49", "s51", "s48"]
    assert [match.similarity for match in matches] == [0.999, 0.999, 0.998]
    path = client.find_sonic_path("s10", "s30", count=5)
    assert [match.entry.id for match in path] == ["s10", "s15", "s20", "s25", "s30"]
    assert [song.id for song in client.get_similar_songs("s50", count=1)] == ["s49"]
    assert [song.id for song in client.get_similar_songs2("s50", count=1)] == ["s49"]
    assert client.get_sonic_similar_tracks("silent") == []


def test_the_client_raises_its_own_errors(client: Any) -> None:
    with pytest.raises(errors.DataNotFoundError, match="not the id of a song"):
        client.get_sonic_similar_tracks("nothing")
    with pytest.raises(errors.ParameterError, match="id is missing"):
        client.get_song("")
    with pytest.raises(errors.SonicError, match="not served here"):
        client.get_artists()


@pytest.mark.parametrize("mode", MODES, ids=["form", "query"])
def test_the_client_logs_in_with_a_key_or_not_at_all(port: int, mode: dict[str, bool]) -> None:
    by_key = libopensonic.Connection("http://127.0.0.1", port=port, api_key=KEY, **mode)
    assert by_key.ping() is True and by_key.token_info().username == "anna"
    by_key.cleanup()
    wrong = libopensonic.Connection("http://127.0.0.1", username="anna", password="x", port=port, **mode)
    with pytest.raises(errors.CredentialError, match="wrong user name or password"):
        wrong.ping()
    wrong.cleanup()


def test_the_client_logs_in_with_the_password_itself(port: int) -> None:
    old = libopensonic.Connection(
        "http://127.0.0.1", username="anna", password=PASSWORD, port=port, legacy_auth=True
    )
    assert old.ping() is True
    old.cleanup()
