"""``myna-rpe prepare``: decode a folder of audio once, and store its spectrograms for training.

    myna-rpe prepare input=music output=data/music frontend=myna
    myna-rpe prepare input=jamendo/audio output=data/jamendo splits=mtg-jamendo-dataset/data/splits/split-0

What it writes is described in :mod:`myna_rpe.training.spectrograms`. A run that was stopped continues; files that were
prepared before are not decoded again.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

from omegaconf import MISSING

from myna_rpe.config import FrontendName
from myna_rpe.embed import Track, read_track
from myna_rpe.frontend import Frontend
from myna_rpe.training.metadata import (
    TrackInfo,
    find_info,
    read_jamendo_splits,
    read_metadata,
    with_split,
)
from myna_rpe.training.spectrograms import (
    HEADER,
    SpectrogramWriter,
    StoredTrack,
    known_tracks,
    storage_settings,
    write_index,
)
from pentatonic import audio
from pentatonic.audio_folder.items import read_audio
from pentatonic.cli import BatchReport, Interrupted, make_output_folder, run_manifest
from pentatonic.errors import CheckpointError, ConfigError, UsageError
from pentatonic.folder_run import (
    REPORT_FILE,
    About,
    OutputError,
    claim_folder,
    made_from,
    run_files,
    search_files,
    write_json,
)
from pentatonic.processes.run_lock import locked_run_folder


@dataclass
class PrepareConfig:
    """Options of ``myna-rpe prepare``.

    Args:
        input: Folder of audio files.
        output: Folder to write.
        frontend: Front end of the spectrograms: ``myna``, ``myna-rpe`` or ``myna-rpe-demo``.
        splits: Folder with the official split files of MTG-Jamendo; only the files that they list are prepared.
        metadata: JSON Lines file with artist, album and split of files; see :mod:`myna_rpe.training.metadata`.
        val_fraction: Share of the validation split, of the files whose split is not given; all tracks of an artist
            go to the same split.
        seed: Changes the split.
    """

    input: str = MISSING
    output: str = MISSING
    frontend: str = "myna-rpe"
    splits: str | None = None
    metadata: str | None = None
    val_fraction: float = 0.05
    seed: int = 0


def prepare(config: PrepareConfig) -> BatchReport:
    """Store the spectrogram of every audio file below ``config.input``.

    Every input is in the index or in the report, which is also written to ``report.json``.

    Returns:
        What became of each file. Files that cannot be read and silent ones count as failed, and so does a track of
        the split files that has no audio; files that the split files do not list are skipped.

    Raises:
        ConfigError: There is no such front end, or ``splits`` and ``metadata`` are both given.
        UsageError: The input is not a folder, or the output was made with another front end.
        OutputError: The output cannot be written; what was prepared before is kept.
        Interrupted: Ctrl-C; what was prepared before is kept.
        RunFolderInUse: Another process prepares the same folder.
    """
    if config.frontend not in get_args(FrontendName):
        allowed = ", ".join(get_args(FrontendName))
        raise ConfigError(f"frontend is {config.frontend!r}; allowed: {allowed}")
    root, out = Path(config.input), Path(config.output)
    if not root.is_dir():
        raise UsageError(f"input={root} is not a folder")
    make_output_folder(out, "output=")
    known_info = _information(config)
    found = search_files([root], audio.AUDIO_SUFFIXES)
    places = {source: source.relative_to(root) for source in found.files}
    infos = {source: find_info(place, known_info) for source, place in places.items()}
    wanted = [source for source in found.files if infos[source] is not None or config.splits is None]
    with locked_run_folder(out):
        try:
            report, kept = _store(config, out, {source: places[source] for source in wanted})
        except (Interrupted, OutputError) as error:
            with suppress(CheckpointError):
                error.report.write(out / REPORT_FILE)
            raise
        complete = partial(with_split, val_fraction=config.val_fraction, seed=config.seed)
        tracks = []
        for source in wanted:
            place = places[source].as_posix()
            if place in kept:
                info = complete(infos[source] or TrackInfo(), place)
                fields = {"artist": info.artist, "album": info.album, "split": info.split or "train"}
                tracks.append(dataclasses.replace(kept[place], **fields))
        write_index(out, tracks)
    _add_what_was_left_out(report, config, places, known_info)
    report.passed_over = found.passed_over
    report.write(out / REPORT_FILE)
    return report


def _information(config: PrepareConfig) -> Mapping[str, TrackInfo]:
    if config.splits is not None and config.metadata is not None:
        raise ConfigError("splits and metadata are both given; the split files have the metadata already")
    if config.splits is not None:
        return read_jamendo_splits(config.splits)
    return {} if config.metadata is None else read_metadata(config.metadata)


def _store(
    config: PrepareConfig, out: Path, places: Mapping[Path, Path]
) -> tuple[BatchReport, dict[str, StoredTrack]]:
    """Prepare files; return the report and the tracks that are stored, by their place below the input."""
    frontend_name: FrontendName = config.frontend  # type: ignore[assignment] - checked
    frontend = Frontend(frontend_name)
    settings = storage_settings(frontend_name, frontend.mel_config)
    claim_folder(out / HEADER, settings, advice="choose another output folder")
    write_json(out / HEADER, {"settings": settings, **run_manifest()})
    known = known_tracks(out)
    writer = SpectrogramWriter(out, known.values())
    stored: dict[str, StoredTrack] = {}

    def is_done(source: Path, _target: Path) -> bool:
        track = known.get(places[source].as_posix())
        try:
            done = track is not None and track.made_by == _digest(made_from(settings, source))
        except OSError:  # reading it will say why
            return False
        if done and track is not None:
            stored[track.source] = track
        return done

    def write(track: Track, _target: Path) -> About:
        place = places[track.source].as_posix()
        stored[place] = writer.write(track.spectrogram.mel, place, made_by=_digest(track.made_by))
        flags = {"flags": track.flags} if track.flags else {}
        return {"frames": stored[place].frames, "duration_s": round(track.duration_s, 3), **flags}

    with audio.DecodingProcess() as decoder:

        def read(source: Path) -> Track:
            opened = read_audio(
                source,
                stream=decoder.stream,
                sample_rate=frontend.sample_rate,
                strict=True,
                settings=settings,
            )
            return read_track(opened, frontend)

        targets = dict.fromkeys(places, out / HEADER)
        report = run_files(targets, read, list, write, description="preparing", is_done=is_done)
    return report, stored


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _add_what_was_left_out(
    report: BatchReport,
    config: PrepareConfig,
    places: Mapping[Path, Path],
    known_info: Mapping[str, TrackInfo],
) -> None:
    """Report files that the split files do not list, and tracks of theirs that have no file."""
    if config.splits is None:
        return
    seen = set()
    for source, place in places.items():
        if find_info(place, known_info) is None:
            report.skipped(source, "not listed in the split files")
        seen |= {place.with_suffix("").as_posix().removesuffix(".low")}
    for name in sorted(set(known_info) - seen):
        report.failed(
            Path(config.input) / f"{name}.mp3", "listed in the split files, but there is no such file"
        )


def main(overrides: Sequence[str]) -> None:
    """Run with Hydra overrides, such as ``input=music output=data/music frontend=myna``."""
    from pentatonic.training import compose_config

    config = compose_config("myna_rpe.conf", overrides, PrepareConfig, config_name="prepare")
    report = prepare(config)
    report.print_summary()
    report.raise_for_failures()
