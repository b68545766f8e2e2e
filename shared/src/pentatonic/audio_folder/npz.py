"""``.npz`` files that say what they were made from, one per audio file, and how they are written."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from pentatonic import audio
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import passed_over_text
from pentatonic.errors import UsageError
from pentatonic.folder_run import FoundFiles, mirrored, search_files

# Member of every output: JSON text of `pentatonic.folder_run.made_from`.
MADE_BY = "made_by"


@dataclass(frozen=True)
class Spooled:
    """An array on disk: ``files`` hold its values one after the other, in C order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    files: Sequence[BinaryIO]


@dataclass(frozen=True)
class NpzContent:
    """What goes into one ``.npz``.

    Args:
        arrays: Member -> array.
        about: What the report says about it.
        files: Closes the files of the arrays that are on disk.
    """

    arrays: Mapping[str, ArrayLike | Spooled]
    about: Mapping[str, object]
    files: ExitStack


def find_audio(paths: Sequence[str | Path]) -> FoundFiles:
    """Find audio files among files and folders, as :func:`pentatonic.audio.find_files`; count the others.

    Raises:
        UsageError: There are none.
    """
    found = search_files(paths, audio.AUDIO_SUFFIXES)
    if not found.files:
        others = f" ({passed_over_text(found.passed_over)})" if found.passed_over else ""
        raise UsageError(f"no audio files in {', '.join(map(str, paths))}{others}")
    return found


def npz_targets(paths: Sequence[str | Path], files: Iterable[Path], out: Path) -> dict[Path, Path]:
    """Place one ``.npz`` per audio file below ``out``.

    The outputs mirror the folders below what ``paths`` have in common, and keep the suffix of the source: ``a/b.wav``
    becomes ``a/b.wav.npz``.

    Args:
        paths: Files and folders that the user named.
        files: What :func:`find_audio` found there.
        out: Folder of the outputs.
    """
    return {source: out / f"{place}.npz" for source, place in mirrored(paths, files).items()}


def write_content(content: NpzContent, target: Path) -> Mapping[str, object]:
    """Write one ``.npz`` and return what the report says about it; the last stage of a run over a folder.

    Raises:
        CheckpointError: The file cannot be written.
    """
    with content.files:
        write_npz(target, content.arrays)
    return content.about


def write_npz(target: Path, arrays: Mapping[str, ArrayLike | Spooled]) -> None:
    """Write arrays, in memory or on disk, as one uncompressed ``.npz``, whole or not at all.

    Equal arrays give equal bytes, and ``numpy.load`` reads them without pickle.

    Raises:
        CheckpointError: The file cannot be written.
    """
    with atomic_file(target) as file:
        if any(isinstance(array, Spooled) for array in arrays.values()):
            _write_archive(file, arrays)
        else:  # in memory first: an archive of many small members seeks and flushes for each
            content = io.BytesIO()
            _write_archive(content, arrays)
            file.write(content.getbuffer())


def _write_archive(file: IO[bytes], arrays: Mapping[str, ArrayLike | Spooled]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
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


def is_made_by(target: Path, made_by: str) -> bool:
    """Whether ``target`` is a whole ``.npz`` that was made from this source with these settings."""
    try:
        with np.load(target, allow_pickle=False) as stored:
            return str(stored[MADE_BY]) == made_by
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # absent, damaged, or of another program
        return False
