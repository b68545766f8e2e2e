"""The page of ``cm3p demo``.

For some windows of maps: a picture, the song, what the model reads out of it beside what is known, and the windows of
other maps that resemble it most, with their pictures.

Shapes: N windows of all maps, D dimensions.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cm3p.beatmap import MapEntry, set_id
from cm3p.demo.guesses import Guesser, known_values
from cm3p.embedding.sources import Source, find_sources
from cm3p.embedding.vectors import window_vectors
from cm3p.inference.batches import DEFAULT_BATCH_SIZE
from cm3p.inference.loading import LoadedModel
from cm3p.inference.maps import EncodedMap, WindowOptions, encode_map
from cm3p.inference.songs import SongReader
from cm3p.inspection.pictures.page import map_figure
from cm3p.metadata import get_metadata
from pentatonic.cli import BatchReport, progress, run_manifest
from pentatonic.errors import InputError, PentatonicError
from pentatonic.report import Report, is_embeddable

SECTION = "cm3p"
"""Name of the section in a page of several programs."""

MOST_SHOWN = 6
_NEAREST = 5
_ERRORS = (PentatonicError, OSError)


@dataclass(frozen=True)
class _Map:
    entry: MapEntry
    encoded: EncodedMap
    truth: dict[str, str]
    set_id: int

    @property
    def name(self) -> str:
        beatmap = self.entry.beatmap
        assert beatmap is not None
        return f"{beatmap.artist} - {beatmap.title} [{beatmap.version_name}]"


@dataclass(frozen=True)
class _Window:
    """A window of a map, and its row among the vectors of all windows."""

    map: _Map
    number: int
    row: int

    @property
    def start_s(self) -> float:
        return self.map.encoded.starts_s[self.number]

    @property
    def name(self) -> str:
        minutes, seconds = divmod(round(self.start_s), 60)
        return f"{self.map.name} from {minutes}:{seconds:02d}"


def write_demo(
    loaded: LoadedModel,
    paths: Sequence[Path],
    page: Path,
    *,
    with_audio: bool = True,
    shown: int = MOST_SHOWN,
    windows: WindowOptions = WindowOptions(),  # noqa: B008 - frozen
    batch_size: int = DEFAULT_BATCH_SIZE,
) -> BatchReport:
    """Compare the windows of maps, and write the page, or its section in a page of several programs.

    Args:
        loaded: A full model.
        paths: Maps, archives, folders and data sets; of data sets the page also knows year, status, mapper and stars.
        page: The HTML file.
        with_audio: With their songs; maps without one fail.
        shown: Windows that are described, of different songs as far as there are any.
        windows: How maps are cut.
        batch_size: Windows at a time.

    Returns:
        What became of each map. The page leaves out those that cannot be used.

    Raises:
        UsageError: The model has no space that maps and metadata share.
        InputError: There is no map, or none can be used.
        MissingExtra: ``cm3p[report]`` is not installed.
    """
    manifest = run_manifest()
    report = Report(
        "CM3P: what beatmaps resemble",
        command=manifest["command"],
        versions=manifest["versions"],
        section=SECTION,
    )
    guesser = Guesser(loaded, batch_size)
    outcome = BatchReport()
    maps = _read(loaded, paths, with_audio, windows, outcome)
    if not maps:
        reasons = "; ".join(f"{entry['path']}: {entry['reason']}" for entry in outcome.entries)
        raise InputError(f"none of the maps can be used: {reasons}" if reasons else "there are no maps")
    encoded = [each.encoded for each in maps]
    vectors = torch.cat(window_vectors(loaded, encoded, batch_size))
    scores = guesser.scores(encoded)
    rows = count()
    everything = [
        _Window(each, number, next(rows)) for each in maps for number in range(len(each.encoded.windows))
    ]
    likeness = vectors @ vectors.T
    report.text(
        f"The model {loaded.name} turned {len(everything)} windows of {len(maps)} maps into vectors of "
        f"{vectors.shape[1]} numbers"
        + (", from the objects of the map and the sound of the song. " if with_audio else ". ")
        + "Below, each window is followed by what the model reads out of it, without having been told, and by the "
        "windows that are most like it. Other difficulties of the same song are left out of these."
    )
    length_s = loaded.processor.default_kwargs["beatmap_kwargs"]["window_length_sec"]
    for window in _chosen(everything, shown):
        _describe(report, window, everything, likeness[window.row], guesser, scores, length_s)
    report.add_to(page)
    return outcome


def _read(
    loaded: LoadedModel,
    paths: Sequence[Path],
    with_audio: bool,
    windows: WindowOptions,
    outcome: BatchReport,
) -> list[_Map]:
    processor = loaded.processor
    songs = SongReader(processor.default_kwargs["audio_kwargs"]["sampling_rate"])
    found = find_sources(paths)
    outcome.passed_over = found.passed_over
    maps: list[_Map] = []
    with songs, progress(None, "reading") as bar, closing(_entries(found.sources)) as entries:
        for source, entry in entries:
            try:
                if entry.error is not None:
                    raise entry.error
                assert entry.beatmap is not None
                samples = songs.read_for(entry) if with_audio else None
                encoded = encode_map(processor, entry.beatmap, samples, windows)
            except _ERRORS as error:
                outcome.failed(entry.where, error)
            else:
                truth = known_values(
                    processor.metadata_tokenizer, get_metadata(_known(source), entry.beatmap)
                )
                maps.append(_Map(entry, encoded, truth, set_id(entry.beatmap, entry.sha256)))
                outcome.done(entry.where, windows=len(encoded.windows))
            bar.advance(1, note=entry.path.name)
    return maps


def _entries(sources: Sequence[Source]) -> Generator[tuple[Source, MapEntry]]:
    for source in sources:
        for entry in source.maps():
            yield source, entry


def _known(source: Source) -> dict[str, Any]:
    return dict(source.row())


def _chosen(windows: Sequence[_Window], most: int) -> list[_Window]:
    """The fullest window of maps of different songs and rulesets, as long as there are any."""
    fullest: dict[int, _Window] = {}
    for window in windows:
        key = id(window.map)
        length = len(window.map.encoded.windows[window.number])
        if key not in fullest or length > len(window.map.encoded.windows[fullest[key].number]):
            fullest[key] = window
    by_song: dict[int, list[_Window]] = {}
    for window in fullest.values():
        by_song.setdefault(window.map.set_id, []).append(window)
    chosen: list[_Window] = []
    modes: list[Any] = []
    for candidates in by_song.values():
        if len(chosen) == most:
            break
        best = min(candidates, key=lambda each: modes.count(each.map.truth.get("mode")))
        modes.append(best.map.truth.get("mode"))
        chosen.append(best)
    return chosen


def _describe(
    report: Report,
    window: _Window,
    everything: Sequence[_Window],
    likeness: Tensor,
    guesser: Guesser,
    scores: dict[str, list[Tensor]],
    length_s: float,
) -> None:
    report.heading(window.name)
    player = _player(report, window.map)
    if player is not None:
        report.links([("listen from the start of the window", player, window.start_s)])
    _picture(report, window, length_s)
    maps = list({id(each.map): each.map for each in everything}.values())
    place = next(number for number, each in enumerate(maps) if each is window.map)
    rows = {field: each[place][window.number] for field, each in scores.items()}
    report.table(
        [
            {
                "field": guess.field,
                "the model's guess": guess.value,
                "probability": guess.probability,
                "by chance": 1 / guess.candidates,
                "known of the map": guess.truth,
            }
            for guess in guesser.guesses(rows, window.map.truth)
        ],
        "What the model reads out of this window",
    )
    nearest = _nearest(window, everything, likeness)
    if not nearest:
        return
    report.table(
        [
            {
                "window": each.name,
                "mode": each.map.truth.get("mode"),
                "stars": each.map.truth.get("difficulty"),
                "mapper": each.map.truth.get("mapper"),
                "cosine": float(likeness[each.row]),
            }
            for each in nearest
        ],
        "The most similar windows of other songs, the best of each map",
    )
    _picture(report, nearest[0], length_s)


def _nearest(window: _Window, everything: Sequence[_Window], likeness: Tensor) -> list[_Window]:
    """The most similar windows, one of each map, without maps of the same set."""
    best: dict[int, _Window] = {}
    for each in sorted(everything, key=lambda each: -float(likeness[each.row])):
        if each.map.set_id != window.map.set_id:
            best.setdefault(id(each.map), each)
    return list(best.values())[:_NEAREST]


def _player(report: Report, of: _Map) -> str | None:
    """The player of the song, if it is a file that a page can hold."""
    audio = of.entry.audio
    if audio is None or audio.member is not None or not is_embeddable(audio.path):
        return None
    assert of.entry.beatmap is not None
    return report.audio(audio.path, f"{of.entry.beatmap.artist} - {of.entry.beatmap.title}")


def _picture(report: Report, window: _Window, length_s: float) -> None:
    beatmap = window.map.entry.beatmap
    assert beatmap is not None
    with map_figure(beatmap, start_s=window.start_s, length_s=length_s) as figure:
        report.figure(figure, f"The objects of {window.name}")
