"""Write tags into audio files without touching the sound (extra ``pentatonic[ffmpeg]``).

The file is copied packet by packet with changed tags (FFmpeg, in a process of its own), and the copy is compared with
it: the packets, the decoded samples, the other tags, pictures and chapters. Only a copy that agrees takes its place,
and the file as it was is kept as a backup.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from omar_rq.annotations.tag_copying import MUXERS, OWN_TAGS
from pentatonic.audio.ffmpeg import is_installed
from pentatonic.audio.formats.identify import identify
from pentatonic.audio_folder.reading import Stream
from pentatonic.checkpoint.atomic import temporary_sibling
from pentatonic.child_process import ChildFailure, ChildProcess, ClosedAtEnd, Message
from pentatonic.errors import InputError, MissingExtra, UnsupportedFormat

Field = Literal["genre", "mood", "comment"]

_SECONDS, _MEMORY_BYTES = 600.0, 2 << 30
_FLAC_LOST = {2: "an application block", 5: "a cue sheet"}
_MOST_BACKUPS = 1000
_LONGEST_HEADER = 1 << 10  # blocks of a FLAC file that are looked at


@dataclass(frozen=True)
class Written:
    """What was written, or would be.

    Attributes:
        field: The tag.
        before: Its value before; None without one.
        after: Its value now.
        backup: The file as it was; None of a dry run, and where nothing changed.
    """

    field: str
    before: str | None
    after: str
    backup: Path | None


class TagWriter(ClosedAtEnd):
    """A process that copies one file after the other; one that crashes it stays as it is.

    Use it as a context manager, from one thread at a time.

    Args:
        stream: Decodes files, for the comparison.

    Raises:
        MissingExtra: FFmpeg (PyAV) is not installed.
    """

    def __init__(self, stream: Stream) -> None:
        if not is_installed():
            raise MissingExtra("Writing tags", "pentatonic[ffmpeg]")
        self._stream = stream
        self._child = ChildProcess(
            "omar_rq.annotations.tag_copying:answer", seconds=_SECONDS, memory_bytes=_MEMORY_BYTES
        )

    def write(self, path: Path, field: Field, value: str, *, dry_run: bool = False) -> Written:
        """Set one tag of a file.

        Args:
            path: The file; a symbolic link is kept, and the file it points to is written.
            field: The tag.
            value: Its new value.
            dry_run: Only say what would be written.

        Raises:
            UnsupportedFormat: Tags are not written into such files.
            InputError: The copy would differ in more than this tag, or it or the backup cannot be written; the file is
                unchanged.
        """
        path = path.resolve()
        container = _container(path)
        before = self._ask({"path": str(path), "container": container})
        known = before["tags"].get(field)
        if dry_run or known == value:
            return Written(field, known, value, None)
        with ExitStack() as cleanup:
            try:
                copy = temporary_sibling(path)
                cleanup.callback(copy.unlink, missing_ok=True)
                request = {
                    "path": str(path),
                    "container": container,
                    "copy": str(copy),
                    "tags": {field: value},
                }
                self._ask(request)
                self._compare(
                    path, copy, before, self._ask({"path": str(copy), "container": container}), field, value
                )
                shutil.copystat(path, copy)
                with copy.open("rb") as file:
                    os.fsync(file.fileno())
                backup = _make_backup(path)
                copy.replace(path)
            except OSError as error:
                raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
        return Written(field, known, value, backup)

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._child.ask(Message(request)).value
        except ChildFailure as failure:
            raise InputError(f"{request['path']}: the writer of tags {failure}") from failure

    def _compare(
        self, path: Path, copy: Path, before: dict[str, Any], after: dict[str, Any], field: str, value: str
    ) -> None:
        """Refuse a copy that differs in more than the tag."""
        if after["tags"].get(field) != value:
            raise InputError(
                f"{path}: its format has no place for the tag {field!r}; allowed: another --field"
            )
        lost = [
            name
            for name, text in before["tags"].items()
            if name not in (*OWN_TAGS, field) and after["tags"].get(name) != text
        ]
        if lost:
            raise InputError(f"{path}: the tags {', '.join(lost)} would be lost, so it stays as it is")
        for what in ("streams", "chapters", "packets"):
            if before[what] != after[what]:
                raise InputError(f"{path}: its {what} would change, so it stays as it is")
        if self._sound(path) != self._sound(copy):
            raise InputError(f"{path}: its sound would change, so it stays as it is")

    def _sound(self, path: Path) -> str:
        digest = hashlib.sha256()
        for block in self._stream(path):
            digest.update(block.numpy().tobytes())
        return digest.hexdigest()


def _container(path: Path) -> str:
    try:
        container, offset = identify(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if container not in MUXERS:
        raise UnsupportedFormat(
            path,
            f"tags are not written into {container or 'unknown'} files; allowed: {', '.join(MUXERS)}",
        )
    if container == "FLAC" and (lost := _flac_loss(path, offset)):
        raise UnsupportedFormat(path, f"{lost} in it would be lost, so no tags are written into it")
    return container


def _flac_loss(path: Path, offset: int) -> str | None:
    """What FFmpeg does not copy of the blocks at the start of a FLAC file."""
    with path.open("rb") as file:
        file.seek(offset + 4)
        for _ in range(_LONGEST_HEADER):
            head = file.read(4)
            if len(head) < 4:
                break
            if (kind := head[0] & 0x7F) in _FLAC_LOST:
                return _FLAC_LOST[kind]
            if head[0] & 0x80:
                break
            file.seek(int.from_bytes(head[1:], "big"), 1)
    return None


def _make_backup(path: Path) -> Path:
    """Copy a file beside it, under a name that is free: ``song.mp3.bak``, ``song.mp3.bak1`` and so on."""
    for name in _backup_names(path):
        with suppress(FileExistsError):
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            try:
                shutil.copy2(path, name)
                with name.open("rb") as file:
                    os.fsync(file.fileno())
            except BaseException:
                name.unlink(missing_ok=True)
                raise
            return name
    raise InputError(f"{path}: has too many backups; allowed: {_MOST_BACKUPS}")


def _backup_names(path: Path) -> Iterable[Path]:
    for number in range(_MOST_BACKUPS):
        yield path.with_name(f"{path.name}.bak{number or ''}")
