"""The maps that are evaluated: labels, metadata, event tokens, and the vectors of each model.

Shapes: N maps, W windows of a map, D dimensions, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cm3p.beatmap import MapEntry
from cm3p.embedding.columns import Row
from cm3p.embedding.rows import row_of
from cm3p.embedding.sources import DataSet, Source, find_sources
from cm3p.embedding.vectors import vector_header, window_vectors
from cm3p.inference.batches import DEFAULT_BATCH_SIZE
from cm3p.inference.loading import LoadedModel
from cm3p.inference.maps import EncodedMap, WindowOptions, encode_map
from cm3p.inference.songs import SongReader
from cm3p.metadata import CM3PMetadata, get_metadata
from cm3p.processor import CM3PProcessor
from cm3p.quality.facts import MapFacts
from pentatonic.cli import BatchReport, progress
from pentatonic.errors import InputError, PentatonicError, UsageError
from pentatonic.pipeline import overlapped

_ERRORS = (PentatonicError, OSError)
_BATCHES_TOGETHER = 4


@dataclass(frozen=True)
class Selection:
    """Which maps are taken.

    Args:
        paths: Data sets, maps, archives and folders.
        start: First set of a data set, or file, counted from 0 in the order of the ids.
        end: First one to leave out; None: all.
        split: Only maps of data sets whose column ``Split`` has this value; None: all.
        metadata: Table whose columns fill what the maps do not say, by id.
    """

    paths: Sequence[Path]
    start: int = 0
    end: int | None = None
    split: str | None = None
    metadata: Path | None = None

    def sources(self) -> list[Source]:
        """Find them.

        Raises:
            InputError: There are none, or a table cannot be read.
        """
        sources = find_sources(self.paths, self.start, self.end).sources
        if self.split is not None:
            sources = [each for each in sources if each.row().get("Split") == self.split]
        if not sources:
            of_split = "" if self.split is None else f" of the split {self.split!r}"
            raise InputError(f"there are no maps{of_split} in {', '.join(map(str, self.paths))}")
        return list(sources)


@dataclass(frozen=True)
class ReadOptions:
    """How maps are read and embedded.

    Args:
        with_audio: With their songs; maps without one fail.
        windows: How they are cut.
        batch_size: Windows at a time.
    """

    with_audio: bool = True
    windows: WindowOptions = field(default_factory=WindowOptions)
    batch_size: int = DEFAULT_BATCH_SIZE


@dataclass(frozen=True)
class Corpus:
    """Maps that could be used.

    Args:
        names: N texts that say where each is.
        facts: Labels.
        metadata: As the model's metadata tower takes it.
        bags: (N, V) float32: how often each event token occurs.
        windows: For each model N arrays (W, D), unit vectors of the windows.
    """

    names: list[str]
    facts: MapFacts
    metadata: list[CM3PMetadata]
    bags: np.ndarray
    windows: list[list[np.ndarray]]

    def vectors(self, model: int = 0) -> np.ndarray:
        """Return (N, D) float32 unit vectors of the maps, as ``cm3p embed`` makes them."""
        means = np.stack([each.mean(0) for each in self.windows[model]])
        return means / np.linalg.norm(means, axis=1, keepdims=True)


@dataclass(frozen=True)
class _Ready:
    row: Row
    metadata: CM3PMetadata
    bag: np.ndarray
    encoded: EncodedMap


def untrained(loaded: LoadedModel, seed: int = 0) -> LoadedModel:
    """Return a network of the same configuration and processor with weights as before training."""
    kind: Any = type(loaded.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(loaded.model.config)
    model = model.to(device=loaded.device, dtype=loaded.dtype).eval()
    name = f"untrained network of {loaded.name}, seed {seed}"
    model_hash = f"{loaded.model_hash} untrained {seed}"
    return LoadedModel(name, model, loaded.processor, model_hash, loaded.device, loaded.dtype)


def read_corpus(
    models: Sequence[LoadedModel],
    processor: CM3PProcessor,
    selection: Selection,
    options: ReadOptions = ReadOptions(),
    *,
    what: str = "embedding",
) -> tuple[Corpus, BatchReport]:
    """Read maps, and embed them by some models. A map that cannot be used is reported, and the others go on.

    Args:
        models: Of one processor; none: only event tokens are needed.
        processor: Makes their inputs.
        selection: Which maps.
        options: How they are read.
        what: Name of the work for the progress bar.

    Returns:
        The maps that could be used, and what became of each.

    Raises:
        UsageError: A model has no embeddings.
        InputError: There are no maps, or none could be used.
        Interrupted: Ctrl-C.
    """
    for each in models:
        vector_header(each, with_audio=options.with_audio)  # fail fast
    sources = selection.sources()
    reader = _Reader(models, processor, selection, options)
    report, names, found = BatchReport(), [], []
    entries = overlapped(
        _entries(sources),
        reader.read,
        reader.compute,
        lambda result, _: result,
        share=reader.share,
        errors=_ERRORS,
    )
    with (
        report.interruptible([str(source.path) for source in sources]),
        reader.songs,
        progress(None, what) as bar,
        closing(entries),
    ):
        for each in entries:
            where = each.source[1].where
            try:
                outcome: Any = each.outcome()
            except _ERRORS as error:
                report.failed(where, error)
            else:
                names.append(where)
                found.append(outcome)
                report.done(where)
            bar.advance(1, note=each.source[1].path.name)
    if not found:
        report.print_summary()
        raise InputError(f"none of the {len(report.entries)} maps can be used")
    ready = [each for each, _ in found]
    windows = [[vectors[number] for _, vectors in found] for number in range(len(models))]
    rows = [each.row for each in ready]
    bags = np.stack([each.bag for each in ready])
    return Corpus(names, MapFacts.of(rows), [each.metadata for each in ready], bags, windows), report


def _entries(sources: Sequence[Source]) -> Iterator[tuple[Source, MapEntry]]:
    for source in sources:
        for entry in source.maps():
            yield source, entry


class _Reader:
    """The stages of reading maps."""

    def __init__(
        self,
        models: Sequence[LoadedModel],
        processor: CM3PProcessor,
        selection: Selection,
        options: ReadOptions,
    ) -> None:
        self._models, self._processor, self._options = models, processor, options
        self.songs = SongReader(processor.default_kwargs["audio_kwargs"]["sampling_rate"])
        self._known = None if selection.metadata is None else DataSet(selection.metadata)
        self._known_rows = {} if self._known is None else self._known.rows_by_id()
        special = processor.beatmap_tokenizer.all_special_ids
        self._counted = np.ones(processor.beatmap_tokenizer.vocab_size, np.float32)
        self._counted[special] = 0

    def read(self, item: tuple[Source, MapEntry]) -> _Ready:
        """First stage."""
        source, entry = item
        if entry.error is not None:
            raise entry.error
        beatmap = entry.beatmap
        assert beatmap is not None
        samples = self.songs.read_for(entry) if self._options.with_audio else None
        encoded = encode_map(self._processor, beatmap, samples, self._options.windows)
        of_set: Mapping[str, Any] = source.row()
        row = row_of(entry, of_set)
        number = self._known_rows.get(row["Id"])
        if number is not None and self._known is not None:
            row = row_of(entry, of_set, self._known.row(number))
        length_s = None
        if samples is not None:
            length_s = len(samples) / self._processor.default_kwargs["audio_kwargs"]["sampling_rate"]
        metadata = get_metadata(row, beatmap, song_length=length_s)
        tokens = np.concatenate([np.asarray(each, np.int64) for each in encoded.windows])
        bag = np.bincount(tokens, minlength=len(self._counted)).astype(np.float32) * self._counted
        return _Ready(row, metadata, bag, encoded)

    def compute(self, maps: Sequence[_Ready]) -> list[tuple[_Ready, list[np.ndarray]]]:
        """Second stage: windows of some maps through each model."""
        of_models = [
            window_vectors(model, [each.encoded for each in maps], self._options.batch_size)
            for model in self._models
        ]
        results = []
        for number, each in enumerate(maps):
            vectors = [of_model[number].numpy() for of_model in of_models]
            if not all(np.isfinite(each).all() for each in vectors):
                raise InputError("the model gives vectors that are not finite for this map")
            results.append((_without_inputs(each), vectors))
        return results

    def share(self, item: _Ready) -> float:
        """Part of a batch that a map takes."""
        return len(item.encoded.windows) / (self._options.batch_size * _BATCHES_TOGETHER)


def _without_inputs(item: _Ready) -> _Ready:
    """The same without spectrograms and tokens, which would fill the memory."""
    return _Ready(item.row, item.metadata, item.bag, EncodedMap([], []))


def parse_selection(text: str, paths: Sequence[Path], metadata: Path | None = None) -> Selection:
    """Read ``FIRST:END`` (sets counted from 0, END left out) or the name of a split.

    Raises:
        UsageError: The range is empty.
    """
    first, colon, end = text.partition(":")
    if not colon:
        return Selection(paths, split=text, metadata=metadata)
    try:
        start, stop = int(first or 0), int(end) if end else None
    except ValueError:
        start, stop = -1, None
    if start < 0 or (stop is not None and stop <= start):
        raise UsageError(
            f"baseline_train is {text!r}; allowed: FIRST:END counted from 0, such as 0:208, or the name of a split"
        )
    return Selection(paths, start, stop, metadata=metadata)
