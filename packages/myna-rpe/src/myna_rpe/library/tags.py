"""Tags of audio files: read in a process of their own, bounded, and repaired where an encoding was mistaken.

A file's tags are whatever a stranger wrote. The reader, tinytag, runs in a child process with limits of time and
memory; what it returns is cut to a length, and cleaned of control characters.
"""

from __future__ import annotations

import math
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
_MOST_READ = 20 * _MOST_CHARACTERS  # characters of a tag that are looked at
_SECONDS = 20.0
_MEMORY_BYTES = 2**30
_LARGEST_NUMBER = 9999
# Text of one letter after the other that only Latin-1 read from another alphabet has.
_ACCENTED_RUN = re.compile("[\u00c0-\u00ff]{4,}")
_FIRST_NUMBER = re.compile(r"\d{1,9}")
_YEAR = re.compile(r"(?<!\d)(\d{4})(?:\d{4})?(?!\d)")  # 1999, 1999-05-01, 01.05.1999, 19990501
# Marks of byte order inside of text, and what turns the direction of the text around it.
_INVISIBLE = dict.fromkeys([0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])


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


@dataclass(frozen=True)
class Recording:
    """What a file says about its recording.

    Attributes:
        tags: Its tags.
        isrc: International code of the recording, as it stands in the file.
        duration_s: Length that the file states, in seconds.
    """

    tags: Tags = NO_TAGS
    isrc: str | None = None
    duration_s: float | None = None


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
        return self._ask(path, duration=False).tags

    def read_recording(self, path: str | Path) -> Recording:
        """Read the tags of a file, the code of its recording, and its length, which can take longer.

        Raises:
            FormatError: They cannot be read.
            InputError: There is no such file.
        """
        return self._ask(path, duration=True)

    def _ask(self, path: str | Path, *, duration: bool) -> Recording:
        absolute = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - the child works in another folder
        regular_file_size(absolute, error=InputError)
        try:
            values = self._child.ask(Message({"path": absolute, "duration": duration})).value
        except ChildFailure as failure:
            raise FormatError(f"the reader of tags {failure}", path=path) from failure
        tags = values["tags"]
        return Recording(
            **{**values, "tags": Tags(**{**tags, "repairs": tuple(tags["repairs"])})},
        )

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def __enter__(self) -> Self:
        return self


def answer(request: Message) -> Message:
    """Read ``request.value["path"]``, in the child.

    Raises:
        FormatError: Its tags cannot be read.
    """
    return Message(asdict(read_recording(request.value["path"], duration=request.value["duration"])))


def read_recording(path: str, *, duration: bool = False) -> Recording:
    """Read the tags of a file in this process; :class:`TagReader` is the safe way.

    Args:
        path: The file.
        duration: Also look for its length.

    Raises:
        FormatError: They cannot be read.
    """
    tinytag = _import_tinytag()
    if not tinytag.TinyTag.is_supported(path):
        return Recording()
    try:
        found = tinytag.TinyTag.get(path, tags=True, duration=duration, image=False)
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
    tags = Tags(**texts, track=_number(found.track), year=_year(found.year), repairs=tuple(repairs))
    codes = found.other.get("isrc") or [None]
    return Recording(tags, _text("isrc", codes[0], []), _seconds(found.duration))


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
    runs = _ACCENTED_RUN.findall(text.casefold())
    # A drawn-out vowel, as in "Ääääh", is a run of one letter.
    if any(len(set(run)) > 2 for run in runs) and (cyrillic := _reread(text, "latin-1", "cp1251")):
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
    text = text[:_MOST_READ].lstrip("\0\ufeff").partition("\0")[0].encode("utf-8", "replace").decode()
    kept = "".join(" " if unicodedata.category(sign) in ("Cc", "Zl", "Zp") else sign for sign in text)
    kept = kept.translate(_INVISIBLE)
    return " ".join(unicodedata.normalize("NFC", kept).split())[:_MOST_CHARACTERS]


def _number(value: Any) -> int | None:
    found = _FIRST_NUMBER.search(str(value)) if value is not None else None
    number = int(found[0]) if found else 0
    return number if 0 < number <= _LARGEST_NUMBER else None


def _year(value: Any) -> int | None:
    found = _YEAR.search(str(value)) if value is not None else None
    return int(found[1]) or None if found else None


def _seconds(value: Any) -> float | None:
    usable = isinstance(value, int | float) and math.isfinite(value) and value > 0
    return float(value) if usable else None


def _import_tinytag() -> Any:
    try:
        import tinytag
    except ImportError as error:
        raise MissingExtra("The music library", "myna-rpe[library]") from error
    return tinytag
