"""The gallery is a section of a page on which every piece can be seen, heard and read, in a real browser too."""

from __future__ import annotations

import base64
import io
import re
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import soundfile

from notagen.files import gallery
from notagen.files.gallery import GalleryPiece, write_gallery
from pentatonic.errors import FormatError, MissingExtra
from pentatonic.report import Report

PROMPT = "%Baroque\n%Bach, Johann Sebastian\n%Choral\n"
HEADER = '%%score 1 2\nL:1/8\nQ:1/4=120\nM:2/4\nK:C\nV:1 treble nm="Soprano"\nV:2 bass nm="Bass"\n'
MUSIC = "[r:0/1][V:1]c2d2|[V:2]C4|\n[r:1/0][V:1]e4|][V:2]G,4|]\n"

Until = Callable[[Any, str], None]
needs_verovio = pytest.mark.usefixtures("verovio")


@pytest.fixture
def verovio() -> None:
    pytest.importorskip("verovio")


def piece(seed: int = 0, music: str = MUSIC, **parts: str) -> GalleryPiece:
    return GalleryPiece(f"{PROMPT}{HEADER}{music}", seed, **{"prompt": PROMPT, "status": "finished", **parts})


def written(path: Path, *pieces: GalleryPiece, **options: str) -> str:
    write_gallery(pieces, path, command="notagen demo", versions={"notagen": "0.1.0"}, **options)
    return path.read_text()


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        (PROMPT, "Baroque / Bach, Johann Sebastian / Choral"),
        ("", "Seed 7"),
        ("%%score 1\n%one\n", "one"),
        ("M:3/4\nK:D\n", "M:3/4 / K:D"),
    ],
)
def test_titles_are_the_prompt_in_one_line(prompt: str, title: str) -> None:
    assert GalleryPiece("", 7, prompt).title == title


@needs_verovio
def test_a_piece_is_engraved_played_checked_and_printed(tmp_path: Path) -> None:
    page = written(tmp_path / "a.html", piece(3), introduction="First.\n\nSecond.")
    assert '<p dir="auto">First.</p>\n<p dir="auto">Second.</p>' in page
    (image,) = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]*)" alt="Score of piece 1"', page)
    assert base64.b64decode(image).count(b'class="notehead"') == 5
    (sound,) = re.findall(r'src="data:audio/ogg;base64,([^"]*)"', page)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)))
    assert (samples.ndim, rate) == (1, 32000)
    assert 2 < len(samples) / rate < 2.5
    assert "The check finds nothing wrong with it." in page
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    assert cells == ["1", "Baroque / Bach, Johann Sebastian / Choral", "3", "finished", "2", "yes", "0", "0"]
    (text,) = re.findall(r"<details>.*?<pre>(.*?)</pre>", page, re.DOTALL)
    assert unescape(text).startswith("X:1\n%%score 1 2\n")
    assert "[V:" not in text


@needs_verovio
def test_what_is_wrong_with_a_piece_is_listed(tmp_path: Path) -> None:
    page = written(tmp_path / "a.html", piece(music=MUSIC.replace("[V:2]C4|", "[V:2]C3|")))
    assert "What the check finds" in page
    assert "lasts 3, but the bar lasts 4" in page
    assert '<td dir="auto">no</td>' in page


@needs_verovio
def test_a_piece_that_is_no_music_is_shown_with_the_reason(tmp_path: Path) -> None:
    page = written(tmp_path / "a.html", GalleryPiece("<b>K:C", 1), piece(2))
    assert "Cannot be engraved: " in page
    assert "Cannot be played: " in page
    assert "&lt;b&gt;K:C" in page
    assert page.count("<img ") == page.count("<audio ") == 1


@needs_verovio
def test_long_pieces_are_shown_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "_MAX_SOUND_S", 1.5)
    page = written(tmp_path / "a.html", piece(music="[V:1]cdef|[V:2]CDEF|\n" * 160))
    assert page.count("<img ") == 2
    assert re.search(r"\d+ more pages are not shown\.", page)
    (sound,) = re.findall(r'src="data:audio/ogg;base64,([^"]*)"', page)
    assert soundfile.info(io.BytesIO(base64.b64decode(sound))).duration == pytest.approx(1.5, abs=0.01)


@needs_verovio
def test_it_is_one_section_of_a_page(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    first = Report("OMAR-RQ", command="omar-rq demo", versions={})
    first.text("embeddings")
    first.write(path)
    written(path, piece(1))
    page = written(path, piece(2))
    assert re.findall(r"<h1[^>]*>(.*?)</h1>", page) == ["OMAR-RQ", "NotaGen: sheet music from a small model"]
    assert "embeddings" in page
    assert page.count("<img ") == 1
    assert 'id="notagen-player-1"' in page
    assert re.findall(r"<code>(.*?)</code>", page) == ["omar-rq demo", "notagen demo"]


@needs_verovio
def test_a_page_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("mine")
    with pytest.raises(FormatError, match=r"a\.html"):
        written(tmp_path / "a.html", piece())
    assert (tmp_path / "a.html").read_text() == "mine"


def test_missing_verovio_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verovio", None)
    with pytest.raises(MissingExtra, match=r"notagen\[engrave\]"):
        written(tmp_path / "a.html", piece())


# --- a real browser ---------------------------------------------------------------------------------------


@needs_verovio
def test_eight_pieces_are_seen_and_heard_in_a_browser(browser: Any, until: Until, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    Report("Other", command="other", versions={}).write(path)
    written(path, *(piece(seed) for seed in range(8)))
    page = browser.new_page()
    said: list[str] = []
    requested: set[str] = set()
    page.on("console", lambda message: said.append(message.text))  # policy violations are console errors
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requested.add(request.url.split(":")[0]))
    page.goto(path.as_uri())

    scores = page.locator("img")
    assert scores.count() == 8
    drawn = scores.evaluate_all("all => all.map(img => img.complete && img.naturalWidth > 0 && img.height)")
    assert min(drawn) > 100
    players = page.locator("audio")
    assert players.count() == 8
    until(page, "[...document.querySelectorAll('audio')].every(player => player.duration > 2)")
    players.nth(7).evaluate("player => player.play()")
    until(page, "document.querySelectorAll('audio')[7].currentTime > 0.2")
    page.get_by_text("ABC notation").first.click()
    assert page.locator("details pre").first.is_visible()
    page.get_by_role("navigation").get_by_role("link", name="NotaGen").click()
    assert page.evaluate("window.scrollY") > 0
    assert said == []
    assert requested <= {"file", "data"}
