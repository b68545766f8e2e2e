"""Folders on a local disk or in an object store, read and written in the same way.

A place is a local path or a URI such as ``s3://bucket/music`` or ``gs://bucket/set``; ``file://`` is local.
Object stores are reached through pyarrow's own file systems, others through fsspec where it is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from omar_rq.files.parquet_table import import_pyarrow
from pentatonic.checkpoint import atomic_file
from pentatonic.errors import InputError, MissingExtra, UsageError
from pentatonic.folder_run import OutputError

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_TEMPORARY = ".unfinished"


def is_uri(place: str | Path) -> bool:
    """Whether a place is a URI; ``file://`` counts as one until :func:`local_place` has resolved it."""
    return _URI.match(str(place)) is not None


def local_place(place: str | Path) -> Path | None:
    """Return the local path of a place; None for an object store.

    Raises:
        UsageError: ``file://`` with a host.
    """
    if not is_uri(place):
        return Path(place)
    parts = urlsplit(str(place))
    if parts.scheme.lower() != "file":
        return None
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{place}: a file:// place has three slashes, such as file:///music")
    return Path(unquote(parts.path))


def remote_filesystem(uri: str) -> tuple[Any, str]:
    """Return the pyarrow file system of a URI, and the path in it.

    Raises:
        MissingExtra: pyarrow is not installed.
        UsageError: There is no file system for its scheme, or it cannot be opened.
    """
    pa, _ = import_pyarrow()
    from pyarrow import fs

    try:
        return fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as first:
        try:
            import fsspec
        except ModuleNotFoundError:
            raise UsageError(f"{uri} cannot be opened: {first}") from first
        try:
            filesystem, path = fsspec.core.url_to_fs(uri)
        except ImportError as error:  # s3fs and the like, which are packages of their own
            raise MissingExtra(f"{uri}: {error}", "fsspec") from error
        except ValueError as error:
            raise UsageError(f"{uri} cannot be opened: {error}") from error
        return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path


@dataclass(frozen=True)
class StoredFile:
    """One file of a :class:`Storage`."""

    name: str
    bytes: int
    mtime_ns: int


class Storage:
    """A folder that holds a data set. Files appear in it whole or not at all.

    Args:
        place: A local path or a URI; it need not exist.

    Attributes:
        place: As text.
        local: Its path on this machine; None in an object store.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = str(place)
        self.local = local_place(place)
        self._filesystem: Any = None
        self._root = ""
        if self.local is None:
            self._filesystem, self._root = remote_filesystem(self.place)

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        return Storage, (self.place,)

    def make(self) -> None:
        """Make the folder.

        Raises:
            UsageError: It cannot be made.
        """
        try:
            if self.local is not None:
                self.local.mkdir(parents=True, exist_ok=True)
            else:
                self._filesystem.create_dir(self._root, recursive=True)
        except OSError as error:
            raise UsageError(f"{self.place} is not a folder that can be written: {error}") from error

    def files(self) -> list[StoredFile]:
        """Return the files in the folder itself, sorted by name; none where there is no folder.

        Raises:
            InputError: It cannot be read.
        """
        try:
            if self.local is not None:
                if not self.local.is_dir():
                    return []
                found = [(each.name, each.stat()) for each in self.local.iterdir() if each.is_file()]
                return sorted(
                    (StoredFile(name, status.st_size, status.st_mtime_ns) for name, status in found),
                    key=lambda file: file.name,
                )
            from pyarrow import fs

            selector = fs.FileSelector(self._root, allow_not_found=True)
            infos = [each for each in self._filesystem.get_file_info(selector) if each.is_file]
        except OSError as error:
            raise InputError(f"{self.place} cannot be read: {error}") from error
        files = (StoredFile(each.base_name, each.size, each.mtime_ns or 0) for each in infos)
        return sorted(
            (file for file in files if not file.name.endswith(_TEMPORARY)), key=lambda file: file.name
        )

    def read_text(self, name: str, most_bytes: int) -> str | None:
        """Return the text of a file; None where there is no such file.

        Raises:
            InputError: It cannot be read, is larger, or is not UTF-8.
        """
        try:
            if self.local is not None:
                if not (self.local / name).is_file():
                    return None
                with (self.local / name).open("rb") as file:
                    content = file.read(most_bytes + 1)
            else:
                if not self._filesystem.get_file_info(f"{self._root}/{name}").is_file:
                    return None
                with self._filesystem.open_input_stream(f"{self._root}/{name}") as file:
                    content = file.read(most_bytes + 1)
            if len(content) > most_bytes:
                raise InputError(f"{self.place}/{name}: more than {most_bytes} bytes")
            return content.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self.place}/{name} cannot be read: {error}") from error

    def source(self, name: str) -> Any:
        """Return what ``pyarrow.parquet`` opens: a path, or an open file of an object store.

        Raises:
            InputError: It cannot be opened.
        """
        if self.local is not None:
            return self.local / name
        try:
            return self._filesystem.open_input_file(f"{self._root}/{name}")
        except OSError as error:
            raise InputError(f"{self.place}/{name} cannot be read: {error}") from error

    @contextmanager
    def written(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file for writing, which replaces ``name`` when the block ends without an error.

        Raises:
            CheckpointError: It cannot be written on a local disk.
            OutputError: It cannot be written in an object store.
        """
        if self.local is not None:
            with atomic_file(self.local / name) as file:
                yield file
            return
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            target = f"{self._root}/{name}"
            unfinished = f"{target}{_TEMPORARY}"  # a stream that fails half-way may leave what it has sent
            try:
                with self._filesystem.open_output_stream(unfinished) as stream:
                    shutil.copyfileobj(file, stream, 1 << 20)
                self._filesystem.move(unfinished, target)
            except OSError as error:
                raise OutputError(f"{self.place}/{name} cannot be written: {error}") from error

    def delete(self, name: str) -> None:
        """Delete a file.

        Raises:
            OutputError: It cannot be deleted.
        """
        try:
            if self.local is not None:
                (self.local / name).unlink(missing_ok=True)
            else:
                self._filesystem.delete_file(f"{self._root}/{name}")
        except OSError as error:
            raise OutputError(f"{self.place}/{name} cannot be deleted: {error}") from error

    def inside(self, name: str) -> Storage:
        """Return a folder in this one."""
        return Storage(os.path.join(self.place, name))  # noqa: PTH118 - also joins URIs
