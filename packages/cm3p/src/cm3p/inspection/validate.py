"""A data set or a folder as training would see it, without a model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cm3p.beatmap import RULESETS, MapEntry
from cm3p.embedding.rows import row_of
from cm3p.embedding.sources import Source, find_sources
from cm3p.inspection.describe import windows_of
from cm3p.metadata import FIELDS, get_metadata, is_null
from cm3p.processor import CM3PProcessor
from pentatonic.cli import BatchReport, progress
from pentatonic.errors import InputError, PentatonicError
from pentatonic.pipeline import overlapped

_BIN_TOKENS = 100
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|-?\d[\d.e+-]*|\bnan\b|\binf\b", re.IGNORECASE)
_ERRORS = (PentatonicError, OSError)


@dataclass
class Statistics:
    """What a check found.

    Args:
        maps: Maps that can be used.
        sets: Their sets.
        modes: Ruleset -> maps.
        years: Year of submission -> maps; unknown ones under ``unknown``.
        windows: Windows of all maps.
        lengths: Tokens of each window, without audio.
        cut: Windows that are longer than the model's longest sequence.
        warnings: Kind of a warning of the reader -> how often.
        missing_audio: Maps whose audio is not there.
        unknown_fields: Field of metadata -> maps in which it is null, and becomes UNK.
        without_objects: Maps without hit objects.
        without_windows: Maps that are shorter than the shortest window.
    """

    maps: int = 0
    modes: Counter[str] = field(default_factory=Counter)
    years: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)
    cut: int = 0
    warnings: Counter[str] = field(default_factory=Counter)
    missing_audio: int = 0
    unknown_fields: Counter[str] = field(default_factory=Counter)
    without_objects: int = 0
    without_windows: int = 0
    sets: set[int] = field(default_factory=set)

    def document(self) -> dict[str, Any]:
        """Return JSON values."""
        lengths = np.array(self.lengths, dtype=np.int64)
        bins = Counter(int(length) // _BIN_TOKENS * _BIN_TOKENS for length in lengths)
        return {
            "maps": self.maps,
            "sets": len(self.sets),
            "modes": dict(self.modes),
            "years": dict(sorted(self.years.items())),
            "windows": len(lengths),
            "tokens": {
                "total": int(lengths.sum()),
                "mean": float(lengths.mean()) if len(lengths) else None,
                "longest": int(lengths.max()) if len(lengths) else None,
                "cut_windows": self.cut,
                "histogram": [
                    {"from": start, "to": start + _BIN_TOKENS, "windows": bins[start]}
                    for start in sorted(bins)
                ],
            },
            "warnings": dict(self.warnings.most_common()),
            "missing_audio": self.missing_audio,
            "without_objects": self.without_objects,
            "without_windows": self.without_windows,
            "unknown_fields": {
                name: self.unknown_fields[name] for name in FIELDS if self.unknown_fields[name]
            },
        }


@dataclass(frozen=True)
class _Checked:
    """One map, checked."""

    entry: MapEntry
    row: Mapping[str, Any]
    set_id: int
    lengths: list[int]
    cut: int
    unknown: list[str]


def validate(
    paths: Sequence[Path], processor: CM3PProcessor, max_windows: int
) -> tuple[Statistics, BatchReport]:
    """Read, parse and tokenise everything.

    Args:
        paths: Maps, archives, folders and data sets.
        processor: How maps are parsed and cut.
        max_windows: Maps with more windows fail.

    Returns:
        What was found, and what became of each map.

    Raises:
        InputError: There are no maps.
    """
    found = find_sources(paths)
    if not found.sources:
        raise InputError(f"there are no maps (.osu, .osz, .olz, data sets) in {', '.join(map(str, paths))}")
    statistics, report = Statistics(), BatchReport()
    report.passed_over = found.passed_over

    def read(pair: tuple[Source, MapEntry]) -> _Checked:
        source, entry = pair
        if entry.error is not None:
            raise entry.error
        return _check(entry, source.row(), processor, max_windows)

    pairs = ((source, entry) for source in found.sources for entry in source.maps())
    entries = overlapped(
        pairs, read, lambda items: items, lambda item, _: item, share=lambda _: 1 / 64, errors=_ERRORS
    )
    with report.interruptible(()), progress(None, "checking") as bar, closing(entries):
        for each in entries:
            where = each.source[1].where
            try:
                checked = each.outcome()
            except _ERRORS as error:
                report.failed(where, error)
            else:
                assert checked is not None
                _add(statistics, checked)
                report.done(where, windows=len(checked.lengths))
            bar.advance(1, note=each.source[0].path.name)
    return statistics, report


def _check(entry: MapEntry, row: Mapping[str, Any], processor: CM3PProcessor, max_windows: int) -> _Checked:
    assert entry.beatmap is not None
    windows = windows_of(entry, processor, max_windows)
    metadata = get_metadata(row, entry.beatmap)
    processor.metadata_tokenizer.tokenize(metadata)  # raises for a value of a wrong type
    unknown = [name for name in FIELDS if name != "song_position" and _is_unknown(metadata.get(name))]
    lengths = [window.length for window in windows]
    cut = sum(window.cut > 0 for window in windows)
    return _Checked(entry, row, row_of(entry, row)["BeatmapSetId"], lengths, cut, unknown)


def _is_unknown(value: Any) -> bool:
    return is_null(value) or (isinstance(value, list) and not value)


def _add(statistics: Statistics, checked: _Checked) -> None:
    beatmap = checked.entry.beatmap
    assert beatmap is not None
    statistics.maps += 1
    statistics.sets.add(checked.set_id)
    statistics.modes[RULESETS[beatmap.mode]] += 1
    submitted = checked.row.get("SubmittedDate")
    statistics.years["unknown" if is_null(submitted) else str(submitted)[:4]] += 1
    statistics.lengths += checked.lengths
    statistics.cut += checked.cut
    statistics.warnings.update(_kinds(each.message for each in beatmap.warnings))
    statistics.missing_audio += checked.entry.audio is None
    statistics.unknown_fields.update(checked.unknown)
    statistics.without_objects += not beatmap.hit_objects
    statistics.without_windows += not checked.lengths


def _kinds(messages: Iterable[str]) -> list[str]:
    """Messages without the values in them."""
    return [_VARYING.sub("…", message) for message in messages]


def draw_lengths(statistics: Statistics, path: Path) -> None:
    """Draw the histograms of token lengths and of years.

    Raises:
        MissingExtra: Matplotlib is not installed.
        CheckpointError: The file cannot be written.
    """
    from pentatonic.checkpoint import atomic_file
    from pentatonic.errors import MissingExtra

    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("Drawing histograms", "cm3p[report]") from error
    about = statistics.document()
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    lengths, years = figure.subplots(1, 2)
    histogram = about["tokens"]["histogram"]
    lengths.bar(
        [each["from"] for each in histogram],
        [each["windows"] for each in histogram],
        _BIN_TOKENS,
        align="edge",
    )
    lengths.set_xlabel("tokens of a window, without audio")
    lengths.set_ylabel("windows")
    years.bar(list(about["years"]), list(about["years"].values()))
    years.set_xlabel("year of submission")
    years.set_ylabel("maps")
    kind = path.suffix.lower().removeprefix(".")
    with atomic_file(path) as file:
        figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else {})
