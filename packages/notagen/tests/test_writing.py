"""Every format of a piece is written under its name, and nothing else."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import soundfile
from symusic.core import ScoreTick
from typer.testing import CliRunner

from notagen.cli import app
from notagen.files.formats import FORMATS, Format
from notagen.files.readable import readable
from notagen.files.writing import write_piece
from notagen.score import read_score
from pentatonic.errors import CheckpointError, FormatError, MissingExtra, UsageError

RAW = (
    "%Baroque\n%Bach, Johann Sebastian\n%Chamber\n%%score 1 2\nL:1/8\nQ:1/4=240\nM:2/4\nK:C\n"
    'V:1 treble nm="Violin" snm="Vln."\nV:2 bass nm="Cello" snm="Vc."\n'
    "[r:0/2][V:1]c2d2|[V:2]C4|\n[r:1/1][V:1]e2f2|\n[r:2/0][V:1]g4|][V:2]G4|]\n"
)


@pytest.mark.usefixtures("cairo")
def test_every_format_is_written(tmp_path: Path) -> None:
    pytest.importorskip("verovio")
    stem = tmp_path / "7.1"  # a dot in the name is no suffix
    written = write_piece(RAW, stem, FORMATS)
    assert written.keys() == FORMATS.keys()
    names = {name: [path.name for path in paths] for name, paths in written.items()}
    assert names == {
        name: ["7.1-1.svg" if name == "svg" else f"7.1{format.suffix}"] for name, format in FORMATS.items()
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(p.name for [p] in written.values())
    assert len(ET.parse(written["musicxml"][0]).findall("part")) == 2
    assert [len(track.notes) for track in ScoreTick.from_midi(written["midi"][0].read_bytes()).tracks] == [
        5,
        2,
    ]
    assert ET.parse(written["svg"][0]).getroot().tag.endswith("svg")
    assert written["pdf"][0].read_bytes().startswith(b"%PDF")
    sound = soundfile.info(written["wav"][0])
    assert (sound.samplerate, sound.channels, sound.subtype) == (44100, 1, "PCM_16")
    assert 1.5 < sound.duration < 2


def test_pages_are_numbered(tmp_path: Path) -> None:
    pytest.importorskip("verovio")
    body = "".join("[V:1]cdefgabc'|[V:2]CDEFGABc|\n" for _ in range(60))
    header = "L:1/8\nM:4/4\nK:C\nV:1\nV:2\n"
    paths = write_piece(header + body, tmp_path / "a", ["svg"])["svg"]
    assert len(paths) > 1
    assert [path.name for path in paths] == [f"a-{number}.svg" for number in range(1, len(paths) + 1)]


def test_only_what_is_asked_for_is_written(tmp_path: Path) -> None:
    assert write_piece(RAW, tmp_path / "a", []) == {}
    assert list(write_piece(RAW, tmp_path / "a", ["midi", "abc"])) == ["midi", "abc"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.abc", "a.mid"]


def test_abc_is_a_tune_in_standard_layout(tmp_path: Path) -> None:
    (path,) = write_piece(RAW, tmp_path / "a", ["abc"])["abc"]
    lines = path.read_text().splitlines()
    assert lines[0] == "X:1"
    assert lines[lines.index("V:2") :] == ["V:2", " C4 | z4 | G4 |]"]
    assert "%Baroque" not in lines
    assert not [line for line in lines if "[r:" in line or "[V:" in line]

    def notes(text: str) -> list:
        return [[m.layers for m in voice.measures] for voice in read_score(text).voices.values()]

    assert notes(path.read_text()) == notes(RAW)


@pytest.mark.parametrize("text", ["X:1\nK:C\nCDEF|\n", "X:1\nK:C\nV:1\nCDEF|\nV:2\nC4|\n", ""])
def test_text_that_is_not_interleaved_stays_as_it_is(text: str) -> None:
    assert readable(text) == text


def test_text_that_is_no_piece_still_gives_abc(tmp_path: Path) -> None:
    text = "K:C\nV:1\n[V:1]c [[ \ud800|\n"
    (path,) = write_piece(text, tmp_path / "a", ["abc"])["abc"]
    assert b"c [[ ?" in path.read_bytes()
    for name in FORMATS.keys() - {"abc"}:
        with pytest.raises(FormatError):
            write_piece(text, tmp_path / "b", [name])
    assert [child.name for child in tmp_path.iterdir()] == ["a.abc"]


@pytest.mark.parametrize("name", ["abc", "midi", "svg"])
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    if name == "svg":
        pytest.importorskip("verovio")
    with pytest.raises(CheckpointError, match=r"cannot write .*no/a(-1)?\.(abc|mid|svg)"):
        write_piece(RAW, tmp_path / "no" / "a", [name])
    assert list(tmp_path.iterdir()) == []


def test_unknown_formats_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"formats has 'mp3'; allowed: {', '.join(FORMATS)}$"):
        write_piece(RAW, tmp_path / "a", ["abc", "mp3"])
    assert list(tmp_path.iterdir()) == []


def test_engraving_without_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verovio", None)
    with pytest.raises(MissingExtra, match=r"notagen\[engrave\]"):
        write_piece(RAW, tmp_path / "a", ["svg"])


def test_one_entry_of_the_table_adds_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        FORMATS, "lines", Format("lines", ".txt", lambda piece: piece.text.encode().splitlines())
    )
    paths = write_piece("X:1\nK:C\n", tmp_path / "a", ["lines", "abc"])
    assert [path.name for path in paths["lines"]] == ["a-1.txt", "a-2.txt"]
    assert paths["lines"][1].read_bytes() == b"K:C"


def test_help_pages_name_every_format() -> None:
    for command in ("generate", "convert"):
        page = " ".join(CliRunner().invoke(app, [command, "--help"]).output.split())
        assert ", ".join(FORMATS) in page


def test_names_and_suffixes_of_formats() -> None:
    assert all(name.isalnum() and name == name.lower() for name in FORMATS)
    suffixes = [format.suffix for format in FORMATS.values()]
    assert len(set(suffixes)) == len(suffixes) and all(suffix[0] == "." for suffix in suffixes)
    help_page = CliRunner().invoke(app, ["convert", "--help"]).output
    assert all(f"{name:<8}  {format.about}\n" in help_page for name, format in FORMATS.items())


def test_names_of_voices_that_are_not_unicode(tmp_path: Path) -> None:
    text = "L:1/8\nM:2/4\nK:C\nV:\ud800\n[V:\ud800]c2d2|]\n"
    (path,) = write_piece(text, tmp_path / "a", ["midi"])["midi"]
    assert [track.name for track in ScoreTick.from_midi(path.read_bytes()).tracks] == ["Voice ?"]
