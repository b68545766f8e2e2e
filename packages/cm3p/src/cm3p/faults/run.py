"""Doubtful objects of many maps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from cm3p.beatmap import Beatmap, MapEntry, find_maps
from cm3p.faults.objects import DoubtfulObject, aspect_scores, doubtful_objects
from cm3p.faults.snap import EDITOR_DIVISORS, off_grid_ms
from cm3p.faults.surprisal import DEFAULT_PASSES, TokenScores, require_decoder, token_scores
from cm3p.faults.tokens import ObjectWindow, object_windows
from cm3p.inference.batches import DEFAULT_BATCH_SIZE
from cm3p.inference.loading import LoadedModel
from cm3p.inference.maps import WindowOptions
from cm3p.inference.songs import SongReader
from pentatonic.cli import BatchReport, progress
from pentatonic.errors import PentatonicError
from pentatonic.pipeline import overlapped

_ERRORS = (PentatonicError, OSError)
_BATCHES_TOGETHER = 4


@dataclass(frozen=True)
class FaultOptions:
    """How doubtful objects are looked for.

    Args:
        with_audio: With the songs; maps without one fail.
        windows: How maps are cut.
        passes: Every so many-th object is masked at a time.
        batch_size: Windows at a time.
        count: Objects of a map at most.
    """

    with_audio: bool = True
    windows: WindowOptions = WindowOptions()  # noqa: RUF009 - frozen
    passes: int = DEFAULT_PASSES
    batch_size: int = DEFAULT_BATCH_SIZE
    count: int = 10


@dataclass(frozen=True)
class MapFaults:
    """What was found in a map.

    Args:
        where: The map.
        path: Its file, or the archive.
        seen: Objects that the model sees; the others are cut off at its longest sequence, or are too large sliders.
        excess: (objects, aspects) as :func:`~cm3p.faults.objects.aspect_scores`.
        bits: (objects, aspects) the same of surprisals.
        off_grid_ms: (objects,) distance from the grid of :data:`~cm3p.faults.snap.EDITOR_DIVISORS`.
        off_dense_grid_ms: (objects,) the same for all divisors from 1 to 16.
        found: The most surprising objects.
    """

    where: str
    path: Path
    seen: int
    excess: np.ndarray
    bits: np.ndarray
    off_grid_ms: np.ndarray
    off_dense_grid_ms: np.ndarray
    found: list[DoubtfulObject]


@dataclass(frozen=True)
class _Ready:
    beatmap: Beatmap
    windows: list[ObjectWindow]


def find_faults(
    loaded: LoadedModel, paths: Sequence[Path], options: FaultOptions = FaultOptions()
) -> tuple[list[MapFaults], BatchReport]:
    """Look for doubtful objects. A map that cannot be used is reported, and the others go on.

    Args:
        loaded: A model with a decoder.
        paths: Maps, archives and folders.
        options: How.

    Returns:
        What was found in the maps that could be used, and what became of each.

    Raises:
        UsageError: The model has no decoder head, or an option is out of range.
        Interrupted: Ctrl-C.
    """
    require_decoder(loaded)
    report, results = BatchReport(), []
    songs = SongReader(loaded.processor.default_kwargs["audio_kwargs"]["sampling_rate"])

    def read(entry: MapEntry) -> _Ready:
        if entry.error is not None:
            raise entry.error
        assert entry.beatmap is not None
        samples = songs.read_for(entry) if options.with_audio else None
        return _Ready(
            entry.beatmap, object_windows(loaded.processor, entry.beatmap, samples, options.windows)
        )

    def compute(maps: Sequence[_Ready]) -> list[tuple[_Ready, TokenScores]]:
        windows = [window for each in maps for window in each.windows]
        scores = token_scores(loaded, windows, passes=options.passes, batch_size=options.batch_size)
        ends = np.cumsum([len(each.windows) for each in maps])
        bounds = np.searchsorted(scores.windows, [0, *ends])
        return [(each, _part(scores, *bounds[number : number + 2])) for number, each in enumerate(maps)]

    def share(item: _Ready) -> float:
        return len(item.windows) * options.passes / (options.batch_size * _BATCHES_TOGETHER)

    entries = overlapped(
        find_maps(paths), read, compute, lambda result, _: result, share=share, errors=_ERRORS
    )
    with report.interruptible(()), songs, progress(None, "looking for faults") as bar, closing(entries):
        for each in entries:
            try:
                outcome: Any = each.outcome()
            except _ERRORS as error:
                report.failed(each.source.where, error)
            else:
                ready, scores = outcome
                faults = _map_faults(loaded, each.source, ready, scores, options.count)
                results.append(faults)
                report.done(
                    each.source.where, objects=len(faults.excess), seen=faults.seen, **_unseen(faults)
                )
            bar.advance(1, note=each.source.path.name)
    return results, report


def _part(scores: TokenScores, first: int, end: int) -> TokenScores:
    return TokenScores(**{each.name: getattr(scores, each.name)[first:end] for each in fields(TokenScores)})


def _map_faults(
    loaded: LoadedModel, entry: MapEntry, ready: _Ready, scores: TokenScores, count: int
) -> MapFaults:
    beatmap = ready.beatmap
    objects = len(beatmap.hit_objects)
    excess = aspect_scores(scores, objects)
    grid = off_grid_ms(beatmap, EDITOR_DIVISORS)
    return MapFaults(
        where=entry.where,
        path=entry.path,
        seen=int(np.isfinite(excess).any(1).sum()),
        excess=excess,
        bits=aspect_scores(scores, objects, of="bits"),
        off_grid_ms=grid,
        off_dense_grid_ms=off_grid_ms(beatmap),
        found=doubtful_objects(beatmap, scores, grid, loaded.processor.beatmap_tokenizer, count),
    )


def _unseen(faults: MapFaults) -> dict[str, Any]:
    missing = len(faults.excess) - faults.seen
    return {"flags": [f"the model does not see {missing} of {len(faults.excess)} objects"]} if missing else {}
