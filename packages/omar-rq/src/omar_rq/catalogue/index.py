"""An index of a data set of embeddings: vectors of recordings and of their segments, to search for what sounds alike.

A folder with ``recordings.parquet`` and ``segments.parquet``, stores of :mod:`pentatonic.search` that carry the hash of
the model, and ``index.json``. Each value is standardised over the segments of the data set before cosines are taken, as
all embeddings of a model point in nearly the same direction otherwise.

Shape legend: N tokens of a recording, S segments, C width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from omar_rq.catalogue.parts import DATA_SET, Part, read_parts, rows_of_layer
from omar_rq.catalogue.storage import Storage
from pentatonic.cli import progress
from pentatonic.errors import FormatError, InputError, UsageError
from pentatonic.folder_run import write_json
from pentatonic.search import VectorBatch, VectorHeader, VectorStore, write_vectors
from pentatonic.search.store import ColumnType
from pentatonic.untrusted.files import parse_json, read_text

INDEX_FILE, RECORDINGS, SEGMENTS = "index.json", "recordings.parquet", "segments.parquet"
DEFAULT_SEGMENT_S = 10.0
# Of fewer recordings, deviations say nothing.
_LEAST_STANDARDISED = 10
_VERSION = 1
_MAX_INDEX_BYTES = 16 * 2**20
_BATCH = 1024
_RECORDING_COLUMNS: dict[str, ColumnType] = {"duration_s": "float64", "flags": "string"}
_SEGMENT_COLUMNS: dict[str, ColumnType] = {"recording": "int64", "start_s": "float64", "end_s": "float64"}


@dataclass(frozen=True)
class IndexInfo:
    """What an index says about itself.

    Args:
        data_set: Place of the data set.
        stamp: Of the data set when the index was made; another one says that it has changed.
        settings: What decided the embeddings.
        model_name: By which the model was loaded.
        layer: Index of the trunk block.
        segment_s: Length of a segment in seconds.
        recordings: How many there are.
        segments: How many there are; 0 for a data set of means.
        flagged: How many recordings are quiet or short.
        mean: Of each value over the segments, (C,), empty where it is not standardised.
        deviation: The same.
    """

    data_set: str
    stamp: str
    settings: dict[str, Any]
    model_name: str
    layer: int
    segment_s: float
    recordings: int
    segments: int
    flagged: int
    mean: list[float]
    deviation: list[float]

    def standardised(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors (n, C) on the scale of the index."""
        if not self.mean:
            return vectors
        return (vectors - np.array(self.mean)) / np.array(self.deviation)


def data_set_place(place: str | Path) -> Storage:
    """Return the folder of the parts of a data set: as given, or inside the folder that ``embed`` wrote.

    Raises:
        InputError: There are no parts.
    """
    for storage in (Storage(place).inside(DATA_SET), Storage(place)):
        if any(each.name.endswith(".parquet") for each in storage.files()):
            return storage
    raise InputError(f"{place}: no data set of embeddings; make one by omar-rq embed --format parquet")


def stamp_of(storage: Storage) -> str:
    """Return a text that changes when the data set does: names, sizes and times of its parts."""
    listed = json.dumps([asdict(each) for each in storage.files()], sort_keys=True)
    return hashlib.sha256(listed.encode()).hexdigest()


def build_index(
    data_set: str | Path,
    out: str | Path,
    *,
    layer: int | None = None,
    segment_s: float = DEFAULT_SEGMENT_S,
    overwrite: bool = False,
) -> tuple[IndexInfo, bool]:
    """Make an index of a data set, or make it again where the data set has changed.

    Args:
        data_set: What ``omar-rq embed --format parquet`` wrote: a folder or a URI.
        out: Folder to write.
        layer: Index of the trunk block; None: the last one of the data set.
        segment_s: Length of a segment.
        overwrite: Make it again in any case.

    Returns:
        What the index says about itself, and whether it was made now.

    Raises:
        InputError: There is no data set, or it holds no recordings.
        FormatError: A part is damaged, or parts were made with different settings.
        UsageError: The layer is not in the data set, or an option is not allowed.
        CheckpointError: The index cannot be written.
    """
    if not 0 < segment_s < float("inf"):
        raise UsageError(f"segment is {segment_s:g} seconds; allowed: more than 0")
    storage, folder = data_set_place(data_set), Path(out)
    stamp, parts = stamp_of(storage), read_parts(storage)
    settings = _common_settings(storage, parts)
    layers: list[int] = list(settings["layers"])
    layer = int(layers[-1]) if layer is None else layer
    if layer not in layers:
        raise UsageError(f"layer is {layer}; the data set has {', '.join(map(str, layers))}")
    if not overwrite and (folder / INDEX_FILE).is_file():
        known = read_info(folder)
        if (known.stamp, known.layer, known.segment_s) == (stamp, layer, segment_s):
            return known, False
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX_FILE).unlink(missing_ok=True)  # an index that is half made is none
    summaries = _Summaries()
    for _ in _summaries(storage, parts, layer, segment_s, summaries):
        pass
    if not summaries.recordings:
        raise InputError(f"{storage.place}: the data set holds no recordings")
    mean, deviation = summaries.scale()
    info = IndexInfo(
        *(storage.place, stamp, dict(settings), parts[0].model_name, layer, segment_s),
        *(summaries.recordings, summaries.segments, summaries.flagged, mean, deviation),
    )
    _write_stores(folder, info, storage, parts, layer, segment_s, summaries.width)
    write_json(folder / INDEX_FILE, {"version": _VERSION, **asdict(info)})
    return info, True


def read_info(folder: Path) -> IndexInfo:
    """Read what an index says about itself.

    Raises:
        InputError: There is no index.
        FormatError: Its file is damaged.
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        raise InputError(f"{folder}: no index; make one by omar-rq index DATA_SET --out {folder}")
    text = read_text(path, max_bytes=_MAX_INDEX_BYTES, error=FormatError)
    values = parse_json(text, where=str(path), error=FormatError)
    if not isinstance(values, dict) or values.pop("version", None) != _VERSION:
        raise FormatError(f"needs an index of version {_VERSION}", path=path)
    try:
        info = IndexInfo(**values)
        assert np.array(info.mean, np.float64).shape == np.array(info.deviation, np.float64).shape
        assert isinstance(info.settings["model"], str)
    except (TypeError, KeyError, ValueError, AssertionError) as error:
        raise FormatError("the description of the index is damaged", path=path) from error
    return info


def header_of(info: IndexInfo, windows: str, width: int) -> VectorHeader:
    """Return the header of a store of the index; it names the model by its hash."""
    settings = info.settings
    return VectorHeader(
        model_hash=settings["model"],
        frontend=f"layer {info.layer}, context {settings['context_s']} s, {settings['dtype']}",
        windows=windows,
        pooling="mean, standardised" if info.mean else "mean",
        dimension=width,
    )


def segment_means(
    times_s: np.ndarray, embeddings: np.ndarray, segment_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the segments of a recording: their starts (S,) in seconds, and the means (S, C) of their tokens.

    Segments begin at multiples of their length; the last one may be shorter, and is left out below half the length
    unless it is the only one.

    Args:
        times_s: (N,) rising, where the tokens start.
        embeddings: (N, C).
        segment_s: Length of a segment.
    """
    numbers = np.floor(times_s / segment_s + 1e-9).astype(np.int64)
    kinds, starts, counts = np.unique(numbers, return_index=True, return_counts=True)
    means = np.add.reduceat(embeddings.astype(np.float64), starts, axis=0) / counts[:, None]
    enough = counts >= counts.max() / 2
    return kinds[enough] * segment_s, means[enough]


@dataclass(frozen=True)
class Summary:
    """A recording of the data set: its vector (C,), starts (S,) and vectors (S, C) of its segments, and its flags."""

    path: str
    vector: np.ndarray
    starts_s: np.ndarray
    segments: np.ndarray
    duration_s: float
    flags: str


class _Summaries:
    """Counts, and sums over the vectors that are standardised."""

    def __init__(self) -> None:
        self.recordings = self.segments = self.flagged = 0
        self._n = 0
        self._sum: Any = 0.0
        self._squares: Any = 0.0

    def add(self, summary: Summary) -> None:
        self.recordings += 1
        self.segments += len(summary.segments)
        self.flagged += bool(summary.flags)
        vectors = summary.segments if len(summary.segments) else summary.vector[None]
        self._n += len(vectors)
        self._sum = self._sum + vectors.sum(0)
        self._squares = self._squares + (vectors**2).sum(0)

    @property
    def width(self) -> int:
        return len(self._sum)

    def scale(self) -> tuple[list[float], list[float]]:
        """Mean and deviation of each value, or two empty lists where there are too few recordings."""
        if self.recordings < _LEAST_STANDARDISED:
            return [], []
        mean = self._sum / self._n
        deviation = np.sqrt(np.maximum(self._squares / self._n - mean**2, 0))
        deviation[deviation <= 1e-6 * np.abs(mean)] = 1.0  # a value that is always the same
        return mean.tolist(), deviation.tolist()


def _common_settings(storage: Storage, parts: Sequence[Part]) -> dict[str, Any]:
    settings = dict(parts[0].settings)
    for part in parts:
        if dict(part.settings) != settings:
            reason = f"was made with other settings than {parts[0].name}; allowed: parts of one run"
            raise FormatError(reason, path=f"{storage.place}/{part.name}")
    if not isinstance(settings.get("layers"), list) or not isinstance(settings.get("model"), str):
        raise FormatError("its settings are damaged", path=f"{storage.place}/{parts[0].name}")
    return settings


def _summaries(
    storage: Storage, parts: Sequence[Part], layer: int, segment_s: float, into: _Summaries | None = None
) -> Iterator[Summary]:
    """Yield each recording, one in memory at a time."""
    total = sum(len(part.files) for part in parts)
    with progress(total, "indexing" if into is None else "reading") as bar:
        for part in parts:
            about = {file["path"]: file for file in part.files}
            for path, times, rows in _joined(rows_of_layer(storage, part, layer)):
                file = about.get(path)
                if file is None:
                    reason = f"holds rows of {path}, which is not in its list"
                    raise FormatError(reason, path=f"{storage.place}/{part.name}")
                vector = rows.astype(np.float64).mean(0)
                starts, segments = np.zeros(0), np.zeros((0, rows.shape[1]))
                if times is not None:
                    starts, segments = segment_means(times, rows, segment_s)
                flags = ", ".join(map(str, file.get("flags", [])))
                summary = Summary(path, vector, starts, segments, float(file.get("duration_s", 0.0)), flags)
                if into is not None:
                    into.add(summary)
                bar.advance(1, note=path)
                yield summary


def _joined(
    pieces: Iterable[tuple[str, np.ndarray | None, np.ndarray]],
) -> Iterator[tuple[str, np.ndarray | None, np.ndarray]]:
    """Join the pieces of a recording, which follow each other."""
    path, times, rows = "", [], []
    for name, seconds, values in pieces:
        if rows and name != path:
            yield path, np.concatenate(times) if times else None, np.concatenate(rows)
            times, rows = [], []
        path = name
        rows.append(values)
        if seconds is not None:
            times.append(seconds)
    if rows:
        yield path, np.concatenate(times) if times else None, np.concatenate(rows)


def _write_stores(
    folder: Path,
    info: IndexInfo,
    storage: Storage,
    parts: Sequence[Part],
    layer: int,
    segment_s: float,
    width: int,
) -> None:
    def recordings() -> Iterator[VectorBatch]:
        for group in _groups(_summaries(storage, parts, layer, segment_s)):
            yield VectorBatch(
                [each.path for each in group],
                _directions(info, np.stack([each.vector for each in group])),
                {"duration_s": [each.duration_s for each in group], "flags": [each.flags for each in group]},
            )

    def segments() -> Iterator[VectorBatch]:
        first = 0
        for group in _groups(_summaries(storage, parts, layer, segment_s)):
            starts = [(i, float(start)) for i, each in enumerate(group) for start in each.starts_s]
            ends = [min(start + segment_s, max(group[i].duration_s, start)) for i, start in starts]
            yield VectorBatch(
                [group[i].path for i, _ in starts],
                _directions(info, np.concatenate([each.segments for each in group])),
                {
                    "recording": [first + i for i, _ in starts],
                    "start_s": [s for _, s in starts],
                    "end_s": ends,
                },
            )
            first += len(group)

    write_vectors(
        folder / RECORDINGS, header_of(info, "recording", width), recordings(), columns=_RECORDING_COLUMNS
    )
    header = header_of(info, f"{segment_s:g} s", width)
    write_vectors(folder / SEGMENTS, header, segments() if info.segments else [], columns=_SEGMENT_COLUMNS)


def _groups(summaries: Iterable[Summary]) -> Iterator[list[Summary]]:
    group: list[Summary] = []
    for summary in summaries:
        group.append(summary)
        if len(group) == _BATCH:
            yield group
            group = []
    if group:
        yield group


def _directions(info: IndexInfo, vectors: np.ndarray) -> np.ndarray:
    """Vectors on the scale of the index, none of them without a direction."""
    scaled = info.standardised(vectors).astype(np.float32)
    scaled[~scaled.any(axis=1), 0] = (
        np.finfo(np.float32).tiny * 1e10
    )  # exactly the mean: as good as any direction
    return scaled


def open_stores(folder: Path) -> tuple[IndexInfo, VectorStore, VectorStore]:
    """Open an index; the caller closes the stores of recordings and of segments.

    Raises:
        InputError: There is no index.
        FormatError: It is damaged.
        IncompatibleVectors: A store belongs to another index.
    """
    info = read_info(folder)
    with ExitStack() as stack:
        recordings = stack.enter_context(VectorStore(folder / RECORDINGS))
        width = recordings.header.dimension
        recordings.header.require(header_of(info, "recording", width), str(folder / RECORDINGS))
        segments = stack.enter_context(
            VectorStore(folder / SEGMENTS, header_of(info, f"{info.segment_s:g} s", width))
        )
        if (len(recordings), len(segments)) != (info.recordings, info.segments):
            raise FormatError("its stores do not belong together", path=folder)
        stack.pop_all()
    return info, recordings, segments
