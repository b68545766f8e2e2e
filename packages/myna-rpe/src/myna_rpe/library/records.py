"""What the index of a library stores about one recording, and how that becomes rows of a table and lines of JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from myna_rpe.library.fingerprint import BANDS
from myna_rpe.library.tags import Tags
from pentatonic.search import VectorBatch

COLUMNS = {
    "path": "string",
    "title": "string",
    "artist": "string",
    "album": "string",
    "track": "int64",
    "year": "int64",
    "duration_s": "float64",
    "flags": "string",
    "repairs": "string",
    "group": "string",
    "neighbourhood": "float64",
    "fingerprint": "binary",
}
"""Metadata columns of ``tracks.parquet``; lists are JSON text."""


class FileStamp(NamedTuple):
    """What tells whether a file is as it was, and what it holds.

    Attributes:
        size: Bytes.
        mtime_ns: Time of its last change.
        content: Id of its content.
    """

    size: int
    mtime_ns: int
    content: str

    def is_of(self, path: Path) -> bool:
        """Whether a file has this size and time.

        Raises:
            OSError: There is no such file.
        """
        status = path.stat()
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True)
class Failure:
    """A content that cannot be embedded.

    Attributes:
        error: Class of the error.
        reason: Why.
    """

    error: str
    reason: str


@dataclass(frozen=True, eq=False)
class TrackRecord:
    """One recording of the index.

    Attributes:
        tags: What its file says.
        duration_s: Length, as decoded.
        flags: What is unusual about its sound.
        vector: ``(O,)`` float32; ``None`` for silence.
        fingerprint: ``(t, B)`` int8.
        group: Id of its group of near-duplicates.
        neighbourhood: Mean distance to its nearest neighbours.
    """

    tags: Tags
    duration_s: float
    flags: tuple[str, ...]
    vector: np.ndarray | None = None
    fingerprint: np.ndarray | None = None
    group: str | None = None
    neighbourhood: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values for the journal and for tracks without a vector."""
        arrays = {
            name: None if value is None else base64.b64encode(value.tobytes()).decode()
            for name, value in (("vector", self.vector), ("fingerprint", self.fingerprint))
        }
        return {"tags": asdict(self.tags), "duration_s": self.duration_s, "flags": self.flags, **arrays}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrackRecord:
        """Read what :meth:`to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        tags = Tags(**{**values["tags"], "repairs": tuple(values["tags"]["repairs"])})
        vector, prints = (
            None if values[name] is None else base64.b64decode(values[name], validate=True)
            for name in ("vector", "fingerprint")
        )
        return cls(
            tags,
            float(values["duration_s"]),
            tuple(values["flags"]),
            None if vector is None else np.frombuffer(vector, np.float32),
            None if prints is None else np.frombuffer(prints, np.int8).reshape(-1, BANDS),
        )


def to_batch(tracks: Mapping[str, TrackRecord], paths: Mapping[str, str], width: int) -> VectorBatch:
    """Turn tracks with a vector into rows of the table, in the order of their ids.

    Args:
        tracks: Id -> track.
        paths: Id -> path of one of its files.
        width: Of the vectors.
    """
    rows = [(key, track) for key, track in sorted(tracks.items()) if track.vector is not None]
    records = [track for _, track in rows]
    metadata: dict[str, Sequence[Any]] = {
        "path": [printable_path(paths[key]) for key, _ in rows],
        **{name: [getattr(track.tags, name) for track in records] for name in ("title", "artist", "album")},
        **{name: [getattr(track.tags, name) for track in records] for name in ("track", "year")},
        "duration_s": [track.duration_s for track in records],
        "flags": [json.dumps(track.flags) for track in records],
        "repairs": [json.dumps(track.tags.repairs) for track in records],
        "group": [track.group for track in records],
        "neighbourhood": [track.neighbourhood for track in records],
        "fingerprint": [b"" if (x := track.fingerprint) is None else x.tobytes() for track in records],
    }
    vectors = np.array([track.vector for track in records], np.float32).reshape(-1, width)
    return VectorBatch([key for key, _ in rows], vectors, metadata)


def from_batches(batches: Iterable[VectorBatch]) -> dict[str, TrackRecord]:
    """Read what :func:`to_batch` gave.

    Raises:
        KeyError, TypeError, ValueError: A column is missing or holds something else.
    """
    tracks = {}
    for batch in batches:
        columns = [batch.metadata[name] for name in COLUMNS]
        for key, vector, *values in zip(batch.ids, batch.vectors, *columns, strict=True):
            row = dict(zip(COLUMNS, values, strict=True))
            named = {name: row[name] for name in ("title", "artist", "album", "track", "year")}
            tracks[key] = TrackRecord(
                Tags(**named, repairs=tuple(json.loads(row["repairs"]))),
                row["duration_s"],
                tuple(json.loads(row["flags"])),
                np.asarray(vector, np.float32),
                np.frombuffer(row["fingerprint"], np.int8).reshape(-1, BANDS),
                row["group"],
                row["neighbourhood"],
            )
    return tracks


def printable_path(path: str) -> str:
    r"""Return a path as text that every encoding of Unicode has; bytes that are no UTF-8 become ``\xNN``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
