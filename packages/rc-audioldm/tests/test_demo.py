"""``rc-audioldm demo``: the page, and what is refused before any sound is made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from pentatonic.report import Report
from rc_audioldm.cli import app


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    time_s = np.arange(20_480) / 16_000
    for pitch in (110, 220, 880):
        soundfile.write(folder / f"{pitch}.wav", 0.3 * np.sin(2 * np.pi * pitch * time_s), 16_000)
    (folder / "licences.csv").write_text("path,licence\n110.wav,CC0-1.0\n", encoding="utf-8")
    return folder


def test_the_page_has_three_sounds_of_a_prompt_and_its_clips(clips: Path, tmp_path: Path) -> None:
    page = tmp_path / "out/index.html"
    Report("Other", command="other", versions={}, section="other").add_to(page)
    result = CliRunner().invoke(
        app, ["demo", str(clips), "--page", str(page), "--prompt", "a <b>low</b> note"]
    )
    assert result.exit_code == 0, result.exception
    html = page.read_text(encoding="utf-8")
    assert "a &lt;b&gt;low&lt;/b&gt; note" in html and "<b>low</b>" not in html
    assert html.count("<audio") == 5  # at strength 0, 1/2 and 1, and two clips
    assert "The prompt alone" in html and "Other" in html


@pytest.mark.parametrize(
    ("options", "reason"),
    [([], "is not a report"), (["--prompt", "a drum", "--prompt", " "], "a prompt is empty")],
)
def test_what_is_refused_costs_no_time(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], reason: str
) -> None:
    def build(*_: object) -> None:
        raise AssertionError("work has begun")

    monkeypatch.setattr("rc_audioldm.bank.build.build_bank", build)
    page = tmp_path / "index.html"
    if not options:
        page.write_text("my own page", encoding="utf-8")
    result = CliRunner().invoke(app, ["demo", str(clips), "--page", str(page), *options])
    assert reason in str(result.exception)
    assert not page.exists() or page.read_text(encoding="utf-8") == "my own page"
