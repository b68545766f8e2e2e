"""Folders of scores: mirrored names, bad files that are named, time limits that kill, outputs that are whole."""

from __future__ import annotations

import os
import sys
import time
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from notagen.files import convert as module
from notagen.files.convert import convert
from notagen.musicxml import abc_to_musicxml, musicxml_to_abc
from notagen.notation.bars import read_tune
from pentatonic.errors import UsageError

SCORE = """<score-partwise><part-list/><part id="P1"><measure><attributes><divisions>1</divisions></attributes>
<note><pitch><step>C</step><octave>4</octave></pitch><duration>4</duration></note></measure></part></score-partwise>
"""
TUNE = "X:1\nT:Élégie\nL:1/8\nM:4/4\nK:C\nV:1 treble\nV:1\n C8 | D8 |] %2\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "scores"
    source.mkdir()
    return source


def outputs(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def test_a_folder_is_mirrored_and_bad_files_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "Dvořák").mkdir()
    (folder / "Dvořák" / "Élégie; rm -rf $HOME.xml").write_text(SCORE, encoding="utf-8")
    (folder / "good.musicxml").write_text(SCORE, encoding="utf-8")
    (folder / "cut.xml").write_text(SCORE[:100], encoding="utf-8")
    (folder / "empty.mxl").write_bytes(b"")
    with zipfile.ZipFile(folder / "bomb.mxl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/container.xml", b" " * (4 << 20))
    (folder / "notes.txt").write_text("no score", encoding="utf-8")
    (folder / ".hidden.xml").write_text(SCORE, encoding="utf-8")
    out = tmp_path / "out"
    report = convert([folder], out, to="abc", jobs=2)
    reasons = {Path(entry["path"]).name: entry.get("reason") for entry in report.entries}
    assert list(reasons) == ["Élégie; rm -rf $HOME.xml", "bomb.mxl", "cut.xml", "empty.mxl", "good.musicxml"]
    assert "expands more than 200 times" in reasons["bomb.mxl"]
    assert reasons["cut.xml"].startswith("1:101:") and "not well-formed XML" in reasons["cut.xml"]
    assert "no element found" in reasons["empty.mxl"]
    assert report.count("done") == 2 and report.exit_code == 3
    assert outputs(out) == ["Dvořák/Élégie; rm -rf $HOME.abc", "good.abc"]
    assert report.entries[4]["output"] == out / "good.abc"
    assert (out / "good.abc").read_text(encoding="utf-8") == musicxml_to_abc(SCORE.encode())


def test_abc_becomes_musicxml(folder: Path, tmp_path: Path) -> None:
    (folder / "tune.abc").write_text(TUNE, encoding="utf-8")
    (folder / "bad.abc").write_bytes(b"X:1\nK:C\n\xff\xfe")
    report = convert([folder], tmp_path / "out", to="musicxml", jobs=1)
    assert [(entry["status"], Path(entry["path"]).name) for entry in report.entries] == [
        ("failed", "bad.abc"),
        ("done", "tune.abc"),
    ]
    assert "UTF-8" in report.entries[0]["reason"]
    assert (tmp_path / "out" / "tune.musicxml").read_bytes() == abc_to_musicxml(TUNE)
    (folder / "prose.txt").write_text("hello", encoding="utf-8")
    (entry,) = convert([folder / "prose.txt"], tmp_path / "out", to="musicxml", jobs=1).entries
    assert entry["status"] == "failed" and "no K: line" in entry["reason"]
    (entry,) = convert([folder / "tune.abc"], tmp_path / "out", to="abc", jobs=1).entries
    assert entry["reason"].startswith("this is ABC already; ABC is made of .musicxml, .xml, .mxl files")
    back = convert([tmp_path / "out"], tmp_path / "back", to="abc", jobs=1)
    assert back.exit_code == 0
    text = (tmp_path / "back" / "tune.abc").read_text(encoding="utf-8")
    assert "\nT:Élégie\n" in text and read_tune(text).bar_count == 2


def test_names_do_not_collide(tmp_path: Path) -> None:
    root = tmp_path / "a"
    (root / "deep").mkdir(parents=True)
    for name in ("song.xml", "song.mxl", "SONG.musicxml", "song.mxl.xml", "other.xml", "deep/song.xml"):
        (root / name).touch()
    names = module._output_names([root], "abc")
    assert {path.relative_to(root).as_posix(): str(name) for path, name in names.items()} == {
        "song.xml": "song.xml.abc",
        "song.mxl": "song.mxl.abc",
        "SONG.musicxml": "SONG.musicxml.abc",
        "song.mxl.xml": "song.mxl.xml.abc",
        "other.xml": "other.abc",
        "deep/song.xml": "deep/song.abc",
    }
    alone = module._output_names([root / "deep" / "song.xml", root / "other.xml"], "abc")
    assert list(alone.values()) == [PurePosixPath("deep/song.abc"), PurePosixPath("other.abc")]


def test_wrong_arguments(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no \.musicxml or \.xml or \.mxl files in"):
        convert([folder], tmp_path / "out", to="abc")
    with pytest.raises(UsageError, match="allowed are abc and musicxml"):
        convert([folder], tmp_path / "out", to="midi")  # type: ignore[arg-type]
    for timeout_s in (0, -1, float("nan"), float("inf")):
        with pytest.raises(
            UsageError, match=rf"timeout_s is {timeout_s:g}; allowed is any number of seconds above"
        ):
            convert([folder], tmp_path / "out", to="abc", timeout_s=timeout_s)
    with pytest.raises(UsageError, match="jobs is -1; allowed are 0"):
        convert([folder], tmp_path / "out", to="abc", jobs=-1)
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    report = convert([tmp_path / "none.xml"], tmp_path / "out", to="abc", jobs=1)
    assert report.entries[0]["status"] == "failed" and "cannot be read" in report.entries[0]["reason"]


# Answers for every path but "dies", where it ends, and "sleeps", where it leaves its number and waits.
_FAKE = """
import json, os, sys, time
for line in sys.stdin:
    path = json.loads(line)["path"]
    if path.endswith("dies"):
        os._exit(9)
    if path.endswith("sleeps"):
        open(path + ".pid", "w").write(str(os.getpid()))
        time.sleep(60)
    print(json.dumps({"content": "ok"}), flush=True)
"""


def test_a_worker_that_dies_or_hangs_costs_one_file(tmp_path: Path) -> None:
    names = {tmp_path / name: PurePosixPath(f"{name}.abc") for name in ("a", "dies", "m", "sleeps", "z")}
    command = (sys.executable, "-c", _FAKE)
    report = module._run(names, tmp_path / "out", "abc", 1, 3.0, command)
    assert [entry["status"] for entry in report.entries] == ["done", "failed", "done", "failed", "done"]
    assert "died of it with status 9" in report.entries[1]["reason"]
    assert report.entries[3]["reason"] == "not converted within 3 s"
    assert outputs(tmp_path / "out") == ["a.abc", "m.abc", "z.abc"]
    pid = int((tmp_path / "sleeps.pid").read_text(encoding="utf-8"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_interrupt_ends_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: object, source: object, **about: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.BatchReport, "done", interrupt)
    names = {tmp_path / name: PurePosixPath(f"{name}.abc") for name in ("a", "sleeps")}
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        module._run(names, tmp_path / "out", "abc", 2, 60.0, (sys.executable, "-c", _FAKE))
    assert time.monotonic() - started < 50  # it did not wait for the one that sleeps


def test_a_module_of_the_working_directory_is_not_imported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "json.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    (folder / "a.xml").write_text(SCORE, encoding="utf-8")
    monkeypatch.chdir(folder)
    assert convert([Path()], tmp_path / "out", to="abc", jobs=1).exit_code == 0
    assert outputs(tmp_path / "out") == ["a.abc"]
