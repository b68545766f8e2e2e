"""The text that is embedded of a file: ABC, MIDI as text, MIDI files or MusicXML."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from notagen.abc.parser import MAX_TUNE_CHARACTERS
from notagen.clamp2.interleaving import interleaved_abc
from notagen.clamp2.mtf import MAX_MESSAGES, Keep, MidiError, midi_to_mtf
from notagen.clamp2.patches import MTF_FIRST_WORD, is_mtf
from notagen.clamp2.transliteration import transliterate, untranslatable
from notagen.files.reading import ABC_SUFFIXES, MUSICXML_SUFFIXES, is_musicxml
from notagen.musicxml.document import MAX_BYTES
from notagen.notation.layout import interleaved, is_interleaved
from notagen.notation.tunebook import prepare_tune, split_tunes
from pentatonic.errors import FormatError, InputError
from pentatonic.untrusted.files import regular_file_size

Preparation = Literal["clamp2", "notagen"]
"""How standard ABC becomes the text that is embedded.

``clamp2``: as the data of CLaMP 2 and 3 were made, see :mod:`notagen.clamp2.interleaving`. ``notagen``: as the training
data of NotaGen, and lines that start with one ``%``, such as prompts, are dropped from any text first; the
references that pieces by NotaGen are compared with are of this form.
"""

MTF_SUFFIXES = (".mtf",)
MIDI_SUFFIXES = (".mid", ".midi", ".rmi", ".kar")
MUSIC_SUFFIXES = (*ABC_SUFFIXES, *MTF_SUFFIXES, *MIDI_SUFFIXES, *MUSICXML_SUFFIXES)
"""What folders of music are searched for."""
MAX_MIDI_BYTES = 16 << 20

_COMMENT_LINE = re.compile(r"^%(?!%).*\n?", re.MULTILINE)
_MAX_NAMED = 20  # characters without equivalent that a note lists


@dataclass(frozen=True)
class MusicText:
    """A piece of music as text, before it is cut into patches.

    Attributes:
        name: Its number in a tune book; empty for the only piece of a file.
        text: Interleaved ABC, or MTF; empty where there is an error.
        notes: What was passed over.
        error: Why this piece of a tune book cannot be embedded; else None.
    """

    name: str
    text: str
    notes: tuple[str, ...] = ()
    error: FormatError | None = None


def read_content(path: Path) -> bytes:
    """Read the content of a file for :func:`music_texts`.

    Raises:
        InputError: The file cannot be read, is not a regular file, or is too large; the message names it.
    """
    limit = _byte_limit(path.suffix.lower())
    regular_file_size(path, error=InputError)
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > limit:
        raise InputError(f"{path}: more than {limit >> 20} MiB, the most of such a file")
    return data


def read_music(
    path: Path,
    data: bytes | None = None,
    *,
    preparation: Preparation = "clamp2",
    as_is: bool = False,
    keep: Keep = "m3",
    preserve_time: bool = False,
    max_messages: int = MAX_MESSAGES,
) -> list[MusicText]:
    """Read the pieces of a file.

    Args:
        path: The file.
        data: Its content, where :func:`read_content` has read it already.
        preparation: As for :func:`music_texts`, like the other arguments and errors.
        as_is: Likewise.
        keep: Likewise.
        preserve_time: Likewise.
        max_messages: Likewise.

    Raises:
        InputError: The file cannot be read, or is too large; the message names it.
        FormatError: With the path.
    """
    content = read_content(path) if data is None else data
    try:
        pieces = music_texts(
            content,
            path.suffix,
            preparation=preparation,
            as_is=as_is,
            keep=keep,
            preserve_time=preserve_time,
            max_messages=max_messages,
        )
    except FormatError as error:
        raise _in_file(error, path) from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return [replace(piece, error=piece.error and _in_file(piece.error, path)) for piece in pieces]


def music_texts(
    data: bytes,
    suffix: str,
    *,
    preparation: Preparation = "clamp2",
    as_is: bool = False,
    keep: Keep = "m3",
    preserve_time: bool = False,
    max_messages: int = MAX_MESSAGES,
) -> list[MusicText]:
    """Return the text to embed of each piece of a file.

    Text is read as the original reads it: UTF-8 with line ends of any system, a byte-order mark stays. Interleaved ABC
    and MTF are embedded unchanged.

    Args:
        data: Content of the file.
        suffix: Of its name; MIDI and MusicXML are told by it, and any other file is text.
        preparation: How ABC that is not interleaved, and MusicXML, becomes interleaved.
        as_is: Embed any text as it is, not interleaved, whole tune books, and MTF without its first line too.
        keep: Which messages of a MIDI file are kept: ``"m3"`` for CLaMP 2, ``"clamp3"`` for CLaMP 3.
        preserve_time: As for :func:`notagen.clamp2.mtf.midi_to_mtf`.
        max_messages: Most messages of a MIDI file.

    Returns:
        One piece; of a tune book of several tunes each, with the error of one that cannot be interleaved.

    Raises:
        FormatError: The file is empty, is not UTF-8, or is not what its suffix says; a tune that is the only one of its
            file cannot be interleaved.
        InputError: A tune is too long.
    """
    if suffix.lower() in MIDI_SUFFIXES:
        converted = midi_to_mtf(data, keep=keep, preserve_time=preserve_time, max_messages=max_messages)
        return [MusicText("", converted.text, converted.notes)]
    if is_musicxml(suffix):
        from notagen.musicxml import musicxml_to_abc

        text = musicxml_to_abc(data)
        return [_noted("", text if as_is else _prepared(text, preparation))]
    text = decode_text(data)
    if preparation == "notagen":
        text = _COMMENT_LINE.sub("", text)
    if not transliterate(text):
        raise FormatError("there is no text")
    if as_is or is_mtf(text):
        return [_noted("", text)]
    if suffix.lower() in MTF_SUFFIXES:
        first = text.split("\n", 1)[0]
        raise FormatError(
            f"the first line is {first[:80]!r}; that of MTF is {MTF_FIRST_WORD} and a number", line=1
        )
    if len(text) > MAX_TUNE_CHARACTERS:
        raise InputError(f"more than {MAX_TUNE_CHARACTERS} characters, the most of a piece")
    tunes = split_tunes(text)
    if len(tunes) == 1:
        return [_noted("", _interleaved(text, tunes[0][1], preparation))]
    return [_piece(name, tune, preparation) for name, tune in zip(_names(tunes), tunes, strict=True)]


def _byte_limit(suffix: str) -> int:
    if suffix in MIDI_SUFFIXES:
        return MAX_MIDI_BYTES
    return MAX_BYTES if is_musicxml(suffix) else 4 * MAX_TUNE_CHARACTERS  # a character has at most four bytes


def _in_file(error: FormatError, path: Path) -> FormatError:
    if isinstance(error, MidiError):
        return error.in_file(path)
    return FormatError(error.reason, path=path, line=error.line, column=error.column)


def decode_text(data: bytes) -> str:
    """Read bytes as the original does: UTF-8, line ends of any system become newlines.

    Raises:
        FormatError: They are not UTF-8.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"the byte {data[error.start]:#04x} is not UTF-8, the only encoding that is read here"
        raise FormatError(reason, line=line) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _names(tunes: list[tuple[str, str]]) -> list[str]:
    """Return the numbers of tunes, or their places where a number is missing or occurs twice."""
    names = [number for number, _ in tunes]
    if "" in names or len(set(names)) < len(names):
        return [str(place) for place in range(1, len(tunes) + 1)]
    return names


def _piece(name: str, tune: tuple[str, str], preparation: Preparation) -> MusicText:
    try:
        return _noted(name, _interleaved(tune[1], tune[1], preparation))
    except FormatError as error:
        return MusicText(name, "", error=error)


def _interleaved(text: str, tune: str, preparation: Preparation) -> str:
    """Return a text that is interleaved, and else its tune interleaved."""
    return text if is_interleaved(text) else _prepared(tune.removeprefix("\ufeff"), preparation)


def _prepared(tune: str, preparation: Preparation) -> str:
    return interleaved_abc(tune) if preparation == "clamp2" else interleaved(prepare_tune(tune))


def _noted(name: str, text: str) -> MusicText:
    lost = untranslatable(text)
    if not lost:
        return MusicText(name, text)
    more = f" and {len(lost) - _MAX_NAMED} more" if len(lost) > _MAX_NAMED else ""
    return MusicText(
        name, text, (f"characters without an equivalent are left out: {lost[:_MAX_NAMED]}{more}",)
    )
