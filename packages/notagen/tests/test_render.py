"""Files of music in other formats: which are found, and what the outputs are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from notagen.files import render as module
from notagen.files.render import render
from pentatonic.errors import FormatError, UsageError

TUNE = "X:1\nL:1/8\nM:4/4\nK:C\nCDEF GABc|c8|]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for name in (
        "a.abc",
        "sub/b.ABC",
        "sub/same.abc",
        "sub/same.xml",
        "sub/.hidden.abc",
        ".git/c.abc",
        "notes.txt",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TUNE)
    return folder


def test_folders_are_mirrored_and_bad_files_named(folder: Path, tmp_path: Path) -> None:
    report = render([folder], tmp_path / "out", to="midi")
    found = {Path(entry["path"]).relative_to(folder).as_posix(): entry["status"] for entry in report.entries}
    # same.xml is no XML
    assert found == {"a.abc": "done", "sub/b.ABC": "done", "sub/same.abc": "done", "sub/same.xml": "failed"}
    written = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.mid")
    )
    assert written == ["a.mid", "sub/b.mid", "sub/same.abc.mid"]


def test_files_are_read_whatever_their_suffix(folder: Path, tmp_path: Path) -> None:
    report = render([folder / "notes.txt", folder / "sub"], tmp_path / "out", to="abc")
    assert report.count("done") == 3 and (tmp_path / "out" / "notes.abc").read_text() == TUNE


@pytest.mark.parametrize("to", ["midi", "svg", "pdf", "wav", "musicxml"])
def test_prose_is_no_music(tmp_path: Path, to: str) -> None:
    (tmp_path / "notes.txt").write_text("hello\n")
    (entry,) = render([tmp_path / "notes.txt"], tmp_path / "out", to=to).entries
    assert entry["status"] == "failed" and "no K: line" in entry["reason"]
    assert not list((tmp_path / "out").iterdir())


def test_wrong_calls(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="'mp3' is not one of"):
        render([folder], tmp_path / "out", to="mp3")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no \.abc, \.musicxml, \.xml, \.mxl files in "):
        render([tmp_path / "empty"], tmp_path / "out", to="midi")

    def fail(text: str, stem: Path, formats: list[str]) -> None:
        raise FormatError("strange", line=3)

    monkeypatch.setattr(module, "write_piece", fail)
    (entry,) = render([folder / "a.abc"], tmp_path / "out", to="midi").entries
    assert entry["status"] == "failed" and entry["reason"] == "3: strange"
