"""The run itself: one ``.npz`` per recording, with ``run.json`` before and ``report.json`` after the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pentatonic import audio
from pentatonic.audio_folder.items import AudioItem, read_audio
from pentatonic.audio_folder.npz import NpzContent, find_audio, is_made_by, npz_targets, write_content
from pentatonic.audio_folder.reading import DEFAULT_READING, ReadOptions
from pentatonic.cli import BatchReport, Interrupted, run_manifest
from pentatonic.errors import CheckpointError
from pentatonic.folder_run import (
    REPORT_FILE,
    RUN_FILE,
    OutputError,
    claim_folder,
    made_from,
    run_files,
    write_json,
)

Item = TypeVar("Item")


def run_audio_folder(
    paths: Sequence[str | Path],
    out: str | Path,
    compute: Callable[[Sequence[Item]], list[NpzContent]],
    *,
    settings: Mapping[str, object],
    sample_rate: int,
    decode: Callable[[AudioItem], Item],
    share: Callable[[Item], float],
    description: str,
    strict: bool = True,
    reading: ReadOptions = DEFAULT_READING,
    overwrite: bool = False,
) -> BatchReport:
    """Make one ``.npz`` per recording. Recordings that cannot be used are reported, and change nothing for the others.

    A run that was stopped continues when the same call is made again: files whose output was made with the same
    settings, from a source of the same size and time, are not computed again.

    Args:
        paths: Audio files and folders; ``out`` mirrors the folders below what they have in common.
        out: Folder to write, with ``run.json`` (settings, versions, hardware) and ``report.json`` beside the outputs.
        compute: Second stage: what to write for consecutive items, of which the shares add up to 1 at most.
        settings: JSON values that decide the outputs; those of ``strict`` and ``reading`` belong there too.
        sample_rate: That of the model, in Hz.
        decode: Rest of the first stage, after :func:`pentatonic.audio_folder.items.read_audio`.
        share: Which part of a batch an item takes; infinity: it is still being read while it is computed.
        description: What is being done, for the progress line.
        strict: Damaged audio is an error; else what precedes the damage is used, with a ``UserWarning``.
        reading: Which part of each recording is read, and up to which limits.
        overwrite: Compute everything again, and allow a folder that was made with other settings.

    Returns:
        What became of each file.

    Raises:
        UsageError: There are no audio files, or ``out`` was made with other settings.
        CheckpointError: ``run.json`` or ``report.json`` cannot be written.
        OutputError: An output cannot be written; ``report.json`` has the files before.
        Interrupted: Ctrl-C; ``report.json`` has the files before.
    """
    out = Path(out)
    found = find_audio(paths)
    targets = npz_targets(paths, found.files, out)
    advice = "choose another folder, or overwrite it"
    claim_folder(out / RUN_FILE, settings, advice=advice, overwrite=overwrite)

    def is_done(source: Path, target: Path) -> bool:
        return target.is_file() and is_made_by(target, made_from(settings, source))

    with audio.DecodingProcess() as decoder:
        decoder.start()  # it imports its modules while this process looks up versions and hardware
        write_json(out / RUN_FILE, {"settings": settings, **run_manifest()})

        def read(source: Path) -> Item:
            opened = read_audio(
                source,
                stream=decoder.stream,
                sample_rate=sample_rate,
                strict=strict,
                settings=settings,
                reading=reading,
            )
            return decode(opened)

        try:
            report = run_files(
                targets,
                read,
                compute,
                write_content,
                description=description,
                is_done=None if overwrite else is_done,
                share=share,
            )
        except (Interrupted, OutputError) as error:
            error.report.passed_over = found.passed_over
            with suppress(CheckpointError):
                error.report.write(out / REPORT_FILE)
            raise
    report.passed_over = found.passed_over
    report.write(out / REPORT_FILE)
    return report
