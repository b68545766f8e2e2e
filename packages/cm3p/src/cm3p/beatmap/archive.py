"""Map archives: ``.osz``, and ``.olz`` of the current client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from cm3p.beatmap.errors import FormatError, NotABeatmap
from cm3p.beatmap.names import NameIndex
from pentatonic.archive import Archive, ArchiveLimits

ARCHIVE_SUFFIXES: Final = frozenset({".osz", ".olz"})
# A set with a video has hundreds of megabytes, one with a storyboard thousands of files.
OSZ_LIMITS: Final = ArchiveLimits(members=20_000, member_bytes=1 << 30, total_bytes=4 << 30)
_ZIP_MAGIC = b"PK"


def open_osz(path: Path, limits: ArchiveLimits = OSZ_LIMITS) -> Archive:
    """Open an archive of maps. Members that are encrypted or compressed in an unusual way raise when they are read.

    Raises:
        NotABeatmap: It is something else, such as the error page of a web site.
        FormatError: It cannot be read, is cut off, or :class:`pentatonic.archive.Archive` refuses a member of it.
    """
    try:
        with path.open("rb") as file:
            start = file.read(40)
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}", path=path) from error
    if not start.startswith(_ZIP_MAGIC):
        what = f"it starts with {start!r}" if start else "it is empty"
        raise NotABeatmap(f"not an archive of maps: {what}; a zip file is expected", path=path)
    return Archive(path, limits=limits, keep_unreadable=True)


def maps_in(archive: Archive) -> list[str]:
    """Return the names of the maps in an archive, in order; resource forks of macOS are left out."""
    return sorted(
        name
        for name in archive.names
        if name.lower().endswith(".osu")
        and not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    )


@dataclass(frozen=True)
class AudioSource:
    """Where the audio of a map is.

    Args:
        path: The audio file, or the archive that holds it.
        member: Its name in the archive; None for a file.
    """

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}: {self.member}"

    def read(self, limits: ArchiveLimits = OSZ_LIMITS) -> bytes:
        """Return the content.

        Raises:
            FormatError: It cannot be read, or is beyond the limits.
        """
        if self.member is not None:
            with open_osz(self.path, limits) as archive:
                return archive.read(self.member)
        try:
            if self.path.stat().st_size > limits.member_bytes:
                raise FormatError(f"has more than {limits.member_bytes} bytes", path=self.path)
            return self.path.read_bytes()
        except OSError as error:
            raise FormatError(f"cannot be read: {error.strerror or error}", path=self.path) from error


class ArchiveNames:
    """Look-up of files that maps of an archive name; they are relative to the folder of the map.

    Args:
        names: Names in the archive.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._indices: dict[str, NameIndex] = {}

    def find(self, member: str, wanted: str) -> tuple[str | None, str]:
        """Find what the map ``member`` calls ``wanted``; see :meth:`NameIndex.find`."""
        folder = str(PurePosixPath(member).parent)
        prefix = "" if folder == "." else folder + "/"
        if prefix not in self._indices:
            inside = (name for name in self._names if name.startswith(prefix))
            self._indices[prefix] = NameIndex(name[len(prefix) :] for name in inside)
        found, note = self._indices[prefix].find(wanted)
        return (None if found is None else prefix + found), note
