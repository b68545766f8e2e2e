"""Spectrograms on disk, as pre-training reads them: raw memory maps with an index. No pickle anywhere.

::

    header.json       {"settings": {"frontend": ..., "mel": {...}, "bands": 128, "dtype": "float16", "order": "time-major"}, ...}
    index.jsonl       one track per line: {"source", "shard", "start", "frames", "split", "artist", "album", "made_by"}
    shard-00000.f16   frames one after the other, (frames of all its tracks, 128) little-endian float16

``start`` and ``frames`` count frames inside the shard. ``split`` is train, val or test; ``artist`` and ``album`` are
null where they are not known. ``source`` is the path below the folder of audio, ``made_by`` the SHA-256 of what the
spectrogram was made from. Frames that no line names belong to files that have changed since.

Shapes: F mel bands, T frames.
"""  # noqa: E501 - the layout reads best in one line per file

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from myna_rpe.config import N_MELS, FrontendName
from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError, InputError
from pentatonic.mel import MelConfig
from pentatonic.untrusted.files import read_json

HEADER, INDEX = "header.json", "index.jsonl"
SPLITS = ("train", "val", "test")
DTYPE = np.dtype("<f2")
FRAME_BYTES = N_MELS * DTYPE.itemsize
SHARD_FRAMES = 2**31 // FRAME_BYTES
"""Frames from which on a shard is full: 2 GiB."""
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class StoredTrack:
    """One line of the index; see the layout above."""

    source: str
    shard: int
    start: int
    frames: int
    split: str = "train"
    artist: str | None = None
    album: str | None = None
    made_by: str = ""


def storage_settings(frontend: FrontendName, mel: MelConfig) -> dict[str, Any]:
    """Return what decides the content of a folder, as JSON values of its header."""
    return {
        "frontend": frontend,
        "mel": asdict(mel),
        "bands": N_MELS,
        "dtype": "float16",
        "order": "time-major",
    }


def shard_path(root: Path, shard: int) -> Path:
    """The file of a shard."""
    return root / f"shard-{shard:05d}.f16"


class SpectrogramFolder:
    """A folder of spectrograms, open for reading.

    Args:
        root: The folder.

    Attributes:
        root: As given.
        frontend: Front end of all its spectrograms.
        tracks: What it holds, in the order of the index.

    Raises:
        InputError: It is not such a folder, or a shard is missing or truncated.
        FormatError: The header or a line of the index is wrong.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not (self.root / HEADER).is_file() or not (self.root / INDEX).is_file():
            raise InputError(
                f"{self.root} holds no prepared spectrograms ({HEADER} and {INDEX}); make them with: "
                f"myna-rpe prepare input=MUSIC output={self.root}"
            )
        self.frontend: FrontendName = _read_frontend(self.root / HEADER)
        self.tracks = read_index(self.root / INDEX)
        for shard in sorted({track.shard for track in self.tracks}):
            path = shard_path(self.root, shard)
            needed = max(track.start + track.frames for track in self.tracks if track.shard == shard)
            if not path.is_file() or path.stat().st_size < needed * FRAME_BYTES:
                raise InputError(f"{path} is missing or truncated: the index needs {needed} frames of it")
        self._shards: dict[int, NDArray[np.float16]] = {}

    def read(self, track: StoredTrack, start: int, frames: int) -> NDArray[np.float16]:
        """Return ``(frames, F)`` float16 from frame ``start`` of a track; fewer at its end."""
        frames = min(frames, track.frames - start)
        first = track.start + start
        return np.array(self._shard(track.shard)[first : first + frames])

    def _shard(self, shard: int) -> NDArray[np.float16]:
        if shard not in self._shards:
            mapped = np.memmap(shard_path(self.root, shard), DTYPE, mode="r")
            self._shards[shard] = mapped[: len(mapped) // N_MELS * N_MELS].reshape(-1, N_MELS)
        return self._shards[shard]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {
            "_shards": {}
        }  # a worker maps the files itself; a pickled map would be a copy


def _read_frontend(path: Path) -> FrontendName:
    values = read_json(path, error=InputError)
    settings = values.get("settings") if isinstance(values, dict) else None
    name = str(settings.get("frontend")) if isinstance(settings, dict) else None
    known: dict[Any, FrontendName] = {known: known for known in get_args(FrontendName)}
    if name not in known:
        raise FormatError(f"settings.frontend is {name!r}; allowed: {', '.join(known)}", path=path)
    return known[name]


def read_index(path: Path) -> list[StoredTrack]:
    """Read an index.

    Raises:
        FormatError: A line is wrong; the message has its number.
    """
    tracks = []
    # Not by splitlines, which also splits at characters that names may have.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line:
            continue
        try:
            tracks.append(parse_line(line))
        except (ValueError, TypeError, RecursionError) as error:
            raise FormatError(f"not an index entry ({error})", path=path, line=number) from None
    return tracks


def parse_line(line: str) -> StoredTrack:
    """Read one line of an index.

    Raises:
        ValueError, TypeError: It is wrong.
    """
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    track = StoredTrack(**values)
    numbers = (track.shard, track.start, track.frames)
    if not all(type(number) is int for number in numbers) or min(numbers) < 0 or track.frames < 1:
        raise ValueError("shard and start must be 0 or more, frames 1 or more")
    if track.split not in SPLITS or not isinstance(track.source, str):
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, and source a path")
    return track


class SpectrogramWriter:
    """Appends spectrograms to a folder. Several threads may write; one process at a time.

    While it works, ``index.jsonl.partial`` gets a line for each track after its frames are on disk, so that a run
    that was killed goes on from there.

    Args:
        root: The folder.
        kept: What it holds already; new frames come after these.
        shard_frames: Frames from which on a shard is full.
    """

    def __init__(
        self, root: Path, kept: Iterable[StoredTrack] = (), *, shard_frames: int = SHARD_FRAMES
    ) -> None:
        self.root, self.shard_frames = root, shard_frames
        self._lock = Lock()
        self._shard, self._end = max(
            ((track.shard, track.start + track.frames) for track in kept), default=(0, 0)
        )

    def write(self, mel: Tensor, source: str, **about: Any) -> StoredTrack:
        """Append ``(F, T)``; further arguments are fields of the index."""
        values = mel.clamp(max=_LARGEST).T.contiguous().numpy().astype(DTYPE)
        with self._lock:
            if self._end >= self.shard_frames:
                self._shard, self._end = self._shard + 1, 0
            path = shard_path(self.root, self._shard)
            with path.open("r+b" if path.is_file() else "wb") as file:
                file.seek(self._end * FRAME_BYTES)
                file.write(values.tobytes())
                file.truncate()
            track = StoredTrack(source, self._shard, self._end, len(values), **about)
            self._end += len(values)
            # The line feed first: an interrupted run may have left half a line.
            with (self.root / f"{INDEX}.partial").open("a", encoding="utf-8") as index:
                index.write("\n" + json.dumps(asdict(track)))
        return track


def write_index(root: Path, tracks: Iterable[StoredTrack]) -> None:
    """Publish the index, sorted by source, and remove the partial one.

    Raises:
        CheckpointError: It cannot be written.
    """
    lines = [json.dumps(asdict(track)) + "\n" for track in sorted(tracks, key=lambda track: track.source)]
    with atomic_file(root / INDEX) as file:
        file.write("".join(lines).encode())
    (root / f"{INDEX}.partial").unlink(missing_ok=True)


def known_tracks(root: Path) -> dict[str, StoredTrack]:
    """Return the whole tracks of earlier runs, also of one that was stopped, by their source; later ones count."""
    known: dict[str, StoredTrack] = {}
    for listing in (root / INDEX, root / f"{INDEX}.partial"):
        for line in listing.read_text(encoding="utf-8").split("\n") if listing.is_file() else ():
            try:
                track = parse_line(line)
            except (ValueError, TypeError, RecursionError):
                continue  # an incomplete line of an interrupted run
            path = shard_path(root, track.shard)
            if path.is_file() and path.stat().st_size >= (track.start + track.frames) * FRAME_BYTES:
                known[track.source] = track
    return known
