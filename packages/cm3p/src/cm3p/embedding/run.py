"""A run over maps: reading and encoding ahead of the model, a journal behind it, one Parquet file at the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cm3p.beatmap import MapEntry, id_of_content
from cm3p.catalogue.client_database import ClientDatabase, find_database, read_database
from cm3p.embedding.columns import HASH, WINDOWS, Row
from cm3p.embedding.filters import MapFilter
from cm3p.embedding.journal import EmbeddedMap, Journal, Stamp, open_journal
from cm3p.embedding.rows import row_of
from cm3p.embedding.sources import DataSet, Source, find_sources
from cm3p.embedding.table import EmbeddingTable, merged, write_table
from cm3p.embedding.vectors import map_vectors, vector_header
from cm3p.inference.batches import DEFAULT_BATCH_SIZE
from cm3p.inference.loading import LoadedModel
from cm3p.inference.maps import EncodedMap, WindowOptions, encode_map
from cm3p.inference.songs import SongReader
from pentatonic.cli import BatchReport, progress
from pentatonic.errors import InputError, PentatonicError
from pentatonic.pipeline import overlapped
from pentatonic.precision import number_type_name
from pentatonic.provenance import distribution_version
from pentatonic.search import VectorHeader

# Batches that one call of the model's stage has, so that windows of similar lengths meet.
_BATCHES_TOGETHER = 4
_ERRORS = (PentatonicError, OSError)
_SAME_CONTENT = "the same content as another map"


@dataclass(frozen=True)
class EmbedOptions:
    """What is embedded, and how.

    Args:
        with_audio: Embed maps with their songs; those without fail.
        windows: How maps are cut.
        filter: Which maps are taken.
        start: First set or file to take.
        end: First set or file to leave out; None: all.
        batch_size: Windows at a time.
        merge_with: File of embeddings to add to.
        metadata: Table whose columns fill what the maps do not say, by id.
        database: The client's ``osu!.db``, for star ratings; None: that beside the Songs folder, if there is one.
        assume_same_model: Merge with a file that does not say what made it.
        overwrite: Forget what a stopped run left.
    """

    with_audio: bool = True
    windows: WindowOptions = field(default_factory=WindowOptions)
    filter: MapFilter = field(default_factory=MapFilter)
    start: int = 0
    end: int | None = None
    batch_size: int = DEFAULT_BATCH_SIZE
    merge_with: Path | None = None
    metadata: Path | None = None
    database: Path | None = None
    assume_same_model: bool = False
    overwrite: bool = False


@dataclass
class EmbedResult:
    """What a run did.

    Args:
        report: What became of each map.
        rows: Maps in the output.
        left_out: Reason -> number of maps that the filter left out.
        note: Where star ratings are from, or why they are not known from there; empty if there is nothing to say.
    """

    report: BatchReport
    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    note: str = ""


@dataclass(frozen=True)
class _Step:
    """A map on its way; without entry the end of a file, which may have been passed over as finished."""

    source: Source
    stamp: Stamp | None
    entry: MapEntry | None = None
    passed_over: bool = False


@dataclass(frozen=True)
class _Ready:
    row: Row
    encoded: EncodedMap


def embed_maps(
    loaded: LoadedModel,
    paths: Sequence[Path],
    out: Path,
    options: EmbedOptions = EmbedOptions(),
) -> EmbedResult:
    """Embed maps into a Parquet file. A map that cannot be used is reported, and the others go on.

    A run that was stopped continues when the same call is made again.

    Args:
        loaded: The model.
        paths: Maps, archives, folders and data sets.
        out: The file to write or replace.
        options: What is embedded, and how.

    Raises:
        UsageError: The model has no embeddings, or a stopped run with other settings has left its maps.
        InputError: There are no maps; or the file to merge with, or a table, cannot be used.
        Interrupted: Ctrl-C; the same call continues.
        CheckpointError: The output cannot be written; the maps are kept, and the same call continues.
    """
    header = vector_header(loaded, with_audio=options.with_audio)
    if options.merge_with is not None:  # fail fast
        with EmbeddingTable(options.merge_with) as old:
            old.require(header, assume_same_model=options.assume_same_model)
    found = find_sources(paths, options.start, options.end)
    if not found.sources:
        raise InputError(f"there are no maps (.osu, .osz, .olz, data sets) in {', '.join(map(str, paths))}")
    settings = _settings(loaded, header, paths, options)
    database, note = _database(paths, options)
    with open_journal(out, settings, overwrite=options.overwrite) as journal:
        run = _Run(loaded, options, journal, database)
        run.result.report.passed_over, run.result.note = found.passed_over, note
        run.embed(found.sources)
        if len(journal) or options.merge_with is not None:
            about = {"model_name": loaded.name, "cm3p": distribution_version("cm3p"), **settings}
            if database is not None:
                about["star_ratings"] = {"file": str(database.path), "version": database.version}
            run.result.rows = _write(out, header, journal, options, json.dumps(about))
    return run.result


def _database(paths: Sequence[Path], options: EmbedOptions) -> tuple[ClientDatabase | None, str]:
    """The client's database, and what to say about it; one that was not named is passed over if it is damaged."""
    if options.database is not None:
        return read_database(options.database), ""
    if (found := find_database(paths)) is None:
        return None, ""
    try:
        return read_database(found), f"star ratings are those of {found}, as far as it has them"
    except InputError as error:
        return None, f"star ratings are not known, as {error}"


def _settings(
    loaded: LoadedModel, header: VectorHeader, paths: Sequence[Path], options: EmbedOptions
) -> dict[str, Any]:
    """What decides the content of the output, as JSON values."""
    made_by = {"model" if name == "model_hash" else name: value for name, value in asdict(header).items()}
    modes = options.filter.modes
    return {
        **made_by,
        "precision": number_type_name(loaded.dtype),
        **asdict(options.windows),
        **asdict(options.filter),
        "modes": None if modes is None else sorted(modes),
        "start": options.start,
        "end": options.end,
        "paths": [str(path.absolute()) for path in paths],
    }


class _Run:
    def __init__(
        self, loaded: LoadedModel, options: EmbedOptions, journal: Journal, database: ClientDatabase | None
    ) -> None:
        self._loaded, self._options, self._journal = loaded, options, journal
        self._database = database
        self.result = EmbedResult(BatchReport())
        self._songs = SongReader(loaded.processor.default_kwargs["audio_kwargs"]["sampling_rate"])
        self._known = None if options.metadata is None else DataSet(options.metadata)
        self._known_rows = {} if self._known is None else self._known.rows_by_id()
        self._failed_files: set[Path] = set()
        self._begun_with = journal.hashes()

    def embed(self, sources: Sequence[Source]) -> None:
        report = self.result.report
        left = [str(source.path) for source in sources]
        with (
            report.interruptible(left),
            self._songs,
            progress(len(sources), "embedding") as bar,
            closing(
                overlapped(
                    self._steps(sources),
                    self._read,
                    self._compute,
                    lambda embedded, step: embedded,
                    share=self._share,
                    errors=_ERRORS,
                )
            ) as entries,
        ):
            for each in entries:
                step = each.source
                if step.entry is None:
                    self._finish(step)
                    left.pop(0)
                    bar.advance(1, note=step.source.path.name)
                    continue
                self._record(step, step.entry, each.outcome, each.warnings)

    def _steps(self, sources: Sequence[Source]) -> Iterator[_Step]:
        finished = frozenset(self._journal.finished)
        for source in sources:
            stamp = Stamp.of(source.path)
            passed_over = stamp is not None and stamp in finished
            if not passed_over:
                for entry in source.maps():
                    yield _Step(source, stamp, entry)
            yield _Step(source, stamp, passed_over=passed_over)

    def _read(self, step: _Step) -> _Ready | None:
        """First stage: what the model needs; None where there is nothing to do."""
        entry = step.entry
        if entry is None:
            return None
        if entry.error is not None:
            raise entry.error
        assert entry.beatmap is not None
        if entry.sha256 in self._journal:
            return None
        row = self._row(step.source, entry)
        if reason := self._options.filter.refusal(row):
            self.result.left_out[reason] += 1
            return None
        samples = self._songs.read_for(entry) if self._options.with_audio else None
        encoded = encode_map(self._loaded.processor, entry.beatmap, samples, self._options.windows)
        return _Ready(row | {WINDOWS: len(encoded.windows)}, encoded)

    def _row(self, source: Source, entry: MapEntry) -> Row:
        of_set = source.row()
        of_client = {} if self._database is None else self._database.row(entry)
        row = row_of(entry, of_set, of_client)
        number = self._known_rows.get(row["Id"])
        if number is None or self._known is None:
            return row
        return row_of(entry, of_set, self._known.row(number), of_client)

    def _share(self, item: _Ready) -> float:
        return len(item.encoded.windows) / (self._options.batch_size * _BATCHES_TOGETHER)

    def _compute(self, items: Sequence[_Ready]) -> list[EmbeddedMap]:
        vectors = map_vectors(self._loaded, [item.encoded for item in items], self._options.batch_size)
        return [EmbeddedMap(item.row, vector) for item, vector in zip(items, vectors, strict=True)]

    def _record(self, step: _Step, entry: MapEntry, outcome: Any, warnings: Sequence[str]) -> None:
        report = self.result.report
        try:
            embedded: EmbeddedMap | None = outcome()
        except _ERRORS as error:
            self._failed_files.add(step.source.path)
            report.failed(entry.where, error)
            return
        if embedded is None:
            if entry.sha256 in self._begun_with:
                report.skipped(entry.where)
            else:
                same = entry.sha256 in self._journal
                report.skipped(entry.where, _SAME_CONTENT if same else "left out by the filter")
            return
        if embedded.row[HASH] in self._journal:  # twice in one batch
            report.skipped(entry.where, _SAME_CONTENT)
            return
        flags = [*warnings, *self._give_id(embedded.row)]
        self._journal.add(embedded)
        report.done(entry.where, id=embedded.row["Id"], windows=embedded.row[WINDOWS], **_flags(flags))

    def _give_id(self, row: Row) -> list[str]:
        """Give a map an id of its own where another one, of other content, has its id already."""
        if self._journal.hash_of(row["Id"]) is None:
            return []
        taken, row["Id"] = row["Id"], id_of_content(row[HASH])
        return [f"another map has the id {taken}; this one gets {row['Id']}"]

    def _finish(self, step: _Step) -> None:
        if step.stamp is None or step.source.path in self._failed_files:
            return
        if step.stamp not in self._journal.finished:
            self._journal.finish(step.stamp)
        elif step.passed_over:
            self.result.report.skipped(step.source.path)


def _flags(flags: Sequence[str]) -> Mapping[str, object]:
    return {"flags": list(flags)} if flags else {}


def _write(out: Path, header: VectorHeader, journal: Journal, options: EmbedOptions, about: str) -> int:
    if options.merge_with is None:
        return write_table(out, header, journal.maps(), about)
    with EmbeddingTable(options.merge_with) as old:
        old.require(header, assume_same_model=options.assume_same_model)
        return write_table(out, header, merged(old.maps(), journal.maps()), about)
