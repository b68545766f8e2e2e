"""Bounded reading of zip-like files such as compressed MusicXML.

Nothing is extracted to disk: members are read into memory, by the names that the archive lists. An archive with a
member that ordinary programs do not write (a link, an absolute path, ...) is refused as a whole.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from pentatonic.errors import FormatError

_CHUNK_BYTES = 1 << 16
_END_RECORD = struct.Struct(
    "<4s4H2LH"
)  # signature, 4 counts, size and offset of the directory, comment length
_END_SIGNATURE, _ZIP64_SIGNATURE, _ZIP64_BYTES = b"PK\x05\x06", b"PK\x06\x07", 20
_DIRECTORY_BYTES_PER_MEMBER = (
    1024  # an upper estimate: an entry has 46 bytes, its name and a few extra fields
)
_RATIO_FREE_BYTES = 1 << 20  # below this size any ratio is harmless
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ"}
_READ_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class ArchiveLimits:
    """Limits for an archive.

    Args:
        members: Files and folders in it.
        member_bytes: Uncompressed size of one file.
        total_bytes: Uncompressed size of all files together, and of all that is read.
        ratio: Uncompressed bytes per compressed byte, of files beyond 1 MiB.
    """

    members: int = 2000
    member_bytes: int = 256 << 20
    total_bytes: int = 512 << 20
    ratio: float = 200.0


class Archive:
    """A zip file that is open for reading; use it as a context manager.

    Args:
        source: The file, or its content.
        limits: Limits for its members.
        keep_unreadable: Keep an archive with members that are encrypted or compressed in another way than deflate;
            reading one of these raises then.

    Attributes:
        names: The files in it, in the order of its directory; folders are left out.
        unreadable: Of these, the files that cannot be read, with the reason; empty without ``keep_unreadable``.

    Raises:
        FormatError: It is not a zip file, cannot be read, is beyond a limit, or has a member that is encrypted, a
            link, listed twice, compressed in another way than deflate, or named by anything but a relative path
            inside the archive. The message names archive and member.
    """

    def __init__(
        self, source: Path | bytes, *, limits: ArchiveLimits | None = None, keep_unreadable: bool = False
    ) -> None:
        self.limits = limits or ArchiveLimits()
        self.unreadable: dict[str, str] = {}
        self._where = source if isinstance(source, Path) else None
        self._left = self.limits.total_bytes
        try:
            # The open file belongs to this object, which closes it.
            self._file: BinaryIO = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror or error}") from error
        try:
            self._check_directory_size()
            self._zip = zipfile.ZipFile(self._file)
            self.names = self._checked_names(keep_unreadable)
        except BaseException as error:
            self._file.close()
            if isinstance(error, _READ_ERRORS) and not isinstance(error, FormatError):
                raise self._error(f"is not a readable zip file: {error}") from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, name: str, *, at_most: int | None = None) -> bytes:
        """Read one file; its actual size is counted against the limits, not the size that the archive states.

        Args:
            name: One of ``names``.
            at_most: A limit of bytes for this file, beside those of the archive.

        Raises:
            FormatError: There is no such file, it is damaged or of ``unreadable``, or a limit of bytes is exceeded.
        """
        if name not in self.names:
            raise self._error("is not in it", name)
        if name in self.unreadable:
            raise self._error(self.unreadable[name], name)
        chunks: list[bytes] = []
        left = min(self.limits.member_bytes, self._left)
        if at_most is not None:
            left = min(left, at_most)
        try:
            with self._zip.open(name) as member:
                while chunk := member.read(_CHUNK_BYTES):
                    left -= len(chunk)
                    self._left -= len(chunk)
                    if left < 0:
                        raise self._error("is larger than the limits allow", name)
                    chunks.append(chunk)
        except FormatError:
            raise
        except _READ_ERRORS as error:
            raise self._error(f"is damaged: {error}", name) from error
        return b"".join(chunks)

    def _error(self, reason: str, member: str | None = None) -> FormatError:
        subject = "the archive" if member is None else f"member {member[:200]!r}"
        return FormatError(f"{subject} {reason}", path=self._where)

    def _check_directory_size(self) -> None:
        """Refuse a huge directory before it is read: its size is in the record that ends the archive."""
        size = self._file.seek(0, io.SEEK_END)
        self._file.seek(max(0, size - _END_RECORD.size - 0xFFFF - _ZIP64_BYTES))
        tail = self._file.read()
        at = tail.rfind(_END_SIGNATURE)
        if at < 0 or at + _END_RECORD.size > len(tail):
            raise self._error("is not a zip file, or its end is missing")
        if tail[max(0, at - _ZIP64_BYTES) : at].startswith(_ZIP64_SIGNATURE):
            raise self._error("has the 64-bit form, which is for archives beyond the limits")
        directory_bytes = _END_RECORD.unpack_from(tail, at)[5]
        if directory_bytes > self.limits.members * _DIRECTORY_BYTES_PER_MEMBER:
            raise self._error(f"lists more than {self.limits.members} members")

    def _checked_names(self, keep_unreadable: bool) -> tuple[str, ...]:
        members = self._zip.infolist()
        if len(members) > self.limits.members:
            raise self._error(f"has {len(members)} members; at most {self.limits.members} are allowed")
        seen: set[str] = set()
        for member in members:
            if reason := self._refusal(member, seen):
                raise self._error(reason, member.orig_filename)
            if reason := _unreadable(member):
                if not keep_unreadable:
                    raise self._error(reason, member.orig_filename)
                self.unreadable[member.filename] = reason
            seen.add(member.filename)
        if (total := sum(member.file_size for member in members)) > self.limits.total_bytes:
            raise self._error(f"holds {total} bytes; at most {self.limits.total_bytes} are allowed")
        return tuple(member.filename for member in members if not member.is_dir())

    def _refusal(self, member: zipfile.ZipInfo, seen: set[str]) -> str | None:
        name = member.orig_filename
        # A colon is a drive on Windows; zipfile itself cuts names at NUL.
        if not name or any(sign in name for sign in "\\:\0") or {"", ".."} & set(name.rstrip("/").split("/")):
            return "is not named by a relative path inside the archive"
        if member.filename in seen:
            return "is listed twice"
        if stat.S_ISLNK(member.external_attr >> 16):
            return "is a link"
        if member.file_size > self.limits.member_bytes:
            return f"has {member.file_size} bytes; at most {self.limits.member_bytes} are allowed"
        if member.file_size > max(_RATIO_FREE_BYTES, self.limits.ratio * member.compress_size):
            return f"expands more than {self.limits.ratio:g} times"
        return None


def _unreadable(member: zipfile.ZipInfo) -> str | None:
    """Return why the content of a member cannot be read; None if it can."""
    if member.flag_bits & 1:
        return "is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        name = _METHODS.get(member.compress_type, "unknown")
        return f"is compressed by method {member.compress_type} ({name}); stored and deflated are allowed"
    return None
