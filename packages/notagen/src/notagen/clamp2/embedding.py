"""``notagen embed``: folders of scores and texts become files of features.

The features are ``.npy`` files in a tree that mirrors the inputs, in the original's form, or one Parquet file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np

from notagen.clamp2.embedder import TEXT_SUFFIXES, EncodedFile, Encoder, Output
from notagen.clamp2.feature_record import SUFFIX, FeatureRecord, RecordedFile
from notagen.clamp2.reading import MUSIC_SUFFIXES, read_content
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, run_manifest
from pentatonic.errors import InputError, UsageError
from pentatonic.folder_run import (
    REPORT_FILE,
    RUN_FILE,
    FoundFiles,
    claim_folder,
    mirrored,
    run_files,
    search_files,
    without_suffixes,
    write_json,
)
from pentatonic.processes.run_lock import locked_run_folder
from pentatonic.search import VectorBatch, VectorStore, write_vectors
from pentatonic.search.store import ColumnType

COLUMNS: Mapping[str, ColumnType] = {
    "path": "string",
    "kind": "string",
    "preparation": "string",
    "precision": "string",
    "sha256": "string",
    "pieces": "int64",
}
"""Columns of a Parquet file of features beside ``id`` and ``vector``: the file, what it is, how it was prepared, the
number type of the computation, the hash of its content, and how many pieces it has."""

_BATCH_ITEMS = 8192  # patches and tokens that are computed together
_ROWS = 1024  # that are written together


def find_inputs(paths: Sequence[Path], *, texts: bool) -> FoundFiles:
    """Find what can be embedded among files and folders.

    Args:
        paths: Files, which are taken whatever their suffix, and folders, which are searched.
        texts: Search for texts too.

    Raises:
        UsageError: There is nothing.
    """
    suffixes = (*MUSIC_SUFFIXES, *(TEXT_SUFFIXES if texts else ()))
    found = search_files(paths, suffixes)
    if not found.files:
        raise UsageError(f"no {', '.join(suffixes)} files in {', '.join(map(str, paths))}")
    return found


def embed_tree(
    embedder: Encoder, paths: Sequence[Path], out: Path, *, frames: bool = False, overwrite: bool = False
) -> BatchReport:
    """Embed files and folders into a tree of ``.npy`` files, float32, that mirrors the folders.

    ``a/b.abc`` becomes ``a/b.npy``, or ``a/b.abc.npy`` where another file has that name too; of a tune book each tune
    becomes a file of its own, ``a/book-7.npy`` for ``X:7``. A run that was stopped, or one whose files have changed in
    part, goes on where the same call is made again.

    Args:
        embedder: The encoder.
        paths: Files and folders.
        out: Folder to write, with ``run.json`` (settings, versions, hardware), ``features.jsonl`` (what was made of
            which file) and ``report.json`` beside the features.
        frames: The vector of each patch or token, ``(1, N, C)``, in place of a feature of the whole, ``(1, P)``.
        overwrite: Compute everything again, and take a folder that was made with other settings.

    Returns:
        What became of each file; a bad one is named with its reason.

    Raises:
        UsageError: There is nothing to embed, or ``out`` was made with other settings.
        RunFolderInUse: Another process writes to it.
        Interrupted: Ctrl-C; the same call continues.
        OutputError: Outputs cannot be written.
    """
    run = _Run(embedder, paths, out, frames=frames, overwrite=overwrite)
    report = run.embed()
    report.write(out / REPORT_FILE)
    return report


def embed_parquet(
    embedder: Encoder, paths: Sequence[Path], out: Path, *, overwrite: bool = False
) -> BatchReport:
    """Embed files and folders into one Parquet file with a header, a row for each piece; see :data:`COLUMNS`.

    Rows of an existing file are kept where the content of their file is the same, and left out where the file is no
    input any more. What a stopped run had embedded waits in a hidden folder beside the file.

    Args:
        embedder: As for :func:`embed_tree`.
        paths: As for :func:`embed_tree`.
        out: The file to write or replace.
        overwrite: Compute everything again.

    Returns:
        What became of each file; with nothing to write, no file is written.

    Raises:
        UsageError: There is nothing to embed, or a stopped run had other settings.
        IncompatibleVectors: The file that exists was made by another model or in another way.
        PentatonicError: As for :func:`embed_tree`.
    """
    work = out.with_name(f".{out.name}.unfinished")
    run = _Run(embedder, paths, work, overwrite=overwrite)
    if out.exists() and not overwrite:
        run.kept = _rows_that_stay(embedder, out, run.stems)
    report = run.embed()
    new = _new_rows(embedder, work, run.embedded)
    stay = {row_id for path in run.stayed for row_id in run.kept[path].ids}
    if stay:
        with VectorStore(out, embedder.header) as old:
            write_vectors(out, embedder.header, chain(_old_rows(old, stay), new), columns=COLUMNS)
    elif run.embedded:
        write_vectors(out, embedder.header, new, columns=COLUMNS)
    shutil.rmtree(work, ignore_errors=True)
    return report


@dataclass(frozen=True)
class _StoredFile:
    """A file of which all pieces are rows of an existing store."""

    sha256: str
    ids: tuple[str, ...]


@dataclass(frozen=True)
class _Item:
    path: str
    source: EncodedFile


@dataclass(frozen=True)
class _Computed(_Item):
    arrays: list[np.ndarray]


def _share(item: _Item | None) -> float:
    return 0.0 if item is None else item.source.length / _BATCH_ITEMS


class _Run:
    """A run over files, whose outputs go to a folder."""

    def __init__(
        self, embedder: Encoder, paths: Sequence[Path], out: Path, *, frames: bool = False, overwrite: bool
    ) -> None:
        self._embedder, self._out, self._overwrite = embedder, out, overwrite
        self._output: Output = "frames" if frames else "features"
        embedder.require(self._output)
        self._settings = {
            "model": embedder.header.model_hash,
            "family": embedder.family,
            "precision": embedder.precision,
            **asdict(embedder.options),
            "output": self._output,
        }
        self._found = find_inputs(paths, texts=embedder.embeds_texts)
        self._places = mirrored(paths, self._found.files)
        self._stems = without_suffixes(self._places)
        self.stems = {str(place): self._stems[file] for file, place in self._places.items()}
        self.kept: dict[str, _StoredFile] = {}
        self.stayed: set[str] = set()
        self.embedded: list[RecordedFile] = []

    def embed(self) -> BatchReport:
        with locked_run_folder(self._out):
            advice = "choose another output, or --overwrite begins again"
            claim_folder(self._out / RUN_FILE, self._settings, advice=advice, overwrite=self._overwrite)
            about = {"settings": self._settings, "header": json.loads(self._embedder.header.to_json())}
            write_json(self._out / RUN_FILE, {**about, **run_manifest()})
            with closing(FeatureRecord(self._out, self.stems)) as record:
                self._record = record
                self.kept = {path: file for path, file in self.kept.items() if record.reserve(path, file.ids)}
                report = run_files(
                    {file: self._out / f"{stem}{SUFFIX}" for file, stem in self._stems.items()},
                    self._read,
                    self._computed,
                    self._write,
                    description="embedding",
                    share=_share,
                )
                self.embedded = list(record.files())
        report.passed_over = self._found.passed_over
        return report

    def _read(self, source: Path) -> _Item | None:
        path, data = str(self._places[source]), read_content(source)
        digest = sha256(data).hexdigest()
        if not self._overwrite:
            if path in self.kept and self.kept[path].sha256 == digest:
                self.stayed.add(path)
                return None
            if self._record.has(path, digest):
                return None
        self._record.forget(path)
        return _Item(path, self._embedder.encode_file(source, data))

    def _computed(self, items: Sequence[_Item | None]) -> list[_Computed]:
        read = [item for item in items if item is not None]
        arrays = self._embedder.compute([item.source for item in read], self._output)
        return [_Computed(item.path, item.source, own) for item, own in zip(read, arrays, strict=True)]

    def _write(self, computed: _Computed, target: Path) -> dict[str, object]:
        """Write the features of a file; return their paths for the report.

        Raises:
            InputError: Tunes of a book could not be embedded (the others are written), or a name is taken.
        """
        source = computed.source
        for array, piece in zip(computed.arrays, source.pieces, strict=True):
            if not (np.isfinite(array).all() and array.any()):
                tune = f"tune {piece.name}: " * bool(piece.name)
                raise InputError(f"{tune}its features are not finite, or all zero")
        names = self._record.names(computed.path, source)
        for name, array in zip(names, computed.arrays, strict=True):
            with atomic_file(self._out / name) as file:
                np.save(file, array, allow_pickle=False)
        self._record.add(computed.path, source, names)
        if source.failures:
            raise InputError(
                f"{len(source.failures)} tunes of the book failed: {'; '.join(source.failures)}; the other "
                f"{len(names)} were embedded"
            )
        notes = [
            f"tune {piece.name}: {note}" if piece.name else note
            for piece in source.pieces
            for note in piece.notes
        ]
        return {"output": [self._out / name for name in names], **({"flags": notes} if notes else {})}


def _rows_that_stay(
    embedder: Encoder, store: Path, stems: Mapping[str, PurePosixPath]
) -> dict[str, _StoredFile]:
    """Find the files of a run that an existing store has, whole and under the same names."""
    with VectorStore(store, embedder.header) as old:
        if set(old.columns) != set(COLUMNS):
            raise InputError(
                f"{store} is not a file of this command: its columns are {', '.join(old.columns)}"
            )
        columns = [old.read_column(name) for name in ("id", "path", "precision", "sha256", "pieces")]
    found: dict[tuple[str, str, int], list[str]] = {}
    for row_id, path, precision, digest, pieces in zip(*columns, strict=True):
        if precision == embedder.precision and path in stems:
            found.setdefault((path, digest, pieces), []).append(row_id)
    return {
        path: _StoredFile(digest, tuple(ids))
        for (path, digest, pieces), ids in found.items()
        if len(ids) == pieces and all(_is_named_after(each, path, str(stems[path])) for each in ids)
    }


def _is_named_after(row_id: str, path: str, stem: str) -> bool:
    return row_id == stem or row_id.startswith((f"{stem}-", f"{path}-"))


def _old_rows(store: VectorStore, ids: Collection[str]) -> Iterator[VectorBatch]:
    for batch in store.batches():
        rows = [row for row, each in enumerate(batch.ids) if each in ids]
        metadata = {name: [values[row] for row in rows] for name, values in batch.metadata.items()}
        yield VectorBatch([batch.ids[row] for row in rows], batch.vectors[rows], metadata)


def _new_rows(embedder: Encoder, folder: Path, files: Sequence[RecordedFile]) -> Iterator[VectorBatch]:
    pieces = [(file, output) for file in files for output in file.outputs]
    for start in range(0, len(pieces), _ROWS):
        part = pieces[start : start + _ROWS]
        vectors = [np.load(folder / output, allow_pickle=False)[0] for _, output in part]
        yield VectorBatch(
            [output.removesuffix(SUFFIX) for _, output in part],
            np.stack(vectors),
            {
                "path": [file.path for file, _ in part],
                "kind": [file.kind for file, _ in part],
                "preparation": [embedder.options.preparation] * len(part),
                "precision": [embedder.precision] * len(part),
                "sha256": [file.sha256 for file, _ in part],
                "pieces": [file.pieces for file, _ in part],
            },
        )
