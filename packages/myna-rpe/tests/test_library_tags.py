"""Tags of strangers' files."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from myna_rpe.library.tags import NO_TAGS, TagReader, plain_text, read_tags, repaired
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
        ("plain", "plain"),
    ],
)
def test_mistaken_encodings_are_undone(broken: str, right: str) -> None:
    assert repaired(broken) == right


def test_text_is_plain() -> None:
    assert plain_text(" a\x1b[31m\nb\u2028c\0hidden ") == "a [31m b c"
    assert plain_text("\udcff") == "?"
    assert len(plain_text("x" * 10_000)) == 300


def test_repairs_are_shown(tmp_path: Path, sounds: SimpleNamespace) -> None:
    path = sounds.write(
        tmp_path / "a.flac", sounds.piece(0, 0.5), title="FiancÃ©e", artist="Plain", date="1999-05-01"
    )
    tags = read_tags(str(path))
    assert (tags.title, tags.artist, tags.year) == ("Fiancée", "Plain", 1999)
    assert tags.repairs == ("title: 'FiancÃ©e' read as 'Fiancée'",)


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
