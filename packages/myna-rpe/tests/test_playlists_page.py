"""The page about a playlist: offline, escaped, and playing local files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from myna_rpe.library.library import Library
from myna_rpe.playlists.map import draw_map, letter, plane_of
from myna_rpe.playlists.page import write_page
from myna_rpe.playlists.songs import open_playlist
from pentatonic.errors import InputError

HOSTILE = '</script><img src=x onerror=alert(1)> " src="file:///etc/passwd\' \x1b[31m'


@pytest.fixture
def hostile(scanned: SimpleNamespace) -> Library:
    """The library, with a hostile title in it."""
    library = Library.open(scanned.index)
    piece = library.find("Piece 3")
    row = library.tracks.index(piece)
    library.tracks[row] = replace(piece, title=HOSTILE, artist="<b>A</b>")
    library._by_path[piece.path] = library.tracks[row]
    return library


@pytest.fixture
def page(tmp_path: Path, scanned: SimpleNamespace, hostile: Library) -> Callable[..., Path]:
    """``page(**options)`` writes the page of three songs and returns its path."""

    def write(**options: Any) -> Path:
        file = tmp_path / "a <i>list.m3u"
        file.write_text(
            "".join(f"{scanned.music}/{number}.ogg\n" for number in ("03", "07", "10")) + "gone.mp3\n"
        )
        write_page(hostile, open_playlist(file, hostile), tmp_path / "page.html", neighbours=4, **options)
        return tmp_path / "page.html"

    return write


def test_the_page_is_escaped_and_asks_for_nothing(
    page: Callable[..., Path], scanned: SimpleNamespace
) -> None:
    html = page().read_text()
    assert "<img src=x" not in html
    assert "<b>A</b>" not in html
    assert "<i>list" not in html
    assert "\x1b" not in html
    assert html.count(' src="file:///') == 7
    assert f' src="file://{scanned.music}/07.ogg"' in html
    assert "media-src data: file:;" in html
    assert "default-src &#39;none&#39;" in html
    assert "gone.mp3" in html
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", html)
    assert "Longest step" in html


def test_embedded_sound_is_a_copy(page: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    html = page(embed_audio=True).read_text()
    assert ' src="file:' not in html
    assert "media-src data:; base-uri" in html
    assert html.count("data:audio/ogg;base64,") == 7 - html.count("data:audio/flac;base64,")
    monkeypatch.setattr("myna_rpe.playlists.page._WHOLE_BYTES", 10)
    monkeypatch.setattr("myna_rpe.playlists.page._EXCERPT_S", 0.5)
    assert page(embed_audio=True).read_text().count("data:audio/wav;base64,") == 7


def test_a_playlist_without_songs_has_no_page(tmp_path: Path, scanned: SimpleNamespace) -> None:
    (tmp_path / "empty.m3u").write_text("")
    playlist = open_playlist(tmp_path / "empty.m3u", scanned.library)
    with pytest.raises(InputError, match="it is empty"):
        write_page(scanned.library, playlist, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_plane_has_the_main_axes() -> None:
    random = np.random.default_rng(0)
    points = random.normal(size=(200, 5)) * np.array([5, 3, 0.1, 0.1, 0.1])
    plane = plane_of(points)
    singular = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[:2]
    np.testing.assert_allclose(np.linalg.norm(plane, axis=0), singular)
    np.testing.assert_allclose(plane_of(points[:, :1])[:, 1], 0)
    assert plane_of(points[:1]).shape == (1, 2)


@pytest.mark.parametrize("songs", [[0], [0, 0], [0, 1], [0, 1, 2, 3], [0, 0, 1]])
def test_maps_of_few_songs_and_of_songs_on_a_line(songs: list[int]) -> None:
    plane = np.array([[0.0, 0.0], [1, 1], [2, 2], [3, 3], [0, 5]])
    svg = ET.fromstring(draw_map(plane, songs, [4], "<a> & b"))
    space = "{http://www.w3.org/2000/svg}"
    assert svg.findtext(f"{space}title") == "<a> & b"
    texts = [each.text for each in svg.iter(f"{space}text")]
    assert texts == ["a", *(str(n) for n in range(1, len(songs) + 1))]
    hull = svg.find(f"{space}polygon")
    assert hull is not None
    assert len(hull.attrib["points"].split()) == min(2, len(set(songs)))


def test_letters_go_on_after_z() -> None:
    assert [letter(n) for n in (0, 25, 26, 51, 52, 702)] == ["a", "z", "aa", "az", "ba", "aaa"]


@pytest.mark.parametrize("embed_audio", [False, True])
def test_the_page_plays_in_a_browser(
    page: Callable[..., Path], browser: Any, until: Callable[[Any, str], None], embed_audio: bool
) -> None:
    opened = browser.new_page()
    problems: list[str] = []
    requests: list[str] = []
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url.partition(":")[0]))
    opened.goto(page(embed_audio=embed_audio).as_uri())
    assert opened.locator("audio").count() == 7
    assert opened.locator("figcaption").first.text_content().startswith("1. <b>A</b> - </script>")
    until(opened, "[...document.querySelectorAll('audio')].every(a => a.readyState > 0)")
    durations = opened.evaluate("[...document.querySelectorAll('audio')].map(a => a.duration)")
    assert all(11 < seconds < 16 for seconds in durations)
    opened.evaluate("document.querySelector('audio').play()")
    until(opened, "document.querySelector('audio').currentTime > 0")
    assert opened.locator("img").first.evaluate("image => image.naturalWidth") > 0
    assert problems == []
    assert set(requests) <= {"file", "data"}
    opened.close()
