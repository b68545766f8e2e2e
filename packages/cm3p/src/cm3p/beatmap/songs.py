"""Maps and their audio in folders, in the game's Songs folder, and in archives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from cm3p.beatmap.archive import (
    ARCHIVE_SUFFIXES,
    OSZ_LIMITS,
    ArchiveNames,
    AudioSource,
    maps_in,
    open_osz,
)
from cm3p.beatmap.errors import FormatError, NotABeatmap
from cm3p.beatmap.names import NameIndex
from cm3p.beatmap.objects import Beatmap
from cm3p.beatmap.reader import read_beatmap
from cm3p.beatmap.source import MOST_BYTES, read_content
from pentatonic.archive import ArchiveLimits

_SUFFIXES = {".osu", *ARCHIVE_SUFFIXES}
_NO_AUDIO = ("", "virtual")  # what maps say that have none
_FOLDERS_REMEMBERED = 64
_ID_BITS = 60


@dataclass(frozen=True)
class MapEntry:
    """A map that was found, or the reason why something is none.

    Args:
        path: The ``.osu`` file, or the archive.
        member: The map's name in the archive; None for a file, and for an archive that cannot be opened.
        beatmap: The map; None if there is an error.
        sha256: Of the content of the ``.osu`` file, in hexadecimal; empty if there is an error.
        audio: Where its audio is; None if it has none.
        audio_note: Why there is no audio, or that its name was ambiguous; empty if there is nothing to say.
        error: Why it could not be read.
    """

    path: Path
    member: str | None = None
    beatmap: Beatmap | None = None
    sha256: str = ""
    audio: AudioSource | None = None
    audio_note: str = ""
    error: FormatError | None = None

    @property
    def where(self) -> str:
        """Path, and the name in the archive."""
        return str(self.path) if self.member is None else f"{self.path}: {self.member}"


def find_maps(
    paths: str | Path | Iterable[str | Path], *, strict: bool = False, limits: ArchiveLimits = OSZ_LIMITS
) -> Iterator[MapEntry]:
    """Read all maps among files, archives and folders.

    Args:
        paths: One or more ``.osu`` files, archives, and folders, which are searched with all
            folders in them. The order of what is found does not depend on the file system.
        strict: As for :func:`read_beatmap`.
        limits: For archives.

    Yields:
        An entry for each map, and one with an error for each file, archive or member that cannot be read. Nothing is
        raised for bad content.
    """
    folders = lru_cache(maxsize=_FOLDERS_REMEMBERED)(_names_in_folder)
    from pentatonic.folder_run import find_files  # brings the command line with it

    if isinstance(paths, str | Path):
        paths = [paths]
    for path in find_files(paths, _SUFFIXES):
        if path.suffix.lower() in ARCHIVE_SUFFIXES:
            yield from _maps_of_archive(path, strict, limits)
        else:
            try:
                content = read_content(path)
                beatmap = read_beatmap(content, strict=strict, name=str(path))
            except FormatError as error:
                yield MapEntry(path, error=error)
                continue
            deep = "/" in beatmap.audio_filename or "\\" in beatmap.audio_filename
            found, note = _find_audio(beatmap, folders(path.parent, deep).find)
            audio = None if found is None else AudioSource(path.parent / found)
            yield MapEntry(path, None, beatmap, _sha256(content), audio, note)


def map_id(beatmap: Beatmap, sha256: str) -> int:
    """Return the id of a map: that of the web site; for an unsubmitted map a negative one from its content."""
    if beatmap.beatmap_id is not None and beatmap.beatmap_id > 0:
        return beatmap.beatmap_id
    return id_of_content(sha256)


def set_id(beatmap: Beatmap, sha256: str) -> int:
    """Return the id of a map's set: that of the web site; else a negative one from song, mapper and audio name.

    Maps that do not name their song get an id of their own.
    """
    if beatmap.beatmap_set_id is not None and beatmap.beatmap_set_id > 0:
        return beatmap.beatmap_set_id
    song = (beatmap.artist, beatmap.title, beatmap.creator, beatmap.audio_filename)
    if not any(song[:2]):
        return id_of_content(sha256)
    return id_of_content(_sha256("\0".join(song).encode(errors="surrogateescape")))


def _maps_of_archive(path: Path, strict: bool, limits: ArchiveLimits) -> Iterator[MapEntry]:
    try:
        archive = open_osz(path, limits)
    except FormatError as error:
        yield MapEntry(path, error=error)
        return
    with archive:
        members, names = maps_in(archive), ArchiveNames(archive.names)
        if not members:
            yield MapEntry(path, error=NotABeatmap("the archive holds no map (.osu)", path=path))
        for member in members:
            try:
                content = archive.read(member, at_most=MOST_BYTES)
                beatmap = read_beatmap(content, strict=strict, name=f"{path}: {member}")
            except FormatError as error:
                yield MapEntry(path, member, error=error)
                continue
            found, note = _find_audio(beatmap, partial(names.find, member))
            audio = None if found is None else AudioSource(path, found)
            yield MapEntry(path, member, beatmap, _sha256(content), audio, note)


def _find_audio(beatmap: Beatmap, find: Callable[[str], tuple[str | None, str]]) -> tuple[str | None, str]:
    if beatmap.audio_filename in _NO_AUDIO:
        return None, "the map names no audio file"
    found, note = find(beatmap.audio_filename)
    return found, f"the audio file {note}" if note else ""


def _names_in_folder(folder: Path, deep: bool) -> NameIndex:
    """Names of the files in a folder, and in all folders inside if ``deep``."""
    paths = folder.rglob("*") if deep else folder.iterdir()
    try:
        return NameIndex(path.relative_to(folder).as_posix() for path in paths if path.is_file())
    except OSError:  # a folder that vanished, or may not be listed
        return NameIndex(())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def id_of_content(sha256: str) -> int:
    """Return the negative id of a map that the web site does not know, or not in this form."""
    return -1 - (int(sha256, 16) >> (256 - _ID_BITS))
