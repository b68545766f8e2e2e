"""Who may reach a local server, and what a stranger can cost it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pentatonic import server
from pentatonic.errors import UsageError
from pentatonic.server import (
    Guard,
    Message,
    Receive,
    Scope,
    Send,
    bindable_port,
    check_login,
    finite,
    listening_socket,
    serving,
)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_this_machine_needs_no_login(host: str) -> None:
    check_login(host, None, None, variable="X_PASSWORD")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.2", "example.org", ""])
def test_others_need_one(host: str) -> None:
    with pytest.raises(UsageError, match=r"needs --user and --password .or the variable X_PASSWORD"):
        check_login(host, None, None, variable="X_PASSWORD")
    check_login(host, "me", "secret", variable="X_PASSWORD")


@pytest.mark.parametrize(("user", "password"), [("me", None), (None, "secret"), ("me", "")])
def test_half_a_login_is_refused(user: str | None, password: str | None) -> None:
    with pytest.raises(UsageError, match="must be given together"):
        check_login("127.0.0.1", user, password, variable="X_PASSWORD")


def test_a_free_port_of_the_system() -> None:
    port = bindable_port("127.0.0.1", 0)
    assert port > 0 and bindable_port("127.0.0.1", port) == port


def test_a_taken_port_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            UsageError, match=rf"cannot listen at 127\.0\.0\.1, port {port} \(Address already"
        ):
            bindable_port("127.0.0.1", port)


def test_the_socket_of_a_server_listens_already() -> None:
    with listening_socket("127.0.0.1", 0) as listener:
        socket.create_connection(listener.getsockname()).close()
        with pytest.raises(UsageError, match="Address already in use"):
            listening_socket("127.0.0.1", listener.getsockname()[1])


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host", "a" * 70])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="allowed: an address of this machine and a free port"):
        bindable_port(host, 0)


@pytest.mark.parametrize("value", [float("nan"), "5", None, True, [1], {}])
def test_what_is_not_a_number_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"the time limit is .*; allowed: a number from 1 to 300"):
        finite("the time limit", value, 1, 300)


@pytest.mark.parametrize(
    ("value", "limited"),
    [
        (5, 5.0),
        (2.5, 2.5),
        (-7, 1.0),
        (float("inf"), 300.0),
        (float("-inf"), 1.0),
        pytest.param(10**400, 300.0, id="huge"),
    ],
)
def test_numbers_are_limited_to_their_range(value: float, limited: float) -> None:
    assert finite("the time limit", value, 1, 300) == limited


def test_a_folder_of_uploads_goes_with_sigterm(tmp_path: Path) -> None:
    program = (
        "import time\nfrom pentatonic.server import serving\n"
        "with serving('up-') as folder:\n    (folder / 'a').touch(); print(folder, flush=True); time.sleep(60)\n"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-P", "-c", program]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().decode().strip())
        assert (folder / "a").exists() and folder.parent == tmp_path
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_the_handler_of_sigterm_is_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with serving("up-") as folder:
        assert folder.is_dir() and signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before and not folder.exists()


class Page:
    """An application that reads a whole body, may write it to a folder, and answers with a status."""

    def __init__(self, status: int = 200, uploads: Path | None = None) -> None:
        self.status, self.uploads, self.calls = status, uploads, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        if scope["type"] == "lifespan":
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if self.uploads is not None:
            (self.uploads / f"{self.calls}.abc").write_bytes(body)
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


async def ask(
    guard: Guard,
    path: str = "/",
    *,
    method: str = "GET",
    host: str | None = "127.0.0.1:7861",
    origin: str | None = None,
    parts: Sequence[bytes] = (b"",),
    announced: int | None = None,
    kind: str = "http",
    fetch: tuple[str, str] | None = None,
) -> tuple[int | str, str]:
    """Status (or type, of a websocket's answer) and body of the answer."""
    headers = [(b"host", host.encode())] if host is not None else []
    headers += [(b"origin", origin.encode())] if origin is not None else []
    headers += zip((b"sec-fetch-site", b"sec-fetch-mode"), map(str.encode, fetch or ()), strict=False)
    headers += [(b"content-length", str(announced).encode())] if announced is not None else []
    scope: dict[str, Any] = {"type": kind, "method": method, "path": path, "headers": headers}
    messages = [
        {"type": "http.request", "body": part, "more_body": i < len(parts) - 1}
        for i, part in enumerate(parts)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await guard(scope, receive, send)
    if kind == "websocket":
        return sent[0]["type"], ""
    return sent[0]["status"], sent[1]["body"].decode()


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:7861", None, 200),
        ("localhost:7861", "http://localhost:7861", 200),
        ("[::1]:7861", "http://[::1]:7861", 200),
        ("127.0.0.1:7861", "http://127.0.0.1:7861", 200),
        ("127.0.0.1:7861", "http://localhost:7861", 403),
        ("127.0.0.1:7861", "https://example.org", 403),
        ("127.0.0.1:7861", "http://127.0.0.1:8000", 403),
        ("127.0.0.1:7861", "null", 403),
        ("127.0.0.1:7861", "http://[", 403),
        ("127.0.0.1:7861", "", 403),
        ("127.0.0.1:8000", None, 403),
        ("127.0.0.1", None, 403),
        ("127.0.0.1.example.org:7861", None, 403),
        ("example.org:7861", "http://example.org:7861", 403),
        ("127.0.0.1:7861@example.org", None, 403),
        ("127.0.0.1:port", None, 403),
        ("", None, 403),
        (None, None, 403),
    ],
)
def test_only_the_page_of_the_server_may_use_it(host: str | None, origin: str | None, status: int) -> None:
    page = Page()
    guard = Guard(page, host="127.0.0.1", port=7861)
    for method in ("GET", "POST"):
        assert asyncio.run(ask(guard, method=method, host=host, origin=origin))[0] == status
    answer = asyncio.run(ask(guard, host=host, origin=origin, kind="websocket"))[0]
    assert answer == ("websocket.accept" if status == 200 else "websocket.close")
    assert page.calls == (3 if status == 200 else 0)


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),  # typed into the address bar
        ("cross-site", "navigate", 200),  # a link
        ("cross-site", "no-cors", 403),  # a script or picture element
        ("same-site", "no-cors", 403),  # that of another server of this machine
        ("cross-site", "websocket", 403),
    ],
)
def test_pages_of_others_may_link_to_it_and_embed_nothing(site: str, mode: str, status: int) -> None:
    guard = Guard(Page(), host="127.0.0.1", port=7861)
    assert asyncio.run(ask(guard, fetch=(site, mode)))[0] == status


@pytest.mark.parametrize("begun", [False, True])
def test_what_is_cancelled_when_the_server_ends_raises_nothing(begun: bool) -> None:
    sent: list[Message] = []
    waiting = asyncio.Event()

    async def page(_scope: Scope, _receive: Receive, send: Send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        waiting.set()
        await asyncio.Event().wait()

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    async def end() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"127.0.0.1:7861")]}
        guard = Guard(page, host="127.0.0.1", port=7861)
        task = asyncio.ensure_future(guard(scope, receive, send))
        await waiting.wait()
        task.cancel()
        await task

    asyncio.run(end())
    assert [message.get("status") for message in sent] == ([200] if begun else [503, None])


def test_two_hosts_fit_nothing() -> None:
    scope = {"headers": [(b"host", b"127.0.0.1:7861"), (b"host", b"example.org")]}
    assert Guard(Page(), host="127.0.0.1", port=7861)._foreign({"type": "http", **scope})


def test_other_addresses_have_other_names_but_one_origin() -> None:
    guard = Guard(Page(), host="0.0.0.0", port=7861)
    assert asyncio.run(ask(guard, host="music.example.org"))[0] == 200
    assert asyncio.run(ask(guard, host="music.example.org", origin="https://music.example.org"))[0] == 200
    assert asyncio.run(ask(guard, host="music.example.org", origin="https://example.org"))[0] == 403


def test_what_is_no_request_is_passed_on() -> None:
    page = Page()
    guard = Guard(page, host="127.0.0.1", port=7861)
    asyncio.run(guard({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert page.calls == 1


def test_uploads_have_a_quota(tmp_path: Path) -> None:
    page = Page(uploads=tmp_path)
    guard = Guard(page, host="127.0.0.1", port=7861, uploads=tmp_path, quota_bytes=100, quota_files=5)

    def upload(*parts: bytes, announced: int | None = None) -> int | str:
        return asyncio.run(
            ask(guard, "/gradio_api/upload", method="POST", parts=parts or [b""], announced=announced)
        )[0]

    assert upload(b"a" * 40, announced=40) == 200
    assert upload(b"a" * 20, b"a" * 20) == 200
    calls = page.calls
    assert upload(announced=21) == 413 and page.calls == calls  # not passed on
    assert upload(b"a" * 10, b"a" * 11) == 413
    assert upload(b"a" * 10, b"a" * 11, announced=1) == 413  # longer than it said
    assert upload(b"a" * 20, announced=20) == 200
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 100
    assert upload(b"a", announced=1) == 413
    for path in tmp_path.iterdir():
        path.unlink()
    assert [upload(b"a") for _ in range(6)] == [200] * 5 + [413]


def test_uploads_on_their_way_count(tmp_path: Path) -> None:
    page = Page(uploads=tmp_path)
    guard = Guard(page, host="127.0.0.1", port=7861, uploads=tmp_path, quota_bytes=100)

    async def together() -> list[int | str]:
        parts = [b"a" * 20] * 3
        asked = [ask(guard, "/upload", method="POST", parts=parts) for _ in range(4)]
        return [status for status, _ in await asyncio.gather(*asked)]

    assert asyncio.run(together()).count(200) == 1
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100
    assert guard._arriving == 0


def test_failed_logins_are_slowed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = 1000.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    monkeypatch.setattr(server.asyncio, "sleep", sleep)
    monkeypatch.setattr(server.time, "monotonic", lambda: now)
    page = Page(status=400)
    guard = Guard(page, host="127.0.0.1", port=7861)
    for _ in range(9):
        assert asyncio.run(ask(guard, "/login/", method="POST"))[0] == 400
    assert slept == pytest.approx([0.5, 0.5, 1, 2, 4, 8, 16, 30])
    page.status = 200
    assert asyncio.run(ask(guard, "/login", method="POST"))[0] == 200
    slept.clear()
    assert asyncio.run(ask(guard, "/login", method="POST"))[0] == 200 and not slept
    assert asyncio.run(ask(guard, "/login"))[0] == 200  # the page that asks is not slowed


def test_many_logins_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(seconds: float) -> None:
        pass

    monkeypatch.setattr(server.asyncio, "sleep", sleep)
    monkeypatch.setattr(server.time, "monotonic", lambda: 1000.0)
    guard = Guard(Page(status=401), host="127.0.0.1", port=7861)
    answers = [asyncio.run(ask(guard, "/login", method="POST"))[0] for _ in range(200)]
    assert 5 < answers.count(401) < 20 and answers[-1] == 429
