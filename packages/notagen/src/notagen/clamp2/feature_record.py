"""Which files a folder of features was made from: one line of JSON for each, so that a stopped run goes on.

A file whose content has changed since, or whose output is to have another name, counts as not embedded.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, get_args

from notagen.clamp2.embedder import EncodedFile, Kind
from pentatonic.errors import InputError

RECORD = "features.jsonl"
SUFFIX = ".npy"


@dataclass(frozen=True)
class RecordedFile:
    """A file that was embedded.

    Args:
        path: The file, below the folder that the inputs share.
        stem: Start of the names of its outputs.
        kind: What it is.
        sha256: Hash of its content.
        pieces: How many pieces it has, those that could not be embedded included.
        outputs: The files of features, below the output folder.
    """

    path: str
    stem: str
    kind: Kind
    sha256: str
    pieces: int
    outputs: tuple[str, ...]

    @property
    def ids(self) -> list[str]:
        """Names of its pieces."""
        return [output.removesuffix(SUFFIX) for output in self.outputs]


class FeatureRecord:
    """The record of a folder, open for adding; safe to use from threads.

    Args:
        folder: The folder, which must exist.
        stems: All files of a run, below the folder that the inputs share -> start of the names of their outputs.

    Raises:
        InputError: The record cannot be written.
    """

    def __init__(self, folder: Path, stems: dict[str, PurePosixPath]) -> None:
        self.folder = folder
        self._stems = {path: str(stem) for path, stem in stems.items()}
        self._lock = threading.Lock()
        self._files: dict[str, RecordedFile] = {}
        self._current: set[str] = set()
        path = folder / RECORD
        try:
            self._read(path)
            self._file: BinaryIO = path.open("ab")
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
        # Some file systems take names of different case for the same.
        self._owners = {str(stem).casefold(): path for path, stem in self._stems.items()}
        for each in self._files.values():
            if each.path in self._stems:
                self.reserve(each.path, each.ids)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def reserve(self, path: str, ids: Collection[str]) -> bool:
        """Keep names for the pieces of a file, and say whether all of them were free or its own."""
        return all([self._owners.setdefault(each.casefold(), path) == path for each in ids])

    def has(self, path: str, digest: str) -> bool:
        """Whether all pieces of a file with this content are in the folder, under the names of this run."""
        found = self._files.get(path)
        same = (
            found is not None
            and (found.sha256, found.stem, found.pieces) == (digest, self._stems[path], len(found.outputs))
            and all((self.folder / output).is_file() for output in found.outputs)
            and all(self._owns(path, output) for output in found.outputs)
        )
        if same:
            with self._lock:
                self._current.add(path)
        return same

    def forget(self, path: str) -> None:
        """Remove the outputs of a file, which is to be embedded again."""
        with self._lock:
            if (old := self._files.pop(path, None)) is not None:
                for output in old.outputs:
                    if self._owns(path, output):
                        (self.folder / output).unlink(missing_ok=True)

    def names(self, path: str, encoded: EncodedFile) -> list[str]:
        """Reserve the names of a file's outputs, below the folder.

        The only piece of ``a/b.abc`` is ``a/b.npy``, tune 7 of a book ``a/b-7.npy``, or ``a/b.abc-7.npy`` where that
        is the name of another piece.

        Raises:
            InputError: That is taken too.
        """
        tunes = [_plain(piece.name) for piece in encoded.pieces]
        if len({tune.casefold() for tune in tunes}) < len(tunes):
            tunes = [str(place) for place in range(1, len(tunes) + 1)]
        with self._lock:
            return [self._name(path, tune) for tune in tunes]

    def add(self, path: str, encoded: EncodedFile, outputs: Collection[str]) -> None:
        """Record a file whose outputs are written."""
        pieces = len(encoded.pieces) + len(encoded.failures)
        stem = self._stems[path]
        entry = RecordedFile(path, stem, encoded.kind, encoded.digest, pieces, tuple(outputs))
        with self._lock:
            self._files[path] = entry
            self._current.add(path)
            self._file.write(json.dumps(asdict(entry)).encode() + b"\n")
            self._file.flush()

    def files(self) -> Iterator[RecordedFile]:
        """Yield the files of this run that are embedded, in its order."""
        for path in self._stems:
            if path in self._current:
                yield self._files[path]

    def _owns(self, path: str, output: str) -> bool:
        return self._owners.get(output.removesuffix(SUFFIX).casefold()) == path

    def _name(self, path: str, tune: str) -> str:
        names = [f"{self._stems[path]}-{tune}", f"{path}-{tune}"] if tune else [self._stems[path]]
        for name in names:
            if self._owners.setdefault(name.casefold(), path) == path:
                return name + SUFFIX
        owner = self._owners[names[-1].casefold()]
        raise InputError(f"tune {tune}: its features and those of {owner} would have one name; rename a file")

    def _read(self, path: Path) -> None:
        """Read the lines that are whole, and cut off the last one if it is not."""
        if not path.is_file():
            return
        offset = 0
        with path.open("rb+") as file:
            for line in file:
                entry = _entry(line)
                if entry is None:
                    file.truncate(offset)
                    return
                self._files[entry.path] = entry
                offset += len(line)


def _entry(line: bytes) -> RecordedFile | None:
    """The entry of a line; None if it is torn or says something that no entry says."""
    try:
        values = json.loads(line) if line.endswith(b"\n") else {}
        entry = RecordedFile(**{**values, "outputs": tuple(values["outputs"])})
    except (ValueError, KeyError, TypeError):
        return None
    texts = (entry.path, entry.stem, entry.sha256, *entry.outputs)
    inside = all(
        isinstance(text, str)
        and not PurePosixPath(text).is_absolute()
        and ".." not in PurePosixPath(text).parts
        for text in texts
    )
    return entry if inside and entry.kind in get_args(Kind) and isinstance(entry.pieces, int) else None


def _plain(tune: str) -> str:
    """The number of a tune as a part of a file name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in tune)
