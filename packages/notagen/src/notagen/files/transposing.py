"""``notagen transpose``: files of ABC and MusicXML in another key, each in its own format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from notagen.files.reading import SCORE_SUFFIXES, is_musicxml, read_piece
from notagen.notation.transposed_text import Interval, transpose_text
from notagen.score.losses import losses
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, keep_inputs
from pentatonic.errors import PentatonicError, UsageError
from pentatonic.folder_run import mirrored, search_files


def transpose_files(sources: Sequence[Path], out: Path, interval: Interval) -> BatchReport:
    """Transpose files and folders; the folders below what the sources have in common are mirrored.

    ABC keeps its text but for notes, keys and chord symbols. MusicXML is read as ABC, transposed, and written as
    ``.musicxml``; what it loses by that is counted by kind under ``losses``.

    Args:
        sources: Files, and folders, which are searched for ABC and MusicXML.
        out: Folder to write.
        interval: By how much.

    Returns:
        What became of each file; a bad one is named with its reason.

    Raises:
        UsageError: Nothing was found, two files would have the same name in ``out``, or one would replace an input.
    """
    found = search_files(sources, SCORE_SUFFIXES)
    if not found.files:
        raise UsageError(f"no {', '.join(SCORE_SUFFIXES)} files in {', '.join(map(str, sources))}")
    targets = {
        source: out / (place.with_suffix(".musicxml") if is_musicxml(source.suffix) else place)
        for source, place in mirrored(sources, found.files).items()
    }
    uses = Counter(targets.values())
    for target in targets.values():
        if uses[target] > 1:
            raise UsageError(f"more than one file would be {target}; transpose them one by one")
        keep_inputs(target, found.files)
    report = BatchReport()
    report.passed_over = found.passed_over
    with report.interruptible(found.files):
        for source, target in targets.items():
            if source not in sources and source.is_fifo():  # reading it would wait forever
                report.failed(source, "this is a named pipe; allowed are files")
                continue
            try:
                with losses() as lost:
                    content = _content(source, interval)
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic_file(target) as file:
                    file.write(content)
            except (PentatonicError, OSError) as error:
                report.failed(source, error)
            else:
                report.done(source, output=[str(target)], losses=dict(lost))
    return report


def _content(source: Path, interval: Interval) -> bytes:
    moved = transpose_text(read_piece(source), interval)
    if not is_musicxml(source.suffix):
        return moved.encode()
    from notagen.musicxml import abc_to_musicxml

    return abc_to_musicxml(moved)
