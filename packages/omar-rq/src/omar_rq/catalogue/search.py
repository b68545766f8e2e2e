"""Search in an index: which recordings sound like one, and which segments of others sound like which of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from omar_rq.catalogue.index import IndexInfo, data_set_place, open_stores, segment_means, stamp_of
from omar_rq.embed import fingerprint
from omar_rq.files.stages import EmbeddingOptions, compute_embeddings, pass_s
from omar_rq.model import OmarRQ
from omar_rq.quantize import number_type
from pentatonic import audio
from pentatonic.audio_folder.items import AudioItem, decode_ahead
from pentatonic.audio_folder.npz import Spooled
from pentatonic.audio_folder.reading import DEFAULT_READING, ReadOptions, open_audio
from pentatonic.errors import IncompatibleVectors, InputError, PentatonicError, UsageError
from pentatonic.search import VectorStore

Engine = Literal["exact", "faiss"]


@dataclass(frozen=True)
class RecordingHit:
    """A recording that sounds like the query.

    Args:
        row: Its number in the index.
        path: Its place in the data set.
        score: Cosine with the query, -1 to 1.
        flags: What is unusual about its signal, or an empty text.
    """

    row: int
    path: str
    score: float
    flags: str


@dataclass(frozen=True)
class SegmentHit:
    """A segment of a recording that sounds like a segment of the query. Times are in seconds.

    Args:
        query_start_s: Start of the segment in the query.
        query_end_s: Its end.
        row: Number of the recording.
        path: Its place in the data set.
        start_s: Start of the segment there.
        end_s: Its end.
        score: Their cosine, -1 to 1.
        flags: Of the recording.
    """

    query_start_s: float
    query_end_s: float
    row: int
    path: str
    start_s: float
    end_s: float
    score: float
    flags: str


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        query: The query as it was understood: a place in the data set, or a file.
        query_flags: What is unusual about its signal.
        recordings: The nearest first.
        segments: The nearest first; at most one for each pair of a query's segment and a recording.
        changed: The data set is another one than when the index was made.
    """

    query: str
    query_flags: str
    recordings: list[RecordingHit]
    segments: list[SegmentHit]
    changed: bool

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Query:
    """A query on the scale of the index: (C,), and its segments (S, C) with their times."""

    name: str
    flags: str
    vector: np.ndarray
    segments: np.ndarray
    starts_s: Sequence[float]
    ends_s: Sequence[float]
    row: int | None = None  # of the recording itself, which is no answer


def similar(
    query: str,
    index: str | Path,
    *,
    model: OmarRQ | None = None,
    count: int = 10,
    engine: Engine = "exact",
    reading: ReadOptions = DEFAULT_READING,
) -> Found:
    """Find what sounds like a recording.

    Args:
        query: Number of a recording in the index, its place in the data set, or an audio file.
        index: Folder of an index.
        model: For a file: the model of the index, in evaluation mode.
        count: Hits of each kind at most.
        engine: ``exact`` compares with every vector; ``faiss`` builds an approximate index in memory first.
        reading: For a file: which part of it.

    Returns:
        What was found.

    Raises:
        InputError: There is no index, or neither such a recording nor such a file.
        IncompatibleVectors: The index was made with another model.
        FormatError: The index is damaged.
        AudioError: The file cannot be read.
        UsageError: An option is not allowed, or a file is given without a model.
        MissingExtra: FAISS is not installed.
    """
    if count < 1:
        raise UsageError(f"count is {count}; allowed: 1 and more")
    info, recordings, segments = open_stores(Path(index))
    with closing(recordings), closing(segments):
        paths, flags = recordings.read_column(), recordings.read_column("flags")
        if (row := row_of(query, paths)) is not None:
            asked = _stored(row, paths, flags, recordings, segments)
        else:
            if model is None:
                raise UsageError(f"{query} is not in the index; to embed it, a model is needed")
            asked = _embedded(query, info, model, reading)
        hits = _recordings(asked, recordings, paths, flags, count, engine)
        of_segments = _segments(asked, segments, paths, flags, count, engine) if len(segments) else []
    return Found(asked.name, asked.flags, hits, of_segments, _has_changed(info))


def row_of(query: str, paths: Sequence[str]) -> int | None:
    """Return the number of a recording that is named by its number or place; None where it is a file.

    Raises:
        InputError: It is neither.
    """
    if query in paths:
        return paths.index(query)
    if Path(query).is_file():
        return None
    if query.isascii() and query.isdigit() and int(query) < len(paths):
        return int(query)
    raise InputError(
        f"{query}: neither a file nor in the index; allowed: a file, a place in the data set, or 0 to {len(paths) - 1}"
    )


def _has_changed(info: IndexInfo) -> bool:
    try:
        return stamp_of(data_set_place(info.data_set)) != info.stamp
    except (PentatonicError, OSError):  # it was moved, or its store cannot be reached: nothing is known
        return False


def _stored(
    row: int, paths: Sequence[str], flags: Sequence[str], recordings: VectorStore, segments: VectorStore
) -> _Query:
    vector = _rows(recordings, np.arange(len(paths)) == row)[0]
    own = np.array(segments.read_column("recording"), np.int64) == row
    times = [
        [value for value, keep in zip(segments.read_column(name), own, strict=True) if keep]
        for name in ("start_s", "end_s")
    ]
    return _Query(paths[row], flags[row], vector, _rows(segments, own), times[0], times[1], row)


def _rows(store: VectorStore, wanted: np.ndarray) -> np.ndarray:
    found, first = [], 0
    for block in store.blocks():
        found.append(block[wanted[first : first + len(block)]])
        first += len(block)
    return np.concatenate(found) if found else np.zeros((0, store.header.dimension), np.float32)


def _embedded(query: str, info: IndexInfo, model: OmarRQ, reading: ReadOptions) -> _Query:
    settings = info.settings
    if fingerprint(model) != settings["model"]:
        raise IncompatibleVectors(
            f"the index was made with another model ({info.model_name or 'its name is unknown'}, "
            f"{settings['dtype']}) than this one ({number_type(model)}); "
            "give the same --model and --dtype"
        )
    context_s = settings["context_s"]
    options = EmbeddingOptions([info.layer], context_s, "none", "float32", "")
    with audio.DecodingProcess() as decoder:
        blocks = open_audio(query, stream=decoder.stream, sample_rate=model.sample_rate, reading=reading)
        item = decode_ahead(
            AudioItem(Path(query), "", blocks, reading.start_s),
            sample_rate=model.sample_rate,
            seconds=pass_s(context_s),
            check=model.frontend.check,
        )
        (content,) = compute_embeddings([item], model=model, options=options, folder=Path.cwd())
    with content.files:
        stored, times = content.arrays["embeddings"], np.asarray(content.arrays["times_s"])
        rows = _in_memory(stored) if isinstance(stored, Spooled) else np.asarray(stored)[0]
    starts, means = segment_means(times, rows, info.segment_s)
    end_s = reading.start_s + float(content.about["duration_s"])  # type: ignore[arg-type]
    flags: Any = content.about.get("flags", ())
    return _Query(
        query,
        ", ".join(flags),
        info.standardised(rows.astype(np.float64).mean(0)),
        info.standardised(means),
        starts.tolist(),
        [min(start + info.segment_s, max(end_s, start)) for start in starts.tolist()],
    )


def _in_memory(stored: Spooled) -> np.ndarray:
    (file,) = stored.files
    file.seek(0)
    return np.frombuffer(file.read(), stored.dtype).reshape(stored.shape[1:])


def _nearest(
    store: VectorStore, queries: np.ndarray, k: int, others: np.ndarray, engine: Engine
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and scores (Q, k) of the nearest, among those that may be answers."""
    if not others.any():
        return np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0))
    if engine == "exact":
        found = store.search(queries, k, allowed=others)
        return found.rows, found.scores
    from pentatonic.search.faiss_index import FaissIndex

    index = FaissIndex(store.blocks(), metric=store.header.metric)
    found = index.search(queries, k + int((~others).sum()))
    allowed = np.where(found.rows >= 0, others[found.rows], False)
    order = np.argsort(~allowed, axis=1, kind="stable")[:, :k]
    rows = np.where(np.take_along_axis(allowed, order, 1), np.take_along_axis(found.rows, order, 1), -1)
    return rows, np.take_along_axis(found.scores, order, 1)


def _recordings(
    asked: _Query,
    store: VectorStore,
    paths: Sequence[str],
    flags: Sequence[str],
    count: int,
    engine: Engine,
) -> list[RecordingHit]:
    others = np.arange(len(store)) != (-1 if asked.row is None else asked.row)
    rows, scores = _nearest(store, asked.vector[None], count, others, engine)
    return [
        RecordingHit(int(row), paths[int(row)], float(score), flags[int(row)])
        for row, score in zip(rows[0], scores[0], strict=True)
        if row >= 0
    ]


def _segments(
    asked: _Query,
    store: VectorStore,
    paths: Sequence[str],
    flags: Sequence[str],
    count: int,
    engine: Engine,
) -> list[SegmentHit]:
    of = np.array(store.read_column("recording"), np.int64)
    starts, ends = store.read_column("start_s"), store.read_column("end_s")
    others = of != (-1 if asked.row is None else asked.row)
    if not len(asked.segments):
        return []
    rows, scores = _nearest(store, asked.segments, count, others, engine)
    order = sorted(np.ndindex(rows.shape), key=lambda at: (-scores[at], at))
    hits: list[SegmentHit] = []
    seen: set[tuple[int, int]] = set()
    for at in order:
        row, own = int(rows[at]), at[0]
        if row < 0 or (own, int(of[row])) in seen:
            continue
        seen.add((own, int(of[row])))
        recording = int(of[row])
        hits.append(
            SegmentHit(
                *(float(asked.starts_s[own]), float(asked.ends_s[own]), recording, paths[recording]),
                *(float(starts[row]), float(ends[row]), float(scores[at]), flags[recording]),
            )
        )
        if len(hits) == count:
            break
    return hits
