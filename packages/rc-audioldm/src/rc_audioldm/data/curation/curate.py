"""Sort the music of FSD50K into four manifests: instrumental or with vocals, by strict or relaxed lists of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pentatonic import audio
from pentatonic.cli import BatchReport, make_output_folder
from pentatonic.errors import AudioError
from pentatonic.folder_run import write_json
from rc_audioldm.data.curation.music_classes import (
    STRICTNESS,
    VOCALS,
    MusicClasses,
    Strictness,
)
from rc_audioldm.data.layouts.audio_index import AudioIndex
from rc_audioldm.data.layouts.fsd50k import (
    Clip,
    ClipInfo,
    clips_of,
    manifest_row,
    parse_labels,
    read_clip_infos,
    split_of,
)
from rc_audioldm.data.manifest import ManifestRow, write_manifest

BUCKETS = tuple(f"{vocals}_{strictness}" for strictness in STRICTNESS for vocals in VOCALS)
LEAST_S: dict[Strictness, float] = {"strict": 6.0, "relaxed": 5.0}
STATS_FILE = "fsd50k_curation_stats.json"


@dataclass
class Curation:
    """The choice, and how it came about.

    Attributes:
        buckets: Name -> rows; a clip of a strict bucket is usually in the relaxed one too.
        rows: Rows of the tables.
        resolved: Rows whose audio is there.
        too_short: Clips of music that are shorter than the least length, for each strictness.
        report: Clips of music whose header cannot be read; they are in no bucket.
    """

    buckets: dict[str, list[ManifestRow]] = field(default_factory=lambda: {name: [] for name in BUCKETS})
    rows: int = 0
    resolved: int = 0
    too_short: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STRICTNESS, 0))
    report: BatchReport = field(default_factory=BatchReport)


def curate(
    tables: Sequence[Path],
    index: AudioIndex,
    classes: MusicClasses,
    least_s: dict[Strictness, float] = LEAST_S,
    *,
    legacy: bool = False,
) -> Curation:
    """Choose the music among the clips of some tables.

    Args:
        tables: ``dev.csv``, ``eval.csv``; the name says the split.
        index: All audio; licences are read from the JSON files of FSD50K in the same folder, where they are.
        classes: What counts as music.
        least_s: Least length in seconds.
        legacy: As in the original, the split is looked for in the whole path of a table, and a file with an unreadable
            header passes.

    Raises:
        InputError: A table is missing.
        FormatError: A table cannot be read.
    """
    curation = Curation()
    seen: set[Path] = set()
    for table in tables:
        infos = read_clip_infos(index.root, split_of(table, legacy=legacy))
        for clip in clips_of(table, index, legacy=legacy):
            curation.rows += 1
            if clip is None:
                continue
            curation.resolved += 1
            if clip.file not in seen:
                seen.add(clip.file)
                _sort_in(curation, clip, index, infos, classes, least_s, legacy)
    return curation


def _sort_in(
    curation: Curation,
    clip: Clip,
    index: AudioIndex,
    infos: dict[str, ClipInfo],
    classes: MusicClasses,
    least_s: dict[Strictness, float],
    legacy: bool,
) -> None:
    labels = parse_labels(clip.labels)
    fitting: list[Strictness] = [
        strictness for strictness in STRICTNESS if classes.is_music(labels, strictness)
    ]
    if not fitting:
        return
    try:
        duration_s = audio.info(clip.file).duration_s
    except AudioError as error:
        curation.report.failed(clip.file, error)
        if not legacy:
            return
        duration_s = float("inf")
    row = manifest_row(clip, index, infos)
    for strictness in fitting:
        if duration_s < least_s[strictness]:
            curation.too_short[strictness] += 1
        else:
            curation.buckets[f"{classes.vocals(labels)}_{strictness}"].append(row)


def write_curation(folder: Path, curation: Curation, least_s: dict[Strictness, float] = LEAST_S) -> None:
    """Write a manifest for each bucket, ``<bucket>.jsonl``, and the counts.

    Raises:
        UsageError: The folder cannot be made.
        CheckpointError: A file cannot be written.
    """
    make_output_folder(folder)
    for name, rows in curation.buckets.items():
        write_manifest(folder / f"{name}.jsonl", rows)
    write_json(folder / STATS_FILE, statistics(curation, least_s))


def statistics(curation: Curation, least_s: dict[Strictness, float] = LEAST_S) -> dict[str, object]:
    """Return the counts as JSON values; the first four keys are those of the original."""
    return {
        "total_csv_rows": curation.rows,
        "resolved_files": curation.resolved,
        "missing_files": curation.rows - curation.resolved,
        "kept": {name: len(rows) for name, rows in curation.buckets.items()},
        "mins": dict(least_s),
        "too_short": curation.too_short,
        "unreadable": curation.report.entries,
    }
