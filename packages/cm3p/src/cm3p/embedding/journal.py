"""The maps that a run has embedded so far, in a folder beside the output, so that a stopped run continues."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cm3p.embedding.columns import HASH, Row
from pentatonic.errors import InputError
from pentatonic.folder_run import claim_folder, write_json
from pentatonic.processes.run_lock import locked_run_folder

_SETTINGS, _MAPS = "run.json", "maps.jsonl"


@dataclass(frozen=True)
class EmbeddedMap:
    """A row of the output.

    Args:
        row: Its columns.
        vector: (D,) float32 of norm 1.
    """

    row: Row
    vector: np.ndarray


@dataclass(frozen=True)
class Stamp:
    """A file as it was when its maps were read.

    Args:
        path: The file.
        bytes: Its size.
        mtime_ns: When it was changed.
    """

    path: str
    bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp | None:
        """Return the stamp of a file; None if there is none."""
        try:
            status = path.stat()
        except OSError:
            return None
        return cls(str(path.absolute()), status.st_size, status.st_mtime_ns)


class Journal:
    """An open journal; see :func:`open_journal`.

    Attributes:
        finished: Files of which all maps are in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets: dict[str, int] = {}
        self._ids: dict[int, str] = {}
        self.finished: set[Stamp] = set()
        self._read()
        self._file: BinaryIO = path.open("ab")

    def __len__(self) -> int:
        return len(self._offsets)

    def __contains__(self, content_hash: str) -> bool:
        return content_hash in self._offsets

    def hashes(self) -> frozenset[str]:
        """Return the content hashes of its maps."""
        return frozenset(self._offsets)

    def hash_of(self, map_id: int) -> str | None:
        """Return the content hash of the map with an id; None if there is none."""
        return self._ids.get(map_id)

    def add(self, embedded: EmbeddedMap) -> None:
        """Add a map; it is in the file when this returns."""
        vector = base64.b64encode(np.ascontiguousarray(embedded.vector, "<f4").tobytes()).decode()
        self._note(embedded.row, self._append({"row": embedded.row, "vector": vector}))

    def finish(self, stamp: Stamp) -> None:
        """Note that all maps of a file are in the journal."""
        self._append({"finished": [stamp.path, stamp.bytes, stamp.mtime_ns]})
        self.finished.add(stamp)

    def maps(self) -> Iterator[EmbeddedMap]:
        """Yield all maps, in the order in which they were added."""
        with self._path.open("rb") as file:
            for offset in sorted(self._offsets.values()):
                file.seek(offset)
                yield _embedded(json.loads(file.readline()))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, line: Mapping[str, Any]) -> int:
        offset = self._file.tell()
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        return offset

    def _note(self, row: Row, offset: int) -> None:
        self._offsets[row[HASH]] = offset
        self._ids[row["Id"]] = row[HASH]

    def _read(self) -> None:
        """Read the lines that are whole, and cut off the last one if it is not."""
        if not self._path.is_file():
            return
        offset = 0
        with self._path.open("rb+") as file:
            for line in file:
                try:
                    content: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
                    if "row" in content:
                        self._note(content["row"], offset)
                    else:
                        self.finished.add(Stamp(*content["finished"]))
                except (ValueError, KeyError, TypeError):
                    file.truncate(offset)
                    return
                offset += len(line)


def _embedded(line: Mapping[str, Any]) -> EmbeddedMap:
    return EmbeddedMap(line["row"], np.frombuffer(base64.b64decode(line["vector"]), "<f4"))


@contextmanager
def open_journal(output: Path, settings: Mapping[str, object], *, overwrite: bool) -> Iterator[Journal]:
    """Open the journal of an output, with those maps that a stopped run has left there.

    It is a folder beside the output, and removed when the block ends without an error.

    Args:
        output: The file that is being made.
        settings: JSON values that decide the vectors.
        overwrite: Begin again, whatever is there.

    Raises:
        UsageError: It is that of a run with other settings.
        RunFolderInUse: Another process is at work on the same output.
    """
    folder = output.with_name(f".{output.name}.unfinished")
    with locked_run_folder(folder):
        if overwrite:
            (folder / _MAPS).unlink(missing_ok=True)
        advice = f"this output was begun so; --overwrite begins again, or remove {folder}"
        claim_folder(folder / _SETTINGS, settings, advice=advice, overwrite=overwrite)
        write_json(folder / _SETTINGS, {"settings": settings})
        try:
            journal = Journal(folder / _MAPS)
        except OSError as error:
            raise InputError(f"{folder / _MAPS}: cannot be written: {error.strerror or error}") from error
        try:
            yield journal
        finally:
            journal.close()
    shutil.rmtree(folder, ignore_errors=True)
