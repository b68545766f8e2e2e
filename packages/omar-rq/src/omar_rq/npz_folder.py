"""Folders of audio become folders of ``.npz`` files: go on after a kill, go on past bad files, name each of them.

An output is complete as soon as it has its name. It says what it was made from, so a later run with the same settings
knows which files it need not compute again; there is no other state.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from pentatonic import audio
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, json_text, progress, run_manifest
from pentatonic.errors import AudioError, PentatonicError, UsageError

RUN_FILE, REPORT_FILE = "run.json", "report.json"
# Member of every output: JSON text with the settings and the size and time of the source.
MADE_BY = "made_by"

Work = Callable[[Path, Path, str], Mapping[str, object]]
"""``work(source, target, made_by)`` writes one output and returns what the report shall say about it."""


@dataclass(frozen=True)
class Spooled:
    """An array on disk: ``files`` hold its values one after the other, in C order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    files: Sequence[BinaryIO]


def run_batch(
    paths: Sequence[str | Path],
    out: Path,
    settings: Mapping[str, object],
    work: Work,
    *,
    overwrite: bool,
    description: str,
) -> BatchReport:
    """Make one output per audio file; write ``run.json`` before and ``report.json`` after the work.

    Args:
        paths: Audio files and folders. Outputs mirror the folders below what the paths have in common, and keep the
            suffix of the source: ``a/b.wav`` becomes ``a/b.wav.npz``.
        out: Folder to write.
        settings: JSON values that decide the outputs; part of each of them.
        work: Does one file. Its errors become lines of the report.
        overwrite: Compute everything again, and allow a folder that was made with other settings.
        description: What is being done, for the progress line.

    Returns:
        What became of each file, in sorted order.

    Raises:
        UsageError: There are no audio files, or ``out`` was made with other settings.
        CheckpointError: ``run.json`` or ``report.json`` cannot be written.
    """
    sources = mirrored(paths)
    _claim(out, settings, overwrite)
    report = BatchReport()
    with progress(len(sources), description) as bar:
        for source, name in sources:
            _process(source, out / f"{name}.npz", settings, work, report, overwrite=overwrite)
            bar.advance(1, note=source.name)
    report.write(out / REPORT_FILE)
    return report


def mirrored(paths: Sequence[str | Path]) -> list[tuple[Path, str]]:
    """Find audio files, with their POSIX paths relative to the folder that all ``paths`` share.

    Raises:
        UsageError: There are none.
    """
    sources = audio.find_files(paths)
    if not sources:
        raise UsageError(f"no audio files in {', '.join(map(str, paths))}")
    # By name and not by what links point to: the tree that a user sees is the tree that is mirrored.
    absolute = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 - resolves `..`, but no links
    root = os.path.commonpath([path if path.is_dir() else path.parent for path in absolute])
    return [(source, Path(os.path.relpath(source, root)).as_posix()) for source in sources]


def write_npz(target: Path, arrays: Mapping[str, ArrayLike | Spooled]) -> None:
    """Write arrays, in memory or on disk, as one uncompressed ``.npz``, whole or not at all.

    Equal arrays give equal bytes, and ``numpy.load`` reads them without pickle.

    Raises:
        CheckpointError: The file cannot be written.
    """
    with atomic_file(target) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            # A ZipInfo made like this carries no time of day.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                if isinstance(array, Spooled):
                    _copy(array, member)
                else:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def _copy(array: Spooled, member: Any) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": False,
        "shape": array.shape,
    }
    np.lib.format.write_array_header_1_0(member, header)
    for file in array.files:
        file.seek(0)
        shutil.copyfileobj(file, member, io.DEFAULT_BUFFER_SIZE * 64)


def _claim(out: Path, settings: Mapping[str, object], overwrite: bool) -> None:
    """Make the folder this run's own, unless it belongs to a run with other settings."""
    out.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(settings))
    if (out / RUN_FILE).is_file() and not overwrite:
        found = _settings_of(out / RUN_FILE)
        different = [key for key in settings if found.get(key) != settings[key]]
        if different:
            said = ", ".join(f"{key} {found.get(key)!r}, not {settings[key]!r}" for key in different)
            raise UsageError(f"{out} was made with {said}; choose another folder, or overwrite it")
    with atomic_file(out / RUN_FILE) as file:
        file.write(f"{json_text({'settings': settings, **run_manifest()})}\n".encode())


def _settings_of(run_file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(run_file.read_text(encoding="utf-8"))["settings"])
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"{run_file} is not of this command; choose another folder, or overwrite it"
        ) from None


def _process(
    source: Path,
    target: Path,
    settings: Mapping[str, object],
    work: Work,
    report: BatchReport,
    *,
    overwrite: bool,
) -> None:
    try:
        made_by = _made_by(settings, source)
        if not overwrite and _is_done(target, made_by):
            report.skipped(source)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            about = dict(work(source, target, made_by))
    except AudioError as error:  # raised for a signal in memory, it does not know its file
        report.failed(source, type(error)(source, error.reason))
        return
    except (PentatonicError, OSError) as error:
        report.failed(source, error)
        return
    if caught:
        about["warnings"] = [str(warning.message).removeprefix(f"{source}: ") for warning in caught]
    report.done(source, output=target, **about)


def _made_by(settings: Mapping[str, object], source: Path) -> str:
    status = source.stat()
    stamp = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    return json.dumps({"settings": settings, "source": stamp}, sort_keys=True)


def _is_done(target: Path, made_by: str) -> bool:
    try:
        with np.load(target, allow_pickle=False) as stored:
            return str(stored[MADE_BY]) == made_by
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # absent, or not ours
        return False
