"""Scores that users bring: ABC of either layout, tune books, or MusicXML, told apart by the name's suffix."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from notagen.abc.parser import MAX_TUNE_CHARACTERS
from notagen.musicxml.document import MAX_BYTES
from notagen.notation.tunebook import place_file_header, split_tunes
from pentatonic.errors import FormatError, InputError

ABC_SUFFIXES = (".abc",)
MUSICXML_SUFFIXES = (".musicxml", ".xml", ".mxl")
SCORE_SUFFIXES = (*ABC_SUFFIXES, *MUSICXML_SUFFIXES)
"""What folders are searched for."""

_BOOK_BYTES = 64 << 20
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
LATIN_1_NOTE = "the file is not UTF-8; it was read as Latin-1"


@dataclass(frozen=True)
class Tune:
    """One tune of a file.

    Args:
        name: Its number in a book of several tunes; empty for the only tune of a file.
        text: Its text, in standard layout where the file is MusicXML.
        notes: What a reader should know about how the file was understood.
    """

    name: str
    text: str
    notes: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """What the name of an output has after the name of the file: ``-3``, or nothing for an only tune."""
        return f"-{self.name}" if self.name else ""


def read_piece(path: Path) -> str:
    """Read a piece as ABC text.

    Args:
        path: ``.musicxml``, ``.xml`` or ``.mxl``; any other file is taken for ABC in UTF-8 or, with a warning, in
            Latin-1.

    Returns:
        ABC, in standard layout where it was MusicXML.

    Raises:
        InputError: The file cannot be read, or is too large.
        FormatError: It is empty, or not what its name says.
    """
    with _errors_of(path):
        text, notes = _text_of(read_content(path), path.suffix)
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)
    return text


def read_pieces(path: Path) -> list[Tune]:
    """Read all tunes of a file; arguments and errors are those of :func:`read_piece`."""
    with _errors_of(path):
        return tunes_of(read_content(path), path.suffix)


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Add the name of the file to errors."""
    try:
        yield
    except FormatError as error:
        raise FormatError(error.reason, path=path, line=error.line, column=error.column) from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_content(path: Path) -> bytes:
    """Read the content of a file for :func:`tunes_of`, no more of it than that accepts.

    Raises:
        InputError: The file cannot be read; the message does not name it.
    """
    # A character of ABC has at most four bytes.
    limit = MAX_BYTES if is_musicxml(path.suffix) else 4 * MAX_TUNE_CHARACTERS
    return _content(path, limit)


def tunes_of(data: bytes, suffix: str) -> list[Tune]:
    """Return the tunes of a file.

    A book of several tunes is cut at its ``X:`` lines (:func:`notagen.notation.tunebook.split_tunes`). Its tunes are
    named by their numbers or, where a number is missing or occurs twice, by their place in the book.

    Args:
        data: Content of a file.
        suffix: Of its name, as for :func:`read_piece`.

    Raises:
        InputError: It is too large.
        FormatError: It is empty, or not what the suffix says.
    """
    text, notes = _text_of(data, suffix)
    if is_musicxml(suffix):
        return [Tune("", text)]
    tunes = split_tunes(text)
    if len(tunes) < 2:
        return [Tune("", text, notes)]
    names = [number for number, _ in tunes]
    if len(set(names)) < len(names) or "" in names:
        names = [str(place) for place in range(1, len(tunes) + 1)]
    return [Tune(name, tune, notes) for name, (_, tune) in zip(names, tunes, strict=True)]


def _text_of(data: bytes, suffix: str) -> tuple[str, tuple[str, ...]]:
    """Return the ABC text of a file, and notes about how it was read; arguments and errors as for ``tunes_of``."""
    if is_musicxml(suffix):
        from notagen.musicxml import musicxml_to_abc

        return musicxml_to_abc(data), ()
    text, notes = _decoded(data)
    if len(text) > MAX_TUNE_CHARACTERS:
        raise InputError(f"more than {MAX_TUNE_CHARACTERS} characters, the most of a piece")
    if not text.strip():
        raise FormatError("the file is empty")
    return place_file_header(text.replace("\r\n", "\n").replace("\r", "\n")), notes


def _decoded(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the text of ABC in UTF-8, or in Latin-1 as older files are, with a note about that."""
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        if data.startswith(_UTF_16) or b"\0" in data:
            line = data.count(b"\n", 0, error.start) + 1
            reason = f"the byte {data[error.start]:#04x} is not UTF-8, and this is no Latin-1 text either"
            raise FormatError(reason, line=line) from error
        return data.decode("latin-1"), (LATIN_1_NOTE,)


def is_musicxml(suffix: str) -> bool:
    """Whether a file with this suffix is MusicXML; any other is taken for ABC."""
    return suffix.lower() in MUSICXML_SUFFIXES


def read_tunes(file: Path) -> list[tuple[str, str]]:
    """Read the tunes of one file.

    Args:
        file: ABC, UTF-8 or Latin-1, or MusicXML.

    Returns:
        Pairs of the number in the tune book (empty where there is none) and the tune in standard layout.

    Raises:
        InputError: The file cannot be read, is too large, or is not what its name says.
    """
    if is_musicxml(file.suffix):
        from notagen.musicxml import musicxml_to_abc

        return [("", musicxml_to_abc(file))]
    try:
        content = _content(file, _BOOK_BYTES)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    if len(content) > _BOOK_BYTES:
        raise InputError(f"{file}: more than {_BOOK_BYTES >> 20} MiB")
    with _errors_of(file):
        return split_tunes(_decoded(content)[0])


def _content(path: Path, limit: int) -> bytes:
    """Read a file, and not more than one byte beyond the limit."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})") from error
