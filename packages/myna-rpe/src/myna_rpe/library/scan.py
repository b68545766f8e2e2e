"""Scan folders of music: embed what is new, follow what moved, forget what is gone.

Files of the same size and time are not read. A changed or new file is known by the hash of its content, so a file that
was moved or renamed is not embedded again. Every result is on disk before the next one is computed: a scan that was
stopped, or killed, continues. While the model computes one recording, the next is read and decoded.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from myna_rpe.embed import Track, compute_embeddings, fingerprint, flags_of, read_track, track_share
from myna_rpe.frontend import Frontend
from myna_rpe.library.analysis import analyse
from myna_rpe.library.fingerprint import Fingerprint
from myna_rpe.library.fingerprint import fingerprint as sound_fingerprint
from myna_rpe.library.index import (
    Generation,
    IndexSettings,
    Journal,
    generation_name,
    remove_other_generations,
)
from myna_rpe.library.records import Failure, FileStamp, TrackRecord
from myna_rpe.library.tags import NO_TAGS, TagReader, Tags
from myna_rpe.model import MynaEncoder
from myna_rpe.speed import announce_speed
from myna_rpe.whole_tracks import TrackEmbedding, TrackOptions, embedding_width
from pentatonic import audio
from pentatonic.audio_folder.items import AudioItem, read_audio
from pentatonic.cli import BatchReport, progress
from pentatonic.errors import (
    IncompatibleVectors,
    InputError,
    PentatonicError,
    RunFolderInUse,
    SilentAudio,
    UsageError,
)
from pentatonic.folder_run import search_files
from pentatonic.pipeline import overlapped
from pentatonic.processes.run_lock import locked_run_folder
from pentatonic.search import VectorHeader

SHORT_TRACK_S = 10.0
"""A recording below this length is flagged as ``short``, and no neighbour: it is a jingle and not a piece."""
_HASH_BYTES = 12
_BLOCK_BYTES = 1 << 20


@dataclass
class ScanResult:
    """What a scan did.

    Attributes:
        report: What became of each file that was looked at.
        new: Recordings that were embedded.
        moved: Files whose content was known from another path.
        dropped: Paths that are gone.
        complete: All files of the library have vectors of this model, or a reason why not.
        stopped: The time limit ended the scan.
    """

    report: BatchReport = field(default_factory=BatchReport)
    new: int = 0
    moved: int = 0
    dropped: list[str] = field(default_factory=list)
    complete: bool = False
    stopped: bool = False


@dataclass(frozen=True)
class Changes:
    """What differs between the disk and an index.

    Attributes:
        to_read: Files that are new or changed, or failed before and are tried again.
        unchanged: Files that are as they were.
        gone: Paths of the index without a file.
        passed_over: Suffix -> files that are no audio.
    """

    to_read: list[Path]
    unchanged: list[Path]
    gone: list[str]
    passed_over: dict[str, int]


def header_of(model: MynaEncoder, options: TrackOptions) -> VectorHeader:
    """Return what makes the vectors of a model.

    Args:
        model: The model.
        options: From :meth:`TrackOptions.resolved`.
    """
    config = model.config
    chunks = f"chunks of {config.chunk_frames} frames, {options.aggregate}"
    return VectorHeader(
        model_hash=fingerprint(model),
        frontend=config.frontend,
        windows="track" if options.mode == "track" else chunks,
        pooling=f"{'class token' if config.class_token else 'mean'}, {options.output}",
        dimension=embedding_width(config, options),
    )


def find_changes(generation: Generation, folders: Sequence[Path], *, retry: bool = False) -> Changes:
    """Compare folders with an index; nothing is read but names, sizes and times.

    Args:
        generation: The index.
        folders: What to look at.
        retry: Also name files that failed before.

    Raises:
        UsageError: A folder is missing, or has no audio although the index knows some there: a drive may be missing.
    """
    roots = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100 - links stay as named
    found = search_files(roots, audio.AUDIO_SUFFIXES)
    for root in roots:
        known = any(_is_below(Path(path), root) for path in generation.files)
        if not root.is_dir() or (known and not any(_is_below(path, root) for path in found.files)):
            what = "has no audio files" if root.is_dir() else "is no folder"
            raise UsageError(
                f"{root} {what}; where a drive or a share is missing, connect it and scan again: what the index "
                "knows of it is kept"
            )
    to_read, unchanged = [], []
    for path in found.files:
        stamp = generation.files.get(str(path))
        again = retry and stamp is not None and stamp.content in generation.failures
        (unchanged if stamp and not again and _is_as_it_was(stamp, path) else to_read).append(path)
    present = {str(path) for path in found.files}
    gone = [
        path
        for path in sorted(generation.files)
        if path not in present and any(_is_below(Path(path), root) for root in roots)
    ]
    return Changes(to_read, unchanged, gone, found.passed_over)


def scan(
    model: MynaEncoder,
    index: Path,
    folders: Sequence[Path],
    *,
    only: Path | None = None,
    retry: bool = False,
    max_minutes: float | None = None,
    options: TrackOptions = TrackOptions(),  # noqa: B008 - frozen
    model_name: str = "",
) -> ScanResult:
    """Bring an index up to date with folders of music.

    Vectors of another model, or made in another way, are left in use until those of this model are complete.

    Args:
        model: In evaluation mode.
        index: Folder of the index.
        folders: Folders of music, which the index remembers.
        only: Look at this folder below one of them only.
        retry: Try again what failed before.
        max_minutes: End after about so long, and keep what was done.
        options: How a track becomes a vector.
        model_name: What ``library update`` loads.

    Raises:
        UsageError: A folder is missing, or ``only`` lies elsewhere.
        RunFolderInUse: Another scan of this index runs.
        Interrupted: Ctrl-C; what was done is kept.
        MissingExtra: pyarrow or tinytag is not installed.
    """
    options = options.resolved(model.config)
    with _locked(index):
        settings = IndexSettings.load(index)
        header = header_of(model, options)
        name = generation_name(header)
        generation = Generation.load(index / name, header)
        changes = find_changes(generation, scope(folders, only), retry=retry)
        all_folders = tuple(sorted({*settings.folders, *(os.path.abspath(x) for x in folders)}))  # noqa: PTH100
        settings = replace(settings, folders=all_folders, model=settings.model or model_name)
        settings.save(index)
        if settings.current not in ("", name):
            print(_beside(index / settings.current, header), file=sys.stderr)
        result = ScanResult(dropped=changes.gone)
        for path in changes.gone:
            del generation.files[path]
        if changes.to_read:
            announce_speed(model, options)
            _Scan(model, options, generation, result).run(changes.to_read, max_minutes)
        _report_unchanged(changes, generation, result.report)
        result.report.passed_over = changes.passed_over
        if changes.gone or changes.to_read or generation.unfinished or not settings.current:
            analyse(generation)
            generation.save()
        result.complete = not result.stopped and _covers(generation, index, settings.current)
        if result.complete or not settings.current:
            replace(settings, current=name, model=model_name or settings.model).save(index)
            remove_other_generations(index, name)
    return result


class _Scan:
    """Reads, embeds and notes files."""

    def __init__(
        self, model: MynaEncoder, options: TrackOptions, generation: Generation, result: ScanResult
    ) -> None:
        self._model, self._options, self._generation, self._result = model, options, generation, result
        self._frontend = Frontend(model.config.frontend)
        self._readings: dict[Path, _Reading] = {}
        self._in_work: set[str] = set()

    def run(self, paths: Sequence[Path], max_minutes: float | None) -> None:
        """Take files in until all are done or the time is over."""
        end = time.monotonic() + 60 * max_minutes if max_minutes is not None else float("inf")
        report = self._result.report
        with (
            audio.DecodingProcess() as self._decoder,
            TagReader() as self._tags,
            Journal(self._generation) as self._journal,
            report.interruptible(paths),
            progress(len(paths), "scanning") as bar,
            closing(
                overlapped(
                    self._until(end, paths),
                    self._read,
                    self._compute,
                    self._write,
                    share=lambda pair: track_share(pair[0], model=self._model, options=self._options),
                    errors=(PentatonicError, OSError),
                )
            ) as entries,
        ):
            for entry in entries:
                try:
                    about = entry.outcome()
                except (PentatonicError, OSError) as error:
                    self._note_error(entry.source, error)
                else:
                    self._note_success(entry.source, about, entry.warnings)
                self._readings.pop(entry.source, None)
                bar.advance(1, note=entry.source.name)

    def _until(self, end: float, paths: Sequence[Path]) -> Iterator[Path]:
        """Yield paths until a time; the first one always."""
        for number, path in enumerate(paths):
            if number and time.monotonic() > end:
                self._result.stopped = True
                return
            yield path

    def _read(self, path: Path) -> tuple[Track, _Reading] | None:
        """First stage: hash, tags, audio, spectrogram. Nothing is left to do for content that is known."""
        status = path.stat()
        content = _content_hash(path)
        reading = _Reading(FileStamp(status.st_size, status.st_mtime_ns, content))
        self._readings[path] = reading
        known = content in self._generation.tracks or content in self._in_work
        if known and content not in self._generation.failures:
            self._journal.known(str(path), reading.stamp)
            return None
        self._in_work.add(content)
        try:
            reading.tags = self._tags.read(path)
        except PentatonicError as error:
            reading.flags.append(f"tags unreadable ({error})")
        item = read_audio(
            path,
            stream=self._decoder.stream,
            sample_rate=self._frontend.sample_rate,
            strict=True,
            settings={},
        )
        reading.item = item
        track = read_track(item, self._frontend)
        reading.print = sound_fingerprint(
            track.spectrogram.mel, self._model.config.frontend, self._frontend.frames_per_second
        )
        return track, reading

    def _compute(
        self, pairs: Sequence[tuple[Track, _Reading]]
    ) -> list[tuple[Track, _Reading, TrackEmbedding]]:
        found = compute_embeddings([track for track, _ in pairs], model=self._model, options=self._options)
        return [(track, reading, each) for (track, reading), each in zip(pairs, found, strict=True)]

    def _write(self, result: tuple[Track, _Reading, TrackEmbedding], path: Path) -> dict[str, object]:
        track, reading, embedding = result
        vector = embedding.vector.numpy()
        if not np.isfinite(vector).all() or not vector.any():
            raise InputError(f"{path}: the model gives a vector of zeros, or of values that are not finite")
        flags = [*reading.flags, *flags_of(track, embedding)]
        if track.duration_s < SHORT_TRACK_S and not any(flag.startswith("short") for flag in flags):
            flags.append(f"short ({track.duration_s:.1f} s)")
        record = TrackRecord(reading.tags, track.duration_s, tuple(flags), vector, reading.print)
        self._journal.done(str(path), reading.stamp, record)
        return _about(record)

    def _note_success(self, path: Path, about: dict[str, object] | None, warned: Iterable[str]) -> None:
        if about is None:
            self._result.moved += 1
            self._result.report.skipped(path, "its content is known from another file")
            return
        self._result.new += 1
        texts = [text.removeprefix(f"{path}: ") for text in warned]
        self._result.report.done(path, **about, **({"warnings": texts} if texts else {}))

    def _note_error(self, path: Path, error: Exception) -> None:
        reading = self._readings.get(path)
        if isinstance(error, SilentAudio) and reading is not None and reading.item is not None:
            blocks = reading.item.blocks
            flags = (
                blocks.flags
                if any(flag.startswith("quiet") for flag in blocks.flags)
                else ["quiet (silence)"]
            )
            record = TrackRecord(reading.tags, blocks.duration_s, (*reading.flags, *flags))
            self._journal.done(str(path), reading.stamp, record)
            self._result.new += 1
            self._result.report.done(path, **_about(record))
            return
        self._result.report.failed(path, error)
        # Of a file that cannot be opened nothing is known, and the reason may go away without a change of the file.
        if reading is not None and not isinstance(error, OSError):
            entry = self._result.report.entries[-1]
            self._journal.failed(str(path), reading.stamp, Failure(entry["error"], entry["reason"]))


@dataclass
class _Reading:
    """What is known of a file that is being read."""

    stamp: FileStamp
    tags: Tags = NO_TAGS
    flags: list[str] = field(default_factory=list)
    item: AudioItem | None = None
    print: Fingerprint | None = None


def _about(track: TrackRecord) -> dict[str, object]:
    """What the report says about a recording."""
    about: dict[str, object] = {"duration_s": round(track.duration_s, 3)}
    if track.flags:
        about["flags"] = list(track.flags)
    if track.tags.repairs:
        about["repairs"] = list(track.tags.repairs)
    return about


def _report_unchanged(changes: Changes, generation: Generation, report: BatchReport) -> None:
    for path in changes.unchanged:
        failure = generation.failures.get(generation.files[str(path)].content)
        report.skipped(path, "unchanged" if failure is None else f"failed before: {failure.reason}")


def generation_in_use(index: Path) -> Generation:
    """Return what an index knows, with what a stopped scan did; before the first scan, nothing.

    Raises:
        FormatError: The index is damaged.
        MissingExtra: pyarrow is not installed.
    """
    current = IndexSettings.load(index).current
    if not current:
        return Generation(index, VectorHeader("none", "none", "none", "none", 1))
    return Generation.load(index / current)


def scope(folders: Sequence[Path], only: Path | None) -> list[Path]:
    """Return the folders to look at: all, or one below one of them, given relative to it or not.

    Raises:
        UsageError: ``only`` lies elsewhere.
    """
    if only is None:
        return list(folders)
    for folder in folders:
        place = Path(os.path.abspath(folder / only))  # noqa: PTH100 - links stay as named
        for candidate in (place, Path(os.path.abspath(only))):  # noqa: PTH100
            if candidate.is_dir() and _is_below(candidate, Path(os.path.abspath(folder))):  # noqa: PTH100
                return [candidate]
    raise UsageError(f"--only {only}: is no folder below {', '.join(map(str, folders))}")


def _is_below(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder)


def _is_as_it_was(stamp: FileStamp, path: Path) -> bool:
    try:
        return stamp.is_of(path)
    except OSError:
        return False


def _content_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()[: 2 * _HASH_BYTES]


def _covers(generation: Generation, index: Path, current: str) -> bool:
    """Whether a generation has all files that the one in use has, as far as they still exist."""
    if current in ("", generation.folder.name):
        return True
    before = Generation.load(index / current)
    return all(path in generation.files or not Path(path).exists() for path in before.files)


def _beside(folder: Path, header: VectorHeader) -> str:
    try:
        Generation.load(folder, journal=False).header.require(header, str(folder))
    except IncompatibleVectors as error:
        reason = str(error).partition("; ")[0]
        return f"{reason}. They stay in use until all tracks are embedded again, beside them, and are then replaced."
    return ""


@contextmanager
def _locked(index: Path):
    try:
        with locked_run_folder(index):
            yield
    except RunFolderInUse as error:
        raise RunFolderInUse(
            f"the library {str(error).partition('; ')[0]}; wait until that scan has ended"
        ) from None
