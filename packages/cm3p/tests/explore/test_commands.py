"""The command, and the page served at a loopback address."""

import asyncio
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cm3p.cli import app
from cm3p.explore.page import policy
from cm3p.explore.server import build_app, check_server
from pentatonic.errors import FormatError, MissingExtra, UsageError


def explore(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["explore", *map(str, arguments)])


@pytest.fixture
def embeddings(tmp_path: Path, write_embeddings: Callable[..., Path]) -> Path:
    return write_embeddings(tmp_path / "maps.parquet", {"Id": [1, 2, 3]}, np.eye(3))


def test_the_command_writes_one_page(tmp_path: Path, embeddings: Path) -> None:
    out = tmp_path / "new" / "page.html"
    result = explore(embeddings, "--out", out, "--clusters", 2, "--most", 2)
    assert (result.exit_code, result.stdout.strip()) == (0, str(out))
    html = out.read_text()
    assert '"clusters":2' in html and '"rows":2,"total":3' in html
    assert [each.name for each in out.parent.iterdir()] == ["page.html"]
    explore(embeddings, "--out", tmp_path / "again.html", "--clusters", 2, "--most", 2)
    assert (tmp_path / "again.html").read_text() == html


def test_wrong_calls_say_what_is_wrong(tmp_path: Path, embeddings: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_text("not a table")
    page = tmp_path / "page.html"
    cases: list[tuple[type[Exception], str, list[object]]] = [
        (UsageError, "--out FILE, --serve, or both", [embeddings]),
        (UsageError, "no such file", [tmp_path / "none.parquet", "--out", page]),
        (UsageError, "it is a folder", [embeddings, "--out", tmp_path]),
        (FormatError, "cannot be read as a Parquet file", [broken, "--out", page]),
        (FormatError, "is not a file", [tmp_path, "--out", page]),
    ]
    for kind, message, arguments in cases:
        error = explore(*arguments).exception
        assert type(error) is kind and message in str(error)
    assert explore(embeddings, "--out", page, "--clusters", 21).exit_code == 2
    assert not page.exists()


def test_the_server_is_an_extra(tmp_path: Path, embeddings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_server()
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    error = explore(embeddings, "--serve", "--out", tmp_path / "page.html").exception
    assert isinstance(error, MissingExtra) and "cm3p[serve]" in str(error)
    assert not (tmp_path / "page.html").exists()


def answer(path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Ask an application that listens at port 4050."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    given = {"host": "127.0.0.1:4050", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    asyncio.run(build_app(b"<p>page", 4050)(scope, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"]


def test_only_the_own_page_is_answered() -> None:
    status, headers, body = answer()
    assert (status, body) == (200, b"<p>page")
    assert headers["content-security-policy"] == f"{policy()}; frame-ancestors 'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert answer(method="HEAD") == (200, headers, b"")
    assert answer(origin="http://127.0.0.1:4050")[0] == 200
    for foreign in (
        {"host": "evil.example:4050"},
        {"host": "127.0.0.1:80"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
    ):
        assert answer(**foreign)[0] == 403
    assert answer("/maps.parquet")[0] == 404
    assert answer(method="POST")[0] == 404


@pytest.mark.slow
def test_the_page_is_served_until_interrupted(embeddings: Path) -> None:
    command = [sys.executable, "-P", "-m", "cm3p", "explore", str(embeddings), "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[4]
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(address) as response:
                assert b'"name":"maps.parquet"' in response.read()
            foreign = urllib.request.Request(address, headers={"Host": "evil.example"})
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(foreign)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) in (0, 130)
        finally:
            process.kill()
