"""Scores that users bring: ABC of either layout, tune books, or MusicXML, told apart by the name's suffix."""

from __future__ import annotations

from pathlib import Path

from notagen.abc.parser import MAX_TUNE_CHARACTERS
from notagen.musicxml.document import MAX_BYTES
from notagen.notation.tunebook import split_tunes
from pentatonic.errors import FormatError, InputError

ABC_SUFFIXES = (".abc",)
MUSICXML_SUFFIXES = (".musicxml", ".xml", ".mxl")
SCORE_SUFFIXES = (*ABC_SUFFIXES, *MUSICXML_SUFFIXES)
"""What folders are searched for."""

_BOOK_BYTES = 64 << 20


def read_piece(path: Path) -> str:
    """Read a piece as ABC text.

    Args:
        path: ``.musicxml``, ``.xml`` or ``.mxl``; any other file is taken for ABC in UTF-8.

    Returns:
        ABC, in standard layout where it was MusicXML.

    Raises:
        InputError: The file cannot be read, or is too large.
        FormatError: It is empty, or not what its name says.
    """
    try:
        return piece_text(read_content(path), path.suffix)
    except FormatError as error:
        raise FormatError(error.reason, path=path, line=error.line, column=error.column) from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_content(path: Path) -> bytes:
    """Read the content of a file for :func:`piece_text`, no more of it than that accepts.

    Raises:
        InputError: The file cannot be read; the message does not name it.
    """
    # A character of ABC has at most four bytes.
    limit = MAX_BYTES if is_musicxml(path.suffix) else 4 * MAX_TUNE_CHARACTERS
    return _content(path, limit)


def piece_text(data: bytes, suffix: str) -> str:
    """Return the ABC text of a piece.

    Args:
        data: Content of a file.
        suffix: Of its name, as for :func:`read_piece`.

    Raises:
        InputError: It is too large.
        FormatError: It is empty, or not what the suffix says.
    """
    if is_musicxml(suffix):
        from notagen.musicxml import musicxml_to_abc

        return musicxml_to_abc(data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FormatError(f"the byte {data[error.start]:#04x} is not UTF-8", line=line) from error
    if len(text) > MAX_TUNE_CHARACTERS:
        raise InputError(f"more than {MAX_TUNE_CHARACTERS} characters, the most of a piece")
    if not text.strip():
        raise FormatError("the file is empty")
    return text.replace("\r\n", "\n")


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
    try:
        return split_tunes(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return split_tunes(content.decode("latin-1"))  # what older tune books are written in


def _content(path: Path, limit: int) -> bytes:
    """Read a file, and not more than one byte beyond the limit."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})") from error
