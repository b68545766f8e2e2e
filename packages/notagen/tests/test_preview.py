"""What the browser demo shows of a piece, also of a hostile one."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from notagen.app.preview import Preview, preview
from pentatonic import audio
from pentatonic.errors import InputError

TUNE = "X:1\n%%score 1\nL:1/8\nM:4/4\nK:C\nV:1 treble\nV:1\nCDEF GABc|c8|]\n"
PAGE = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.fixture(autouse=True)
def engraved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without verovio, whose own test engraves."""
    monkeypatch.setattr("notagen.engraving.engrave", lambda score: [PAGE, PAGE])


def test_a_piece(tmp_path: Path) -> None:
    made = preview(TUNE)
    assert made.problems == () and made.report is not None and made.report.valid and made.sound is not None
    assert list(made.files) == [".abc", ".musicxml", ".mid", "-1.svg", "-2.svg"]
    (tmp_path / "sound.mp3").write_bytes(made.sound)
    assert audio.info(tmp_path / "sound.mp3").duration_s > 3.9
    assert "2 bars, well-formed" in made.check_html()
    media = made.media_html("notagen-7")
    names = re.findall(r'download="([^"]*)" href="data:[^"]*;base64,[^"]*">([^<]*)<', media)
    assert names == [
        ("notagen-7.abc", "ABC"),
        ("notagen-7.musicxml", "MusicXML"),
        ("notagen-7.mid", "MIDI"),
        ("notagen-7-1.svg", "SVG 1"),
        ("notagen-7-2.svg", "SVG 2"),
    ]
    assert media.count("<audio") == 1


def test_pages_cannot_run_scripts() -> None:
    shown = Preview(None, (PAGE,), {}, None, ()).pages_html()
    assert "script" not in shown and base64.b64encode(PAGE.encode()).decode() in shown


@pytest.mark.parametrize(
    "text", ["", "K:C\n", "<script>alert(1)</script>", 'K:C\n"<b>" &|z99999\n', "K:Q\nc|"]
)
def test_texts_that_are_no_music_are_explained(text: str) -> None:
    made = preview(text)
    shown = made.pages_html() + made.media_html('"><script>') + made.check_html()
    assert made.problems and "<script" not in shown and "<b>" not in shown
    assert len(set(made.problems)) == len(made.problems)


def test_what_fails_does_not_take_the_rest_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(score: bytes) -> list[str]:
        raise InputError("engraving: <b> stopped")

    monkeypatch.setattr("notagen.engraving.engrave", fail)
    made = preview(TUNE.replace("c8", "c9|c8"))
    assert made.problems == ("engraving: <b> stopped",) and made.sound is not None and ".mid" in made.files
    assert "engraving: &lt;b&gt; stopped" in made.pages_html()
    assert "3 bars, 1 error<" in made.check_html() and "the bar lasts 9" in made.check_html()
