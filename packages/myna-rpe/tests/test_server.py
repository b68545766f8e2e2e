"""The similarity server on a real port, asked as its clients ask."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from myna_rpe.server.app import build_app
from myna_rpe.server.credentials import Credentials, read_credentials
from myna_rpe.server.envelope import SubsonicError
from myna_rpe.server.parameters import Parameters
from pentatonic.errors import UsageError

PROGRAM = Path(__file__).parent / "programs" / "serve_memory.py"
PASSWORD, KEY, SALT = "sesamé öffne dich", "key-4f1c", "c19b2d"
SECRETS = {"MYNA_RPE_PASSWORD": PASSWORD, "MYNA_RPE_API_KEY": KEY}
CLIENT = {"v": "1.16.1", "c": "test"}
ANYONE = {**CLIENT, "u": "me", "p": "anything"}
NAMESPACE = "{http://subsonic.org/restapi}"


@dataclass
class Server:
    """A running server, and what it has written when it has ended."""

    address: str
    process: subprocess.Popen[str]
    written: str = ""

    @property
    def port(self) -> int:
        return urlsplit(self.address).port or 0

    def raw(
        self, target: str, body: str | bytes | None = None, method: str | None = None, **headers: str
    ) -> tuple[int, str, bytes]:
        """Status, content type and content of an answer."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            names.setdefault("Content-Type", "application/x-www-form-urlencoded")
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method or ("GET" if body is None else "POST"), target, body, names)
            answer = connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read()
        finally:
            connection.close()

    def ask(self, name: str, login: dict[str, str] | None = None, **parameters: object) -> dict[str, Any]:
        """The envelope of an answer in JSON."""
        values = {**(ANYONE if login is None else login), "f": "json", **parameters}
        status, kind, content = self.raw(f"/rest/{name}?{urlencode(values)}")
        assert (status, kind) == (200, "application/json")
        return json.loads(content)["subsonic-response"]

    def error(self, name: str, login: dict[str, str] | None = None, **parameters: object) -> tuple[int, str]:
        body = self.ask(name, login, **parameters)
        assert body["status"] == "failed"
        return body["error"]["code"], body["error"]["message"]


@contextmanager
def running(*options: str, **variables: str) -> Iterator[Server]:
    command = [sys.executable, "-P", str(PROGRAM), "serve", "--port", "0", *options]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MYNA_RPE_")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=kept | variables
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("The library answers at http://127.0.0.1:"), line + process.stdout.read()
            server = Server(line.split()[4], process)
            yield server
            process.send_signal(signal.SIGTERM)
            server.written, _ = process.communicate(timeout=30)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server without a password."""
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    """A server with a password and a key."""
    with running("--user", "anna", **SECRETS) as server:
        yield server


def token(password: str = PASSWORD, salt: str = SALT, user: str = "anna") -> dict[str, str]:
    return {**CLIENT, "u": user, "t": hashlib.md5((password + salt).encode()).hexdigest(), "s": salt}


# What the endpoints answer.


def test_the_nearest_come_first_with_similarities_from_0_to_1(server: Server) -> None:
    body = server.ask("getSonicSimilarTracks", id="s0", count=4)
    assert body["status"] == "ok" and body["openSubsonic"] is True
    assert (body["version"], body["type"]) == ("1.16.1", "pentatonic") and body["serverVersion"]
    assert [match["entry"]["id"] for match in body["sonicMatch"]] == ["s1", "s2", "s3", "s4"]
    # Above 1 by rounding; negative, which would read as "not known"; not a number, which is not known.
    assert [match["similarity"] for match in body["sonicMatch"]] == [1.0, 0.0, -1.0, 0.996]


def test_a_song_has_its_tags_and_no_more_than_is_known(server: Server) -> None:
    known = {
        **{"id": "s0", "isDir": False, "title": "Erste", "artist": "Ä", "album": "B", "duration": 62},
        **{"year": 1999, "track": 7, "suffix": "flac", "contentType": "audio/flac"},
        **{"path": str(PROGRAM.with_name("a.FLAC")), "type": "music", "mediaType": "song"},
    }
    assert server.ask("getSong", id="s0")["song"] == known
    odd = {
        **{"id": "s1", "isDir": False, "title": "\ufffd\ufffd", "artist": 'Q<>&"\ufffd'},
        **{"comment": "short (1 s), quiet (silence)", "path": "music/\ufffd\ufffd.mp3"},
        **{"suffix": "mp3", "contentType": "audio/mpeg", "type": "music", "mediaType": "song"},
    }
    assert server.ask("getSong", id="s1")["song"] == odd
    there = server.ask("getSong", id="s2")["song"]
    assert there["size"] == PROGRAM.stat().st_size and "contentType" not in there


def test_a_path_starts_and_ends_where_it_should(server: Server) -> None:
    matches = server.ask("findSonicPath", startSongId="s100", endSongId="s0", count=6)["sonicMatch"]
    assert [match["entry"]["id"] for match in matches] == ["s100", "s80", "s60", "s40", "s20", "s0"]
    assert matches[0]["similarity"] == 1.0 and matches[-1]["similarity"] == 0.9
    assert len(server.ask("findSonicPath", startSongId="s0", endSongId="s999")["sonicMatch"]) == 25
    same = server.ask("findSonicPath", startSongId="silent", endSongId="silent", count=1)["sonicMatch"]
    assert [(match["entry"]["id"], match["similarity"]) for match in same] == [("silent", 1.0)]


def test_a_song_without_an_embedding(server: Server) -> None:
    assert server.ask("getSonicSimilarTracks", id="silent")["sonicMatch"] == []
    assert server.ask("getSimilarSongs", id="silent")["similarSongs"] == {"song": []}
    for ends in (("silent", "s1"), ("s1", "silent")):
        code, message = server.error("findSonicPath", startSongId=ends[0], endSongId=ends[1])
        assert code == 70 and "silent.mp3: cannot be compared" in message


def test_counts_have_their_defaults_and_a_limit(server: Server) -> None:
    def found(**parameters: object) -> int:
        return len(server.ask("getSonicSimilarTracks", id="s5", **parameters)["sonicMatch"])

    assert [found(), found(count=0), found(count=3), found(count="9" * 4000)] == [10, 0, 3, 500]
    assert len(server.ask("getSimilarSongs", id="s5")["similarSongs"]["song"]) == 50
    assert len(server.ask("getSimilarSongs2", id="s5", count=2)["similarSongs2"]["song"]) == 2


@pytest.mark.parametrize("count", ["NaN", "-1", "1e3", "3.5", "Infinity", "٣", " 3", "9" * 5000, "\x00"])
def test_a_count_that_is_no_whole_number(server: Server, count: str) -> None:
    code, message = server.error("getSonicSimilarTracks", id="s5", count=count)
    assert code == 0 and "count is" in message and "allowed: a whole number, 0 or more" in message
    assert len(message) < 200 and message.isprintable()


@pytest.mark.parametrize("text", ["-0", "+3", "1_000", "٣", "\uff13", " 3", "3 ", "3\n", "0x3", "3,", "³"])
def test_a_count_is_written_in_plain_digits(text: str) -> None:
    """Most of these are whole numbers to Python, and would be accepted by a looser pattern."""
    with pytest.raises(SubsonicError, match="allowed: a whole number, 0 or more"):
        Parameters({"count": text}).count("count", 10, most=500)
    assert Parameters({"count": "007"}).count("count", 10, most=500) == 7


@pytest.mark.parametrize("count", ["0", "1"])
def test_a_path_needs_room_for_both_ends(server: Server, count: str) -> None:
    assert server.error("findSonicPath", startSongId="s1", endSongId="s2", count=count)[0] == 0


def test_search_finds_ids(server: Server) -> None:
    def ids(query: str, **parameters: object) -> list[str]:
        result = server.ask("search3", query=query, **parameters)["searchResult3"]
        assert result["artist"] == result["album"] == []
        return [song["id"] for song in result["song"]]

    assert ids("ERSTE") == ["s0"] and ids("song 99", songCount=2, songOffset=1) == ["s990", "s991"]
    assert ids("", songCount=2) == ids('""', songCount=2) == ["s0", "s1"] and len(ids("")) == 20
    assert ids("\x00\x1b[2J") == []


def test_the_first_calls_of_clients(server: Server) -> None:
    assert set(server.ask("ping")) == {"status", "version", "type", "serverVersion", "openSubsonic"}
    assert server.ask("getLicense")["license"] == {"valid": True}
    assert server.ask("getMusicFolders")["musicFolders"] == {"musicFolder": [{"id": 1, "name": "Music"}]}
    user = server.ask("getUser", username="me")["user"]
    roles = "admin settings download upload playlist coverArt comment podcast stream jukebox share videoConversion"
    assert user["username"] == "me" and not any(user[f"{role}Role"] for role in roles.split())
    assert user["scrobblingEnabled"] is False
    assert server.error("getUser", username="you")[0] == 50


@pytest.mark.parametrize(
    ("name", "parameters", "missing"),
    [
        ("getSonicSimilarTracks", {}, "id"),
        ("getSonicSimilarTracks", {"id": ""}, "id"),
        ("findSonicPath", {"endSongId": "s1"}, "startSongId"),
        ("findSonicPath", {"startSongId": "s1"}, "endSongId"),
        ("getUser", {}, "username"),
        ("getSong", {}, "id"),
    ],
)
def test_a_missing_parameter(server: Server, name: str, parameters: dict[str, str], missing: str) -> None:
    assert server.error(name, **parameters) == (10, f"the parameter {missing} is missing")


def test_an_unknown_song(server: Server) -> None:
    for name in ("getSonicSimilarTracks", "getSimilarSongs", "getSimilarSongs2", "getSong"):
        code, message = server.error(name, id="\x1b[31m" + "x" * 5000)
        assert code == 70 and len(message) < 200 and message.isprintable()
    assert server.error("findSonicPath", startSongId="s1", endSongId="nothing")[0] == 70


@pytest.mark.parametrize(
    "path", ["/rest/stream", "/rest/stream.view", "/rest/", "/", "/rest/x/ping", "/favicon.ico"]
)
def test_what_is_not_served_has_an_envelope_too(server: Server, path: str) -> None:
    status, kind, content = server.raw(f"{path}?f=json")
    assert (status, kind) == (200, "application/json")
    assert json.loads(content)["subsonic-response"]["error"]["message"].startswith("not served here; allowed")


def test_a_fault_inside_says_so_and_quotes_nothing(server: Server) -> None:
    assert server.error("getSong", id="broken") == (0, "internal fault; the server's log names the error")


# Formats.


def test_xml_is_the_default(server: Server) -> None:
    status, kind, content = server.raw(
        f"/rest/getSonicSimilarTracks?{urlencode({**ANYONE, 'id': 's2', 'count': 2})}"
    )
    assert (status, kind) == (200, "application/xml")
    root = ElementTree.fromstring(content)
    assert root.tag == f"{NAMESPACE}subsonic-response"
    assert (root.attrib["status"], root.attrib["openSubsonic"]) == ("ok", "true")
    first, second = root
    assert first.tag == second.tag == f"{NAMESPACE}sonicMatch"
    entry, similarity = first
    assert entry.tag == f"{NAMESPACE}entry" and similarity.tag == f"{NAMESPACE}similarity"
    assert (
        entry.attrib["id"] == "s1"
        and entry.attrib["isDir"] == "false"
        and entry.attrib["artist"] == 'Q<>&"\ufffd'
    )
    assert similarity.text == "1.0" and not similarity.attrib


def test_extensions_and_errors_in_xml(server: Server) -> None:
    root = ElementTree.fromstring(server.raw("/rest/getOpenSubsonicExtensions")[2])
    assert [(each.attrib["name"], each[0].tag, each[0].text) for each in root] == [
        ("sonicSimilarity", f"{NAMESPACE}versions", "1"),
        ("formPost", f"{NAMESPACE}versions", "1"),
    ]
    root = ElementTree.fromstring(server.raw("/rest/ping")[2])
    assert root.attrib["status"] == "failed" and root[0].attrib["code"] == "10"


def test_jsonp(locked: Server) -> None:
    values = {**token(), "f": "jsonp", "callback": "app.done"}
    status, kind, content = locked.raw(f"/rest/ping?{urlencode(values)}")
    assert (status, kind) == (200, "text/javascript")
    assert content.startswith(b"/**/app.done({") and content.endswith(b"});")
    assert json.loads(content[len("/**/app.done(") : -2])["subsonic-response"]["status"] == "ok"
    for callback in ("", "alert(1)", "a;b", "a\u2028", "x" * 101, "<script>"):
        answer = locked.raw(f"/rest/ping?{urlencode({**values, 'callback': callback})}")
        assert answer[1] == "application/xml" and b"failed" in answer[2]


def test_jsonp_without_a_password_would_show_the_library_to_every_page(server: Server) -> None:
    _, kind, content = server.raw(f"/rest/search3?{urlencode({**ANYONE, 'f': 'jsonp', 'callback': 'x'})}")
    assert kind == "application/xml" and b"needs a server with a password" in content


def test_an_unknown_format(server: Server) -> None:
    _, kind, content = server.raw(f"/rest/ping?{urlencode({**ANYONE, 'f': 'yaml'})}")
    assert kind == "application/xml" and b"allowed: xml, json, jsonp" in content


# Requests.


@pytest.mark.parametrize("suffix", ["", ".view"])
def test_parameters_may_be_split_between_query_and_form(server: Server, suffix: str) -> None:
    path = f"/rest/getSong{suffix}"
    login, rest = urlencode(ANYONE), urlencode({"id": "s0", "f": "json"})
    for target, form in [(path, f"{login}&{rest}"), (f"{path}?{login}", rest), (f"{path}?{rest}", login)]:
        body = json.loads(server.raw(target, form)[2])["subsonic-response"]
        assert body["song"]["title"] == "Erste"
    assert json.loads(server.raw(f"{path}?{login}&{rest}", "")[2])["subsonic-response"]["status"] == "ok"


def test_other_methods_and_other_bodies(server: Server) -> None:
    assert server.raw("/rest/ping", method="PUT")[0] == server.raw("/rest/ping", method="DELETE")[0] == 405
    assert b"the body is not a form" in server.raw("/rest/ping", "{}", Content_Type="application/json")[2]


def test_requests_have_a_size(server: Server) -> None:
    assert b"the form is longer than" in server.raw("/rest/ping", f"{urlencode(ANYONE)}&x={'y' * 70_000}")[2]
    assert b"the body cannot be read" in server.raw("/rest/ping", "&".join(f"a{i}=1" for i in range(300)))[2]
    assert b"the query cannot be read" in server.raw("/rest/ping?u=%ff")[2]
    with suppress(OSError):  # or the connection is closed before all is sent
        assert server.raw(f"/rest/search3?{urlencode(ANYONE)}&query={'q' * 2**20}")[0] == 400
    assert server.ask("ping")["status"] == "ok"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "example.org"},
        {"Host": "example.org:{port}"},
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
    ],
)
def test_pages_of_others_are_refused(server: Server, headers: dict[str, str]) -> None:
    headers = {name: value.format(port=server.port) for name, value in headers.items()}
    for name in ("ping", "getOpenSubsonicExtensions"):
        assert server.raw(f"/rest/{name}?{urlencode(ANYONE)}", **headers)[0] == 403


FORM = "POST /rest/ping HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n"


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_a_request_that_does_not_arrive_gives_up_its_connection() -> None:
    with running(REQUEST_WAIT_S="1") as server:
        host = f"127.0.0.1:{server.port}"
        with ExitStack() as stack:
            nothing, line, served, form = (
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
                for _ in range(4)
            )
            line.sendall(b"GET /rest/ping HTTP/1.1\r\nHost:")
            served.sendall(f"GET /rest/ping HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            form.sendall(f"{FORM.format(host=host)}Content-Length: 9\r\n\r\nf=json".encode())
            answer = b""
            while not answer.endswith(b"</subsonic-response>"):
                answer += served.recv(1000)
            with suppress(ConnectionError):  # on a busy machine it has been closed already
                served.sendall(b"GET")
            assert all(is_closed(connection) for connection in (nothing, line, served))
            assert b"the form did not arrive whole in time" in form.makefile("rb").read()


def test_an_answer_may_take_longer_than_a_request() -> None:
    with running(REQUEST_WAIT_S="1") as server:
        assert server.error("getSong", id="slow")[0] == 70


def test_bytes_that_drip_in_do_not_keep_a_connection() -> None:
    with (
        running(REQUEST_WAIT_S="1") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=0.1) as slow,
    ):
        for _ in range(200):  # 20 seconds, where nothing is received
            try:
                slow.sendall(b"G")
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            raise AssertionError("the connection was kept")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_not_answered_when_the_server_ends(number: signal.Signals) -> None:
    with running("--user", "anna", SHUTDOWN_WAIT_S="1", **SECRETS) as server:
        host = f"127.0.0.1:{server.port}"
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as form:
            head = f"{FORM.format(host=host)}Content-Length: 99\r\nExpect: 100-continue\r\n\r\n"
            form.sendall(head.encode())
            assert b"100 Continue" in form.recv(100)  # the form is waited for
            server.process.send_signal(number)
            answer = form.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 503 ") and answer.endswith(b"the server is being stopped\n")
        assert server.process.wait(timeout=30) == 130
    assert "Traceback" not in server.written and "CancelledError" not in server.written


# Logins.


@pytest.mark.parametrize(
    "login",
    [
        token(),
        {**token(), "t": token()["t"].upper()},
        {**CLIENT, "u": "anna", "p": PASSWORD},
        {**CLIENT, "u": "anna", "p": "enc:" + PASSWORD.encode().hex()},
        {**CLIENT, "apiKey": KEY},
    ],
)
def test_every_way_to_log_in(locked: Server, login: dict[str, str]) -> None:
    assert locked.ask("getUser", login, username="anna")["user"]["username"] == "anna"


def test_the_example_of_the_specification() -> None:
    assert token("sesame")["t"] == "26719a1196d2a940705a59634eb18eab"


@pytest.mark.parametrize(
    ("login", "code"),
    [
        ({}, 10),
        ({"u": "anna"}, 10),
        ({"u": "anna", "t": "0" * 32}, 10),
        ({"u": "anna", "s": SALT}, 10),
        ({"p": PASSWORD}, 10),
        ({**token(), "p": PASSWORD}, 43),
        ({**token(), "apiKey": KEY}, 43),
        ({"u": "anna", "apiKey": KEY}, 43),
        ({**token(), "v": ""}, 10),
        ({**token(), "c": ""}, 10),
        ({**token(), "v": "2.0.0"}, 30),
        ({**token(), "v": "0.9"}, 20),
        ({**token(), "v": "new"}, 0),
        ({**token(), "v": "1.13.0"}, None),
    ],
)
def test_logins_that_are_not_whole(locked: Server, login: dict[str, str], code: int | None) -> None:
    body = locked.ask("ping", {**CLIENT, **login})
    assert body.get("error", {}).get("code") == code


@pytest.mark.parametrize(
    ("login", "code"),
    [
        (token("wrong"), 40),
        (token(user="otto"), 40),
        ({**CLIENT, "u": "anna", "p": "enc:zz"}, 40),
        ({**CLIENT, "u": "anna", "p": ""}, 10),
        ({**CLIENT, "apiKey": "other"}, 44),
    ],
)
def test_wrong_logins(login: dict[str, str], code: int) -> None:
    with pytest.raises(SubsonicError) as caught:
        Credentials("anna", PASSWORD, frozenset([KEY])).identify(Parameters(login))
    assert caught.value.code == code


def test_failed_logins_are_slowed_and_then_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pentatonic.server._MOST_WAITING_S", 0.0)
    app = build_app(cast(Any, None), Credentials("anna", PASSWORD), host="127.0.0.1", port=4040)

    async def ask(login: dict[str, str]) -> str:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/rest/ping",
            "headers": [(b"host", b"127.0.0.1:4040")],
        }
        await app({**scope, "query_string": urlencode({**login, "f": "json"}).encode()}, receive, send)
        return sent[1]["body"].decode()

    async def guess() -> None:
        assert '"ok"' in await ask(token())
        assert "wrong user name or password" in await ask(token("wrong"))
        assert "too many failed logins; wait a minute" in await ask(
            CLIENT
        )  # and this does not end the waiting
        assert "too many failed logins; wait a minute" in await ask(token())

    asyncio.run(guess())


def test_one_kind_of_secret_alone() -> None:
    with running(MYNA_RPE_API_KEY=KEY) as server:
        assert server.ask("tokenInfo", {**CLIENT, "apiKey": KEY})["tokenInfo"] == {"username": "myna"}
        assert server.error("ping", token())[0] == 41
        assert server.error("ping", ANYONE)[0] == 42
        names = [
            each["name"] for each in server.ask("getOpenSubsonicExtensions", {})["openSubsonicExtensions"]
        ]
        assert names == ["sonicSimilarity", "formPost", "apiKeyAuthentication"]
    with running(MYNA_RPE_PASSWORD=PASSWORD) as server:
        assert server.error("ping", {**CLIENT, "apiKey": KEY})[0] == 42


def test_secrets_in_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "keys").write_text("one\n\n two \n")
    files = ["--password-file", str(tmp_path / "password"), "--api-keys-file", str(tmp_path / "keys")]
    with running(*files) as server:
        for login in (token(user="myna"), {**CLIENT, "apiKey": "one"}, {**CLIENT, "apiKey": "two"}):
            assert server.ask("ping", login)["status"] == "ok"


# Start and end.


def failed_start(*options: str) -> str:
    command = [sys.executable, "-P", str(PROGRAM), "serve", *options]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MYNA_RPE_")}
    ended = subprocess.run(command, capture_output=True, text=True, env=kept, timeout=60)
    assert ended.returncode == 2 and ended.stdout == "" and "Traceback" not in ended.stderr
    return ended.stderr


def test_other_machines_need_a_secret() -> None:
    needed = "needs a password (MYNA_RPE_PASSWORD or --password-file) or an API key"
    assert needed in failed_start("--host", "0.0.0.0")
    for host in ("::", "192.0.2.1", "example.org"):
        with pytest.raises(UsageError, match=re.escape(needed)):
            Credentials().check_address(host)
        Credentials(password="x").check_address(host)
        Credentials(api_keys=frozenset(["x"])).check_address(host)


def test_bad_secrets_are_refused_and_not_shown(tmp_path: Path) -> None:
    two, none = tmp_path / "two", tmp_path / "none"
    two.write_text("hush-1\nhush-2\n")
    none.write_text("\n")
    cases = [
        (None, two, None, "has 2 lines; allowed: one, the password"),
        (None, none, None, "is empty"),
        (None, None, tmp_path / "absent", "absent"),
        ("hush-3", two, None, "allowed: one of both"),
        ("hush-\udcff", None, None, "is not UTF-8"),
    ]
    for password, password_file, keys_file, expected in cases:
        with pytest.raises(UsageError, match=expected) as caught:
            read_credentials("anna", password, None, password_file=password_file, api_keys_file=keys_file)
        assert "hush" not in str(caught.value)
    assert "hush" not in repr(Credentials(password="hush"))


def test_a_taken_port_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "Address already in use" in failed_start("--port", str(taken.getsockname()[1]))


def test_sigterm_ends_it_and_nothing_of_a_request_was_written() -> None:
    with running("--user", "anna", **SECRETS) as server:
        for login in (token(), {**CLIENT, "apiKey": KEY}, {**CLIENT, "u": "anna", "p": PASSWORD}):
            server.ask("search3", login, query="hush-hush")
        server.error("getSong", token(), id="broken")
        server.raw(f"/rest/hush-hush?{urlencode(token())}")
        server.raw(f"/hush-hush?{quote(PASSWORD)}", Host="hush-hush")
        server.raw("/rest/ping", "hush-hush", method="PUT")
    assert server.process.returncode == 130
    assert server.written == "getSong failed inside: RuntimeError\n"
