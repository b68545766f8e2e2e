"""Tokenise MIDI files: several at a time, in processes of their own; results in the order of the manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pentatonic.checkpoint import file_sha256
from pentatonic.child_process import ChildFailure, ChildPool, Message
from pentatonic.cli import BatchReport
from pentatonic.errors import InputError
from pentatonic.folder_run import find_files
from rc_audioldm.data.batch import run_rows
from rc_audioldm.data.folders import MIDI_SUFFIXES
from rc_audioldm.data.manifest import Manifest, ManifestRow, place_under
from rc_audioldm.data.midi.bars import LONGEST, SHORTEST, chunk_at_bars
from rc_audioldm.data.midi.token_files import FileTokens, Tokens, collect
from rc_audioldm.data.midi.tokenizer import check_installed

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
    check_installed()
    child = "rc_audioldm.data.midi.tokenizer:tokenise_answer"
    with ChildPool(child, workers, seconds=_SECONDS, memory_bytes=_MEMORY_BYTES) as pool:

        def work(row: ManifestRow) -> FileTokens:
            file = manifest.file(row)
            if not file.is_file():
                raise InputError("no such file; paths are relative to the root of the manifest")
            try:
                answer = pool.answers(Message(str(file.absolute())))[0]
            except ChildFailure as failure:
                raise InputError(f"the reader of MIDI {failure}") from failure
            ids = np.frombuffer(answer.data, "<i4").astype(np.int32)
            sequences = np.split(ids, np.cumsum(answer.value["lengths"])[:-1])
            bar = answer.value["bar"]
            spans = [
                list(chunk_at_bars(sequence, bar, longest=longest, shortest=shortest, legacy=legacy))
                for sequence in sequences
            ]
            return replace(row, more={**row.more, "sha256": file_sha256(file)}), sequences, spans

        results, report = run_rows(manifest.rows, work, description="tokenise", workers=workers)
    return collect([result for result in results if result is not None]), report
