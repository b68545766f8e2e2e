"""Files of ABC and MusicXML become pages, MIDI or sound."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from notagen.files.reading import MUSICXML_SUFFIXES, read_keyed_piece
from notagen.files.writing import write_piece
from pentatonic.cli import BatchReport, progress
from pentatonic.errors import PentatonicError, UsageError

_SUFFIXES = (".abc", *MUSICXML_SUFFIXES)


def render(sources: Sequence[Path], out: Path, *, to: str) -> BatchReport:
    """Write pieces in another format.

    The folders below what the sources have in common are mirrored. ``a/b.abc`` becomes ``a/b.mid``, or
    ``a/b.abc.mid`` where another source would have that name too.

    Args:
        sources: Files, which are read whatever their suffix, and folders, which are searched for ABC and MusicXML.
            Names that start with a dot are left out, links to folders not followed.
        out: Folder to write; files in it with the names of outputs are replaced.
        to: Of :data:`notagen.files.writing.FORMATS`.

    Returns:
        What became of each file, in the order of their names; one without music or a ``K:`` line is a failure.

    Raises:
        UsageError: There is no such format, or nothing to render.
    """
    stems = _stems(sources)
    if not stems:
        raise UsageError(f"no {', '.join(_SUFFIXES)} files in {', '.join(map(str, sources))}")
    report = BatchReport()
    with progress(len(stems), f"writing {to}") as bar:
        for source, stem in stems.items():
            target = out / stem
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                report.done(source, output=write_piece(read_keyed_piece(source), target, [to])[to])
            except UsageError:
                raise
            except (PentatonicError, OSError) as error:
                report.failed(source, error)
            bar.advance(1, note=source.name)
    return report


def _stems(sources: Sequence[Path]) -> dict[Path, Path]:
    """Return the files to render, sorted, each with its output without suffix, relative to the output folder."""
    found = sorted({file for source in sources for file in _files(source)})
    # By name and not by what links point to: the tree that a user sees is the tree that is mirrored.
    absolute = [Path(os.path.abspath(source)) for source in sources]  # noqa: PTH100 - resolves `..`, but no links
    root = os.path.commonpath([path if path.is_dir() else path.parent for path in absolute] or ["."])
    places = {file: Path(os.path.relpath(file, root)) for file in found}
    uses = Counter(str(place.with_suffix("")).casefold() for place in places.values())
    return {
        file: place.with_suffix("") if uses[str(place.with_suffix("")).casefold()] == 1 else place
        for file, place in places.items()
    }


def _files(source: Path) -> Iterator[Path]:
    if not source.is_dir():
        yield source
        return
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES:
                yield Path(folder, name)
