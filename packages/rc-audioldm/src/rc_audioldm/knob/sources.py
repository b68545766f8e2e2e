"""What an output may be a copy of: all recordings of a folder, such as those that a bank was made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pentatonic import audio as audio_files
from pentatonic.audio import AUDIO_SUFFIXES
from pentatonic.cli import BatchReport
from pentatonic.errors import AudioError
from pentatonic.folder_run import find_files
from rc_audioldm.knob.copies import Searchable


def clips_of(folder: Path, report: BatchReport) -> Iterator[Searchable]:
    """Yield the recordings of a folder, one at a time, so that they need not fit into memory together.

    Args:
        folder: The folder, searched with the folders inside it.
        report: What becomes of each recording; one that cannot be read does not stop the others.
    """
    for path in find_files([folder], AUDIO_SUFFIXES):
        try:
            sound = audio_files.load(path)
            clip = Searchable(path.relative_to(folder).as_posix(), sound.samples.numpy(), sound.sample_rate)
        except AudioError as error:
            report.failed(path, error)
            continue
        report.done(path)
        yield clip
