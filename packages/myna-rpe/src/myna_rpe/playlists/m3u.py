"""M3U playlists as the world has them: relative and absolute paths, any encoding, Windows paths, comments.

What is read is kept line by line, so that a playlist can be written again with what the user put there unchanged.
Entries that this program added have a comment line of their own before them.
"""

from __future__ import annotations

import codecs
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError, InputError
from pentatonic.untrusted.files import regular_file_size

MARK = "#MYNA-ADDED"
"""Comment line before an entry that this program added, and may replace."""
_HEAD = "#EXTM3U"
_LARGEST_BYTES = 16 * 2**20
_MOST_ENTRIES = 100_000
LONGEST_PATH = 16 * 1024
"""Characters of an entry that may mean a file: more than a URL of the longest path of Linux has."""
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://")
_UNSAFE = re.compile(r"[\r\n]|^[#\s]|\s$|^[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True)
class M3UEntry:
    """One song of a playlist.

    Attributes:
        text: Its line; bytes that are no UTF-8 are surrogates, as in names of files.
        comments: The comment lines before it.
    """

    text: str
    comments: tuple[str, ...] = ()

    @property
    def added(self) -> bool:
        """Whether this program added it."""
        return any(line.strip() == MARK for line in self.comments)


@dataclass(frozen=True)
class M3U:
    """A playlist.

    Attributes:
        entries: Its songs.
        head: Comment lines at its start that belong to no song, such as ``#EXTM3U`` and ``#PLAYLIST:``.
        tail: Comment lines after the last song.
    """

    entries: tuple[M3UEntry, ...] = ()
    head: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()


def read_m3u(path: str | Path) -> M3U:
    """Read a playlist.

    Raises:
        InputError: There is no such file, or it is too large.
        FormatError: It is no text, or has too many entries.
    """
    path = Path(path)
    if regular_file_size(path, error=InputError) > _LARGEST_BYTES:
        raise InputError(f"{path}: is too large for a playlist; at most {_LARGEST_BYTES} bytes are read")
    entries: list[M3UEntry] = []
    comments: list[str] = []
    head: tuple[str, ...] = ()
    for line in _lines(path.read_bytes(), path):
        if line.startswith("#"):
            comments.append(line)
        elif line.strip():
            if not entries:
                own = next((i for i, text in enumerate(comments) if _is_of_a_song(text)), len(comments))
                head, comments = tuple(comments[:own]), comments[own:]
            entries.append(M3UEntry(line, tuple(comments)))
            comments = []
            if len(entries) > _MOST_ENTRIES:
                raise FormatError(f"has more than {_MOST_ENTRIES} entries", path=path)
    return M3U(tuple(entries), head, tuple(comments)) if entries else M3U((), tuple(comments))


def write_m3u(path: str | Path, playlist: M3U) -> None:
    """Write a playlist: UTF-8, and names that are not as the bytes that they are.

    Raises:
        CheckpointError: The file cannot be written.
    """
    has_head = any(line.upper().startswith(_HEAD) for line in playlist.head)  # attributes may follow
    head = playlist.head if has_head else (_HEAD, *playlist.head)
    lines = [*head]
    for entry in playlist.entries:
        lines += [*entry.comments, entry.text]
    text = "".join(f"{line}\n" for line in (*lines, *playlist.tail))
    with atomic_file(path) as file:
        file.write(text.encode("utf-8", "surrogateescape"))


def new_entry(
    song: Path, *, folder: Path, duration_s: float, name: str, absolute: bool = False, added: bool = False
) -> M3UEntry:
    """Return an entry for a file.

    Args:
        song: The file.
        folder: Folder of the playlist.
        duration_s: Length.
        name: Artist and title.
        absolute: Write the absolute path, in place of that relative to ``folder``.
        added: Mark it as added by this program.
    """
    full = os.path.abspath(song)  # noqa: PTH100 - links stay as named
    text = full if absolute else os.path.relpath(full, folder)
    if _UNSAFE.search(text):  # a line cannot hold it as it is, and a URL of a file can
        text = file_url(full)
    information = f"#EXTINF:{round(duration_s)},{' '.join(name.split())}"
    return M3UEntry(text, (MARK, information) if added else (information,))


def file_url(path: str | Path) -> str:
    """Return the ``file:`` URL of a file, whatever bytes its name has."""
    return f"file://{quote_from_bytes(os.fsencode(os.path.abspath(path)))}"  # noqa: PTH100 - links stay as named


def candidates(text: str, folder: Path) -> Iterator[Path]:
    """Yield the files that an entry may mean, the most likely first; a stream of a network means none.

    Args:
        text: The line of the entry.
        folder: Folder of the playlist.
    """
    seen: set[str] = set()
    for name in _names(text.strip()):
        for form in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
            if form not in seen and "\0" not in form:
                seen.add(form)
                yield Path(os.path.normpath(folder / form))


def parts_of(text: str) -> tuple[str, ...]:
    """Return the folders and the name that an entry says, of a Windows path too; ``()`` for a stream of a network."""
    name = next(iter(_names(text.strip())), "")
    path = PureWindowsPath(name) if _DRIVE.match(name) or "\\" in name else Path(name)
    return tuple(part for part in path.parts if part not in (path.anchor, "..", "."))


def is_stream(text: str) -> bool:
    """Whether an entry is an address in a network."""
    scheme = _SCHEME.match(text.strip())
    return scheme is not None and scheme[1].lower() != "file"


def _names(text: str) -> Iterator[str]:
    if is_stream(text) or len(text) > LONGEST_PATH:
        return
    if text[:7].lower() == "file://":
        rest = text[7:]
        rest = rest if rest.startswith("/") else "/" + rest.partition("/")[2]  # without the name of a machine
        text = os.fsdecode(unquote_to_bytes(rest.encode("utf-8", "surrogateescape")))
        if _DRIVE.match(text[1:]):
            text = text[1:]
    yield text
    raw = text.encode("utf-8", "surrogateescape")
    for codec in (
        "cp1252",
        "latin-1",
    ):  # the bytes of the line are Latin-1, and the name of the file is UTF-8
        try:
            yield raw.decode(codec)
            yield os.fsdecode(text.encode(codec))  # or the other way round
        except UnicodeError:
            continue
    if "\\" in text:
        yield text[2:].replace("\\", "/") if _DRIVE.match(text) else text.replace("\\", "/")


def _lines(content: bytes, path: Path) -> Sequence[str]:
    try:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text = content.decode("utf-16")
        else:
            text = content.decode("utf-8", "surrogateescape")
    except UnicodeDecodeError as error:
        raise FormatError(f"is no text ({error.reason})", path=path) from error
    if "\0" in text:
        raise FormatError("is no text; allowed: an M3U playlist", path=path)
    return re.split("\r\n|\n|\r", text.lstrip("\ufeff"))


def _is_of_a_song(comment: str) -> bool:
    return comment.strip() == MARK or comment.startswith("#EXTINF")


def user_entries(entries: Iterable[M3UEntry]) -> list[M3UEntry]:
    """Return the entries that this program has not added."""
    return [entry for entry in entries if not entry.added]


def moved_entry(entry: M3UEntry, before: Path, after: Path) -> M3UEntry:
    """Return an entry for a playlist in another folder: the relative path of a file that exists is changed.

    Args:
        entry: The entry.
        before: Folder that its path is relative to.
        after: Folder of the other playlist.
    """
    text = entry.text.strip()
    if before == after or os.path.isabs(text) or is_stream(text) or text[:7].lower() == "file://":  # noqa: PTH117
        return entry
    for path in candidates(text, before):
        try:
            exists = path.is_file()
        except (OSError, ValueError):
            continue
        if exists:
            name = os.path.relpath(path, after)
            return M3UEntry(file_url(path) if _UNSAFE.search(name) else name, entry.comments)
    return entry
