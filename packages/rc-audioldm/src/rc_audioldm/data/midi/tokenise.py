"""Tokenise MIDI files: several at a time, in processes of their own; results in the order of the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pentatonic.checkpoint import file_sha256
from pentatonic.child_process import ChildFailure, ChildPool, Message
from pentatonic.cli import BatchReport
from pentatonic.errors import InputError
from pentatonic.folder_run import find_files
from rc_audioldm.data.batch import run_rows
from rc_audioldm.data.folders import MIDI_SUFFIXES
from rc_audioldm.data.manifest import Manifest, ManifestRow, place_under
from rc_audioldm.data.midi.bars import LONGEST, SHORTEST, chunk_at_bars
from rc_audioldm.data.midi.token_files import Tokens, collect
from rc_audioldm.data.midi.tokenizer import BAR, make_tokenizer

_SECONDS = 300.0
_MEMORY_BYTES = 4 << 30


def midi_manifest(folder: Path) -> Manifest:
    """List the MIDI files of a folder, sorted; files whose names start with a dot are left out.

    Raises:
        InputError: There is none.
    """
    files = find_files([folder], MIDI_SUFFIXES)
    if not files:
        raise InputError(f"{folder}: no MIDI files ({' '.join(MIDI_SUFFIXES)})")
    places = [place_under(folder, file) for file in files]
    return Manifest(tuple(ManifestRow(id=place, path=place) for place in places), folder)


def tokenise_manifest(
    manifest: Manifest,
    *,
    longest: int = LONGEST,
    shortest: int = SHORTEST,
    legacy: bool = False,
    workers: int = 2,
) -> tuple[Tokens, BatchReport]:
    """Tokenise MIDI files, and cut the sequences at bars. A file that cannot be read is in the report alone.

    Args:
        manifest: The files.
        longest: As for :func:`~rc_audioldm.data.midi.bars.chunk_at_bars`.
        shortest: Likewise.
        legacy: Likewise.
        workers: Files at a time.

    Raises:
        MissingExtra: MidiTok is not installed.
        Interrupted: Ctrl-C.
    """
    bar = int(make_tokenizer().vocab[BAR])
    child = "rc_audioldm.data.midi.tokenizer:tokenise_answer"
    with ChildPool(child, workers, seconds=_SECONDS, memory_bytes=_MEMORY_BYTES) as pool:

        def work(row: ManifestRow) -> tuple[ManifestRow, list[NDArray[np.int32]]]:
            file = manifest.file(row)
            if not file.is_file():
                raise InputError("no such file; paths are relative to the root of the manifest")
            try:
                answer = pool.answers(Message(str(file.absolute())))[0]
            except ChildFailure as failure:
                raise InputError(f"the reader of MIDI {failure}") from failure
            ids = np.frombuffer(answer.data, "<i4").astype(np.int32)
            ends = np.cumsum(answer.value)[:-1]
            return replace(row, more={**row.more, "sha256": file_sha256(file)}), np.split(ids, ends)

        results, report = run_rows(manifest.rows, work, description="tokenise", workers=workers)
    found = [result for result in results if result is not None]
    return collect(
        [(row, sequences, _spans(sequences, bar, longest, shortest, legacy)) for row, sequences in found]
    ), report


def _spans(
    sequences: Sequence[NDArray[np.int32]], bar: int, longest: int, shortest: int, legacy: bool
) -> list[list[tuple[int, int]]]:
    return [
        list(chunk_at_bars(ids, bar, longest=longest, shortest=shortest, legacy=legacy)) for ids in sequences
    ]
