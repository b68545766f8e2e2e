"""Embeddings of a catalogue as one partitioned Parquet data set, on one machine or on Ray, with the same functions.

``OUT/embeddings.parquet/`` holds the parts, one for each block of recordings; ``OUT/run.json`` the settings, and
``OUT/report.json`` what became of each recording. A run that was stopped continues when it is made again: what it had
written is kept, and the blocks that were in work are computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omar_rq.catalogue.parts import DATA_SET, Part, drop_recordings, read_parts
from omar_rq.catalogue.sources import Recording, find_recordings
from omar_rq.catalogue.stages import (
    Work,
    compute_block,
    entries_in_order,
    plan_blocks,
    read_block,
    scratch_folder,
    write_block,
)
from omar_rq.catalogue.storage import Storage
from omar_rq.embed import embedding_options, embedding_settings
from omar_rq.files.parquet_table import import_pyarrow
from omar_rq.files.stages import Pool, Store
from omar_rq.model import OmarRQ
from omar_rq.streaming import DEFAULT_CONTEXT_S
from pentatonic import audio
from pentatonic.audio_folder.reading import DEFAULT_READING, ReadOptions
from pentatonic.cli import BatchReport, Interrupted, json_text, progress, run_manifest
from pentatonic.errors import CheckpointError, UsageError
from pentatonic.folder_run import REPORT_FILE, RUN_FILE, OutputError, refuse_other_settings
from pentatonic.pipeline import ReadAhead, WarningsByThread
from pentatonic.untrusted.files import parse_json

if TYPE_CHECKING:
    from omar_rq.catalogue.ray_engine import RayOptions

DEFAULT_BLOCK_MINUTES = 15.0
_ADVICE = "choose another folder, or overwrite it"
_MAX_RUN_FILE_BYTES = 1 << 24

Blocks = Iterable[list[Recording]]
Done = Generator[tuple[list[Recording], list[dict[str, Any]]], None, None]
"""Blocks that are written, with what the report says of each recording, in any order."""


def embed_catalogue(
    model: OmarRQ,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    layers: int | Iterable[int] | None = None,
    context_s: float | None = DEFAULT_CONTEXT_S,
    pool: Pool = "none",
    store: Store = "float32",
    strict: bool = True,
    reading: ReadOptions = DEFAULT_READING,
    overwrite: bool = False,
    model_name: str = "",
    batch: int | None = None,
    block_minutes: float = DEFAULT_BLOCK_MINUTES,
    ray: RayOptions | None = None,
) -> BatchReport:
    """Embed recordings into one Parquet data set; continue a stopped run.

    Recordings that are in the data set already, from a file of the same size and time, are skipped; those of changed
    files are replaced. Recordings of earlier runs that are not among the inputs stay.

    Args:
        model: The model, in evaluation mode.
        inputs: Audio files and folders, or URIs of an object store such as ``s3://bucket/music``.
        out: Folder or URI to write.
        layers: As :func:`omar_rq.embed.embed_file`.
        context_s: As :func:`omar_rq.embed.embed_file`.
        pool: As :func:`omar_rq.embed.embed_file`.
        store: As :func:`omar_rq.embed.embed_file`.
        strict: As :func:`omar_rq.embed.embed_file`.
        reading: As :func:`omar_rq.embed.embed_file`.
        overwrite: Compute everything again, and replace a data set that was made with other settings.
        model_name: Stored in the data set.
        batch: Most files that go through the model together.
        block_minutes: Of music in a block, about: what is lost when a run is killed, and what a part holds.
        ray: Run on Ray; None: in this process. The data set is the same, up to float rounding where the number of
            threads differs.

    Returns:
        What became of each recording.

    Raises:
        UsageError: There are no recordings, ``out`` was made with other settings, or an option is not allowed.
        LayerIndexError: A layer is out of range.
        MissingExtra: pyarrow or Ray is not installed.
        FormatError: A part of the data set is damaged; the message names it.
        OutputError: The data set cannot be written; ``report.json`` has the recordings before.
        Interrupted: Ctrl-C; ``report.json`` has the recordings before.
    """
    import_pyarrow()  # fail fast
    if not 0 < block_minutes < float("inf"):
        raise UsageError(f"block is {block_minutes:g} minutes; allowed: more than 0")
    options = embedding_options(model, layers, context_s, pool, store, model_name, batch)
    settings = {**embedding_settings(model, options, strict, reading), "command": "embed to parquet"}
    folder = Storage(out)
    found = find_recordings(inputs)
    if ray is not None:
        from omar_rq.catalogue.ray_engine import import_ray

        import_ray(ray)
    work = Work(folder.inside(DATA_SET), settings, options, reading, strict, sample_rate=model.sample_rate)
    parts = _claimed(folder, work, overwrite)
    skipped = _kept(work, parts, found.recordings)
    plan = plan_blocks(found.recordings, block_minutes)
    blocks = [todo for block in plan if (todo := [each for each in block if each.place not in skipped])]
    _write(folder, RUN_FILE, {"settings": settings, **run_manifest()})

    run: Callable[[Blocks], Done]
    if ray is None:
        run = lambda blocks: _run_here(blocks, work, model)  # noqa: E731
    else:
        from omar_rq.catalogue.ray_engine import run_on_ray

        run = lambda blocks: run_on_ray(blocks, work, model, ray)  # noqa: E731
    report = BatchReport()
    entries: dict[str, dict[str, Any]] = {}
    report.entries = [_skipped(each) for each in found.recordings if each.place in skipped]
    try:
        total = sum(map(len, blocks))
        with (
            report.interruptible([each.source for each in found.recordings]),
            progress(total, "embedding") as bar,
            closing(run(blocks)) as done,
        ):
            for block, of_block in done:
                report.entries += of_block
                bar.advance(len(block), note=block[-1].place)
    except (Interrupted, OutputError) as error:
        error.report.entries = report.entries
        error.report.passed_over = found.passed_over
        with suppress(CheckpointError, OutputError):
            _write(folder, REPORT_FILE, error.report.document())
        raise
    entries = {entry["path"]: entry for entry in report.entries}
    report.entries = entries_in_order(found.recordings, entries)
    report.passed_over = found.passed_over
    _write(folder, REPORT_FILE, report.document())
    return report


def _skipped(recording: Recording) -> dict[str, Any]:
    report = BatchReport()
    report.skipped(recording.source)
    return report.entries[0]


def _write(folder: Storage, name: str, value: object) -> None:
    with folder.written(name) as file:
        file.write(f"{json_text(value)}\n".encode())


def _claimed(folder: Storage, work: Work, overwrite: bool) -> list[Part]:
    """Make the folders, unless a run with other settings wrote to them; return the parts that are there."""
    folder.make()
    text = None if overwrite else folder.read_text(RUN_FILE, _MAX_RUN_FILE_BYTES)
    if text is not None:
        where = f"{folder.place}/{RUN_FILE}"
        value = parse_json(text, where=where, error=UsageError)
        if not isinstance(value, dict) or not isinstance(value.get("settings"), dict):
            raise UsageError(f"{where} was not written by this command; {_ADVICE}")
        refuse_other_settings(folder.local or folder.place, value["settings"], work.settings, advice=_ADVICE)
    if work.out.local is not None and work.out.local.is_file():
        raise UsageError(f"{work.out.place} is a file, not the folder of a data set; {_ADVICE}")
    work.out.make()
    if overwrite:
        for each in work.out.files():
            work.out.delete(each.name)
        return []
    parts = read_parts(work.out)
    for part in parts:
        refuse_other_settings(f"{work.out.place}/{part.name}", part.settings, work.settings, advice=_ADVICE)
    return parts


def _kept(work: Work, parts: Sequence[Part], recordings: Sequence[Recording]) -> set[str]:
    """Return the places that are in the data set; rows of changed files, and second ones of a file, are taken out."""
    stamps = {each.place: each.stamp for each in recordings}
    kept: set[str] = set()
    for part in parts:
        outdated = set()
        for file in part.files:
            wanted = stamps.get(file["path"])
            if wanted is None:
                continue
            if file["path"] in kept or any(file.get(key) != value for key, value in wanted.items()):
                outdated.add(file["path"])
            else:
                kept.add(file["path"])
        if outdated:
            drop_recordings(work.out, part, outdated)
    return kept


def _run_here(blocks: Blocks, work: Work, model: OmarRQ) -> Done:
    """Run in this process: the next block is decoded, and the last one written, while one is computed."""
    scratch = scratch_folder(work)
    with (
        audio.DecodingProcess() as decoder,
        audio.DecodingProcess() as for_long,
        WarningsByThread() as caught,
        ThreadPoolExecutor(1, "write") as writer,
        ReadAhead(
            blocks, lambda block: read_block(block, work, decoder, caught, model), lambda read: 1.0, caught
        ) as ahead,
    ):
        behind: tuple[list[Recording], Future[list[dict[str, Any]]]] | None = None
        for entry in ahead:
            if entry.error is not None:
                raise entry.error
            assert entry.item is not None
            computed = compute_block(entry.item, work, model, for_long, caught, scratch)
            if behind is not None:
                yield behind[0], _written(behind[1])
            behind = entry.source, writer.submit(write_block, computed, work)
        if behind is not None:
            yield behind[0], _written(behind[1])


def _written(result: Future[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    try:
        return result.result()
    except (CheckpointError, OSError) as error:
        raise OutputError(str(error)) from error
