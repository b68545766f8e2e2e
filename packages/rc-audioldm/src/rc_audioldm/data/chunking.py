"""Cut the clips of a manifest into windows of equal length, as files with a manifest of their own.

Each source has a folder, named by its id, so that equal names in different folders do not collide. A source that is
complete has a record in its folder; the same command then passes it over.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pentatonic import audio
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport
from pentatonic.errors import AudioError, PentatonicError
from pentatonic.folder_run import claim_folder, made_from, write_json
from pentatonic.untrusted.config import Range, check_fields
from pentatonic.untrusted.files import read_json
from rc_audioldm.data.batch import AlreadyDone, DecoderPool, Skipped, run_rows
from rc_audioldm.data.manifest import Manifest, ManifestRow, place_under, write_manifest

MANIFEST_FILE, STATS_FILE = "chunks.jsonl", "chunk_stats.json"
_RECORD_FILE = "source.json"
_MOST_RECORD_BYTES = 16 << 20
_MOST_SLUG = 60


@dataclass(frozen=True)
class ChunkSettings:
    """How clips are cut.

    Args:
        sample_rate: Of the chunks, in Hz.
        seconds: Length of every chunk.
        hop_s: From the start of a chunk to that of the next one; None: the length, so that they do not overlap.
        least_part: A last window that holds less audio than this part is left out, and so is a source that is shorter;
            otherwise it is continued with zeros.
        format: Of the files.

    Raises:
        ConfigError: A value is out of range.
    """

    sample_rate: Annotated[int, Range(1000, 768_000)] = 48_000
    seconds: Annotated[float, Range(0, 3600, above=True)] = 10.0
    hop_s: Annotated[float, Range(0, 3600, above=True)] | None = None
    least_part: Annotated[float, Range(0, 1, above=True)] = 0.5
    format: Literal["flac", "wav"] = "flac"

    def __post_init__(self) -> None:
        check_fields(self, "chunks")

    @property
    def length(self) -> int:
        """Samples of a chunk."""
        return max(1, round(self.seconds * self.sample_rate))

    @property
    def hop(self) -> int:
        """Samples from one start to the next."""
        return self.length if self.hop_s is None else max(1, round(self.hop_s * self.sample_rate))

    @property
    def least(self) -> int:
        """Samples of audio that a window needs."""
        return max(1, math.ceil(self.least_part * self.length - 1e-6))


def windows(
    blocks: Iterable[NDArray[np.float32]], length: int, hop: int, least: int
) -> Iterator[NDArray[np.float32]]:
    """Yield windows of a signal that comes in blocks.

    Args:
        blocks: ``(n,)`` each, of any length.
        length: Samples of a window.
        hop: Samples from the start of a window to that of the next one.
        least: A window that the signal fills with fewer samples ends the iteration.

    Yields:
        ``(length,)``; the last ones end in zeros.
    """
    pending = np.zeros(0, np.float32)
    skip = 0  # samples up to the next window, where the hop is longer than a window
    for block in blocks:
        pending = np.concatenate([pending, block])
        if skip:
            skip, pending = max(0, skip - len(pending)), pending[skip:]
        while not skip and len(pending) >= length:
            yield pending[:length]
            skip, pending = max(0, hop - len(pending)), pending[hop:]
    while not skip and len(pending) >= least:
        yield np.concatenate([pending, np.zeros(max(0, length - len(pending)), np.float32)])[:length]
        skip, pending = max(0, hop - len(pending)), pending[hop:]


def cut_manifest(
    manifest: Manifest, folder: Path, settings: ChunkSettings, *, workers: int = 2
) -> tuple[list[ManifestRow], BatchReport]:
    """Write the chunks of all clips, their manifest ``chunks.jsonl`` and ``chunk_stats.json``.

    Args:
        manifest: What to cut.
        folder: For the chunks; one that a run with other settings made is refused.
        settings: How to cut.
        workers: Clips at a time.

    Returns:
        Rows of the chunks in the order of the manifest, and what became of each clip.

    Raises:
        UsageError: The folder cannot be used.
        Interrupted: Ctrl-C; the same command continues.
        OutputError: The disk is full.
    """
    claim_folder(folder / "run.json", {"chunks": asdict(settings)}, advice="choose another folder")
    write_json(folder / "run.json", {"settings": {"chunks": asdict(settings)}})
    with DecoderPool(workers) as decoders:
        results, report = run_rows(
            manifest.rows,
            lambda row: _cut(row, manifest.file(row), folder, settings, decoders),
            description="chunk",
            workers=workers,
        )
    for entry, result in zip(report.entries, results, strict=True):
        if result is not None:
            entry["chunks"] = len(result)
    rows = [row for result in results if result is not None for row in result]
    write_manifest(folder / MANIFEST_FILE, rows)
    write_json(folder / STATS_FILE, _statistics(manifest, settings, len(rows), report))
    return rows, report


def _statistics(
    manifest: Manifest, settings: ChunkSettings, n_chunks: int, report: BatchReport
) -> dict[str, Any]:
    return {
        **asdict(settings),
        "hop_s": settings.hop / settings.sample_rate,
        "total_sources": len(manifest),
        "sources_with_errors": report.count("failed"),
        "total_chunks": n_chunks,
        "approx_hours": n_chunks * settings.seconds / 3600,
        "inputs": report.entries,
    }


def _cut(
    row: ManifestRow, source: Path, folder: Path, settings: ChunkSettings, decoders: DecoderPool
) -> list[ManifestRow] | AlreadyDone[list[ManifestRow]] | Skipped:
    place = folder / source_folder(row.id)
    made = made_from({"id": row.id, **asdict(settings)}, _existing(source))
    there = n_chunks = _chunks_there(place, made, settings)
    if n_chunks is None:
        place.mkdir(parents=True, exist_ok=True)
        n_chunks = 0
        with decoders.borrow() as decoder:
            blocks = (block.numpy() for block in decoder.stream(source, sample_rate=settings.sample_rate))
            for window in windows(blocks, settings.length, settings.hop, settings.least):
                file = place / f"{n_chunks:05d}.{settings.format}"
                audio.save(file, window, settings.sample_rate)
                n_chunks += 1
        _remove_from(place, n_chunks, settings.format)
        with atomic_file(place / _RECORD_FILE) as file:
            file.write(json.dumps({"made_from": made, "chunks": n_chunks}).encode())
    if not n_chunks:
        least_s = settings.least / settings.sample_rate
        return Skipped(f"shorter than {least_s:g} s, the least that a chunk needs")
    rows = [
        _chunk_row(row, place / f"{i:05d}.{settings.format}", folder, i, settings) for i in range(n_chunks)
    ]
    return rows if there is None else AlreadyDone(rows)


def _remove_from(place: Path, n_chunks: int, suffix: str) -> None:
    """Remove what an earlier, longer recording of this source has left."""
    for file in place.glob(f"*.{suffix}"):
        if file.stem.isdecimal() and int(file.stem) >= n_chunks:
            file.unlink()


def _existing(source: Path) -> Path:
    if not source.is_file():
        raise AudioError(source, "no such file; paths are relative to the root of the manifest")
    return source


def _chunk_row(row: ManifestRow, file: Path, folder: Path, i: int, settings: ChunkSettings) -> ManifestRow:
    more = {
        "src_id": row.id,
        "src_path": row.path,
        "i": i,
        "start_s": i * settings.hop / settings.sample_rate,
    }
    return ManifestRow(
        f"{row.id}#{i:05d}",
        place_under(folder, file),
        row.source,
        row.licence,
        row.caption,
        row.labels,
        {**row.more, **more},
    )


def source_folder(row_id: str) -> str:
    """Return the name of a source's folder: a readable part of its id, and a hash that tells similar ids apart."""
    slug = re.sub(r"[^A-Za-z0-9-]+", "_", row_id)[:_MOST_SLUG].strip("_")
    return f"{slug or 'clip'}-{hashlib.sha256(row_id.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"


def _chunks_there(place: Path, made: str, settings: ChunkSettings) -> int | None:
    """Return the number of chunks of a source that is complete; None where there is work to do."""
    try:
        record = read_json(place / _RECORD_FILE, max_bytes=_MOST_RECORD_BYTES)
        n_chunks = record["chunks"]
        same = record["made_from"] == made and isinstance(n_chunks, int) and 0 <= n_chunks < 10**7
    except (PentatonicError, KeyError, TypeError):
        return None
    files = (place / f"{i:05d}.{settings.format}" for i in range(n_chunks if same else 0))
    return n_chunks if same and all(file.is_file() for file in files) else None
