"""Tags of audio files: read in a process of their own, bounded, and repaired where an encoding was mistaken.

A file's tags are whatever a stranger wrote. The reader, tinytag, runs in a child process with limits of time and
memory; what it returns is cut to a length, and cleaned of control characters.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pentatonic.child_process import ChildFailure, ChildProcess, ClosedAtEnd, Message
from pentatonic.errors import FormatError, InputError, MissingExtra
from pentatonic.untrusted.files import regular_file_size

_MOST_CHARACTERS = 300
_SECONDS = 20.0
_MEMORY_BYTES = 2**30
_LARGEST_NUMBER = 9999
# Text of one letter after the other that only Latin-1 read from another alphabet has.
_ACCENTED_RUN = re.compile("[\u00c0-\u00ff]{4,}")
_FIRST_NUMBER = re.compile(r"\d{1,9}")


@dataclass(frozen=True)
class Tags:
    """What a file says about its music; ``None`` where it says nothing.

    Attributes:
        title: Title.
        artist: Artist, else the artist of the album.
        album: Album.
        track: Number on the album.
        year: Year.
        repairs: What was repaired, such as ``title: 'CafÃ©' read as 'Café'``.
    """

    title: str | None = None
    artist: str | None = None
    album: str | None = None
    track: int | None = None
    year: int | None = None
    repairs: tuple[str, ...] = ()


NO_TAGS = Tags()


class TagReader(ClosedAtEnd):
    """A process that reads the tags of one file after the other; a file that crashes it costs only its own tags.

    Use it as a context manager, from one thread at a time.

    Raises:
        MissingExtra: tinytag is not installed.
    """

    def __init__(self) -> None:
        _import_tinytag()
        self._child = ChildProcess(
            "myna_rpe.library.tags:answer", seconds=_SECONDS, memory_bytes=_MEMORY_BYTES
        )

    def read(self, path: str | Path) -> Tags:
        """Read the tags of a file; one without tags has none.

        Raises:
            FormatError: Its tags cannot be read.
            InputError: There is no such file.
        """
        absolute = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - the child works in another folder
        regular_file_size(absolute, error=InputError)
        try:
            values = self._child.ask(Message({"path": absolute})).value
        except ChildFailure as failure:
            raise FormatError(f"the reader of tags {failure}", path=path) from failure
        return Tags(**{**values, "repairs": tuple(values["repairs"])})

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def __enter__(self) -> Self:
        return self


def answer(request: Message) -> Message:
    """Read the tags of ``request.value["path"]``, in the child.

    Raises:
        FormatError: They cannot be read.
    """
    return Message(asdict(read_tags(request.value["path"])))


def read_tags(path: str) -> Tags:
    """Read the tags of a file in this process; :class:`TagReader` is the safe way.

    Raises:
        FormatError: They cannot be read.
    """
    tinytag = _import_tinytag()
    if not tinytag.TinyTag.is_supported(path):
        return NO_TAGS
    try:
        found = tinytag.TinyTag.get(path, tags=True, duration=False, image=False)
    except Exception as error:  # a parser of hostile files raises errors of any kind
        raise FormatError(f"its tags cannot be read ({type(error).__name__}: {error})", path=path) from error
    repairs: list[str] = []
    texts = {
        name: _text(name, value, repairs)
        for name, value in (
            ("title", found.title),
            ("artist", found.artist or found.albumartist),
            ("album", found.album),
        )
    }
    return Tags(**texts, track=_number(found.track), year=_number(found.year), repairs=tuple(repairs))


def repaired(text: str) -> str:
    """Undo the mistaken encodings of tags that are common; text that shows no sign of one is returned as it is.

    UTF-8 that was read as Latin-1 or Windows-1252, once or twice, and Cyrillic of Windows-1251 that was read as
    Latin-1.
    """
    for _ in range(2):
        better = next(
            (found for codec in ("latin-1", "cp1252") if (found := _reread(text, codec, "utf-8"))), None
        )
        if better is None:
            break
        text = better
    if _ACCENTED_RUN.search(text) and (cyrillic := _reread(text, "latin-1", "cp1251")):
        return cyrillic
    return text


def _reread(text: str, mistaken: str, right: str) -> str | None:
    if text.isascii():
        return None
    try:
        found = text.encode(mistaken).decode(right)
    except UnicodeError:
        return None
    return None if found == text else found


def _text(name: str, value: Any, repairs: list[str]) -> str | None:
    if not isinstance(value, str):
        return None
    text = plain_text(value)
    better = plain_text(repaired(text))
    if better != text:
        repairs.append(f"{name}: {text!r} read as {better!r}")
    return better or None


def plain_text(text: str) -> str:
    """Return text of a stranger without control characters and lone surrogates, on one line, and not too long."""
    text = text.partition("\0")[0].encode("utf-8", "replace").decode()
    kept = "".join(" " if unicodedata.category(sign) in ("Cc", "Zl", "Zp") else sign for sign in text)
    return " ".join(unicodedata.normalize("NFC", kept).split())[:_MOST_CHARACTERS]


def _number(value: Any) -> int | None:
    found = _FIRST_NUMBER.search(str(value)) if value is not None else None
    number = int(found[0]) if found else 0
    return number if 0 < number <= _LARGEST_NUMBER else None


def _import_tinytag() -> Any:
    try:
        import tinytag
    except ImportError as error:
        raise MissingExtra("The music library", "myna-rpe[library]") from error
    return tinytag
