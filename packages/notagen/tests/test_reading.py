"""Reading the pieces that users bring."""

from __future__ import annotations

from pathlib import Path

import pytest

from notagen.files import reading
from notagen.files.reading import LATIN_1_NOTE, read_piece, read_pieces, tunes_of
from notagen.musicxml import abc_to_musicxml
from pentatonic.errors import FormatError, InputError

TUNE = "X:1\nT:Café\nL:1/8\nM:4/4\nK:C\nCDEF GABc|c8|]\n"


@pytest.mark.parametrize(
    "data", [TUNE.encode(), b"\xef\xbb\xbf" + TUNE.encode(), TUNE.replace("\n", "\r\n").encode()]
)
def test_abc(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tune.txt"
    path.write_bytes(data)
    assert read_piece(path) == TUNE


@pytest.mark.parametrize("suffix", [".xml", ".MusicXML"])
def test_musicxml(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tune{suffix}"
    path.write_bytes(abc_to_musicxml(TUNE))
    text = read_piece(path)
    assert "M:4/4\nK:C\n" in text and "CDEF GABc |" in text


def test_latin_1_is_read_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "tune.abc"
    path.write_bytes(TUNE.encode("latin-1"))
    with pytest.warns(UserWarning, match=r"tune\.abc: the file is not UTF-8; it was read as Latin-1"):
        assert read_piece(path) == TUNE
    (tune,) = read_pieces(path)
    assert (tune.text, tune.notes, tune.suffix) == (TUNE, (LATIN_1_NOTE,), "")


@pytest.mark.parametrize(
    ("numbers", "names"), [((7, 3), ("7", "3")), ((1, 1), ("1", "2")), (("", 4), ("1", "2"))]
)
def test_a_book_is_cut_into_tunes(numbers: tuple[object, object], names: tuple[str, str]) -> None:
    book = "\n".join(TUNE.replace("X:1", f"X:{number}") for number in numbers)
    first, second = tunes_of(book.encode(), ".abc")
    assert (first.name, second.name) == names and first.suffix == f"-{names[0]}"
    assert first.text.rstrip() == TUNE.replace("X:1", f"X:{numbers[0]}").rstrip()
    assert len(tunes_of(TUNE.replace("CDEF GABc", "X:|\nCDEF").encode(), ".abc")) == 1


def test_bad_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tune.abc"
    with pytest.raises(InputError, match=r"tune\.abc: cannot be read \(No such file"):
        read_piece(path)
    path.write_bytes(b"\xef\xbb\xbf \n")
    with pytest.raises(FormatError, match=r"tune\.abc.*the file is empty"):
        read_piece(path)
    path.write_text("hello: K:\n")
    assert read_piece(path) == "hello: K:\n"
    path.write_bytes("\ufeffX:1\nT:Café".encode("utf-16-le"))
    with pytest.raises(FormatError, match="the byte 0xff is not UTF-8, and this is no Latin-1") as caught:
        read_piece(path)
    assert (caught.value.path, caught.value.line) == (path, 1)
    monkeypatch.setattr(reading, "MAX_TUNE_CHARACTERS", 10)
    path.write_text("é" * 10)
    assert read_piece(path) == "é" * 10
    for text in ("é" * 11, "x" * 100):
        path.write_text(text)
        with pytest.raises(InputError, match="more than 10 characters"):
            read_piece(path)
