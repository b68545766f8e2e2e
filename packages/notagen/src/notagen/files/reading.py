"""Pieces that users bring: ABC of either layout, or MusicXML, told apart by the name's suffix."""

from __future__ import annotations

from pathlib import Path

from notagen.abc.parser import MAX_TUNE_CHARACTERS
from pentatonic.errors import FormatError, InputError

MUSICXML_SUFFIXES = (".musicxml", ".xml", ".mxl")
ABC_SUFFIXES = (".abc", ".txt")


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
    if path.suffix.lower() in MUSICXML_SUFFIXES:
        from notagen.musicxml import musicxml_to_abc

        return musicxml_to_abc(path)
    try:
        with path.open("rb") as file:
            data = file.read(4 * MAX_TUNE_CHARACTERS + 1)  # a character has at most four bytes
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FormatError(f"the byte {data[error.start]:#04x} is not UTF-8", path=path, line=line) from error
    if len(text) > MAX_TUNE_CHARACTERS:
        raise InputError(f"{path}: more than {MAX_TUNE_CHARACTERS} characters, the most of a piece")
    if not text.strip():
        raise FormatError("the file is empty", path=path)
    return text.replace("\r\n", "\n")


def read_keyed_piece(path: Path) -> str:
    """Read a piece as ABC text, as :func:`read_piece` does, that must have a ``K:`` line: prose has none.

    Raises:
        InputError: The file cannot be read, or is too large.
        FormatError: It is empty or no tune, or not what its name says.
    """
    text = read_piece(path)
    if not any(line.lstrip().startswith("K:") for line in text.splitlines()):
        raise FormatError("this is no tune: it has no K: line, which ends the header of ABC", path=path)
    return text
