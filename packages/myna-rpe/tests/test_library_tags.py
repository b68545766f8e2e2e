"""Tags of strangers' files."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from myna_rpe.library.tags import NO_TAGS, Recording, TagReader, plain_text, read_recording, repaired
from pentatonic.errors import FormatError, InputError, MissingExtra


@pytest.mark.parametrize(
    ("broken", "right"),
    [
        ("CafÃ© del Mar", "Café del Mar"),
        ("BjÃƒÂ¶rk", "Björk"),
        ("Donâ€™t Stop", "Don\u2019t Stop"),
        ("Ïåñíÿ î äðóãå", "Песня о друге"),  # noqa: RUF001
        ("Sigur Rós", "Sigur Rós"),
        ("Motörhead", "Motörhead"),
        ("Ænima", "Ænima"),
        ("東京", "東京"),
        ("Ääääh, öööö", "Ääääh, öööö"),
        ("plain", "plain"),
    ],
)
def test_mistaken_encodings_are_undone(broken: str, right: str) -> None:
    assert repaired(broken) == right


def test_text_is_plain() -> None:
    assert plain_text(" a\x1b[31m\nb\u2028c\0hidden ") == "a [31m b c"
    assert plain_text("\udcff") == "?"
    assert plain_text("\ufeffTitle\r\nof two\ufeff lines") == "Title of two lines"
    assert plain_text("\0\0late\0more") == "late"
    assert plain_text("a\u202egpj.exe\u2066") == "agpj.exe"
    assert plain_text("می\u200cروم 👩\u200d🚀") == "می\u200cروم 👩\u200d🚀", "joiners are spelling"
    assert len(plain_text("x" * 10_000)) == 300
    assert plain_text("\n" * 10_000 + "x") == "", "of megabytes, the start is looked at"


def test_repairs_are_shown(tmp_path: Path, sounds: SimpleNamespace) -> None:
    path = sounds.write(
        tmp_path / "a.flac", sounds.piece(0, 0.5), title="FiancÃ©e", artist="Plain", date="1999-05-01"
    )
    tags = read_recording(str(path)).tags
    assert (tags.title, tags.artist, tags.year) == ("Fiancée", "Plain", 1999)
    assert tags.repairs == ("title: 'FiancÃ©e' read as 'Fiancée'",)


@pytest.mark.parametrize(
    ("date", "year"),
    [
        ("1999", 1999),
        ("1999-05-01T10:00", 1999),
        ("19990501", 1999),
        ("01.05.1999", 1999),
        ("05/01/99", None),
        ("0000", None),
        ("123456", None),
        ("soon", None),
    ],
)
def test_years_of_dates(tmp_path: Path, sounds: SimpleNamespace, date: str, year: int | None) -> None:
    path = sounds.write(tmp_path / "a.flac", np.zeros(100), date=date)
    assert read_recording(str(path)).tags.year == year


def test_the_code_and_length_of_a_recording(tmp_path: Path) -> None:
    tag = b"".join(
        name + (len(text) + 1).to_bytes(4, "big") + b"\0\0\3" + text
        for name, text in ((b"TIT2", "FiancÃ©e".encode()), (b"TSRC", b"DE-ABC-26-00001"))
    )
    path = tmp_path / "a.mp3"
    frame = b"\xff\xfb\x90\x00" + bytes(413)  # 128 kbit/s, 44.1 kHz
    path.write_bytes(b"ID3\4\0\0" + bytes([0, 0, len(tag) >> 7, len(tag) & 127]) + tag + frame * 100)
    with TagReader() as reader:
        found = reader.read_recording(path)
        assert reader.read(path) == found.tags
    assert found.tags.title == "Fiancée"
    assert found.isrc == "DE-ABC-26-00001"
    assert found.duration_s == pytest.approx(100 * 1152 / 44100, rel=0.05)
    assert read_recording(str(path)).duration_s is None, "it is not looked for"


def test_other_files_have_no_tags(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert read_recording(str(tmp_path / "notes.txt"), duration=True) == Recording()


def test_hostile_files_cost_only_their_tags(tmp_path: Path, sounds: SimpleNamespace) -> None:
    good = sounds.write(tmp_path / "good.ogg", sounds.piece(0, 0.5), title="Good")
    frame = b"TIT2\xff\xff\xff\x7f\0\0\3" + b"x" * 100
    (tmp_path / "long.mp3").write_bytes(b"ID3\4\0\0\x7f\x7f\x7f\x7f" + frame)
    (tmp_path / "cut.flac").write_bytes(good.read_bytes()[:20].replace(b"OggS", b"fLaC"))
    (tmp_path / "boxes.m4a").write_bytes(b"\0\0\0\x01ftypM4A " + b"\0\0\0\x08moov" * 2000)
    with TagReader() as reader:
        for name in ("long.mp3", "cut.flac", "boxes.m4a"):
            try:
                tags = reader.read(tmp_path / name)
            except FormatError as error:
                assert name in str(error)
            else:
                assert tags.title is None or len(tags.title) <= 300
        assert reader.read(good).title == "Good"
        assert reader.read(sounds.write(tmp_path / "none.wav", sounds.piece(0, 0.2))) == NO_TAGS
        with pytest.raises(InputError, match="is missing"):
            reader.read(tmp_path / "nothing.ogg")
        os.mkfifo(tmp_path / "pipe.ogg")
        with pytest.raises(InputError, match="named pipe"):
            reader.read(tmp_path / "pipe.ogg")


def test_the_reader_outlives_a_crash(
    tmp_path: Path, sounds: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = sounds.write(tmp_path / "good.ogg", sounds.piece(0, 0.5), title="Good")
    with TagReader() as reader:
        monkeypatch.setattr(reader._child, "function", "os:abort")
        with pytest.raises(FormatError, match="the reader of tags"):
            reader.read(good)
        monkeypatch.setattr(reader._child, "function", "myna_rpe.library.tags:answer")
        assert reader.read(good).title == "Good"


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tinytag", None)
    with pytest.raises(MissingExtra, match=r"The music library needs the extra 'myna-rpe\[library\]'"):
        TagReader()
