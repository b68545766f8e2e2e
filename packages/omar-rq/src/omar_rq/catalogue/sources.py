"""The recordings of a catalogue: which there are on a disk or in an object store, and how a decoder gets at one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from omar_rq.catalogue.storage import is_uri, local_place, remote_filesystem
from pentatonic import audio
from pentatonic.audio_folder.npz import find_audio
from pentatonic.cli import passed_over_text
from pentatonic.errors import AudioError, UsageError
from pentatonic.folder_run import mirrored

# Minutes of music in a megabyte, by suffix in lower case: typical rates, for planning alone.
_MINUTES_PER_MB = {
    ".wav": 0.1,
    ".aif": 0.1,
    ".aiff": 0.1,
    ".flac": 0.17,
    ".caf": 0.1,
    ".w64": 0.1,
    ".au": 0.1,
}
_MINUTES_PER_MB_LOSSY = 0.8
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Recording:
    """One audio file.

    Args:
        source: Local path or URI, as shown to the user.
        place: Where it lies below what the inputs have in common; its name in the data set.
        bytes: Its size; -1 where it cannot be looked at, which becomes its error.
        mtime_ns: When it was changed.
    """

    source: str
    place: str
    bytes: int
    mtime_ns: int

    @property
    def minutes(self) -> float:
        """About how long it is, guessed from its size and suffix."""
        rate = _MINUTES_PER_MB.get(PurePosixPath(self.source).suffix.lower(), _MINUTES_PER_MB_LOSSY)
        return max(self.bytes, 0) / 1e6 * rate

    @property
    def stamp(self) -> dict[str, Any]:
        """What the data set remembers of it, to tell whether it has changed."""
        return {"path": self.place, "bytes": self.bytes, "mtime_ns": self.mtime_ns}


@dataclass(frozen=True)
class FoundRecordings:
    """What a search found: the recordings, sorted by place, and suffix -> number of files passed over."""

    recordings: list[Recording]
    passed_over: dict[str, int]


def find_recordings(inputs: Sequence[str | Path]) -> FoundRecordings:
    """Find audio files among local files and folders or among those of one object store.

    Args:
        inputs: Paths, or URIs of one store. Folders are searched with their subfolders.

    Raises:
        UsageError: There are none, two have the same place, or paths and object stores are mixed.
    """
    locals_ = [local_place(each) for each in inputs]
    if all(each is not None for each in locals_):
        return _found_locally([each for each in locals_ if each is not None])
    if any(each is not None for each in locals_):
        raise UsageError("inputs are local paths or lie in an object store; allowed: one of the two in a run")
    return _found_remotely([str(each) for each in inputs])


def _found_locally(paths: Sequence[Path]) -> FoundRecordings:
    missing = [path for path in paths if not os.path.lexists(path)]
    if missing:
        raise UsageError(f"no such file or folder: {', '.join(map(str, missing))}")
    found = find_audio(paths)
    recordings = []
    for file, place in mirrored(paths, found.files).items():
        try:
            status = file.stat()
            size, mtime_ns = status.st_size, status.st_mtime_ns
        except OSError:
            size = mtime_ns = -1
        recordings.append(Recording(str(file), _text(place), size, mtime_ns))
    return FoundRecordings(_by_place(recordings), found.passed_over)


def _text(place: PurePosixPath) -> str:
    """The place as text; bytes of a name that are not UTF-8 are escaped."""
    return os.fsencode(place).decode("utf-8", "backslashreplace")


def _found_remotely(uris: Sequence[str]) -> FoundRecordings:
    from pyarrow import fs

    files: dict[str, Any] = {}
    others: Counter[str] = Counter()
    roots = []
    for uri in uris:
        filesystem, path = remote_filesystem(uri)
        prefix = uri[: len(uri) - len(path)] if uri.endswith(path) else f"{uri.partition('://')[0]}://"
        try:
            info = filesystem.get_file_info(path)
            infos = (
                [info] if info.is_file else filesystem.get_file_info(fs.FileSelector(path, recursive=True))
            )
        except OSError as error:
            raise UsageError(f"{uri} cannot be listed: {error}") from error
        roots.append(f"{prefix}{PurePosixPath(path).parent if info.is_file else path}")
        for each in infos:
            if not each.is_file or any(part.startswith(".") for part in PurePosixPath(each.path).parts):
                continue
            suffix = PurePosixPath(each.path).suffix.lower()
            if info.is_file or suffix in audio.AUDIO_SUFFIXES:
                files[f"{prefix}{each.path}"] = each
            else:
                others[suffix] += 1
    passed_over = dict(sorted(others.items(), key=lambda item: (-item[1], item[0])))
    if not files:
        more = f" ({passed_over_text(passed_over)})" if passed_over else ""
        raise UsageError(f"no audio files in {', '.join(uris)}{more}")
    root = os.path.commonpath(roots) if len(roots) > 1 else roots[0]
    recordings = [
        Recording(name, os.path.relpath(name, root), each.size, each.mtime_ns or 0)
        for name, each in files.items()
    ]
    return FoundRecordings(_by_place(recordings), passed_over)


def _by_place(recordings: Sequence[Recording]) -> list[Recording]:
    ordered = sorted(recordings, key=lambda recording: recording.place)
    for first, second in pairwise(ordered):
        if first.place == second.place:
            raise UsageError(f"{first.source} and {second.source} would both be called {first.place}")
    return ordered


@contextmanager
def on_this_machine(recording: Recording) -> Iterator[Path]:
    """Give a path at which a decoder can read a recording; a copy of an object store's is deleted afterwards.

    Raises:
        AudioError: It cannot be copied.
    """
    if (local := local_place(recording.source)) is not None:
        yield local
        return
    assert is_uri(recording.source)
    most = audio.AudioLimits().max_bytes
    filesystem, path = remote_filesystem(recording.source)
    with tempfile.NamedTemporaryFile(suffix=PurePosixPath(path).suffix) as copy:
        try:
            if recording.bytes > most:
                raise AudioError(recording.source, f"{recording.bytes} bytes; at most {most} are allowed")
            with filesystem.open_input_stream(path) as stream:
                shutil.copyfileobj(stream, copy, _COPY_BYTES)
        except OSError as error:
            raise AudioError(recording.source, f"cannot be read: {error}") from error
        copy.flush()
        yield Path(copy.name)
