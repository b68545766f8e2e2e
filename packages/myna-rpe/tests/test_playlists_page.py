"""The page about a playlist: offline, escaped, and playing local files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from myna_rpe.library.library import Library
from myna_rpe.playlists.map import left_out, letter, library_map, plane_of
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
    assert html.count("data-dot=") == 13 and "have no dot" not in html


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


def tracks(count: int) -> list[Any]:
    """Tracks of a library, as far as a map reads them."""
    return [
        SimpleNamespace(id=f"id{n}", name=f"A - T{n}", title=f"T{n}", artist="A", album=None)
        for n in range(count)
    ]


@pytest.mark.parametrize("songs", [[0], [0, 0], [0, 1], [0, 1, 2, 3], [0, 0, 1]])
def test_maps_of_few_songs_and_of_songs_on_a_line(songs: list[int]) -> None:
    plane = np.array([[0.0, 0.0], [1, 1], [2, 2], [3, 3], [0, 5]])
    drawing = library_map(plane, tracks(5), songs, [4], {"id4": "file:///4", "id3": "file:///3"})
    labelled = [dot for dot in drawing.dots if dot.label]
    assert [dot.label for dot in labelled] == ["a", *(str(n) for n in range(1, len(songs) + 1))]
    assert [dot.name for dot in labelled] == [
        "a. A - T4",
        *(f"{n}. A - T{row}" for n, row in enumerate(songs, 1)),
    ]
    assert len(drawing.dots) - len(labelled) == len({0, 1, 2, 3} - set(songs))
    assert {dot.about: dot.sound for dot in drawing.dots}["T4", "A"] == "file:///4"
    assert {dot.about: dot.sound for dot in drawing.dots}["T1", "A"] == ""
    assert len(drawing.area) == min(2, len(set(songs)))
    assert len(drawing.line) == len(songs)


def test_labels_lie_apart_and_inside() -> None:
    random = np.random.default_rng(0)
    plane = np.concatenate([3 * random.normal(size=(15, 2)), [[-60, -60], [60, 60], [-60, 60], [60, -60]]])
    drawing = library_map(plane, tracks(19), list(range(19)), [], {})
    boxes = [(*dot.label_at, 7.5 * len(dot.label)) for dot in drawing.dots]
    for number, (x, y, width) in enumerate(boxes):
        assert x >= 0 and x + width <= 960 and 12 <= y <= 640
        for left, base, wide in boxes[:number]:
            assert x + width <= left or left + wide <= x or abs(y - base) >= 12


def test_a_map_that_leaves_dots_out_says_so(
    page: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("myna_rpe.playlists.map._MOST_DOTS", 4)
    html = page().read_text()
    assert html.count("data-dot=") == 4 + 7
    assert "2 tracks of the library have no dot" in html
    assert left_out(13, [1, 1, 2]) == 7 and left_out(6, [1, 2]) == 0


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
    assert opened.locator("audio").count() == 1 + 7, "that of the map, and those of the tracks"
    assert opened.locator("figcaption").nth(1).text_content().startswith("1. <b>A</b> - </script>")
    until(opened, "[...document.querySelectorAll('audio[src]')].every(a => a.readyState > 0)")
    durations = opened.evaluate("[...document.querySelectorAll('audio[src]')].map(a => a.duration)")
    assert all(11 < seconds < 16 for seconds in durations)
    opened.evaluate("document.querySelector('audio[src]').play()")
    until(opened, "document.querySelector('audio[src]').currentTime > 0")
    assert problems == []
    assert set(requests) <= {"file", "data"}
    opened.close()


@pytest.mark.parametrize("embed_audio", [False, True])
def test_the_dots_of_the_map_play(
    page: Callable[..., Path],
    scanned: SimpleNamespace,
    browser: Any,
    until: Callable[[Any, str], None],
    embed_audio: bool,
) -> None:
    opened = browser.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
    opened.goto(page(embed_audio=embed_audio).as_uri())
    shown = opened.locator(".map figcaption")
    player = opened.locator(".map audio")

    def source() -> str:
        return player.evaluate("player => player.src")

    grey = opened.locator(".map circle:not([tabindex])").filter(has_text=" - ").first
    name = grey.evaluate("dot => dot.querySelector('title').textContent")
    artist, title = name.split(" - ")
    grey.dispatch_event("click")
    track = scanned.library.find(title)
    said = f"{title} · {artist} · {track.album}"
    if embed_audio:
        assert (shown.text_content(), source()) == (f"{said} (no sound in this page)", "")
    else:
        assert (shown.text_content(), source()) == (said, track.path.as_uri())
        until(opened, "document.querySelector('.map audio').currentTime > 0")

    labelled = opened.locator(".map circle[tabindex='0']")
    assert labelled.count() == 7
    hostile = labelled.filter(has_text="1. <b>A</b>")
    hostile.focus()
    opened.keyboard.press("Enter")
    assert shown.text_content().startswith("</script><img src=x onerror=alert(1)>")
    assert source() == (
        opened.locator("figure:not(.map) audio").first.evaluate("player => player.src")
        if embed_audio
        else (scanned.music / "03.ogg").as_uri()
    )
    until(opened, "document.querySelector('.map audio').currentTime > 0")
    assert hostile.get_attribute("aria-current") == "true"
    assert opened.locator("[aria-current]").count() == 1
    labelled.last.click()
    assert shown.text_content().startswith("Piece 10 · Artist 2")
    assert opened.locator("img").count() == 0
    assert problems == []
    opened.close()
