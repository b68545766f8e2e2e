"""Folders of scores: mirrored names, bad files that are named, time limits that kill, outputs that are whole."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import pytest

from notagen.files import convert as module
from notagen.files.convert import convert
from notagen.files.formats import FORMATS
from notagen.files.output_record import RECORD
from notagen.files.reading import LATIN_1_NOTE
from notagen.files.writing import write_piece
from notagen.musicxml import abc_to_musicxml, musicxml_to_abc
from notagen.notation.bars import read_tune
from pentatonic.errors import UsageError

SCORE = """<score-partwise><part-list/><part id="P1"><measure><attributes><divisions>1</divisions></attributes>
<note><pitch><step>C</step><octave>4</octave></pitch><duration>4</duration></note></measure></part></score-partwise>
"""
SCALE = "X:1\nL:1/8\nM:4/4\nK:C\nCDEF GABc|c8|]\n"
TUNE = "X:1\nT:Élégie\nL:1/8\nM:4/4\nK:C\nV:1 treble\nV:1\n C8 | D8 |] %2\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "scores"
    source.mkdir()
    return source


def outputs(out: Path) -> list[str]:
    return sorted(
        path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() and path.name != RECORD
    )


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
    assert report.passed_over == {".txt": 1}
    assert outputs(out) == ["Dvořák/Élégie; rm -rf $HOME.abc", "good.abc"]
    assert report.entries[4]["output"] == [out / "good.abc"]
    assert (out / "good.abc").read_text(encoding="utf-8") == musicxml_to_abc(SCORE.encode())


def test_abc_becomes_musicxml(folder: Path, tmp_path: Path) -> None:
    (folder / "tune.abc").write_text(TUNE, encoding="utf-8")
    (folder / "bad.abc").write_bytes(b"X:1\nK:C\n\xff\xfe|")
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


def test_each_tune_of_a_book_is_a_file(folder: Path, tmp_path: Path) -> None:
    book = (
        SCALE + "\n" + SCALE.replace("X:1", "X:5").replace("c8", "c8?") + "\n" + SCALE.replace("X:1", "X:7")
    )
    (folder / "book.abc").write_text(book)
    out = tmp_path / "out"
    (entry,) = convert([folder], out, to="musicxml", jobs=1).entries
    assert outputs(out) == ["book-1.musicxml", "book-7.musicxml"]
    assert entry["status"] == "failed" and entry["reason"].startswith("1 tunes of the book failed: tune 5: ")
    (folder / "book.abc").write_text(SCALE + "\n" + SCALE.replace("X:1", "X:7"))
    (entry,) = convert([folder], out, to="svg", jobs=1).entries
    assert [path.name for path in entry["output"]] == ["book-1-1.svg", "book-7-1.svg"]


def test_notes_about_the_reading_are_flags(folder: Path, tmp_path: Path) -> None:
    (folder / "old.abc").write_bytes("X:1\nT:Café\nL:1/4\nM:4/4\nK:C\n^C c C c|]\n".encode("latin-1"))
    (entry,) = convert([folder], tmp_path / "out", to="midi", jobs=1).entries
    assert entry["flags"][0] == LATIN_1_NOTE and "2 notes would be altered otherwise" in entry["flags"][1]
    (folder / "old.abc").write_text("%%propagate-accidentals octave\nX:1\nK:C\n^C c C c|]\n")
    (entry,) = convert([folder], tmp_path / "out", to="midi", jobs=1).entries
    assert entry["status"] == "done" and "flags" not in entry


def test_only_own_files_are_replaced(folder: Path, tmp_path: Path) -> None:
    (folder / "tune.abc").write_text(SCALE)
    out = tmp_path / "out"
    out.mkdir()
    written = out / "tune.mid"
    written.write_bytes(b"mine")

    def outcome(**options: bool) -> str:
        (entry,) = convert([folder], out, to="midi", jobs=1, **options).entries
        return entry.get("reason", entry["status"])

    assert outcome().startswith(
        f"{written} exists and is not as this command wrote it; choose another folder"
    )
    assert written.read_bytes() == b"mine"
    assert outcome(overwrite=True) == "done" and written.read_bytes() != b"mine"
    (folder / "tune.abc").write_text(SCALE.replace("c8", "d8"))
    before = written.read_bytes()
    assert outcome() == "done" and written.read_bytes() != before  # its own file
    written.write_bytes(b"edited by hand")
    assert outcome() != "done" and written.read_bytes() == b"edited by hand"


def test_wrong_arguments(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no \.musicxml, \.xml, \.mxl files in"):
        convert([folder], tmp_path / "out", to="abc")
    with pytest.raises(UsageError, match=r"no \.abc, \.musicxml, \.xml, \.mxl files in"):
        convert([folder], tmp_path / "out", to="midi")
    with pytest.raises(UsageError, match=f"to has 'mp3'; allowed: {', '.join(FORMATS)}$"):
        convert([folder], tmp_path / "out", to="mp3")
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


# Answers for every file but "dies", where it ends, and "sleeps", where it leaves its number and waits.
_FAKE = """
import os, time
from pathlib import Path
from pentatonic.child_process import Message

def answer(request):
    word, _, path = request.data.decode().partition(" ")
    if word == "dies":
        os._exit(9)
    if word == "sleeps":
        Path(path).write_text(str(os.getpid()))
        time.sleep(60)
    return Message(".abc", b"ok")
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "fake_converter.py").write_text(_FAKE)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.setattr(module, "_CHILD", "fake_converter:answer")


def sources(tmp_path: Path, *words: str) -> list[Path]:
    paths = [tmp_path / f"{word}.xml" for word in words]
    for word, path in zip(words, paths, strict=True):
        path.write_text(f"{word} {tmp_path / 'pid'}")
    return paths


@pytest.mark.usefixtures("fake")
def test_a_child_that_dies_or_hangs_costs_one_file(tmp_path: Path) -> None:
    paths = sources(tmp_path, "a", "dies", "m", "sleeps", "z")
    report = convert(paths, tmp_path / "out", to="abc", jobs=1, timeout_s=3.0)
    assert [entry["status"] for entry in report.entries] == ["done", "failed", "done", "failed", "done"]
    assert report.entries[1]["reason"] == "the converter ended with status 9"
    assert report.entries[3]["reason"] == "the converter was stopped after 3 s"
    assert outputs(tmp_path / "out") == ["a.abc", "m.abc", "z.abc"]
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.usefixtures("fake")
def test_an_interrupt_ends_the_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: object, source: object, **about: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pentatonic.folder_run.BatchReport.done", interrupt)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        convert(sources(tmp_path, "a", "sleeps"), tmp_path / "out", to="abc", jobs=2)
    assert time.monotonic() - started < 50  # it did not wait for the one that sleeps
    assert outputs(tmp_path / "out") == ["a.abc"]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of ABC files, with one that is not what its name says."""
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
        path.write_text(SCALE)
    return folder


def test_both_kinds_of_scores_become_midi(mixed: Path, tmp_path: Path) -> None:
    report = convert([mixed], tmp_path / "out", to="midi")
    found = {Path(entry["path"]).relative_to(mixed).as_posix(): entry["status"] for entry in report.entries}
    # same.xml is not XML
    assert found == {"a.abc": "done", "sub/b.ABC": "done", "sub/same.abc": "done", "sub/same.xml": "failed"}
    assert outputs(tmp_path / "out") == ["a.mid", "sub/b.mid", "sub/same.abc.mid"]


def test_files_are_read_whatever_their_suffix(mixed: Path, tmp_path: Path) -> None:
    report = convert([mixed / "notes.txt", mixed / "sub"], tmp_path / "out", to="musicxml")
    assert report.count("done") == 3
    assert (tmp_path / "out" / "notes.musicxml").read_bytes() == abc_to_musicxml(SCALE)
    (entry,) = convert([mixed / "notes.txt"], tmp_path / "out", to="abc").entries
    assert entry["status"] == "failed" and entry["reason"].startswith("this is ABC already")


@pytest.mark.parametrize("to", sorted(FORMATS.keys() - {"abc"}))
def test_prose_is_not_music(tmp_path: Path, to: str) -> None:
    if to in ("svg", "pdf"):
        pytest.importorskip("verovio")
    (tmp_path / "notes.txt").write_text("hello\n")
    (entry,) = convert([tmp_path / "notes.txt"], tmp_path / "out", to=to).entries
    assert entry["status"] == "failed" and "no K: line" in entry["reason"]
    assert outputs(tmp_path / "out") == []


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.abc")
    (entry,) = convert([tmp_path], tmp_path / "out", to="midi").entries
    assert entry["status"] == "failed" and entry["reason"] == "this is a named pipe; allowed are files"


def test_pages_and_sound_equal_those_of_one_piece(mixed: Path, tmp_path: Path) -> None:
    pytest.importorskip("verovio")
    for name in ("svg", "wav"):
        expected = write_piece(SCALE, tmp_path / "one", [name])[name]
        report = convert([mixed / "a.abc", mixed / "sub" / "b.ABC"], tmp_path / name, to=name, jobs=1)
        written = [[path.read_bytes() for path in entry["output"]] for entry in report.entries]
        assert written == 2 * [[path.read_bytes() for path in expected]]


def test_a_module_of_the_working_directory_is_not_imported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "json.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    (folder / "a.xml").write_text(SCORE, encoding="utf-8")
    monkeypatch.chdir(folder)
    assert convert([Path()], tmp_path / "out", to="abc", jobs=1).exit_code == 0
    assert outputs(tmp_path / "out") == ["a.abc"]


def test_what_is_lost_is_counted_for_each_file(folder: Path, tmp_path: Path) -> None:
    shift = '<direction><direction-type><octave-shift type="down"/></direction-type></direction><note>'
    (folder / "line.xml").write_text(SCORE.replace("<note>", shift), encoding="utf-8")
    (folder / "plain.xml").write_text(SCORE, encoding="utf-8")
    line, plain = convert([folder], tmp_path / "out", to="abc", jobs=1).entries
    assert line["losses"] == {"octave line without a start or end": 1} and plain["losses"] == {}
    (folder / "odd.abc").write_text(SCALE.replace("CDEF", "!no such!CDEF"), encoding="utf-8")
    (odd,) = convert([folder / "odd.abc"], tmp_path / "out", to="musicxml", jobs=1).entries
    assert odd["losses"] == {"decoration that MusicXML does not have": 1}
