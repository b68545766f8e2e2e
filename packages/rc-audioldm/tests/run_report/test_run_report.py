"""The page of a run: everything that the folder says, in one offline file, whatever the prompts are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pentatonic.errors import ConfigError, FormatError
from rc_audioldm.run_report.page import write_run_report

MakeRun = Callable[..., Path]
SCRIPT = "<script>document"


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")


def test_the_page_and_the_plots_come_from_the_folder_alone(make_run: MakeRun) -> None:
    run = make_run()
    page = write_run_report(run)
    text = page.read_text(encoding="utf-8")
    assert page == run / "report.html" and SCRIPT not in text
    for expected in (
        "rc-audioldm generate --seed 7",
        "non-commercial: CC BY-NC-SA 4.0 of model cvssp/audioldm2: forbids commercial use",
        "https://creativecommons.org/licenses/by/4.0/",
        "not monotone: falls from strength 0.5 to 1",
        "1 of 2 clips hold a copy",
        "000_v0 at strength 0.5",
        "measured effect",
        str(run.resolve().name),
    ):
        assert expected in text, expected
    assert text.count("<audio id=") == 8  # two clips, and each at three strengths
    plots = {path.name for path in (run / "visualizations").iterdir()}
    assert plots == {"clap_text_hist.png", "clap_style_hist.png", "loudness.png", "spec_grid.png", "knob.png"}
    assert str(run) not in text  # no absolute paths
    assert "What could not be read" not in text


def test_only_the_list_of_clips_is_needed(make_run: MakeRun) -> None:
    run = make_run()
    for name in ("run_config.json", "hardware.json", "knob.json", "copies.json"):
        (run / name).unlink()
    for path in [*(run / "metrics").iterdir(), *(run / "knob").iterdir()]:
        path.unlink()
    text = write_run_report(run, players=1).read_text(encoding="utf-8")
    assert text.count("<audio id=") == 1 and "The first 1 of 2 clips" in text
    assert "were not compared with their sources" in text and "loudness was not measured" in text


def test_parts_that_cannot_be_read_are_named_and_the_rest_is_shown(make_run: MakeRun) -> None:
    run = make_run()
    (run / "hardware.json").write_text("{", encoding="utf-8")
    (run / "metrics/summary.json").write_text("[]", encoding="utf-8")
    rewrite(run / "knob.json", lambda values: {**values, "other": {"item": "x", "doses": [{"strength": 9}]}})
    (run / "wav/001__clip.wav").write_bytes(b"nothing")
    text = write_run_report(run).read_text(encoding="utf-8")
    assert "What could not be read" in text
    for expected in (
        "hardware.json",
        "metrics/summary.json",
        "strength is 9",
        "001_v0: no sound",
        "001_v0: no ledger",
    ):
        assert expected in text, expected
    assert "000_v0: a slow cello" in text and "001_v0" in text


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{}", FormatError),
        ('{"id": "a", "file": 1}', FormatError),
        ('{"id": "", "file": "wav/000__clip.wav"}', FormatError),
        ('{"id": "000_v0", "file": "wav/000__clip.wav"}', FormatError),
        ('{"id": "a", "file": "../../etc/passwd"}', ConfigError),
        ("not JSON", FormatError),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_and_nothing_is_written(
    make_run: MakeRun, line: str, error: type[Exception]
) -> None:
    run = make_run()
    path = run / "items.jsonl"
    path.write_text(f"{path.read_text(encoding='utf-8')}{line}\n", encoding="utf-8")
    with pytest.raises(error):
        write_run_report(run)
    assert not (run / "report.html").exists() and not (run / "visualizations").exists()


def test_an_empty_or_missing_list_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    (run / "items.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(FormatError, match="has no clips"):
        write_run_report(run)
    with pytest.raises(FormatError, match="is missing"):
        write_run_report(tmp_path)


def test_names_of_strangers_find_no_file_outside(make_run: MakeRun) -> None:
    run = make_run()
    lines = (run / "items.jsonl").read_text(encoding="utf-8").replace('"000_v0"', '"../knob/000_v0"')
    (run / "items.jsonl").write_text(lines, encoding="utf-8")
    rewrite(run / "knob.json", lambda values: {"../knob/000_v0": values["000_v0"], **values})
    text = write_run_report(run).read_text(encoding="utf-8")
    assert text.count("<audio id=") == 5


def test_a_browser_plays_it_offline_and_runs_nothing_of_the_prompts(
    make_run: MakeRun, browser: Any, until: Callable[[Any, str], None]
) -> None:
    path = write_run_report(make_run())
    page = browser.new_page()
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    until(page, "document.querySelectorAll('audio').length === 8")
    until(page, "[...document.querySelectorAll('audio')].every(each => each.duration > 2.9)")
    until(page, "[...document.querySelectorAll('img')].every(each => each.complete && each.naturalWidth > 0)")
    assert page.title() == "Generated clips: run" and not errors
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert '<script>document.title = "taken"</script>' in page.inner_text("body")
    page.close()
