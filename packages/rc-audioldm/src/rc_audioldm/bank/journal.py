"""Vectors that a build has computed so far, on the disk as soon as each is there, so that a killed build continues.

A file of vectors and a file of lines grow together; a line has the checksum of its vector. What a kill has left half
written at their ends is cut off.

Shapes: D dimensions.
"""

from __future__ import annotations

import json
import threading
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

import numpy as np

VECTORS, _LINES = "vectors.f32", "clips.jsonl"


@dataclass(frozen=True)
class Computed:
    """What is known of the content of a file.

    Args:
        duration_s: Length in seconds.
        windows: Windows of its vector.
        licence: That its tags name.
        source: That its tags name.
        tags: Of the file.
        flags: What is unusual about it.
    """

    duration_s: float
    windows: int
    licence: str
    source: str
    tags: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


class Journal:
    """The vectors of a folder, by the hash of their files; use it as a context manager. Threads may share it.

    Args:
        folder: Where the two files are; it must exist.
        dimension: D.
    """

    def __init__(self, folder: Path, dimension: int) -> None:
        self._folder, self._dimension = folder, dimension
        self._lock = threading.Lock()
        self._files: tuple[IO[bytes], IO[bytes]] | None = None
        self._vectors: list[np.ndarray] = []
        self._rows: dict[str, tuple[int, Computed]] = {}
        self._read()

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, sha256: str) -> tuple[np.ndarray, Computed] | None:
        """Return the vector ``(D,)`` of a content, and what is known of it."""
        found = self._rows.get(sha256)
        return None if found is None else (self._vectors[found[0]], found[1])

    def add(self, sha256: str, vector: np.ndarray, about: Computed) -> None:
        """Add a vector ``(D,)``; when this returns, a kill of the program does not lose it."""
        content = np.ascontiguousarray(vector, np.float32).tobytes()
        line = {"sha256": sha256, "crc": zlib.crc32(content), **asdict(about)}
        with self._lock:
            if self._files is None:
                self._files = ((self._folder / VECTORS).open("ab"), (self._folder / _LINES).open("ab"))
            for file, data in zip(self._files, (content, json.dumps(line).encode() + b"\n"), strict=True):
                file.write(data)
                file.flush()
            self._keep(sha256, np.frombuffer(content, np.float32), about)

    def close(self) -> None:
        """Close the files."""
        for file in self._files or ():
            file.close()
        self._files = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep(self, sha256: str, vector: np.ndarray, about: Computed) -> None:
        self._rows[sha256] = len(self._vectors), about
        self._vectors.append(vector)

    def _read(self) -> None:
        vectors, lines = self._folder / VECTORS, self._folder / _LINES
        if not vectors.is_file() or not lines.is_file():
            for path in (vectors, lines):
                path.unlink(missing_ok=True)
            return
        row_bytes, whole = 4 * self._dimension, 0
        with vectors.open("rb") as vector_file, lines.open("rb") as line_file:
            for line in line_file:
                content = vector_file.read(row_bytes)
                try:
                    values = json.loads(line)
                    intact = line.endswith(b"\n") and values.pop("crc") == zlib.crc32(content)
                    if not intact or len(content) != row_bytes:
                        break
                    sha256 = values.pop("sha256")
                    about = Computed(
                        **{**values, "tags": tuple(values["tags"]), "flags": tuple(values["flags"])}
                    )
                except (ValueError, KeyError, TypeError, AttributeError):
                    break
                self._keep(sha256, np.frombuffer(content, np.float32), about)
                whole += len(line)
        with vectors.open("rb+") as file:
            file.truncate(row_bytes * len(self._vectors))
        with lines.open("rb+") as file:
            file.truncate(whole)
