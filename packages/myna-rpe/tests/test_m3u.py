"""M3U playlists of any origin."""

from __future__ import annotations

from pathlib import Path

import pytest

from myna_rpe.playlists.m3u import (
    M3U,
    MARK,
    M3UEntry,
    candidates,
    file_url,
    is_stream,
    moved_entry,
    new_entry,
    parts_of,
    read_m3u,
    user_entries,
    write_m3u,
)
from pentatonic.errors import FormatError, InputError


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_lines_are_kept_as_they_are(tmp_path: Path) -> None:
    content = (
        b"#EXTM3U\n#PLAYLIST:Mine\n#EXTINF:10,A - B\n#EXTVLCOPT:start=5\na.mp3\n"
        b"b caf\xe9.mp3\n#MYNA-ADDED\n#EXTINF:3,C\nc.mp3\n#last\n"
    )
    found = read_m3u(written(tmp_path / "a.m3u", content))
    assert found.head == ("#EXTM3U", "#PLAYLIST:Mine")
    assert found.tail == ("#last",)
    assert [entry.text for entry in found.entries] == ["a.mp3", "b caf\udce9.mp3", "c.mp3"]
    assert found.entries[0].comments == ("#EXTINF:10,A - B", "#EXTVLCOPT:start=5")
    assert [entry.text for entry in user_entries(found.entries)] == ["a.mp3", "b caf\udce9.mp3"]
    write_m3u(tmp_path / "b.m3u", found)
    assert (tmp_path / "b.m3u").read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffä.mp3\r\nb.mp3\r\n".encode(),
        "ä.mp3\rb.mp3".encode(),
        "\ufeffä.mp3\nb.mp3\n".encode("utf-16-le"),
        "\ufeffä.mp3\r\nb.mp3\r\n".encode("utf-16-be"),
        "\ufeff\ufeffä.mp3\n\r\n \t\nb.mp3".encode(),
    ],
)
def test_marks_and_ends_of_lines_of_other_systems(tmp_path: Path, content: bytes) -> None:
    found = read_m3u(written(tmp_path / "a.m3u", content))
    assert [entry.text for entry in found.entries] == ["ä.mp3", "b.mp3"]


def test_what_is_no_playlist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is no text"):
        read_m3u(written(tmp_path / "a.m3u", b"\0\1\2"))
    with pytest.raises(FormatError, match="is no text"):
        read_m3u(written(tmp_path / "b.m3u", b"\xff\xfea"))
    with pytest.raises(FormatError, match="is no text"):
        read_m3u(written(tmp_path / "b.m3u", "\ufeffa\0b".encode("utf-16-le")))
    with pytest.raises(FormatError, match="more than 100000 entries"):
        read_m3u(written(tmp_path / "c.m3u", b"x\n" * 100_001))
    with pytest.raises(InputError, match="is missing"):
        read_m3u(tmp_path / "d.m3u")
    with pytest.raises(InputError, match="a folder"):
        read_m3u(tmp_path)
    assert read_m3u(written(tmp_path / "e.m3u", b"")) == M3U()
    assert read_m3u(written(tmp_path / "f.m3u", b"#EXTM3U\n#EXTINF:1,x\n")).entries == ()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("music/a.mp3", "/lists/music/a.mp3"),
        ("../a.mp3", "/a.mp3"),
        ("/m/a.mp3", "/m/a.mp3"),
        ("file:///m/a%20b.mp3", "/m/a b.mp3"),
        ("file://host/m/%E9.mp3", "/m/\udce9.mp3"),
        ("file:///C:/m/a.mp3", "/lists/C:/m/a.mp3"),
        ("sub\\a.mp3", "/lists/sub/a.mp3"),
        ("C:\\m\\a.mp3", "/m/a.mp3"),
        ("caf\udce9.mp3", "/lists/café.mp3"),
        ("café.mp3", "/lists/caf\udce9.mp3"),
        ("cafe\u0301.mp3", "/lists/café.mp3"),
        ("café.mp3", "/lists/cafe\u0301.mp3"),
    ],
)
def test_what_an_entry_may_mean(text: str, name: str) -> None:
    assert Path(name) in list(candidates(text, Path("/lists")))


@pytest.mark.parametrize("head", ['#EXTM3U url-tvg="x"', "#EXTM3U ", "#extm3u"])
def test_a_head_is_not_doubled(tmp_path: Path, head: str) -> None:
    content = f"{head}\n#PLAYLIST:Mine\na.mp3\n".encode()
    write_m3u(tmp_path / "b.m3u", read_m3u(written(tmp_path / "a.m3u", content)))
    assert (tmp_path / "b.m3u").read_bytes() == content


def test_a_line_of_megabytes_means_no_file() -> None:
    for text in ("a" * 20_000, "file:///" + "%41" * 10_000, "\\a" * 10_000):
        assert list(candidates(text, Path("/m"))) == []
        assert parts_of(text) == ()
    longest = "/m/" + "é" * 2000
    assert next(candidates(file_url(longest), Path("/"))) == Path(longest)


def test_addresses_mean_no_file() -> None:
    for text in ("http://[x/a.mp3", "http://\u2100/a.mp3", f"http://{'a' * 200}/b.mp3"):
        assert is_stream(text) and list(candidates(text, Path("/"))) == []
    assert list(candidates("http://x/a.mp3", Path("/"))) == []
    assert is_stream("HTTPS://x/a.mp3")
    assert not is_stream("file:///a.mp3")
    assert not is_stream("C:\\a.mp3")
    assert parts_of("http://x/a.mp3") == ()
    assert parts_of("D:\\Music\\A\\b.mp3") == ("Music", "A", "b.mp3")
    assert parts_of("../../A/b.mp3") == ("A", "b.mp3")
    assert list(candidates("a\0b", Path("/"))) == []


@pytest.mark.parametrize(
    "name", ["a.mp3", "#a.mp3", " a", "a\nb.mp3", "caf\udce9.mp3", "C:a.mp3", "http:a", "% ü.mp3"]
)
@pytest.mark.parametrize("absolute", [False, True])
def test_every_name_can_be_written_and_read(tmp_path: Path, name: str, absolute: bool) -> None:
    song = tmp_path / name
    song.write_bytes(b"x")
    title = "Title\nof two lines"
    entry = new_entry(song, folder=tmp_path, duration_s=9.6, name=title, absolute=absolute, added=True)
    assert entry.comments == (MARK, "#EXTINF:10,Title of two lines")
    write_m3u(tmp_path / "list.m3u8", M3U((entry,)))
    (found,) = read_m3u(tmp_path / "list.m3u8").entries
    assert found == entry
    assert next(iter(candidates(found.text, tmp_path))) == song
    assert next(iter(candidates(file_url(song), tmp_path))) == song


def test_entries_move_with_their_playlist(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/song.mp3").write_bytes(b"x")
    before, after = tmp_path / "a", tmp_path / "b"
    assert moved_entry(M3UEntry("song.mp3", ("#x",)), before, after) == M3UEntry("../a/song.mp3", ("#x",))
    for text in ("missing.mp3", "/m/a.mp3", "http://x/y", "file:///a"):
        assert moved_entry(M3UEntry(text), before, after).text == text
