"""Files that a stranger may have made: what is refused before it is opened, and names that lead elsewhere."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pentatonic.errors import ConfigError, CorruptCheckpoint
from pentatonic.untrusted.files import (
    file_inside,
    local_path,
    parse_json,
    read_json,
    read_text,
    regular_file_size,
    shortened,
)


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What may stand in the place of a file, by kind."""
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    os.mkfifo("pipe")
    Path("link").symlink_to("/dev/zero")
    Path("folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    return {
        "a named pipe": "pipe",
        "a device": "/dev/zero",
        "a folder": "folder",
        "a socket": "socket",
    }


def test_only_regular_files_are_opened(odd: dict[str, str]) -> None:
    for kind, path in odd.items():
        for read in (regular_file_size, read_text, read_json):
            with pytest.raises(ConfigError, match=f"cannot be read: it is {kind}; allowed: a regular file"):
                read(path)
    with pytest.raises(CorruptCheckpoint, match="link: cannot be read: it is a device"):
        regular_file_size("link", error=CorruptCheckpoint)


def test_what_cannot_be_a_file_is_refused(tmp_path: Path) -> None:
    for path, says in (("none", "is missing"), ("x" * 5000, "too long"), ("a\0b", "cannot be read")):
        with pytest.raises(ConfigError, match=says):
            read_text(tmp_path / path)


def test_text_is_read_in_bounds(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("täxt", encoding="utf-8")
    assert read_text(path) == read_text(path, max_bytes=5) == "täxt"
    assert regular_file_size(path) == 5
    with pytest.raises(ConfigError, match="a: has 5 bytes or more; at most 4 are read"):
        read_text(path, max_bytes=4)
    path.write_bytes(b"abc\xff")
    with pytest.raises(ConfigError, match=r"a: is not UTF-8 text .* at byte 3"):
        read_text(path)


def test_a_file_that_holds_more_than_its_size_is_read_in_bounds() -> None:
    path = Path("/proc/self/status")  # its size is 0
    if not path.is_file():
        pytest.skip("no virtual files here")
    with pytest.raises(ConfigError, match="at most 10 are read"):
        read_text(path, max_bytes=10)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "9" * 5000, "[1,]", '{"a": 01}'])
def test_text_that_is_not_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match=r"a\.json: not JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(CorruptCheckpoint, match=r"^here: not JSON"):
        parse_json(text, where="here", error=CorruptCheckpoint)
    assert parse_json('{"a": [1]}', where="here") == {"a": [1]}


def test_names_inside_the_folder_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").touch()
    (tmp_path / "link").symlink_to("sub/file")
    for name in ("sub", "sub/file", "link", "missing", "sub/file/x", "./sub", "a..b", "~nosuchuser"):
        assert file_inside(tmp_path, name, where="key") == tmp_path / name


def test_names_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret").touch()
    (folder / "link").symlink_to("../secret")
    (folder / "circle").symlink_to("circle")
    (folder / "out").symlink_to(tmp_path)
    names = (
        "/dev/zero",
        str(folder / "sub"),
        "../secret",
        "sub/../../secret",
        "..",
        "sub\\..\\x",
        "C:\\x",
        "C:x",
    )
    names += ("link", "circle", "out/secret", "out", "", "\0", "x" * 5000)
    for name in names:
        with pytest.raises(ConfigError, match=r"key is .*allowed: a name inside .*model, without '\.\.'"):
            file_inside(folder, name, where="key")


def test_the_cache_of_the_hub_links_into_its_own_blobs(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "1234").touch()
    (snapshot / "stats.json").symlink_to("../../blobs/1234")
    assert file_inside(snapshot, "stats.json", where="key") == snapshot / "stats.json"
    (snapshot / "other").symlink_to("../../elsewhere")
    with pytest.raises(ConfigError, match="leads to"):
        file_inside(snapshot, "other", where="key")


def test_blobs_that_are_a_link_lead_elsewhere(tmp_path: Path) -> None:
    snapshot, outside = tmp_path / "model" / "snapshots" / "abc", tmp_path / "outside"
    snapshot.mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").touch()
    (tmp_path / "model" / "blobs").symlink_to(outside)
    (snapshot / "stats.json").symlink_to("../../blobs/secret")
    with pytest.raises(ConfigError, match="leads to"):
        file_inside(snapshot, "stats.json", where="key")


def test_local_paths(tmp_path: Path, odd: dict[str, str]) -> None:
    (tmp_path / "file").touch()
    assert local_path(tmp_path) == tmp_path and local_path("file") == Path("file")
    nowhere = ("", "none", "~nosuchuser/x", "x" * 5000, "a\0b", odd["a named pipe"], odd["a device"])
    assert [local_path(name) for name in nowhere] == [None] * len(nowhere)


def test_values_are_shown_in_short() -> None:
    assert (
        shortened("text") == "'text'"
        and shortened(-5) == "-5"
        and shortened([1, {"a": 2}]) == "[1, {'a': 2}]"
    )
    for value in ("x" * 10**6, [[1] * 1000] * 1000, 10**100_000, {str(i): i for i in range(1000)}):
        assert len(shortened(value)) < 300
