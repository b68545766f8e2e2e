"""The files of an index: one folder for each way of making vectors, so that those of two models never mix.

``index.json``
    The folders of music, the model, and which of the folders of vectors is in use.
``vectors-<hash>/tracks.parquet``
    Vectors, tags and fingerprints of all recordings, with a header that says what made the vectors.
``vectors-<hash>/files.json``
    Which file holds which recording; recordings without a vector; failures; what was measured about the whole, and how
    well pairs of recordings match.
``vectors-<hash>/journal.jsonl``
    What a scan has done since, and what it began; a killed scan loses at most the line that it was writing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from myna_rpe.library.records import COLUMNS, Failure, FileStamp, TrackRecord, from_batches, to_batch
from pentatonic.errors import FormatError, UsageError
from pentatonic.folder_run import write_json
from pentatonic.search import VectorHeader, VectorStore, write_vectors
from pentatonic.search.store import ColumnType
from pentatonic.untrusted.files import read_json

_INDEX, _TRACKS, _FILES, _JOURNAL = "index.json", "tracks.parquet", "files.json", "journal.jsonl"
_VERSION = 1
_LARGEST_JSON = 2**30
_GENERATION = re.compile("vectors-[0-9a-f]{12}")


def default_index(name: str = "default") -> Path:
    """Return the folder of a library in the user's data folder.

    Raises:
        UsageError: The name cannot be that of a folder.
    """
    if not re.fullmatch(r"[\w-][\w. -]{0,99}", name):
        raise UsageError(f"library {name!r}: allowed are letters, digits, '-', '_', '.' and spaces")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "myna-rpe" / "libraries" / name


@dataclass(frozen=True)
class IndexSettings:
    """What ``index.json`` says.

    Attributes:
        folders: Folders of music.
        model: Name or path of the model.
        current: Folder of the vectors in use; empty before the first scan has ended.
    """

    folders: tuple[str, ...] = ()
    model: str = ""
    current: str = ""

    @classmethod
    def load(cls, folder: Path) -> IndexSettings:
        """Read them; without a file there are none.

        Raises:
            FormatError: The file is damaged.
        """
        path = folder / _INDEX
        if not path.is_file():
            return cls()
        values = read_json(path, max_bytes=_LARGEST_JSON, error=FormatError)
        try:
            if values["version"] != _VERSION:
                raise FormatError(
                    f"version {values['version']!r}; this program reads version {_VERSION}", path=path
                )
            settings = cls(tuple(map(str, values["folders"])), str(values["model"]), str(values["current"]))
        except (KeyError, TypeError) as error:
            raise FormatError("is not the index of a library", path=path) from error
        if settings.current and not _GENERATION.fullmatch(settings.current):
            raise FormatError(f"current is {settings.current!r}, which is no folder of vectors", path=path)
        return settings

    def save(self, folder: Path) -> None:
        """Write them."""
        write_json(folder / _INDEX, {"version": _VERSION, **asdict(self)})


@dataclass
class Generation:
    """The vectors of one model, in a folder of their own.

    Attributes:
        folder: The folder.
        header: What makes the vectors.
        files: Path -> stamp.
        tracks: Id -> recording.
        failures: Id -> why its content cannot be embedded.
        measures: What was measured about the whole, such as the threshold of duplicates.
        matches: How well the fingerprints of pairs of neighbours match, by their ids in order.
        unfinished: A scan was stopped: its journal is not part of the table yet.
        deaths: Path -> how often the process that scanned ended without a word while it was at this file.
    """

    folder: Path
    header: VectorHeader
    files: dict[str, FileStamp] = field(default_factory=dict)
    tracks: dict[str, TrackRecord] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    measures: dict[str, Any] = field(default_factory=dict)
    matches: dict[tuple[str, str], float] = field(default_factory=dict)
    unfinished: bool = False
    deaths: Counter[str] = field(default_factory=Counter)

    @classmethod
    def load(cls, folder: Path, expected: VectorHeader | None = None, *, journal: bool = True) -> Generation:
        """Read a generation.

        Args:
            folder: Its folder.
            expected: Header that it must have, also the one of a generation that is empty yet.
            journal: Also take in what a stopped scan has done.

        Raises:
            IncompatibleVectors: It was made by another model, or in another way.
            FormatError: Its files are damaged, or there are none and no ``expected``.
            MissingExtra: pyarrow is not installed.
        """
        if (folder / _TRACKS).is_file():
            with VectorStore(folder / _TRACKS, expected) as store:
                loaded = cls(folder, store.header)
                try:
                    loaded.tracks = from_batches(store.batches())
                except (KeyError, TypeError, ValueError) as error:
                    raise FormatError("is not the table of a library", path=store.path) from error
            loaded._read_files()
        elif expected is not None:
            loaded = cls(folder, expected)
        else:
            raise FormatError("has no vectors; scan the folder of music first", path=folder)
        loaded.unfinished = (folder / _JOURNAL).is_file()
        if journal and loaded.unfinished:
            loaded._replay()
        return loaded

    def save(self) -> None:
        """Write the table and the list of files, and end the journal."""
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = self.paths_by_content()
        self.tracks = {key: track for key, track in self.tracks.items() if key in paths}
        self.failures = {key: failure for key, failure in self.failures.items() if key in paths}
        one_path = {key: found[0] for key, found in paths.items()}
        batch = to_batch(self.tracks, one_path, self.header.dimension)
        columns = cast(Mapping[str, ColumnType], COLUMNS)
        write_vectors(self.folder / _TRACKS, self.header, [batch], columns=columns)
        document = {
            "version": _VERSION,
            "files": self.files,
            "silent": {key: track.to_json() for key, track in self.tracks.items() if track.vector is None},
            "failures": self.failures,
            "measures": self.measures,
            "matches": [[*pair, value] for pair, value in self.matches.items()],
        }
        write_json(self.folder / _FILES, document)
        (self.folder / _JOURNAL).unlink(missing_ok=True)
        self.unfinished = False

    def paths_by_content(self) -> dict[str, list[str]]:
        """Return id -> sorted paths of the files that hold it."""
        found: dict[str, list[str]] = {}
        for path, stamp in sorted(self.files.items()):
            found.setdefault(stamp.content, []).append(path)
        return found

    def _read_files(self) -> None:
        path = self.folder / _FILES
        values = read_json(path, max_bytes=_LARGEST_JSON, error=FormatError)
        try:
            self.files = {str(name): _stamp(stamp) for name, stamp in values["files"].items()}
            self.tracks |= {key: TrackRecord.from_json(track) for key, track in values["silent"].items()}
            self.failures = {key: Failure(**failure) for key, failure in values["failures"].items()}
            self.measures = dict(values["measures"])
            self.matches = {(str(a), str(b)): float(value) for a, b, value in values["matches"]}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError("is not the list of files of a library", path=path) from error

    def _replay(self) -> None:
        """Take in the journal; a line that was cut off is left out, and its file is read again."""
        with (self.folder / _JOURNAL).open("rb") as file:
            for line in file:
                with suppress(ValueError, KeyError, TypeError, AttributeError):
                    values = json.loads(line)
                    if "begun" in values:
                        self.deaths[str(values["begun"])] += 1
                        continue
                    if "ended" in values:
                        self.deaths[str(values["ended"])] -= 1
                        continue
                    if "track" in values:
                        self.tracks[values["content"]] = TrackRecord.from_json(values["track"])
                        self.failures.pop(values["content"], None)
                    elif "failure" in values:
                        self.failures[values["content"]] = Failure(**values["failure"])
                    self.files[values["path"]] = _stamp([*values["stamp"], values["content"]])
                    del self.deaths[values["path"]]
        self.deaths = +self.deaths


def _stamp(values: Any) -> FileStamp:
    size, mtime_ns, content = values
    return FileStamp(int(size), int(mtime_ns), str(content))


class Journal:
    """Adds what a scan does to a generation, in memory and at once on disk; from several threads."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._in_work: set[str] = set()

    def close(self) -> None:
        """Note that nothing is in work any more, and close the file; a process that dies does neither."""
        for path in sorted(self._in_work):
            self.ended(path)
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begun(self, path: str) -> None:
        """Note that work on a file begins."""
        with self._lock:
            self._in_work.add(path)
            self._append({"begun": path})

    def ended(self, path: str) -> None:
        """Note that work on a file ended without a result."""
        with self._lock:
            if path in self._in_work:
                self._in_work.remove(path)
                self._append({"ended": path})

    def known(self, path: str, stamp: FileStamp) -> None:
        """Note a file whose content the index has."""
        with self._lock:
            self._generation.files[path] = stamp
            self._note(path, stamp, {})

    def done(self, path: str, stamp: FileStamp, track: TrackRecord) -> None:
        """Note a recording."""
        with self._lock:
            self._generation.tracks[stamp.content] = track
            self._generation.failures.pop(stamp.content, None)
            self._generation.files[path] = stamp
            self._note(path, stamp, {"track": track.to_json()})

    def failed(self, path: str, stamp: FileStamp, failure: Failure) -> None:
        """Note a file that cannot be embedded."""
        with self._lock:
            self._generation.failures[stamp.content] = failure
            self._generation.files[path] = stamp
            self._note(path, stamp, {"failure": asdict(failure)})

    def _note(self, path: str, stamp: FileStamp, values: Mapping[str, Any]) -> None:
        self._in_work.discard(path)
        self._append({"path": path, "stamp": stamp[:2], "content": stamp.content, **values})

    def _append(self, line: Mapping[str, Any]) -> None:
        if self._file is None:
            self._generation.folder.mkdir(parents=True, exist_ok=True)
            self._file = (self._generation.folder / _JOURNAL).open("ab")
            self._file.write(b"\n")  # ends a line that a killed scan left
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()


def generation_name(header: VectorHeader) -> str:
    """Return the name of the folder for the vectors of a header."""
    return f"vectors-{hashlib.sha256(header.to_json().encode()).hexdigest()[:12]}"


def remove_other_generations(folder: Path, kept: str) -> None:
    """Remove the vectors that are out of use."""
    for place in folder.iterdir():
        if _GENERATION.fullmatch(place.name) and place.name != kept:
            shutil.rmtree(place, ignore_errors=True)
