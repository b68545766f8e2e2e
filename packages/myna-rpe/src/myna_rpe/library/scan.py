"""Scan folders of music: embed what is new, follow what moved, forget what is gone.

Files of the same size and time are not read. A changed or new file is known by the hash of its content, so a file that
was moved or renamed is not embedded again. Every result is on disk before the next one is computed: a scan that was
stopped, or killed, continues; a file at which the program died twice counts as failed. While the model computes one
recording, the next is read and decoded.
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
from pentatonic.progress import ProgressBar
from pentatonic.search import VectorHeader

SHORT_TRACK_S = 10.0
"""A recording below this length is flagged as ``short``, and no neighbour: it is a jingle and not a piece."""
_DEATHS_THAT_FAIL = 2  # one may have another cause, such as a power cut
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
        missing: Folder -> why it counts as missing; what the index knows below it is not ``gone``.
    """

    to_read: list[Path]
    unchanged: list[Path]
    gone: list[str]
    passed_over: dict[str, int]
    missing: dict[Path, str] = field(default_factory=dict)


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
        UsageError: All folders are missing, or have no audio although the index knows some there: a drive may be
            missing.
    """
    roots = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100 - links stay as named
    found = search_files([root for root in roots if root.is_dir()], audio.AUDIO_SUFFIXES)
    missing = _missing_folders(roots, generation.files, found.files)
    if missing and len(missing) == len(set(roots)):
        raise UsageError("; ".join(f"{root} {reason}" for root, reason in missing.items()))
    to_read, unchanged = [], []
    for path in found.files:
        stamp = generation.files.get(str(path))
        again = retry and stamp is not None and stamp.content in generation.failures
        (unchanged if stamp and not again and _is_as_it_was(stamp, path) else to_read).append(path)
    present = {str(path) for path in found.files}
    gone = [
        path
        for path in sorted(generation.files)
        if path not in present and _is_below_any(path, roots) and not _is_below_any(path, missing)
    ]
    return Changes(to_read, unchanged, gone, found.passed_over, missing)


def _missing_folders(roots: Sequence[Path], known: Iterable[str], found: Sequence[Path]) -> dict[Path, str]:
    """Return folder -> reason: those that are not there, or have no audio although the index knows some there."""
    missing = {}
    for root in roots:
        is_known = any(_is_below_any(path, [root]) for path in known)
        if not root.is_dir() or (is_known and not any(path.is_relative_to(root) for path in found)):
            what = "has no audio files" if root.is_dir() else "is no folder"
            missing[root] = (
                f"{what}; where a drive or a share is missing, connect it and scan again: what the index knows of it "
                "is kept"
            )
    return missing


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
        UsageError: All folders are missing, or ``only`` lies elsewhere. Where some are, the report has them as failed.
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
            _Scan(model, options, generation, result, retry=retry).run(changes.to_read, max_minutes)
        _report_unchanged(changes, generation, result.report)
        for folder, reason in changes.missing.items():
            result.report.failed(folder, UsageError(reason))
        result.report.passed_over = changes.passed_over
        if changes.gone or changes.to_read or generation.unfinished or not settings.current:
            analyse(generation)
            generation.save()
        result.complete = not result.stopped and _covers(generation, index, settings)
        if result.complete or not settings.current:
            replace(settings, current=name, model=model_name or settings.model).save(index)
            remove_other_generations(index, name)
    return result


class _Scan:
    """Reads, embeds and notes files."""

    def __init__(
        self,
        model: MynaEncoder,
        options: TrackOptions,
        generation: Generation,
        result: ScanResult,
        *,
        retry: bool,
    ) -> None:
        self._model, self._options, self._generation, self._result = model, options, generation, result
        self._retry = retry
        self._frontend = Frontend(model.config.frontend)
        self._readings: dict[Path, _Reading] = {}
        self._in_work: set[str] = set()

    def run(self, paths: Sequence[Path], max_minutes: float | None) -> None:
        """Take files in until all are done or the time is over.

        Files at which the program died before come first and alone, so that the one that kills it is known.
        """
        end = time.monotonic() + 60 * max_minutes if max_minutes is not None else float("inf")
        suspects = [path for path in paths if str(path) in self._generation.deaths]
        others = [path for path in paths if str(path) not in self._generation.deaths]
        with (
            audio.DecodingProcess() as self._decoder,
            TagReader() as self._tags,
            Journal(self._generation) as self._journal,
            self._result.report.interruptible(paths),
            progress(len(paths), "scanning") as bar,
        ):
            for path in self._until(end, suspects):
                self._take_in([path], bar)
            if not self._result.stopped:
                self._take_in(self._until(end, others), bar)

    def _take_in(self, paths: Iterable[Path], bar: ProgressBar[int]) -> None:
        """Read, embed and note files, each while others are read."""
        with closing(
            overlapped(
                paths,
                self._read,
                self._compute,
                self._write,
                share=lambda pair: track_share(pair[0], model=self._model, options=self._options),
                errors=(PentatonicError, OSError),
            )
        ) as entries:
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
        if self._generation.deaths[str(path)] >= _DEATHS_THAT_FAIL and not self._retry:
            raise InputError(f"{path}: the program died, or was killed, twice at this file")
        self._journal.begun(str(path))
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
        else:
            self._journal.ended(str(path))


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
            if candidate.is_dir() and candidate.is_relative_to(os.path.abspath(folder)):  # noqa: PTH100
                return [candidate]
    raise UsageError(f"--only {only}: is no folder below {', '.join(map(str, folders))}")


def _is_below_any(path: str, folders: Iterable[Path]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


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


def _covers(generation: Generation, index: Path, settings: IndexSettings) -> bool:
    """Whether a generation has all files of the one in use, but those that are gone; a missing drive may have them."""
    if settings.current in ("", generation.folder.name):
        return True
    before = Generation.load(index / settings.current)
    existing = [Path(path) for path in before.files if Path(path).exists()]
    missing = _missing_folders([Path(folder) for folder in settings.folders], before.files, existing)
    wanted = [*existing, *(path for path in before.files if _is_below_any(path, missing))]
    return all(str(path) in generation.files for path in wanted)


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
